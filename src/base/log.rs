//! Where lines go that an administrator reads.

use core::fmt;
use std::sync::{Mutex, PoisonError};

/// How much an administrator wants to know of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warning,
    Info,
    /// Only with `DebugFlags=Namespace`.
    Debug,
    /// Only with `DebugFlags=Script`: what is run, and that it failed.
    Script,
    /// With either flag: that a script has ended, and what it printed.
    ScriptEnd,
}

/// Where lines go.
pub trait Log: Sync {
    /// Logs one line.
    fn log(&self, level: Level, line: fmt::Arguments<'_>);
}

/// Keeps the lines, which are shown later in their place.
#[derive(Debug, Default)]
pub struct Lines(Mutex<Vec<(Level, String)>>);

impl Lines {
    #[must_use]
    pub fn into_inner(self) -> Vec<(Level, String)> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Lines {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((level, line.to_string()));
    }
}

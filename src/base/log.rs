//! The destination of lines for the administrator.

use core::fmt;
use std::sync::{Mutex, PoisonError};

/// Decides whether a line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warning,
    Info,
    /// Only with `DebugFlags=Namespace`.
    Debug,
    /// Only with `DebugFlags=Script`: a script starts, or has failed.
    Script,
    /// With either flag: a script has ended, and its output.
    ScriptEnd,
}

/// Takes log lines.
pub trait Log: Sync {
    /// Logs one line.
    fn log(&self, level: Level, line: fmt::Arguments<'_>);
}

/// Collects lines that are shown later.
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

//! Where lines go that an administrator reads.

use core::fmt;

/// How much an administrator wants to know of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warning,
    Info,
    /// Only with `DebugFlags=Namespace`.
    Debug,
    /// Only with `DebugFlags=Script`: what is run, when it ends, what it printed.
    Script,
}

/// Where lines go.
pub trait Log: Sync {
    /// Logs one line.
    fn log(&self, level: Level, line: fmt::Arguments<'_>);
}

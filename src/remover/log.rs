//! Sends lines to slurmd's log through standard output.

use crate::base::log::{Level, Log};
use core::fmt;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// How many logged lines are remembered.
const REMEMBERED: usize = 1000;

#[derive(Debug)]
pub(super) struct Relay {
    pub debug: bool,
}

impl Relay {
    /// The letter that begins a line of this level.
    const fn letter(level: Level) -> char {
        match level {
            Level::Error => 'E',
            Level::Warning => 'W',
            Level::Info => 'I',
            Level::Debug => 'D',
            // slurmd decides whether they are shown.
            Level::Script => 'S',
            Level::ScriptEnd => 'O',
        }
    }
}

/// The level of a line and its text. A line without a letter, such as that of a panic, is an error.
#[must_use]
pub fn parse_line(line: &str) -> (Level, &str) {
    for level in [Level::Error, Level::Warning, Level::Info, Level::Debug, Level::Script, Level::ScriptEnd] {
        if let Some(text) = line.strip_prefix(Relay::letter(level)).and_then(|rest| rest.strip_prefix(' ')) {
            return (level, text);
        }
    }
    (Level::Error, line)
}

impl Log for Relay {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        if level == Level::Debug && !self.debug {
            return;
        }
        let text: String = line.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // One write of less than PIPE_BUF, so that lines of several processes are not mixed. Errors are ignored: a
        // reader that has ended or does not read must not stop a removal.
        let line: String = format!("{} {text}", Self::letter(level)).chars().take(3000).chain(['\n']).collect();
        let _ = rustix::io::write(rustix::stdio::stdout(), line.as_bytes());
    }
}

/// Logs each line once.
#[derive(Debug)]
pub(super) struct Once {
    pub relay: Relay,
    said: Mutex<HashSet<String>>,
}

impl Once {
    pub fn new(debug: bool) -> Self {
        Self { relay: Relay { debug }, said: Mutex::default() }
    }
}

impl Log for Once {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= REMEMBERED {
            said.clear();
        }
        if matches!(level, Level::Debug | Level::Script | Level::ScriptEnd) || said.insert(line.to_string()) {
            self.relay.log(level, line);
        }
    }
}

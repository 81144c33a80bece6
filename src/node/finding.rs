//! The results of an examination. slurmd's log and `jobns` turn them into text.

use crate::base::errno_hints;
use crate::base::error::Error;
use crate::base::log::{Level, Log};
use crate::config::problem;
use crate::config::problem::Problem;
use core::fmt;
use rustix::io::Errno;

/// The consequence of a finding for the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// slurmd does not start.
    Fatal,
    /// slurmd starts, and jobs fail until it changes.
    Error,
    Warning,
    /// Worth knowing, but not wrong.
    Note,
}

/// The place that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The node. Or the text of the finding has the place.
    Node,
    /// The configuration file.
    File,
    /// This line of the file.
    Line(usize),
    /// The line in which the file sets this key of namespace.yaml. "dirs" also means "dir_confs".
    Key(&'static str),
}

impl From<&'static str> for About {
    fn from(key: &'static str) -> Self {
        Self::Key(key)
    }
}

#[derive(Debug)]
enum What {
    Error(Error),
    Problem(Problem),
    Words(String),
}

#[derive(Debug)]
pub struct Finding {
    pub severity: Severity,
    pub about: About,
    what: What,
}

impl Finding {
    /// The errno, if a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        if let What::Error(error) = &self.what { error.errno() } else { None }
    }
}

/// Without the place in the file. Only a problem of the file's text has its place.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Error(error) => error.fmt(f),
            What::Problem(problem) => f.write_str(&problem.log_line()),
            What::Words(words) => f.write_str(words),
        }
    }
}

/// All findings so far.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, about: impl Into<About>, what: What) {
        self.0.push(Finding { severity, about: about.into(), what });
    }

    pub(crate) fn fatal(&mut self, about: impl Into<About>, error: Error) {
        self.add(Severity::Fatal, about, What::Error(errno_hints::of_call(error)));
    }

    /// As [`Findings::fatal`], if there is an error.
    pub(crate) fn check(&mut self, about: impl Into<About>, result: Result<(), Error>) {
        if let Err(error) = result {
            self.fatal(about, error);
        }
    }

    pub(crate) fn error(&mut self, about: impl Into<About>, words: String) {
        self.add(Severity::Error, about, What::Words(words));
    }

    pub(crate) fn warn(&mut self, about: impl Into<About>, words: String) {
        self.add(Severity::Warning, about, What::Words(words));
    }

    pub(crate) fn note(&mut self, about: impl Into<About>, words: String) {
        self.add(Severity::Note, about, What::Words(words));
    }

    pub(crate) fn problem(&mut self, problem: &Problem) {
        let severity = match problem.level {
            problem::Level::Error => Severity::Fatal,
            problem::Level::Warning => Severity::Warning,
        };
        self.add(severity, About::Node, What::Problem(problem.clone()));
    }

    #[must_use]
    pub fn has_fatal(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Fatal)
    }

    /// Logs each finding with the text that `line` returns. The fatal ones are not logged but returned as the error.
    pub fn log(self, host: &dyn Log, line: impl Fn(&Finding) -> String) -> Result<(), Vec<String>> {
        let mut fatal = Vec::new();
        for finding in self {
            let text = line(&finding);
            match finding.severity {
                Severity::Fatal => fatal.push(text),
                Severity::Error => host.log(Level::Error, format_args!("{text}")),
                Severity::Warning => host.log(Level::Warning, format_args!("{text}")),
                Severity::Note => host.log(Level::Info, format_args!("{text}")),
            }
        }
        if fatal.is_empty() { Ok(()) } else { Err(fatal) }
    }
}

impl IntoIterator for Findings {
    type Item = Finding;
    type IntoIter = std::vec::IntoIter<Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

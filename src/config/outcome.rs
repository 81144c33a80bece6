//! The outcome of reading a file: settings or problems, and the source of each setting.

use crate::config::cluster::Named;
use crate::config::problem::{Problem, Report};
use crate::config::settings::NodeSettings;

/// The outcome of reading a file for one node.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// `None` if and only if a problem is an error.
    pub settings: Option<NodeSettings>,
    /// In the order of the text.
    pub problems: Vec<Problem>,
    /// The source of each value, for `jobns check`. Empty without settings.
    pub sources: Vec<Source>,
    /// The hostlists in the file.
    pub(crate) nodes: Vec<Named>,
}

impl Parsed {
    /// Drops the settings if there is an error.
    pub(super) fn new(found: Option<(NodeSettings, Vec<Source>)>, report: Report, nodes: Vec<Named>) -> Self {
        let found = found.filter(|_| report.errors() == 0);
        let (settings, sources) = found.map_or((None, Vec::new()), |(settings, sources)| (Some(settings), sources));
        Self { settings, problems: report.finish(), sources, nodes }
    }
}

/// The source of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name of the key in the program.
    pub key: &'static str,
    pub origin: Origin,
}

/// The three origins of a value. Lines start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    BuiltIn,
    Defaults { line: usize },
    NodeEntry { line: usize },
}

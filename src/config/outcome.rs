//! What reading a file comes to: settings or problems, and where each setting was found.

use crate::config::cluster::Named;
use crate::config::problem::{Problem, Report};
use crate::config::settings::NodeSettings;

/// What a file comes to for one node.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// `None` exactly when a problem is an error.
    pub settings: Option<NodeSettings>,
    /// In the order of the text.
    pub problems: Vec<Problem>,
    /// Where each value of the settings comes from, for `jobns check`; empty without settings.
    pub sources: Vec<Source>,
    /// The names of nodes that the file has.
    pub nodes: Vec<Named>,
}

impl Parsed {
    /// What was found counts when nothing is wrong.
    pub(super) fn new(found: Option<(NodeSettings, Vec<Source>)>, report: Report, nodes: Vec<Named>) -> Self {
        let found = found.filter(|_| report.errors() == 0);
        let (settings, sources) = found.map_or((None, Vec::new()), |(settings, sources)| (Some(settings), sources));
        Self { settings, problems: report.finish(), sources, nodes }
    }
}

/// Where one value of the settings comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The key of the file.
    pub key: &'static str,
    pub origin: Origin,
}

/// The three places a value can come from; lines count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    BuiltIn,
    Defaults { line: usize },
    NodeEntry { line: usize },
}

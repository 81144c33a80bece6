//! One examination of a node: is the file read as its author meant it, and can this node do what it asks for? slurmd
//! makes it before the first job, `jobns check --here` at any time, `jobns run` in part. What cannot be done is said
//! all at once.
//!
//! | file | what it looks at |
//! |---|---|
//! | [`config_file`] | which file, who can change it, what it says about this node |
//! | [`paths`], [`targets`] | base paths, scripts; where the private directories go |
//! | [`surroundings`] | what Slurm and jobs need that the settings would cover |
//! | [`kernel`] | what the kernel and its policies let jobs do |
//! | [`finding`] | what is found, with types |

#![forbid(unsafe_code)]

pub mod config_file;
pub mod finding;
pub mod kernel;
pub mod paths;
pub mod surroundings;
mod targets;

use crate::base::error::Error;
use crate::config::cluster;
use crate::config::settings::{Node, NodeSettings, Settings};
use config_file::{ConfigFile, File};
use finding::{About, Findings};
use paths::Manner;
use surroundings::Slurm;

/// Finds out whether this node can do what the settings ask for. Afterwards their paths have no links in them.
pub(crate) fn examine(settings: &mut Settings, node: &Node<'_>, slurm: &Slurm, manner: &Manner, found: &mut Findings) {
    paths::follow(settings, manner, found);
    if manner.as_root && !found.has_fatal() {
        paths::write(settings, manner, found);
    }
    surroundings::look(settings, slurm, node, found);
    if manner.as_root {
        (manner.looking_at)("the kernel");
        kernel::examine(settings, found);
    }
}

/// A file that was read when slurmd started, what it comes to, and all that was found.
#[derive(Debug)]
pub struct Prepared {
    pub file: ConfigFile,
    /// None only if something fatal was found.
    pub settings: Option<NodeSettings>,
    pub found: Findings,
}

/// Reads the file in `directory` and prepares the node for it.
///
/// # Errors
///
/// When it cannot be read at all.
pub fn prepare(file: File, directory: &str, node: &Node<'_>, slurm: &Slurm) -> Result<Prepared, Error> {
    let (mut file, mut found) = file.read(directory, node)?;
    for (line, what) in cluster::strangers(&file.parsed.nodes, &slurm.nodes, node.name) {
        found.warn(About::Line(line), what);
    }
    file.problems(&mut found);
    let mut settings = file.parsed.settings.take();
    match &mut settings {
        Some(NodeSettings::Enabled(settings)) if !found.has_fatal() => {
            if let Some(left_out) = &file.left_out {
                found.note(About::File, format!("{left_out}: it gets what is for all nodes"));
            }
            examine(settings, node, slurm, &Manner::START, &mut found);
        }
        Some(NodeSettings::Disabled(why)) => {
            let why = surroundings::off(&file, node.name, *why);
            found.note(About::Node, format!("jobs on this node get no private directories or namespaces: {why}"));
        }
        _ => {}
    }
    Ok(Prepared { file, settings, found })
}

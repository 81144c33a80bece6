//! Examines a node: is the configuration valid, and can this node do what it asks for? slurmd does this before the
//! first job, `jobns check --here` at any time, and `jobns run` does a part of it. All problems are reported at once.
//!
//! | file | what it examines |
//! |---|---|
//! | [`config_file`] | the configuration file, who can change it, its settings for this node |
//! | [`paths`], [`targets`] | base paths and scripts; the mount points of the private directories |
//! | [`surroundings`] | whether the settings would cover what Slurm and jobs need |
//! | `quotas` | whether the sizes of directories in base paths can be limited |
//! | [`kernel`] | whether the kernel and its policies allow what jobs need |
//! | [`finding`] | the types of the results |

#![forbid(unsafe_code)]

pub mod config_file;
pub mod finding;
pub mod kernel;
pub mod paths;
mod quotas;
pub mod surroundings;
mod targets;

use crate::base::error::Error;
use crate::config::cluster;
use crate::config::settings::{Node, NodeSettings, Settings};
use config_file::{ConfigFile, File};
use finding::{About, Findings};
use paths::Manner;
use surroundings::Slurm;

/// Examines whether this node can do what the settings ask for, and replaces their paths by paths without links.
pub(crate) fn examine(settings: &mut Settings, node: &Node<'_>, slurm: &Slurm, manner: &Manner, found: &mut Findings) {
    // Without them, everything below would fail, with misleading errors.
    if manner.as_root && !kernel::look_for_calls(found) {
        return;
    }
    paths::follow(settings, manner, found);
    if manner.as_root && !found.has_fatal() {
        paths::write(settings, manner, found);
    }
    surroundings::examine(settings, slurm, node, found);
    if manner.as_root {
        (manner.looking_at)("the kernel");
        kernel::examine(settings, found);
    }
}

/// The file that slurmd read when it started, the resulting settings, and all findings.
#[derive(Debug)]
pub struct Prepared {
    pub file: ConfigFile,
    /// None only if something fatal was found.
    pub settings: Option<NodeSettings>,
    pub found: Findings,
}

/// Reads the file in `directory` and prepares the node for it. Fails if the file cannot be read.
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
                found.note(About::File, format!("{left_out}: it gets the settings for all nodes"));
            }
            examine(settings, node, slurm, &Manner::START, &mut found);
        }
        Some(NodeSettings::Disabled(why)) => {
            let why = surroundings::why_disabled(&file, node.name, *why);
            found.note(About::Node, format!("jobs on this node get no private directories or namespaces: {why}"));
        }
        _ => {}
    }
    Ok(Prepared { file, settings, found })
}

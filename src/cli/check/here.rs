//! `--here`: the checks of slurmd's start on this machine, as far as the caller's rights go, and what can
//! have gone wrong since. Nothing that stays is made: not the base path, and in one that is there a directory
//! for a moment, as when slurmd starts.

use crate::cli::check::bounded::looking_at;
use crate::cli::check::loaded;
use crate::cli::jobs::trust_slurm_user;
use crate::config::settings::{Node, NodeSettings};
use crate::node;
use crate::node::config_file::{ConfigFile, config_directory};
use crate::node::finding::{Findings, Severity};
use crate::node::paths::Manner;
use crate::node::surroundings;
use crate::node::surroundings::Slurm;
use rustix::io::Errno;

/// What was found, in sentences.
#[derive(Debug, Default)]
pub(super) struct Here {
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// Worth knowing, and not wrong.
    pub(super) notes: Vec<String>,
    /// What the caller's rights did not allow.
    pub(super) unchecked: Vec<String>,
}

impl Here {
    /// Looks at what the file asks for. `found` is what reading it has shown.
    pub(super) fn look(file: &ConfigFile, node: &Node<'_>, mut found: Findings) -> Self {
        let mut here = Self::default();
        let as_root = rustix::process::geteuid().is_root();
        if let Some(NodeSettings::Enabled(settings)) = &file.parsed.settings {
            let beside = Some(config_directory(&file.path)).filter(|_| file.path != super::STDIN);
            // A file can be checked before it is where slurmd will read it.
            let is_there = |directory: &&str| rustix::fs::stat(format!("{directory}/slurm.conf")).is_ok();
            let directory = beside.filter(is_there).unwrap_or("/etc/slurm");
            let slurm_conf = format!("{directory}/slurm.conf");
            trust_slurm_user(&slurm_conf);
            let slurm = Slurm::new(&std::fs::read(&slurm_conf).unwrap_or_default(), directory, None, node);
            let mut settings = settings.clone();
            let manner = Manner { makes_bases: false, as_root, looking_at };
            node::examine(&mut settings, node, &slurm, &manner, &mut found);
            if as_root {
                looking_at("the slurmd that runs");
                let loaded = loaded::look(file.file.plugin);
                here.errors.extend(loaded.errors);
                here.warnings.extend(loaded.warnings);
                here.notes.extend(loaded.notes);
                here.notes.extend(surroundings::advice(&settings, &slurm, node.name));
            } else {
                here.unchecked.push("what the kernel takes, and what belongs to root: only root can tell".to_owned());
            }
        }
        for finding in found {
            let lines = match finding.severity {
                // An ordinary user cannot look everywhere; root can, and slurmd is root.
                Severity::Fatal if !as_root && finding.errno() == Some(Errno::ACCESS) => &mut here.unchecked,
                Severity::Fatal | Severity::Error => &mut here.errors,
                Severity::Warning => &mut here.warnings,
                Severity::Note => &mut here.notes,
            };
            lines.push(file.line(&finding));
        }
        here
    }
}

//! `--here`: the checks that slurmd makes when it starts, as far as the caller's rights allow, and checks of the running
//! slurmd. Makes nothing permanent: not the base path, and in an existing one only a temporary directory, as slurmd does.

use crate::cli::check::loaded;
use crate::cli::check::watchdog::checking;
use crate::cli::jobs::trust_slurm_user;
use crate::config::settings::{Node, NodeSettings};
use crate::node;
use crate::node::config_file::{ConfigFile, config_directory};
use crate::node::finding::{Findings, Severity};
use crate::node::paths::Manner;
use crate::node::surroundings;
use crate::node::surroundings::Slurm;
use crate::slurm_version::VERSION;
use rustix::io::Errno;

/// The results, as sentences.
#[derive(Debug, Default)]
pub(super) struct Here {
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// Information that is not a problem.
    pub(super) notes: Vec<String>,
    /// Checks that the caller's rights do not allow.
    pub(super) unchecked: Vec<String>,
}

impl Here {
    /// Checks this machine for the settings in the file. `found` contains the findings from reading the file.
    pub(super) fn check(file: &ConfigFile, node: &Node<'_>, mut found: Findings) -> Self {
        let mut here = Self::default();
        let as_root = rustix::process::geteuid().is_root();
        if let Some(NodeSettings::Enabled(settings)) = &file.parsed.settings {
            let beside = Some(config_directory(&file.path)).filter(|_| file.path != super::STDIN);
            // The file need not be in the directory in which slurmd will read it.
            let is_there = |directory: &&str| rustix::fs::stat(format!("{directory}/slurm.conf")).is_ok();
            let directory = beside.filter(is_there).unwrap_or("/etc/slurm");
            let slurm_conf = format!("{directory}/slurm.conf");
            trust_slurm_user(&slurm_conf);
            let text = std::fs::read(&slurm_conf).unwrap_or_default();
            let slurm = Slurm::new(&text, directory, None, VERSION, node);
            let mut settings = settings.clone();
            let manner = Manner { makes_bases: false, as_root, looking_at: checking };
            node::examine(&mut settings, node, &slurm, &manner, &mut found);
            if as_root {
                checking("the running slurmd");
                let loaded = loaded::check(file.file.plugin);
                here.errors.extend(loaded.errors);
                here.warnings.extend(loaded.warnings);
                here.notes.extend(loaded.notes);
                here.notes.extend(surroundings::advice(&settings, &slurm, node.name));
            } else {
                here.unchecked.push("kernel support, and what belongs to root: only root can check".to_owned());
            }
        }
        for finding in found {
            let lines = match finding.severity {
                // An ordinary user cannot read everything, but slurmd runs as root.
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

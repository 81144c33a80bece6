//! The state that the entry points share, and `join`, which runs in children of both daemons. The rest is in
//! [`in_slurmd`](super::in_slurmd) and [`in_slurmstepd`](super::in_slurmstepd).
//!
//! `init` (in slurmd) or `recv_stepd` (in slurmstepd) sets the state once. It is read without a lock, because
//! `join` runs in forked children.

#![forbid(unsafe_code)]

use crate::base::error::Error;
use crate::base::fixed_text::FixedText;
use crate::config::settings::NamespaceInodes;
use crate::config::settings::{NodeSettings, Settings};
use crate::job::join::{DeadPid, JoinError, join as join_job};
use crate::job::record::namespaces;
use crate::job::record::process::BootId;
use crate::slurm::flavour::PREFIX;
use crate::slurm::host::{LOG_LEVEL_ERROR, LOG_LEVEL_VERBOSE};
use crate::slurm::imports::{Imports, imports};
use crate::slurm::layout;
use crate::slurm::layout::{SLURM_EXTERN_CONT, StepId};
use crate::sys::clone::NamespaceFlags;
use core::fmt::Write as _;
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::OnceLock;

/// Facts about this daemon.
#[derive(Debug)]
pub struct Daemon {
    pub node: String,
    pub spooldir: String,
    pub slurm_conf: String,
    pub boot: BootId,
}

pub static SETTINGS: OnceLock<NodeSettings> = OnceLock::new();
/// slurmd's own namespaces.
pub static NODE_NAMESPACES: OnceLock<NamespaceInodes> = OnceLock::new();
/// Former bases under which jobs of this node lived when slurmd started.
pub static OLD_BASES: OnceLock<Vec<String>> = OnceLock::new();
static DAEMON: OnceLock<Daemon> = OnceLock::new();

/// Why an entry point failed, as a sentence for the log.
pub type Failure = String;

pub fn daemon(imports: &Imports) -> Result<&'static Daemon, Failure> {
    if let Some(daemon) = DAEMON.get() {
        return Ok(daemon);
    }
    let text = |offset, what| usable(imports.conf_text(offset), what);
    let found = Daemon {
        node: text(layout::conf::NODE_NAME, "node name")?,
        spooldir: text(layout::conf::SPOOLDIR, "spool directory")?,
        slurm_conf: text(layout::conf::CONFFILE, "path of slurm.conf")?,
        boot: BootId::current().map_err(|errno| Error::call("read the boot id", "read", errno).to_string())?,
    };
    Ok(DAEMON.get_or_init(|| found))
}

pub fn loaded() -> Result<&'static Imports, Failure> {
    imports().ok_or_else(|| "the plugin was called before init".to_owned())
}

/// None: the plugin is disabled on this node.
pub fn settings() -> Result<Option<&'static Settings>, Failure> {
    match SETTINGS.get() {
        None => Err("the plugin was called before it had its configuration".to_owned()),
        Some(NodeSettings::Disabled(_)) => Ok(None),
        Some(NodeSettings::Enabled(settings)) => Ok(Some(settings)),
    }
}

/// A text from Slurm that can be part of a line and of a path.
pub fn usable(text: Option<Vec<u8>>, what: &str) -> Result<String, Failure> {
    let text = String::from_utf8(text.unwrap_or_default()).unwrap_or_default();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!(
            "cannot use the {what} of this node: it is empty, not UTF-8 or contains a control character; hint: see slurm.conf"
        ));
    }
    Ok(text)
}

/// The namespaces of this process that differ from slurmd's: it has entered those of a job.
pub fn entered() -> Result<NamespaceFlags, Failure> {
    let node = NODE_NAMESPACES.get().ok_or("the plugin was called before it had its configuration")?;
    Ok(namespaces::different(&namespaces::own_namespaces().map_err(|error| error.to_string())?, node))
}

/// Enters the job's namespaces, in a forked child. It allocates nothing unless it fails.
///
/// With `entire_step_in_ns` (always in namespace/linux) slurmd's child enters them before it becomes a
/// slurmstepd (`step_create`), so calls in that slurmstepd do nothing. Without it, only children of the
/// slurmstepd enter them. The extern slurmstepd is always in the node's namespaces.
pub fn join(step: &StepId, step_create: bool) -> Result<(), Failed> {
    let imports = imports().ok_or(Failed)?;
    let entire = match SETTINGS.get() {
        Some(NodeSettings::Enabled(settings)) => settings.entire_step_in_ns,
        _ => true,
    };
    let in_stepd = imports.stepd.is_some();
    if (entire && in_stepd && step.step_id != SLURM_EXTERN_CONT) || (!entire && !in_stepd && step_create) {
        return Ok(());
    }
    // It is not a job but a script.
    if step.job_id == 0 {
        return Ok(());
    }
    let today = match SETTINGS.get() {
        Some(NodeSettings::Enabled(settings)) => Some(settings.base_path.as_str()),
        Some(NodeSettings::Disabled(_)) => None,
        None => return Err(too_early(imports)),
    };
    let old = OLD_BASES.get().map(Vec::as_slice).unwrap_or_default();
    if today.is_none() && old.is_empty() {
        return Ok(());
    }
    let bases = today.into_iter().chain(old.iter().map(String::as_str));
    // The parent has set it: slurmd in init, the extern slurmstepd in create.
    let Some(daemon) = DAEMON.get() else { return Err(too_early(imports)) };
    // After the job's processes were killed, a child of the extern slurmstepd cleans up after X11 forwarding.
    let dead = if in_stepd && step.step_id == SLURM_EXTERN_CONT { DeadPid::IsLeftOut } else { DeadPid::Fails };
    let mut line = FixedText::<512>::new();
    match join_job(bases, &daemon.node, daemon.boot, step.job_id, dead) {
        // The job has no namespaces, because the plugin is disabled on this node.
        Err(JoinError::OpenState(Errno::NOENT)) if today.is_none() => Ok(()),
        Ok(()) => {
            if imports.debug() {
                let _ = write!(line, "NAMESPACE: {PREFIX}job {}: entered its namespaces", step.job_id);
                imports.log(LOG_LEVEL_VERBOSE, line.as_log_text());
            }
            Ok(())
        }
        Err(error) => {
            let _ = write!(line, "{PREFIX}job {}: cannot enter its namespaces: {error}", step.job_id);
            imports.log(LOG_LEVEL_ERROR, line.as_log_text());
            Err(Failed)
        }
    }
}

/// It has failed, and the reason was logged, unless the plugin was never initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

fn too_early(imports: &Imports) -> Failed {
    const LINE: &CStr = c"slurm-jobns: join was called before the plugin had its configuration";
    imports.log(LOG_LEVEL_ERROR, LINE);
    Failed
}

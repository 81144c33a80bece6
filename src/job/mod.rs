//! The life of a job's namespaces, independent of who asks for it.
//!
//! Slurm (`slurm/`), the removal program (`remover/`), the command `jobns` and the tests are hosts of this code: what it needs from
//! them is the trait [`Host`]. In the order of a job's life:
//!
//! | file | runs in | what it does |
//! |---|---|---|
//! | [`plan`] | extern slurmstepd | settings + job to names and flags; no system call |
//! | [`create`] | extern slurmstepd | directories, journal, scripts, clone, in order |
//! | [`sources`], [`kept`] | extern slurmstepd | the detached mounts |
//! | [`ns_limits`] | extern slurmstepd | how much of the node one job's user namespace may use |
//! | [`holder`] | extern slurmstepd | the program of PID 1, ready to be executed |
//! | [`told`] | extern slurmstepd | the plan and what was made, in words |
//! | [`handshake`], [`id_maps`] | extern slurmstepd | talks with the child |
//! | [`child`] | the clone3 child | attaches the mounts, becomes the holder; no allocation |
//! | [`inside`] | a thread of the extern slurmstepd | what must happen in the job's mount namespace |
//! | [`mounts`] | extern slurmstepd, the removal program | what root's scripts have mounted for jobs |
//! | [`join`] | a forked child of slurmd | enters the namespaces; no allocation |
//! | [`dead_end`] | any slurmstepd | what a login gets that must not go on |
//! | [`delete`] | extern slurmstepd, the removal program | end of the holder, epilog, directories to the trash |
//! | [`restore`] | the removal program | finds jobs that are dead and deletes them |
//! | [`c_plugin`] | the removal program | does so with what Slurm's own plugin has left |
//! | [`remove_tree`] | the removal program | removes a tree that a user made |
//!
//! Below them: [`record`] (what is known of a job), [`registry`] (what is known of the node), [`spool`] (where that is),
//! [`trusted`] (paths that nobody can exchange), `unfinished` (a job's directory before it has its name), [`state`] (the journal on disk), [`identity`] (which
//! process a number means), [`listing`] (directories), `mountinfo`, [`pins`], [`script`], [`limits`] (what an
//! errno means), [`spelling`], [`trash`], [`kill`], [`error`], [`fixed`].

#![forbid(unsafe_code)]

pub mod c_plugin;
pub mod child;
pub mod create;
pub mod dead_end;
pub mod delete;
pub mod error;
pub mod fixed;
pub mod handshake;
pub mod holder;
pub mod id_maps;
pub mod identity;
pub mod inside;
pub mod join;
pub mod kept;
pub mod kill;
pub mod limits;
pub mod listing;
pub(crate) mod mountinfo;
pub mod mounts;
pub mod ns_limits;
pub mod pins;
pub mod plan;
pub mod record;
pub mod registry;
pub mod remove_tree;
pub mod restore;
pub mod script;
pub mod sources;
pub mod spelling;
pub mod spool;
pub mod state;
pub mod told;
pub mod trash;
pub mod trusted;
pub(crate) mod unfinished;

use core::fmt;
use error::Error;
use identity::BootId;
use rustix::process::Pid;
use std::collections::BTreeSet;
use std::time::Duration;

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

/// What the core needs from the program that makes a job.
pub trait Host: Log {
    /// The name of the holder process: at most 15 bytes are shown by `top`.
    fn holder_name(&self) -> &str;

    /// `$SLURM_JOB_MOUNTPOINT_SRC` is made before init_script runs, and not after it, as in namespace/tmpfs, whose
    /// scripts may make it themselves.
    fn makes_source_first(&self) -> bool {
        true
    }

    /// Adds the holder to what tracks the job's processes.
    ///
    /// # Errors
    ///
    /// When that failed; the job then fails.
    fn track(&self, holder: Pid) -> Result<(), Error>;

    /// There is something for [`Host::set_up_inside`] to do. If not, a thread is saved.
    fn has_set_up_inside(&self) -> bool {
        true
    }

    /// Called once in the job's mount namespace, on a thread that has entered it, before
    /// clone_ns_script.
    ///
    /// # Errors
    ///
    /// When that failed; the job then fails.
    fn set_up_inside(&self) -> Result<(), Error>;
}

/// A job on this node, as its host describes it.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: u32,
    pub sluid: u64,
    /// The SLUID as Slurm prints it; empty when there is none.
    pub sluid_text: String,
    pub uid: u32,
    pub gid: u32,
    pub user: String,
    /// Slurm's name of this node.
    pub node: String,
    /// `NAME=value` pairs that every script of this job gets.
    pub environment: Vec<(&'static str, Vec<u8>)>,
    /// This boot's.
    pub boot: BootId,
}

/// The jobs that have a live slurmstepd on this node.
#[derive(Clone, Debug, Default)]
pub struct LiveJobs(pub BTreeSet<u32>);

/// A time as `0.571`, in milliseconds: with floating point, the plugin would be 20 kB larger.
#[derive(Clone, Copy, Debug)]
pub struct Milliseconds(pub Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

//! The life of a job's namespaces, independent of who asks for it.
//!
//! Slurm (`slurm/`), the removal program (`remover/`), the command `jobns` and the tests are hosts of this code: what it
//! needs from them is the trait [`Host`].
//!
//! | room or file | runs in | what it does |
//! |---|---|---|
//! | [`make`] | extern slurmstepd, and the clone3 child | makes them |
//! | [`inside`] | a thread of the extern slurmstepd | what must happen in the job's mount namespace |
//! | [`join`] | a forked child of slurmd | enters them; no allocation |
//! | [`dead_end`] | any slurmstepd | what a login gets that must not go on |
//! | [`remove`] | extern slurmstepd, the removal program | ends them and removes the files |
//! | [`script`], [`kill`] | both | runs a script, ends processes |
//! | [`record`] | all | what is known of a job and of the node |

#![forbid(unsafe_code)]

pub mod dead_end;
pub mod inside;
pub mod join;
pub mod kill;
pub mod make;
pub mod record;
pub mod remove;
pub mod script;

use self::record::process::BootId;
use self::record::state::Header;
use crate::base::error::Error;
use core::fmt;
use rustix::process::Pid;
use std::collections::BTreeSet;
use std::time::Duration;

/// What the core needs from the program that makes a job.
pub trait Host: crate::base::log::Log {
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
    pub header: Header<String>,
    /// The SLUID as Slurm prints it; empty when there is none.
    pub sluid_text: String,
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

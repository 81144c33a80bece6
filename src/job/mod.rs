//! The life of a job's namespaces, independent of who asks for it.
//!
//! Slurm (`slurm/`), the removal program (`remover/`), the command `jobns` and the tests are hosts of this code: they give
//! it a [`Log`](crate::base::log::Log), and to [`make::create`] a [`StepHost`](make::create::StepHost).
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

pub(crate) mod dead_end;
pub(crate) mod inside;
pub mod join;
pub(crate) mod kill;
pub mod make;
pub mod record;
pub mod remove;
pub mod script;

use self::record::process::BootId;
use self::record::state::Header;
use self::script::Environment;
use core::fmt;
use std::collections::BTreeSet;
use std::time::Duration;

/// A job on this node, as its host describes it.
#[derive(Clone, Debug)]
pub struct Job {
    pub header: Header<String>,
    /// The SLUID as Slurm prints it; empty when there is none.
    pub sluid_text: String,
    /// What every script that sets it up gets.
    pub environment: Environment,
    /// The path of slurm.conf, for the epilog.
    pub slurm_conf: Option<String>,
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

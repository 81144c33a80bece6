//! The life of a job's namespaces, independent of the program that uses this code.
//!
//! The hosts of this code are Slurm (`slurm/`), the removal program (`remover/`), the command `jobns` and the tests.
//! They pass it a [`Log`](crate::base::log::Log), and [`make::create`] a [`StepHost`](make::create::StepHost).
//!
//! | room or file | runs in | what it does |
//! |---|---|---|
//! | [`make`] | extern slurmstepd, and the clone3 child | makes the namespaces |
//! | [`inside`] | a thread of the extern slurmstepd | acts in the job's mount namespace |
//! | [`join`] | forked children of slurmd and slurmstepd, `jobns enter` | enters the namespaces; no allocation |
//! | [`dead_end`] | any slurmstepd | makes the PID namespace that ends a login |
//! | [`remove`] | extern slurmstepd, `jobns-remover`, `jobns` | ends the namespaces and removes the files |
//! | [`script`], [`kill`] | both | run a script, end processes |
//! | [`record`] | all | the records of jobs and of the node |

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
use crate::config::size::JobHas;
use core::fmt;
use std::collections::BTreeSet;
use std::time::Duration;

/// A job on this node, as its host describes it.
#[derive(Clone, Debug)]
pub struct Job {
    pub header: Header<String>,
    /// The SLUID as Slurm prints it; empty if there is none.
    pub sluid_text: String,
    /// The environment of every script that sets it up.
    pub environment: Environment,
    /// What the sizes of its private directories are computed from.
    pub has: JobHas,
    /// The path of slurm.conf, for the epilog.
    pub slurm_conf: Option<String>,
    /// The id of this boot.
    pub boot: BootId,
}

/// The jobs that have a live slurmstepd on this node.
#[derive(Clone, Debug, Default)]
pub struct LiveJobs(pub BTreeSet<u32>);

/// Shows a time in milliseconds, such as `0.571`. With floating point the plugin would be 20 kB larger.
#[derive(Clone, Copy, Debug)]
pub struct Milliseconds(pub Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

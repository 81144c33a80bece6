//! How a job gets its namespaces, in the extern slurmstepd: from settings to a plan, to directories and mounts, to a
//! process that attaches them and then holds the namespaces.
//!
//! | file | what it does |
//! |---|---|
//! | [`plan`] | settings + job to names and flags; no system call |
//! | [`create`] | directories, journal, scripts, clone, in order |
//! | `job_dir` | the directory of the job in one base |
//! | [`private_dirs`], [`proc_keep`] | the detached mounts |
//! | [`ns_limits`] | how much of the node one job's user namespace may use |
//! | [`holder`] | the program of PID 1, ready to be executed |
//! | [`told`] | the plan and what was made, in words |
//! | [`handshake`], [`id_maps`] | talk with the child |
//! | [`child`] | the clone3 child: attaches the mounts, becomes the holder; no allocation |

pub(crate) mod child;
pub mod create;
pub(crate) mod handshake;
pub(crate) mod holder;
pub(crate) mod id_maps;
mod job_dir;
pub(crate) mod ns_limits;
pub(crate) mod plan;
pub(crate) mod private_dirs;
pub(crate) mod proc_keep;
pub(crate) mod told;

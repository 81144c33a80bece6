//! Makes the namespaces of a job, in the extern slurmstepd: from settings to a plan, then to directories and mounts,
//! then to a process that attaches the mounts and holds the namespaces.
//!
//! | file | what it does |
//! |---|---|
//! | [`plan`] | turns settings and job into names and flags; no system call |
//! | [`create`] | makes directories, journal and child, and runs scripts, in order |
//! | `job_dir` | makes the directory of the job in one base |
//! | [`private_dirs`], `keep`, [`proc_keep`] | make the detached mounts |
//! | [`ns_limits`] | limits what one job's user namespace may use of the node |
//! | [`holder`] | prepares the program of PID 1 |
//! | [`told`] | shows the plan and its result in words |
//! | [`handshake`], [`id_maps`] | talk with the child |
//! | [`child`] | the clone3 child: attaches the mounts, becomes the holder; no allocation |

pub(crate) mod child;
pub mod create;
pub(crate) mod handshake;
pub(crate) mod holder;
pub(crate) mod id_maps;
mod job_dir;
mod keep;
pub(crate) mod ns_limits;
pub(crate) mod plan;
pub(crate) mod private_dirs;
pub(crate) mod proc_keep;
pub(crate) mod told;

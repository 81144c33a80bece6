//! The records of jobs and of the node, on disk and in /proc.
//!
//! | file | what it does |
//! |---|---|
//! | [`state`] | the state file of a job, a journal |
//! | [`job`] | the record of a job, also as found below a base path |
//! | [`registry`] | slurmd's file about its node |
//! | [`mark`] | the mark of a job's directory elsewhere, which survives a power cut |
//! | [`process`] | recognises a recorded process |
//! | [`namespaces`] | the namespaces of a job, kept alive by descriptors |
//! | `project` | its projects, by which ext4 and XFS limit what it has |
//! | [`live_jobs`] | finds the jobs that have a live slurmstepd |

pub mod job;
pub mod live_jobs;
pub mod mark;
pub mod namespaces;
pub mod process;
pub(crate) mod project;
pub mod registry;
pub mod state;

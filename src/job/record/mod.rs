//! What is known of jobs and of the node, on disk and in /proc.
//!
//! | file | what it does |
//! |---|---|
//! | [`state`] | the state file of a job, a journal |
//! | [`job`] | what that comes to: a job that was found below a base path |
//! | [`registry`] | what slurmd has written down about its node |
//! | [`process`] | which process a number means |
//! | [`namespaces`] | the namespaces of a job, kept alive by descriptors |
//! | [`live_jobs`] | which jobs have a live slurmstepd |

pub mod job;
pub mod live_jobs;
pub mod namespaces;
pub mod process;
pub mod registry;
pub mod state;

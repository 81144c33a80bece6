//! Code that the rooms above it share. Of jobs it knows only the name of their directories.
//!
//! | file | what it does |
//! |---|---|
//! | [`error`] | one error: what was being done, the call that failed, what to do |
//! | [`errno_hints`] | explains misleading errnos: which limit was reached |
//! | [`log`] | the destination of log lines |
//! | [`io`] | reads and writes small files |
//! | [`fixed_text`] | text without allocation |
//! | [`trusted_path`] | paths that only root can change |
//! | [`base_dir`] | base paths, and a job's directory before it gets its name |
//! | [`file_system`] | the kind of a file system |
//! | [`listing`] | the names in a directory |
//! | [`mountinfo`] | the mounts of a mount namespace |
//! | [`spool`] | small text files in slurmd's spool directory |

#![forbid(unsafe_code)]

pub(crate) mod base_dir;
pub(crate) mod errno_hints;
pub(crate) mod error;
pub(crate) mod file_system;
pub(crate) mod fixed_text;
pub mod io;
pub(crate) mod listing;
pub mod log;
pub(crate) mod mountinfo;
pub(crate) mod spool;
pub(crate) mod trusted_path;

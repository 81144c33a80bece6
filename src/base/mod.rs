//! What every room may use. Nothing here knows of a job.
//!
//! | file | what it does |
//! |---|---|
//! | [`error`] | one error: what was being done, the call that failed, what to do |
//! | [`errno_hints`] | what an errno means that misleads: which limit was reached |
//! | [`log`] | where lines go |
//! | [`io`] | small files, numbers |
//! | [`fixed_text`] | text without allocation |
//! | [`trusted_path`] | paths that nobody but root can exchange |
//! | [`base_dir`] | base paths, and a job's directory before it has its name |
//! | [`listing`] | what is in a directory |
//! | [`mountinfo`] | the mounts of a mount namespace |
//! | [`spool`] | small files of text in slurmd's spool directory |

#![forbid(unsafe_code)]

pub(crate) mod base_dir;
pub(crate) mod errno_hints;
pub(crate) mod error;
pub(crate) mod fixed_text;
pub mod io;
pub(crate) mod listing;
pub mod log;
pub(crate) mod mountinfo;
pub(crate) mod spool;
pub(crate) mod trusted_path;

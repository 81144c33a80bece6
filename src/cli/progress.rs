//! A progress line on the terminal while `jobns` removes many files.

use crate::base::error::Error;
use crate::cli::complain;
use crate::job::remove::delete::{Removal, remove_locked};
use crate::job::remove::tree::{Summary, Terms};
use rustix::fd::BorrowedFd;
use std::ffi::CStr;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// [`Removal::HERE`] with a progress line.
pub(super) const SHOWN: Removal = Removal::Here(remove);

fn remove(parent: BorrowedFd<'_>, name: &CStr, terms: &Terms<'_>) -> Result<Summary, Error> {
    if !std::io::stderr().is_terminal() {
        return remove_locked(parent, name, terms);
    }
    let has_shown = AtomicBool::new(false);
    let show = |files: u64, directories: u64| {
        has_shown.store(true, Ordering::Relaxed);
        complain(&format!("\r{}", line(files, directories)));
    };
    let terms = Terms { deadline: terms.deadline, polite_after: terms.polite_after, progress: Some(&show) };
    let result = remove_locked(parent, name, &terms);
    if has_shown.load(Ordering::Relaxed) {
        // Erase the line. The result is reported elsewhere.
        complain("\r\x1b[K");
    }
    result
}

fn line(files: u64, directories: u64) -> String {
    format!("jobns: removing: {files} files and {directories} directories so far")
}

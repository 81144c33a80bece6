//! The names in a directory, and which of them can be job ids.

use crate::base::error::{Doing, Error};
use crate::config::lines::number;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, Mode, OFlags, RawDir};
use std::mem::MaybeUninit;

/// The names in a directory, except those that are not UTF-8: the plugin makes none.
pub(crate) fn names(dir: BorrowedFd<'_>, path: &str) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    visit(dir, path, |name| {
        names.push(name.to_owned());
        true
    })?;
    Ok(names)
}

/// The same for the directory at `path`.
pub(crate) fn names_at(path: &str) -> Result<Vec<String>, Error> {
    let dir = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing("openat", || format!("list {path}"))?;
    names(dir.as_fd(), path)
}

/// Calls `see` with each of these names until it returns false: a directory may have a million.
pub(crate) fn visit(dir: BorrowedFd<'_>, path: &str, mut see: impl FnMut(&str) -> bool) -> Result<(), Error> {
    let dir = rustix::fs::openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing("openat", || format!("list {path}"))?;
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.doing("getdents64", || format!("list {path}"))?;
        if let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
            && !see(name)
        {
            break;
        }
    }
    Ok(())
}

/// The id of a job in the name of its directory, written without sign and leading zero. The plugin did not make `007`.
pub(crate) fn job_id(name: &str) -> Option<u32> {
    number(name.as_bytes())?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_numbers_are_job_ids() {
        for yes in ["0", "7", "4294967295"] {
            assert_eq!(job_id(yes).map(|id| id.to_string()).as_deref(), Some(yes));
        }
        for no in ["", "007", "+7", "-7", " 7", "7 ", "4294967296", "7a", ".trash", "0x7"] {
            assert_eq!(job_id(no), None, "{no}");
        }
    }
}

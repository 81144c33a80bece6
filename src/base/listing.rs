//! What is in a directory, and which of its names can be a job's.

use crate::base::error::{Doing, Error};
use rustix::fd::BorrowedFd;
use rustix::fs::{Mode, OFlags, RawDir};
use std::mem::MaybeUninit;

/// The names in a directory that are text, as ours all are.
pub(crate) fn names(dir: BorrowedFd<'_>, path: &str) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    visit(dir, path, |name| {
        names.push(name.to_owned());
        true
    })?;
    Ok(names)
}

/// Shows `see` each of those names until it returns false: a directory may have a million.
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

/// A number as we write it: no sign, no leading zero. `007` is somebody else's directory.
pub(crate) fn is_job_id(name: &str) -> bool {
    name.parse::<u32>().is_ok_and(|number| number.to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_numbers_are_job_ids() {
        for yes in ["0", "7", "4294967295"] {
            assert!(is_job_id(yes));
        }
        for no in ["", "007", "+7", "-7", " 7", "7 ", "4294967296", "7a", ".trash", "0x7"] {
            assert!(!is_job_id(no), "{no}");
        }
    }
}

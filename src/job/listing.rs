//! What is in a directory, and which of its names can be a job's.

use super::error::{Doing, Error};
use rustix::fd::BorrowedFd;
use rustix::fs::{Mode, OFlags, RawDir};
use std::mem::MaybeUninit;

/// The names in a directory that are text; ours all are.
pub(crate) fn names(dir: BorrowedFd<'_>, path: &str) -> Result<Vec<String>, Error> {
    let dir = rustix::fs::openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing("openat", || format!("list {path}"))?;
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.doing("getdents64", || format!("list {path}"))?;
        if let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
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

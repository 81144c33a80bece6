//! `.trash` of a base path, where trees are removed: a job's directory is moved there in one call, and so its
//! number is free at once, however long the removal takes.
//!
//! Somebody may have had a directory of that name before. So nothing is taken for ours there but what has
//! a name that [`move_to_trash`] or [`remove_tree`](super::remove_tree) gives.

use super::delete::Removal;
use super::error::{Doing, Error};
use super::listing::names;
use super::remove_tree::{Summary, remove_tree};
use super::trusted::{BENEATH, is_trusted_owner, mode_of, open_beneath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// The directory in each base where trees are removed.
pub const TRASH: &CStr = c".trash";

/// `<job>.<number>`, and `+<number>` for each time that a part of it was moved up. Allocates nothing.
#[must_use]
pub fn is_ours(name: &[u8]) -> bool {
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let mut parts = name.split(|byte| *byte == b'+');
    let mut numbers = parts.next().unwrap_or_default().split(|byte| *byte == b'.');
    let (job, number, more) = (numbers.next(), numbers.next(), numbers.next());
    job.is_some_and(is_number) && number.is_some_and(is_number) && more.is_none() && parts.all(is_number)
}

/// What is in a trash, of ours.
pub(super) fn entries(trash: BorrowedFd<'_>, base_path: &str) -> Result<Vec<String>, Error> {
    let mut found = names(trash, &format!("{base_path}/.trash"))?;
    found.retain(|name| is_ours(name.as_bytes()));
    Ok(found)
}

/// Opens, and makes where missing, the trash of a base.
pub(super) fn open_trash(base: BorrowedFd<'_>, base_path: &str) -> Result<OwnedFd, Error> {
    let intention = || format!("use {base_path}/.trash");
    let open = || open_beneath(base, TRASH, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH);
    let trash = match open() {
        Err(Errno::NOENT) => {
            match rustix::fs::mkdirat(base, TRASH, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(Error::call(intention(), "mkdirat", errno)),
            }
            open()
        }
        result => result,
    }
    .doing("openat2", intention)?;
    let stat = rustix::fs::fstat(&trash).doing("fstat", intention)?;
    if !is_trusted_owner(stat.st_uid) || mode_of(&stat) != 0o700 {
        return Err(Error::because(
            intention(),
            format!("it has owner {} and mode {:04o}; ours has root and 0700", stat.st_uid, stat.st_mode & 0o7777),
        ));
    }
    Ok(trash)
}

/// Moves `<base>/<name>` into the trash; where it is then.
pub(super) fn move_to_trash(base: BorrowedFd<'_>, base_path: &str, name: &CStr) -> Result<(OwnedFd, CString), Error> {
    let trash = open_trash(base, base_path)?;
    let intention = || format!("move {base_path}/{} to .trash", name.to_string_lossy());
    for number in 0_u32.. {
        let to = CString::new(format!("{}.{number}", name.to_string_lossy())).unwrap_or_default();
        match rename_new(base, name, trash.as_fd(), &to) {
            Ok(()) => return Ok((trash, to)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::call(intention(), "renameat2", errno)),
        }
    }
    Err(Error::call(intention(), "renameat2", Errno::EXIST))
}

/// Removes what was moved. None: that is for later.
pub(super) fn remove_moved((trash, name): &(OwnedFd, CString), removal: Removal) -> Option<Summary> {
    let deadline = match removal {
        Removal::Later => return None,
        Removal::Until(deadline) => Some(deadline),
        Removal::Now => None,
    };
    Some(remove_tree(trash.as_fd(), name, deadline))
}

/// Renames to a name that is not taken: EEXIST where it is. Of two directories, only one that we alone
/// write to may be `to_dir`: some file systems (ZFS before 2.2, NFS) cannot do both in one step.
///
/// # Errors
///
/// `renameat2(2)`.
pub(super) fn rename_new(
    from_dir: BorrowedFd<'_>,
    from: &CStr,
    to_dir: BorrowedFd<'_>,
    to: &CStr,
) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL) => match rustix::fs::statat(to_dir, to, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => rustix::fs::renameat(from_dir, from, to_dir, to),
            Err(errno) => Err(errno),
        },
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_we_give_and_others() {
        for ours in ["7.0", "1234.17", "7.0+0", "7.0+12+3"] {
            assert!(is_ours(ours.as_bytes()), "{ours}");
        }
        for other in ["", "7", "7.", ".7", "7.0+", "7.0+a", "7.0.1", "7.0 ", "+7.0", "thesis", "7.tar", "7.0.gz"] {
            assert!(!is_ours(other.as_bytes()), "{other}");
        }
    }
}

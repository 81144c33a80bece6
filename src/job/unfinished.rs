//! The directory of a job before it has its name: until its state file is written.

#![forbid(unsafe_code)]

use super::trusted::{BENEATH, open_beneath};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;

/// Begins the name of a job's directory until its state file is written.
pub const UNFINISHED: &str = ".new.";

/// Makes a job directory that has no name yet.
///
/// # Errors
///
/// EWOULDBLOCK: another that is being made has it.
pub(super) fn make_unfinished(base: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    loop {
        match rustix::fs::mkdirat(base, name, Mode::RWXU) {
            Ok(()) => {}
            // One was killed here before.
            Err(Errno::EXIST) => match remove_unfinished(base, name) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            },
            Err(errno) => return Err(errno),
        }
        // Somebody may remove it as left over before it is locked, and then it is made again.
        let tree = match open_beneath(base, name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH) {
            Err(Errno::NOENT) => continue,
            tree => tree?,
        };
        // For as long as we live nobody takes it for left over. Where the filesystem has no such locks,
        // nobody can get one to remove it either.
        let _ = rustix::fs::flock(&tree, FlockOperation::LockExclusive);
        let inode = rustix::fs::fstat(&tree)?.st_ino;
        match rustix::fs::statat(base, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_ino == inode => return Ok(tree),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Removes a job directory that has no name yet: in `base`, `name` begins with [`UNFINISHED`].
///
/// # Errors
///
/// When it is still there: EWOULDBLOCK if its maker lives (its lock).
pub(super) fn remove_unfinished(base: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let tree = open_beneath(base, name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH)?;
    rustix::fs::flock(&tree, FlockOperation::NonBlockingLockExclusive)?;
    for (file, flags) in [(c".ns/state", AtFlags::empty()), (c".ns", AtFlags::REMOVEDIR)] {
        let _ = rustix::fs::unlinkat(&tree, file, flags);
    }
    rustix::fs::unlinkat(base, name, AtFlags::REMOVEDIR)
}

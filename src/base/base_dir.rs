//! Base paths, and the directory of a job before it gets its name, which is when its state file is written.

use crate::base::error::{Doing, Error, FailedCall, Named, TryingTo};
use crate::base::io::write_all;
use crate::base::trusted_path::{self, BENEATH, Missing, NO_LINKS, c_path, is_administrator, mode_of, open_beneath};
use crate::config::spelling::key;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;
use std::ffi::CStr;

/// The name of a job's directory begins with this until its state file is written.
pub const UNFINISHED: &str = ".new.";

/// Makes a job directory under its temporary name.
///
/// # Errors
///
/// EWOULDBLOCK: another process is making it.
pub(crate) fn make_unfinished(base: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, FailedCall> {
    loop {
        match rustix::fs::mkdirat(base, name, Mode::RWXU) {
            // A process that was killed has left it.
            Err(Errno::EXIST) => match remove_unfinished(base, name) {
                Err(failed) if failed.errno != Errno::NOENT => return Err(failed),
                _ => continue,
            },
            result => result.named("mkdirat")?,
        }
        // Before it is locked, another process may remove it as left over. Then it is made again.
        let tree = match open_beneath(base, name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH) {
            Err(Errno::NOENT) => continue,
            tree => tree.named("openat2")?,
        };
        // The lock marks it as in use for as long as this process lives. If the file system has no such locks,
        // no process can get the lock that removing it needs.
        let _ = rustix::fs::flock(&tree, FlockOperation::LockExclusive);
        let inode = rustix::fs::fstat(&tree).named("fstat")?.st_ino;
        match rustix::fs::statat(base, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_ino == inode => return Ok(tree),
            Err(errno) if errno != Errno::NOENT => return Err(errno).named("fstatat"),
            _ => {}
        }
    }
}

/// Removes a job directory that still has its temporary name, which begins with [`UNFINISHED`].
///
/// # Errors
///
/// The directory is still there. EWOULDBLOCK: the process that makes it is alive and has locked it.
pub(crate) fn remove_unfinished(base: BorrowedFd<'_>, name: &CStr) -> Result<(), FailedCall> {
    let tree = open_beneath(base, name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH).named("openat2")?;
    rustix::fs::flock(&tree, FlockOperation::NonBlockingLockExclusive).named("flock")?;
    for (file, flags) in [(c".ns/state", AtFlags::empty()), (c".ns", AtFlags::REMOVEDIR), (c".job", AtFlags::empty())] {
        let _ = rustix::fs::unlinkat(&tree, file, flags);
    }
    rustix::fs::unlinkat(base, name, AtFlags::REMOVEDIR).named("unlinkat")
}

/// Opens a base directory that was trusted when slurmd started, and checks its owner and mode again.
pub fn open_base(path: &str) -> Result<OwnedFd, Error> {
    let intention = || format!("open {} {path}", key("base_path"));
    let base =
        open_beneath(CWD, &c_path(path)?, OFlags::RDONLY | OFlags::DIRECTORY, NO_LINKS).doing("openat2", intention)?;
    let stat = rustix::fs::fstat(&base).doing("fstat", intention)?;
    if !is_administrator(stat.st_uid) || stat.st_mode & 0o002 != 0 {
        return Err(Error::because(
            intention(),
            format!(
                "it belongs to uid {} and has mode {:04o}; it must belong to root, and only root may write to it",
                stat.st_uid,
                stat.st_mode & 0o7777
            ),
        ));
    }
    Ok(base)
}

/// As [`open_base`]; None if it does not exist.
pub(crate) fn open_base_if_there(path: &str) -> Result<Option<OwnedFd>, Error> {
    match open_base(path) {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
        result => result.map(Some),
    }
}

/// Opens a base directory for a new job. With `may_make` (`auto_base_path`) it is made if it is gone, as when slurmd
/// starts.
pub fn open_base_for_job(path: &str, may_make: bool) -> Result<OwnedFd, Error> {
    match open_base(path) {
        Err(error) if error.errno() == Some(Errno::NOENT) && may_make => {
            // Links in its path were resolved when slurmd started. One that is found now is new.
            let made = trusted_path::open_dir("base_path", path, Missing::Make)?;
            open_base(&made.path)
        }
        Err(error) if error.errno() == Some(Errno::NOENT) => Err(error.with_hint(
            "it was there when slurmd started and is gone: mount its file system, or make the directory; with auto_base_path: true the next job makes it",
        )),
        result => result,
    }
}

/// Tries to make in a base directory what each job makes there first, and removes it. `bytes` is the largest size of a
/// state file.
pub fn try_to_write(base_path: &str, bytes: usize) -> Result<(), Error> {
    let path = format!("{base_path}/{UNFINISHED}0");
    let base = open_base(base_path)?;
    // No job has this number. If this process is killed, the next start of slurmd removes the directory.
    let name = &c_path(&format!("{UNFINISHED}0"))?;
    let intention = || format!("make jobs' directories in base_path {base_path}");
    let tree = match make_unfinished(base.as_fd(), name) {
        // Another process is trying at this moment.
        Err(failed) if failed.errno == Errno::WOULDBLOCK => return Ok(()),
        result => result.trying_to(intention)?,
    };
    let fill = || -> Result<(), Error> {
        let ns = make_private_dir(tree.as_fd(), c".ns").trying_to(intention)?;
        try_owners_and_links(ns.as_fd(), intention).map_err(|error| match error.errno() {
            None | Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => error.with_hint(UNFIT),
            Some(_) => error,
        })?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&ns, c"state", flags, Mode::RUSR).doing("openat", intention)?;
        write_all(file.as_fd(), &vec![0; bytes]).doing("write", intention)
    };
    let filled = fill();
    // This releases the lock.
    drop(tree);
    let removed = remove_unfinished(base.as_fd(), name).trying_to(|| format!("remove {path}"));
    filled.and(removed)
}

/// FAT and exFAT have no owners. SMB and some file systems in user space ignore chown. A file server may map root to
/// another user.
const UNFIT: &str = "jobs need a file system with owners, modes and symbolic links, on which root of this node is root: choose a local one such as XFS or ext4";

/// Gives the new directory `ns` to a user and takes it back, and makes and removes a link in it. If this process is killed
/// meanwhile, [`remove_unfinished`] removes what is left.
fn try_owners_and_links(ns: BorrowedFd<'_>, intention: impl Fn() -> String) -> Result<(), Error> {
    const SOMEBODY: u32 = 1;
    let me = rustix::process::geteuid();
    let stat = rustix::fs::fstat(ns).doing("fstat", &intention)?;
    if stat.st_uid != me.as_raw() || mode_of(&stat) != 0o700 {
        let why = format!(
            "a directory that root makes there with mode 0700 belongs to uid {} and has mode {:04o}",
            stat.st_uid,
            stat.st_mode & 0o7777
        );
        return Err(Error::because(intention(), why));
    }
    rustix::fs::symlinkat(c"link", ns, c"state").doing("symlinkat", &intention)?;
    rustix::fs::unlinkat(ns, c"state", AtFlags::empty()).doing("unlinkat", &intention)?;
    match rustix::fs::fchown(ns, Some(Uid::from_raw(SOMEBODY)), None) {
        // A user namespace, or a mount with mapped ids, may have no such user.
        Err(Errno::INVAL | Errno::OVERFLOW) => return Ok(()),
        result => result.doing("fchown", &intention)?,
    }
    let owner = rustix::fs::fstat(ns).doing("fstat", &intention)?.st_uid;
    if owner != SOMEBODY {
        return Err(Error::because(
            intention(),
            format!("a directory given to a user there still belongs to uid {owner}"),
        ));
    }
    rustix::fs::fchown(ns, Some(me), None).doing("fchown", &intention)
}

/// Makes `<parent>/<name>`, accessible to root only, and opens it. It must not exist. If it cannot be opened it is
/// removed again.
pub fn make_private_dir(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, FailedCall> {
    rustix::fs::mkdirat(parent, name, Mode::RWXU).named("mkdirat")?;
    let dir = open_beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH).named("openat2");
    dir.inspect_err(|_| {
        let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
    })
}

/// Renames to a name that must not exist; else the error is EEXIST. Only root may be able to write to `to_dir`: some
/// file systems (ZFS before 2.2, NFS) cannot check and rename in one step.
pub fn rename_new(from_dir: BorrowedFd<'_>, from: &CStr, to_dir: BorrowedFd<'_>, to: &CStr) -> Result<(), FailedCall> {
    match rustix::fs::renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL) => match rustix::fs::statat(to_dir, to, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST).named("renameat2"),
            Err(Errno::NOENT) => rustix::fs::renameat(from_dir, from, to_dir, to).named("renameat"),
            Err(errno) => Err(errno).named("fstatat"),
        },
        result => result.named("renameat2"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_that_failed_is_named() {
        let top = tempfile::tempdir().unwrap();
        let base = rustix::fs::open(top.path(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let base = base.as_fd();
        let failed = |name, errno| Some(FailedCall { name, errno });
        assert_eq!(remove_unfinished(base, c".new.7").err(), failed("openat2", Errno::NOENT));
        let made = make_unfinished(base, c".new.7").unwrap();
        assert_eq!(remove_unfinished(base, c".new.7").err(), failed("flock", Errno::WOULDBLOCK));
        assert_eq!(make_unfinished(base, c".new.7").err(), failed("flock", Errno::WOULDBLOCK));
        drop(made);
        std::fs::write(top.path().join(".new.7/file"), "").unwrap();
        assert_eq!(remove_unfinished(base, c".new.7").err(), failed("unlinkat", Errno::NOTEMPTY));
        assert_eq!(make_private_dir(base, c".new.7").err(), failed("mkdirat", Errno::EXIST));
        std::fs::create_dir(top.path().join("7")).unwrap();
        assert_eq!(rename_new(base, c".new.7", base, c"7").err(), failed("renameat2", Errno::EXIST));
    }
}

//! `.trash` of a base path, where trees are removed. A job's directory is renamed into it, so its number is free at
//! once, however long the removal takes.
//!
//! An unrelated `.trash` may have existed before. So only trees with a name that [`move_to_trash`] gives, or gave in an
//! earlier version, are recognised.
//!
//! A process that waits for a removal only looks up names in `.trash` and never opens a tree there: a user can make
//! every access to a tree wait.

use crate::base::base_dir::rename_new;
use crate::base::error::{Doing, Error, TryingTo};
use crate::base::listing::{names, visit};
use crate::base::trusted_path::{BENEATH, is_trusted_owner, mode_of, open_beneath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

/// The directory in each base where trees are removed.
pub const TRASH: &CStr = c".trash";

/// How often a waiting process checks whether the removal program is alive.
const LOOK: Duration = Duration::from_secs(1);

/// The pause between two lookups of a name. Each is half as long again as the last. inotify would need an instance for
/// each job that ends, of which root may have 128, and closing one takes longer than the removal of a small tree.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The parts of a tree's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeName {
    pub job: u32,
    /// The user; None in names that earlier versions gave.
    pub uid: Option<u32>,
}

/// Parses `<job>.<uid>.<number>`, or the form of earlier versions, `<job>.<number>` and `+<number>` for each time that
/// a part of the tree was moved up.
#[must_use]
pub fn parse_name(name: &[u8]) -> Option<TreeName> {
    let number = |text: &[u8]| {
        let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        is_number.then(|| core::str::from_utf8(text).ok()?.parse::<u32>().ok()).flatten()
    };
    let mut parts = name.split(|byte| *byte == b'+');
    let fields: Vec<&[u8]> = parts.next().unwrap_or_default().split(|byte| *byte == b'.').collect();
    let pieces = parts.map(number).collect::<Option<Vec<u32>>>()?;
    match fields.as_slice() {
        [job, count] => number(count).and_then(|_| Some(TreeName { job: number(job)?, uid: None })),
        [job, uid, count] if pieces.is_empty() => {
            number(count).and_then(|_| Some(TreeName { job: number(job)?, uid: Some(number(uid)?) }))
        }
        _ => None,
    }
}

/// The trees in a trash.
pub(crate) fn entries(trash: BorrowedFd<'_>, base_path: &str) -> Result<Vec<String>, Error> {
    let mut found = names(trash, &format!("{base_path}/.trash"))?;
    found.retain(|name| parse_name(name.as_bytes()).is_some());
    Ok(found)
}

/// Is there a tree in this trash?
pub(super) fn has_some(trash: BorrowedFd<'_>, base_path: &str) -> Result<bool, Error> {
    let mut found = false;
    visit(trash, &format!("{base_path}/.trash"), |name| {
        found = parse_name(name.as_bytes()).is_some();
        !found
    })?;
    Ok(found)
}

/// Opens the trash of a base, and makes it if it does not exist.
pub(crate) fn open_trash(base: BorrowedFd<'_>, base_path: &str) -> Result<OwnedFd, Error> {
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
            format!(
                "it belongs to uid {} and has mode {:04o}; it must belong to root and have mode 0700",
                stat.st_uid,
                stat.st_mode & 0o7777
            ),
        ));
    }
    Ok(trash)
}

/// A tree in a trash.
#[derive(Debug)]
pub struct Moved {
    pub base: String,
    pub trash: OwnedFd,
    pub name: CString,
}

/// Moves `<base>/<name>`, the directory of a job of `uid`, to the trash. Only root may have access to it.
pub(super) fn move_to_trash(base: BorrowedFd<'_>, base_path: &str, name: &CStr, uid: u32) -> Result<Moved, Error> {
    let trash = open_trash(base, base_path)?;
    let intention = || format!("move {base_path}/{} to .trash", name.to_string_lossy());
    for number in 0_u32.. {
        let to = CString::new(format!("{}.{uid}.{number}", name.to_string_lossy())).unwrap_or_default();
        let result = match rename_new(base, name, trash.as_fd(), &to) {
            // A directory of another project cannot be moved there (EXDEV). Change its project first.
            Err(failed) if failed.errno == Errno::XDEV && join_project(base, name, trash.as_fd()).is_ok() => {
                rename_new(base, name, trash.as_fd(), &to)
            }
            result => result,
        };
        match result {
            Err(failed) if failed.errno == Errno::EXIST => {}
            result => {
                result.trying_to(intention)?;
                return Ok(Moved { base: base_path.to_owned(), trash, name: to });
            }
        }
    }
    Err(Error::call(intention(), "renameat2", Errno::EXIST))
}

/// Sets the project of the directory `name` to that of `model`, but not that of its contents.
fn join_project(base: BorrowedFd<'_>, name: &CStr, model: BorrowedFd<'_>) -> Result<(), Errno> {
    let dir = open_beneath(base, name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH)?;
    crate::sys::project::join(dir.as_fd(), model)
}

/// Locks a tree for its removal. The lock ends with the descriptor, or with the process. A process that cannot be
/// killed keeps only its own tree.
///
/// # Errors
///
/// EWOULDBLOCK: another process removes it.
pub fn lock(tree: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::flock(tree, FlockOperation::NonBlockingLockExclusive) {
        // The file system has no such locks. There is only one removal program anyway.
        Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => Ok(()),
        result => result,
    }
}

/// Tells [`is_watched`] that a removal program takes care of this trash, for as long as the descriptor is open.
pub fn announce(trash: BorrowedFd<'_>) {
    let _ = rustix::fs::flock(trash, FlockOperation::LockShared);
}

/// May a removal program take care of this trash? False only if there is proof that none does.
fn is_watched(trash: BorrowedFd<'_>) -> bool {
    let free = rustix::fs::flock(trash, FlockOperation::NonBlockingLockExclusive).is_ok();
    if free {
        let _ = rustix::fs::flock(trash, FlockOperation::Unlock);
    }
    !free
}

/// The result of a wait for a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Nothing is left.
    Gone,
    OutOfTime,
    /// No removal program is running. The next one removes what is left.
    NoProgram,
}

/// Waits until the removal program has removed the moved trees. Only looks up their names.
#[must_use]
pub fn wait_until_gone(moved: &[Moved], wait: Duration) -> Waited {
    let start = Instant::now();
    for Moved { trash, name, .. } in moved {
        let (mut pause, mut looked) = (FIRST_PAUSE, None);
        while exists(trash.as_fd(), name) {
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Waited::OutOfTime;
            }
            if looked.is_none_or(|moment: Instant| moment.elapsed() >= LOOK) {
                if !is_watched(trash.as_fd()) {
                    return Waited::NoProgram;
                }
                looked = Some(Instant::now());
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }
    Waited::Gone
}

fn exists(trash: BorrowedFd<'_>, name: &CStr) -> bool {
    // Any answer but ENOENT means that the name exists.
    !matches!(rustix::fs::statat(trash, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_we_give_and_others() {
        let of = |job, uid| Some(TreeName { job, uid });
        assert_eq!(parse_name(b"7.1001.0"), of(7, Some(1001)));
        for earlier in ["7.0", "7.0+0", "7.0+12+3"] {
            assert_eq!(parse_name(earlier.as_bytes()), of(7, None), "{earlier}");
        }
        for other in
            ["", "7", "7.", ".7", "7.0+", "7.0+a", "7.1.0+1", "7.0.1.2", "7.0 ", "+7.0", "thesis", "7.tar", "7.0.gz"]
        {
            assert_eq!(parse_name(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn nobody_waits_for_a_program_that_does_not_run() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join(".trash/7.0.0")).unwrap();
        let open = || rustix::fs::open(top.path().join(".trash"), OFlags::RDONLY, Mode::empty()).unwrap();
        let moved = || [Moved { base: String::new(), trash: open(), name: c"7.0.0".to_owned() }];
        let long = Duration::from_secs(60);
        assert_eq!(wait_until_gone(&moved(), long), Waited::NoProgram);
        let program = open();
        announce(program.as_fd());
        assert_eq!(wait_until_gone(&moved(), Duration::from_millis(20)), Waited::OutOfTime);
        let path = top.path().join(".trash/7.0.0");
        let remover = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            std::fs::remove_dir(path).unwrap();
        });
        assert_eq!(wait_until_gone(&moved(), long), Waited::Gone);
        remover.join().unwrap();
    }
}

//! Removes a tree that a user made, as root.
//!
//! By descriptor only: every directory is opened below the one before with `openat2`, without
//! following links and without crossing a mount, even one of the same file system, so nothing outside
//! the tree can be reached, whatever its owner does meanwhile. Nothing but directories is opened;
//! everything else is unlinked by name.
//!
//! Depth is no limit: [`MAX_DEPTH`] levels are walked with a descriptor and a buffer each; a directory
//! below that is first moved up, next to the tree, under a name of ours, and done later. So the number
//! of descriptors, the stack and the memory are the same for 3 levels and for 300,000. What is
//! interrupted can simply be started again.

use super::error::Words;
use super::trusted::{BENEATH, open_beneath};
use core::fmt;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, RenameFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// Levels walked before directories are moved up.
const MAX_DEPTH: usize = 8;

/// Bytes of directory entries read at once.
const BUFFER: usize = 32 * 1024;

/// Somebody may go on making files while we remove them; after so many rounds the rest is left.
const MAX_ROUNDS: usize = 16;

/// What was removed and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub files: u64,
    pub directories: u64,
    /// Mounts found inside, left alone.
    pub mounts: u64,
    /// Other entries that could not be removed.
    pub failed: u64,
    /// The first reason why something was left.
    pub first_failure: Option<Errno>,
    pub took: Duration,
}

impl Summary {
    /// Nothing is left of the tree.
    #[must_use]
    pub const fn complete(&self) -> bool {
        self.mounts == 0 && self.failed == 0
    }

    fn failed(&mut self, errno: Errno) {
        self.failed += 1;
        self.first_failure.get_or_insert(errno);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "removed {} files and {} directories in {:.3} s",
            self.files,
            self.directories,
            self.took.as_secs_f64()
        )?;
        if self.mounts > 0 {
            write!(f, "; left {} mounts that are not ours inside", self.mounts)?;
        }
        if let Some(errno) = self.first_failure {
            write!(f, "; could not remove {} entries, the first because: {}", self.failed, Words(errno))?;
        }
        Ok(())
    }
}

/// Removes the directory `name` in `parent` and all that is in it. `parent` must be a directory that
/// only we write to: directories from deep in the tree are moved there for a while.
#[must_use]
pub fn remove_tree(parent: BorrowedFd<'_>, name: &CStr) -> Summary {
    let start = Instant::now();
    let mut remover = Remover {
        parent,
        name,
        moved_up: 0,
        buffers: (0..=MAX_DEPTH).map(|_| Vec::new()).collect(),
        summary: Summary::default(),
    };
    remover.directory(parent, name, 0);
    // Each of these may move up more.
    let mut next = 0;
    while next < remover.moved_up {
        let name = remover.moved_name(next);
        remover.directory(parent, &name, 0);
        next += 1;
    }
    remover.summary.took = start.elapsed();
    remover.summary
}

struct Remover<'a> {
    parent: BorrowedFd<'a>,
    name: &'a CStr,
    moved_up: u64,
    /// One per level, taken while the level is walked.
    buffers: Vec<Vec<MaybeUninit<u8>>>,
    summary: Summary,
}

impl Remover<'_> {
    fn moved_name(&self, number: u64) -> CString {
        let mut name = self.name.to_bytes().to_vec();
        name.extend_from_slice(format!("+{number}").as_bytes());
        CString::new(name).unwrap_or_default()
    }

    /// Removes directory `name` of `dir`.
    fn directory(&mut self, dir: BorrowedFd<'_>, name: &CStr, depth: usize) {
        let mut failed = false;
        for _ in 0..MAX_ROUNDS {
            match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
                Ok(()) => {
                    self.summary.directories += 1;
                    return;
                }
                Err(Errno::NOENT) => return,
                // What is in it was counted already.
                Err(Errno::NOTEMPTY | Errno::EXIST) if failed => return,
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                // A mount point of this mount namespace.
                Err(Errno::BUSY) => {
                    self.summary.mounts += 1;
                    return;
                }
                Err(errno) => return self.summary.failed(errno),
            }
            if depth >= MAX_DEPTH {
                return self.move_up(dir, name);
            }
            let before = (self.summary.failed, self.summary.mounts);
            match open_beneath(dir, &name.to_owned(), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, BENEATH) {
                Ok(fd) => self.contents(fd.as_fd(), depth),
                Err(Errno::XDEV) => {
                    self.summary.mounts += 1;
                    return;
                }
                Err(Errno::NOENT) => return,
                Err(errno) => return self.summary.failed(errno),
            }
            failed = before != (self.summary.failed, self.summary.mounts);
        }
        // Full again after every round.
        self.summary.failed(Errno::NOTEMPTY);
    }

    /// Moves a directory from deep in the tree next to it, to be done later.
    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &CStr) {
        // Left from a run that was interrupted, such a name may be taken.
        for _ in 0..1_000_000 {
            let to = self.moved_name(self.moved_up);
            self.moved_up += 1;
            match rustix::fs::renameat_with(dir, name, self.parent, to.as_c_str(), RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::NOENT) => return,
                Err(Errno::EXIST) => {}
                Err(Errno::BUSY | Errno::XDEV) => {
                    self.summary.mounts += 1;
                    return;
                }
                Err(errno) => return self.summary.failed(errno),
            }
        }
    }

    /// Removes what is in the directory `dir`.
    fn contents(&mut self, dir: BorrowedFd<'_>, depth: usize) {
        let mut buffer = self.buffers.get_mut(depth).map(std::mem::take).unwrap_or_default();
        buffer.resize(BUFFER, MaybeUninit::uninit());
        let mut entries = RawDir::new(dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    self.summary.failed(errno);
                    break;
                }
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                self.directory(dir, name, depth + 1);
                continue;
            }
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) => self.summary.files += 1,
                Err(Errno::NOENT) => {}
                // A file system that does not tell types, or one that was exchanged meanwhile.
                Err(Errno::ISDIR) => self.directory(dir, name, depth + 1),
                Err(Errno::BUSY) => self.summary.mounts += 1,
                Err(errno) => self.summary.failed(errno),
            }
        }
        if let Some(slot) = self.buffers.get_mut(depth) {
            *slot = buffer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode};
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    fn dir_fd(path: &Path) -> rustix::fd::OwnedFd {
        rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn odd_names_types_and_links_go_and_what_they_point_to_stays() {
        let top = tempfile::tempdir().unwrap();
        let tree = top.path().join("trash/7");
        std::fs::create_dir_all(tree.join("a/b/c")).unwrap();
        std::fs::create_dir(top.path().join("outside")).unwrap();
        std::fs::write(top.path().join("outside/keep"), "x").unwrap();
        for name in [&b"new\nline"[..], b"\xff\xfe", b" ", b"-rf", b"*"] {
            std::fs::write(tree.join("a").join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
        }
        std::os::unix::fs::symlink("../../../outside", tree.join("a/link")).unwrap();
        std::fs::hard_link(top.path().join("outside/keep"), tree.join("hard")).unwrap();
        rustix::fs::mknodat(CWD, tree.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();

        let summary = remove_tree(dir_fd(&top.path().join("trash")).as_fd(), c"7");
        assert!(summary.complete(), "{summary}");
        assert_eq!((summary.files, summary.directories), (9, 4));
        assert!(!tree.exists());
        assert_eq!(std::fs::read(top.path().join("outside/keep")).unwrap(), b"x");
    }

    #[test]
    fn depth_is_no_limit_and_descriptors_stay_few() {
        let top = tempfile::tempdir().unwrap();
        let trash = dir_fd(top.path());
        rustix::fs::mkdirat(&trash, c"9", Mode::RWXU).unwrap();
        let mut here = rustix::fs::openat(&trash, c"9", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, c"d", Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, c"d", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        drop(here);
        let summary = remove_tree(trash.as_fd(), c"9");
        assert!(summary.complete(), "{summary}");
        assert_eq!(summary.directories, 3001);
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_name_left_from_an_interrupted_run_is_stepped_over() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("9/1/2/3/4/5/6/7/8/9/10")).unwrap();
        std::fs::create_dir(top.path().join("9+0")).unwrap();
        let summary = remove_tree(dir_fd(top.path()).as_fd(), c"9");
        assert!(summary.complete(), "{summary}");
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    }
}

//! Removes the deep parts of a tree: any number of levels, with a limited number of descriptors.
//!
//! The way down is divided into stretches. All directories of the present stretch are open. Of the stretches above, the
//! first directory is open and the inodes of the others are known. On the way up they are opened again from there.
//!
//! `..` is used only if there are too few descriptors for that. If a mount shows only a part of its file system, as a
//! bind mount does, the kernel walks from each parent up to the root of the mount to see that it is still below it
//! (`path_connected` in fs/namei.c), so the time would grow with the square of the depth.

use crate::base::trusted_path::{NO_LINKS, open_beneath};
use crate::job::remove::tree::{BUFFER, Removed, Walker, is_directory, take};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{OFlags, RawDir, ResolveFlags, SeekFrom};
use rustix::io::Errno;
use rustix::process::Resource;
use std::collections::HashSet;
use std::ffi::CString;
use std::mem::MaybeUninit;

/// For `..`: stays on the same mount.
const UP: ResolveFlags = NO_LINKS.union(ResolveFlags::NO_XDEV);

/// How many descriptors a walk may use.
#[derive(Clone, Copy)]
pub(super) struct Descriptors {
    /// The number of levels in a stretch.
    pub stretch: usize,
    /// For how many stretches above the first directory is open.
    pub firsts: usize,
    /// The soft limit of the process.
    limit: usize,
}

impl Descriptors {
    pub(super) fn of_this_process() -> Self {
        let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::of(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    fn of(limit: usize) -> Self {
        Self { stretch: (limit / 16).clamp(1, 256), firsts: (limit / 4).min(4096).saturating_sub(8), limit }
    }

    /// How many threads may walk at the same time, each with a few more descriptors.
    pub(super) fn threads(self) -> usize {
        self.limit / (self.stretch + self.firsts + 32)
    }
}

type Buffer = [MaybeUninit<u8>];

/// A directory on the way down, and the directory in it that the walk has entered.
struct Level {
    dir: OwnedFd,
    below: CString,
    /// The inode of `below` in the listing. For the root of a subvolume, `fstat` returns another one.
    number: u64,
    /// `below` is the only entry.
    only: bool,
}

/// A level of a stretch whose directories are closed.
struct Closed {
    /// Device and inode.
    id: (u64, u64),
    /// The inode, in the listing, of the directory that the walk has entered.
    number: u64,
    only: bool,
}

/// The levels above the present directory.
struct Above {
    descriptors: Descriptors,
    /// The first directory of each closed stretch. If there are few descriptors, not all stretches have one here.
    firsts: Vec<OwnedFd>,
    closed: Vec<Closed>,
    open: Vec<Level>,
}

impl Above {
    fn new() -> Self {
        let descriptors = Descriptors::of_this_process();
        Self { descriptors, firsts: Vec::new(), closed: Vec::new(), open: Vec::new() }
    }

    /// Adds a level. The first level of a stretch closes the stretch before.
    fn push(&mut self, level: Level) -> Result<(), Errno> {
        if self.open.len() == self.descriptors.stretch {
            for Level { dir, number, only, .. } in &self.open {
                self.closed.push(Closed { id: id(dir)?, number: *number, only: *only });
            }
            let first = self.open.drain(..).next();
            if self.firsts.len() < self.descriptors.firsts {
                self.firsts.extend(first.map(|level| level.dir));
            }
        }
        self.open.push(level);
        Ok(())
    }

    /// The directory above `here`; None at the top.
    fn pop(
        &mut self,
        here: &OwnedFd,
        walker: &mut Walker<'_, '_>,
        buffer: &mut Buffer,
    ) -> Result<Option<Level>, Errno> {
        if self.open.is_empty() && self.closed.len() > self.firsts.len() * self.descriptors.stretch {
            // No directory of this stretch is open.
            let Some(Closed { id: parent, number, only }) = self.closed.pop() else { return Ok(None) };
            let dir = open_beneath(here.as_fd(), c"..", OFlags::RDONLY | OFlags::DIRECTORY, UP)?;
            // The user has moved it, because root could not become its owner.
            if id(&dir)? != parent {
                return Err(Errno::NOTEMPTY);
            }
            let below = name_of(&dir, number, buffer)?;
            return Ok(Some(Level { dir, below, number, only }));
        }
        if self.open.is_empty()
            && let Some(first) = self.firsts.pop()
        {
            let stretch = self.closed.split_off(self.closed.len().saturating_sub(self.descriptors.stretch));
            let mut dir = first;
            for Closed { number, only, .. } in stretch {
                let below = name_of(&dir, number, buffer)?;
                let next = walker.enter(dir.as_fd(), &below).ok_or(Errno::NOTEMPTY)?;
                self.open.push(Level { dir, below, number, only });
                dir = next;
            }
        }
        Ok(self.open.pop())
    }
}

fn id(dir: &OwnedFd) -> Result<(u64, u64), Errno> {
    rustix::fs::fstat(dir).map(|stat| (stat.st_dev, stat.st_ino))
}

/// The name of the entry in `dir` with this inode.
fn name_of(dir: &OwnedFd, number: u64, buffer: &mut Buffer) -> Result<CString, Errno> {
    let _ = rustix::fs::seek(dir, SeekFrom::Start(0));
    let mut entries = RawDir::new(dir, buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if entry.ino() == number && !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(entry.file_name().to_owned());
        }
    }
    Err(Errno::NOTEMPTY)
}

/// The result of a pass over a directory.
enum Next {
    /// A directory to enter.
    Below { dir: OwnedFd, name: CString, number: u64, only: bool },
    /// Nothing more can be done here. `clean`: nothing is left.
    End { clean: bool },
}

impl Walker<'_, '_> {
    /// Removes what is in `top`, at any depth.
    pub(super) fn deep(&mut self, top: OwnedFd) {
        if let Err(errno) = self.try_deep(top) {
            self.summary.failed(errno);
        }
    }

    fn try_deep(&mut self, top: OwnedFd) -> Result<(), Errno> {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut above = Above::new();
        // Directories with contents that stay.
        let mut given_up: HashSet<u64> = HashSet::new();
        let mut here = top;
        let mut came_up = false;
        while !self.is_late() {
            match self.one_pass(&here, &mut buffer, came_up, &given_up) {
                Next::Below { dir, name, number, only } => {
                    take(dir.as_fd());
                    let dir = std::mem::replace(&mut here, dir);
                    above.push(Level { dir, below: name, number, only })?;
                    came_up = false;
                }
                Next::End { clean } => {
                    let mut is_empty = clean;
                    loop {
                        let Some(Level { dir, below, number, only }) = above.pop(&here, self, &mut buffer)? else {
                            return Ok(());
                        };
                        if !clean {
                            given_up.insert(number);
                        }
                        here = dir;
                        // If the directory below was its only entry, it is empty now.
                        is_empty &= only && matches!(self.rmdir(here.as_fd(), &below), Removed::Done);
                        if !is_empty || self.is_late() {
                            break;
                        }
                    }
                    came_up = true;
                }
            }
        }
        Ok(())
    }

    /// Removes the files of a directory, unless `again`, and its empty directories up to the first that is not empty.
    fn one_pass(&mut self, dir: &OwnedFd, buffer: &mut Buffer, again: bool, given_up: &HashSet<u64>) -> Next {
        let _ = rustix::fs::seek(dir, SeekFrom::Start(0));
        let mut below = None;
        let mut clean = true;
        let mut entries = RawDir::new(dir, buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    self.summary.failed(errno);
                    return Next::End { clean: false };
                }
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.is_late() {
                return Next::End { clean: false };
            }
            let before = (self.summary.failed, self.summary.mounts);
            if !is_directory(dir.as_fd(), name, entry.file_type()) {
                if again {
                    clean = false;
                } else {
                    self.file(dir.as_fd(), name);
                }
            } else if below.is_some() || given_up.contains(&entry.ino()) {
                clean = false;
            } else {
                match self.rmdir(dir.as_fd(), name) {
                    Removed::NotEmpty => {
                        below = self.enter(dir.as_fd(), name).map(|fd| (fd, name.to_owned(), entry.ino()));
                    }
                    Removed::IsFile => self.file(dir.as_fd(), name),
                    Removed::Done | Removed::Failed => {}
                }
                if again && below.is_some() {
                    clean = false;
                    break;
                }
            }
            clean &= before == (self.summary.failed, self.summary.mounts);
        }
        match below {
            Some((dir, name, number)) => Next::Below { dir, name, number, only: clean },
            None => Next::End { clean },
        }
    }
}

//! What is deep in a tree: any number of levels, with as many descriptors as there may be.
//!
//! The directories of a stretch of the way down are open. Of the stretches above, the first directory is, and the inodes
//! of the others are known: on the way up they are opened again from there.
//!
//! `..` is used only where there are too few descriptors for that. Where a mount shows a part of its file system only, as
//! a bind mount does, the kernel walks from each parent up to the mount's root, to see that it is still below it
//! (`path_connected` in fs/namei.c): the time grows with the square of the depth.

use crate::base::trusted_path::{NO_LINKS, open_beneath};
use crate::job::remove::tree::{BUFFER, Removed, Walker, is_directory, take};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{OFlags, RawDir, ResolveFlags, SeekFrom};
use rustix::io::Errno;
use rustix::process::Resource;
use std::collections::HashSet;
use std::ffi::CString;
use std::mem::MaybeUninit;

/// How a directory is left upwards: on the same mount.
const UP: ResolveFlags = NO_LINKS.union(ResolveFlags::NO_XDEV);

/// How many descriptors a walk may have.
#[derive(Clone, Copy)]
pub(super) struct Descriptors {
    /// Levels of a stretch.
    pub stretch: usize,
    /// Stretches above whose first directory is open.
    pub firsts: usize,
    /// Of the process: its soft limit.
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

    /// How many threads may walk at the same time, with a few descriptors more for each.
    pub(super) fn threads(self) -> usize {
        self.limit / (self.stretch + self.firsts + 32)
    }
}

type Buffer = [MaybeUninit<u8>];

/// A directory on the way down, and what the walk went into.
struct Level {
    dir: OwnedFd,
    below: CString,
    /// Of `below`, as it is listed: of the root of a subvolume, `fstat` says another.
    number: u64,
    /// `below` is all that there is in it.
    only: bool,
}

/// A level of a stretch whose directories are closed.
struct Closed {
    /// Device and inode.
    id: (u64, u64),
    /// Of what the walk went into, as it is listed.
    number: u64,
    only: bool,
}

/// The levels above the present directory.
struct Above {
    descriptors: Descriptors,
    /// The first directory of each stretch that is closed; fewer than there are stretches where descriptors are few.
    firsts: Vec<OwnedFd>,
    closed: Vec<Closed>,
    open: Vec<Level>,
}

impl Above {
    fn new() -> Self {
        let descriptors = Descriptors::of_this_process();
        Self { descriptors, firsts: Vec::new(), closed: Vec::new(), open: Vec::new() }
    }

    /// The first level of a stretch closes the one before.
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
            // The level of which too little is open.
            let Some(Closed { id: parent, number, only }) = self.closed.pop() else { return Ok(None) };
            let dir = open_beneath(here.as_fd(), c"..", OFlags::RDONLY | OFlags::DIRECTORY, UP)?;
            // It was moved while it could not be taken from its user.
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

/// The name of the directory that is listed in `dir` with this number.
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

/// What a look at a directory has found.
enum Found {
    /// A directory to go on in.
    Below { dir: OwnedFd, name: CString, number: u64, only: bool },
    /// Nothing more to be done here; `clean` if nothing is left.
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
        // Directories that have something in them that stays.
        let mut given_up: HashSet<u64> = HashSet::new();
        let mut here = top;
        let mut came_up = false;
        while !self.is_late() {
            match self.one_pass(&here, &mut buffer, came_up, &given_up) {
                Found::Below { dir, name, number, only } => {
                    take(dir.as_fd());
                    let dir = std::mem::replace(&mut here, dir);
                    above.push(Level { dir, below: name, number, only })?;
                    came_up = false;
                }
                Found::End { clean } => {
                    let mut is_empty = clean;
                    loop {
                        let Some(Level { dir, below, number, only }) = above.pop(&here, self, &mut buffer)? else {
                            return Ok(());
                        };
                        if !clean {
                            given_up.insert(number);
                        }
                        here = dir;
                        // With the only one that was in it, it has become empty.
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

    /// Removes the files of a directory, if not `again`, and its empty directories up to the first that is not.
    fn one_pass(&mut self, dir: &OwnedFd, buffer: &mut Buffer, again: bool, given_up: &HashSet<u64>) -> Found {
        let _ = rustix::fs::seek(dir, SeekFrom::Start(0));
        let mut below = None;
        let mut clean = true;
        let mut entries = RawDir::new(dir, buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    self.summary.failed(errno);
                    return Found::End { clean: false };
                }
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.is_late() {
                return Found::End { clean: false };
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
            Some((dir, name, number)) => Found::Below { dir, name, number, only: clean },
            None => Found::End { clean },
        }
    }
}

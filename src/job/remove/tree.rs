//! Removes a tree that a user made, as root.
//!
//! Only the removal program and `jobns` run this, each tree in a separate process: the user can make any call here
//! wait forever, for example with the lock of a directory, and a daemon must not wait.
//!
//! The walk uses only descriptors. Every directory is opened below its parent with `openat2`, which follows no
//! link and crosses no mount, not even one of the same file system. So nothing outside the tree can be reached.
//! Only directories are opened; everything else is unlinked by name.
//!
//! Root becomes the owner of a directory, with mode 0700, before it is listed. From then on no process of the user
//! can make, rename or remove anything in it, by any descriptor. So the directories above the one that is being
//! emptied no longer change, and `..` leads back to where the walk came from.
//!
//! Nothing is ever renamed, so a full disk, a quota, another project or an encrypted directory cannot prevent the
//! removal. [`MAX_DEPTH`] levels are walked with a descriptor and a buffer each, and shared by threads. Below
//! that, [`deep`] walks down and up again, so depth has no limit. Files are removed before directories are
//! entered, so that a full disk gets free space first.

mod deep;
mod pool;

use self::pool::Handed;
use self::pool::Shared;
use crate::base::error::Words;
use crate::base::trusted_path::{BENEATH, open_beneath};
use core::fmt;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, IFlags, Mode, OFlags, RawDir, SeekFrom, Stat, Uid};
use rustix::io::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// Levels that are walked with a descriptor each.
const MAX_DEPTH: usize = 6;

/// How many bytes of directory entries are read at once.
const BUFFER: usize = 16 * 1024;

/// If root could not become the owner of a directory, it may be full again after each round.
const MAX_ROUNDS: usize = 16;

/// After this many files a tree is large enough for threads.
const LARGE: u64 = 2000;

/// More threads do not help: they contend for the locks of the file system.
const MAX_THREADS: usize = 8;

/// How often progress is reported.
const REPORT: Duration = Duration::from_secs(1);

/// What was removed and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub files: u64,
    pub directories: u64,
    /// Mounts that were found inside and left alone.
    pub mounts: u64,
    /// Other entries that could not be removed.
    pub failed: u64,
    /// The deadline passed before everything was removed.
    pub out_of_time: bool,
    /// The first error.
    pub first_failure: Option<Errno>,
    pub took: Duration,
}

impl Summary {
    /// Is nothing left of the tree?
    #[must_use]
    pub const fn complete(&self) -> bool {
        self.mounts == 0 && self.failed == 0 && !self.out_of_time
    }

    fn failed(&mut self, errno: Errno) {
        self.failed += 1;
        self.first_failure.get_or_insert(errno);
    }

    /// Adds the result of another removal.
    pub fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.directories += other.directories;
        self.mounts += other.mounts;
        self.failed += other.failed;
        self.out_of_time |= other.out_of_time;
        self.first_failure = self.first_failure.or(other.first_failure);
    }

    /// The reasons why something is left, as a part of a sentence.
    #[must_use]
    pub fn why_incomplete(&self) -> String {
        let mut reasons = Vec::new();
        if self.mounts > 0 {
            reasons.push(format!("it contains {} mounts, which are left alone", self.mounts));
        }
        if let Some(errno) = self.first_failure {
            reasons.push(format!("{} entries could not be removed; the first error: {}", self.failed, Words(errno)));
        }
        if self.out_of_time {
            reasons.push("its time limit was reached".to_owned());
        }
        reasons.join("; ")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "removed {} files and {} directories in {}.{:03} s",
            self.files,
            self.directories,
            self.took.as_secs(),
            self.took.subsec_millis()
        )?;
        if !self.complete() {
            write!(f, "; {}", self.why_incomplete())?;
        }
        Ok(())
    }
}

/// Options for the removal of a tree.
#[derive(Default)]
pub struct Terms<'a> {
    /// When to stop and leave the rest.
    pub deadline: Option<Instant>,
    /// When to switch to the lowest priority.
    pub polite_after: Option<Instant>,
    /// Called about once a second with the numbers of files and directories that were removed, if they have grown.
    pub progress: Option<&'a (dyn Fn(u64, u64) + Sync)>,
}

impl fmt::Debug for Terms<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terms").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Removes the directory `name` in `parent` and everything in it, with threads if it is large. `.ns`, the state of a
/// job, is removed last, because it identifies the tree. Only root may be able to write to `parent`.
#[must_use]
pub fn remove_tree(parent: BorrowedFd<'_>, name: &CStr, terms: &Terms<'_>) -> Summary {
    let shared = Shared::new(terms);
    let mut summary = std::thread::scope(|scope| {
        let mut walker = Walker::new(&shared);
        walker.scope = Some(scope);
        walker.top(parent, name);
        shared.lock().closing = true;
        shared.changed.notify_all();
        walker.summary
    });
    // Only now have all threads added their results.
    summary.add(&shared.lock().summary);
    summary.took = shared.start.elapsed();
    summary
}

/// One thread's part of the work.
struct Walker<'scope, 'env> {
    shared: &'env Shared<'env>,
    summary: Summary,
    /// The scope for further threads, until they are started.
    scope: Option<&'scope Scope<'scope, 'env>>,
    polite: bool,
}

/// The kind of entries that a pass over a directory removes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Files,
    Directories,
}

impl<'env> Walker<'_, 'env> {
    fn new(shared: &'env Shared<'env>) -> Self {
        Self { shared, summary: Summary::default(), scope: None, polite: false }
    }

    /// Removes the tree itself. If another directory gets its name meanwhile, that is left alone.
    fn top(&mut self, parent: BorrowedFd<'_>, name: &CStr) {
        let mut first = None;
        for _ in 0..MAX_ROUNDS {
            let Some(tree) = self.enter(parent, name) else { return };
            let Ok(stat) = rustix::fs::fstat(&tree) else { return };
            if *first.get_or_insert((stat.st_dev, stat.st_ino)) != (stat.st_dev, stat.st_ino) {
                return;
            }
            // A job's directory already belongs to root, and its mode may mark the job as dead.
            if !is_private(&stat) {
                take(tree.as_fd());
            }
            let before = (self.summary.failed, self.summary.mounts);
            let tree = Arc::new(tree);
            self.contents(&tree, 0);
            if self.is_late() || before != (self.summary.failed, self.summary.mounts) {
                return;
            }
            self.directory(tree.as_fd(), c".ns", 1);
            match self.rmdir(parent, name) {
                Removed::NotEmpty if before == (self.summary.failed, self.summary.mounts) => {}
                Removed::Done | Removed::NotEmpty | Removed::Failed | Removed::IsFile => return,
            }
        }
        self.summary.failed(Errno::NOTEMPTY);
    }

    /// Removes the directory `name` in `dir`, which may have become a file.
    fn directory(&mut self, dir: BorrowedFd<'_>, name: &CStr, depth: usize) {
        for _ in 0..MAX_ROUNDS {
            match self.rmdir(dir, name) {
                Removed::Done | Removed::Failed => return,
                Removed::IsFile => return self.file(dir, name),
                Removed::NotEmpty => {}
            }
            if self.is_late() {
                return;
            }
            let Some(fd) = self.enter(dir, name) else { return };
            take(fd.as_fd());
            let before = (self.summary.failed, self.summary.mounts);
            if depth < MAX_DEPTH {
                self.contents(&Arc::new(fd), depth);
            } else {
                self.deep(fd);
            }
            if self.is_late() || before != (self.summary.failed, self.summary.mounts) {
                // The rest was counted.
                return;
            }
        }
        // Full again after every round.
        self.summary.failed(Errno::NOTEMPTY);
    }

    /// Opens a directory of the tree. None: there is nothing to enter, and that was counted.
    fn enter(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Option<OwnedFd> {
        match open_beneath(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, BENEATH) {
            Ok(fd) => Some(fd),
            Err(Errno::XDEV) => {
                self.summary.mounts += 1;
                None
            }
            Err(Errno::NOENT) => None,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                self.file(dir, name);
                None
            }
            Err(errno) => {
                self.summary.failed(errno);
                None
            }
        }
    }

    fn rmdir(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Removed {
        match unlink(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) => {
                self.summary.directories += 1;
                self.shared.directories.fetch_add(1, Ordering::Relaxed);
                Removed::Done
            }
            Err(Errno::NOENT) => Removed::Done,
            Err(Errno::NOTEMPTY | Errno::EXIST) => Removed::NotEmpty,
            Err(Errno::NOTDIR) => Removed::IsFile,
            // A mount point of this mount namespace.
            Err(Errno::BUSY) => {
                self.summary.mounts += 1;
                Removed::Failed
            }
            Err(errno) => {
                self.summary.failed(errno);
                Removed::Failed
            }
        }
    }

    /// Removes `name` in `dir`, which was not a directory when it was listed.
    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr) {
        match unlink(dir, name, AtFlags::empty()) {
            Ok(()) => {
                self.summary.files += 1;
                self.shared.files.fetch_add(1, Ordering::Relaxed);
            }
            Err(Errno::NOENT) => {}
            Err(Errno::BUSY) => self.summary.mounts += 1,
            Err(errno) => self.summary.failed(errno),
        }
    }

    /// Has the deadline passed? If so, this is recorded. Does everything else that depends on the time.
    fn is_late(&mut self) -> bool {
        let now = Instant::now();
        let terms = self.shared.terms;
        if !self.polite && terms.polite_after.is_some_and(|moment| now >= moment) {
            self.polite = true;
            crate::sys::process::lowest_priority();
        }
        self.shared.report();
        self.summary.out_of_time |= terms.deadline.is_some_and(|deadline| now >= deadline);
        self.summary.out_of_time
    }

    /// Removes the contents of the directory `dir`, files first.
    fn contents(&mut self, dir: &Arc<OwnedFd>, depth: usize) {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let outstanding = Arc::new(AtomicUsize::new(0));
        let mut has_directories = false;
        for pass in [Pass::Files, Pass::Directories] {
            if pass == Pass::Directories && !has_directories {
                break;
            }
            let _ = rustix::fs::seek(dir, SeekFrom::Start(0));
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
                // At the top, `.ns` is removed last.
                if matches!(name.to_bytes(), b"." | b"..") || (depth == 0 && name == c".ns") {
                    continue;
                }
                if self.is_late() {
                    break;
                }
                let is_directory = is_directory(dir.as_fd(), name, entry.file_type());
                has_directories |= is_directory;
                match (pass, is_directory) {
                    (Pass::Files, false) => self.file(dir.as_fd(), name),
                    (Pass::Directories, true) => {
                        self.get_help();
                        if !self.shared.hand_over(dir, name, depth + 1, &outstanding) {
                            self.directory(dir.as_fd(), name, depth + 1);
                        }
                    }
                    _ => {}
                }
            }
        }
        if outstanding.load(Ordering::Acquire) > 0 {
            while let Some(handed) = self.shared.take_of(&outstanding) {
                self.handed(handed);
            }
        }
    }

    fn handed(&mut self, Handed { parent, name, depth, outstanding }: Handed) {
        self.directory(parent.as_fd(), &name, depth);
        drop(parent);
        self.shared.done(&outstanding);
    }

    /// Starts the other threads once the tree is known to be large.
    fn get_help(&mut self) {
        if self.summary.files < LARGE {
            return;
        }
        let Some(scope) = self.scope.take() else { return };
        // This fails if there are more CPUs than fit into a `CpuSet`, 1024.
        let cpus = rustix::thread::sched_getaffinity(None).map_or(u32::MAX, |set| set.count());
        let threads = usize::try_from(cpus).unwrap_or(usize::MAX);
        let threads = threads.min(deep::Descriptors::of_this_process().threads()).min(MAX_THREADS);
        for _ in 1..threads {
            let shared = self.shared;
            let help = move || {
                let mut helper = Walker::new(shared);
                while let Some(handed) = shared.take() {
                    helper.handed(handed);
                }
                shared.lock().summary.add(&helper.summary);
            };
            // If it does not start, the others do the work.
            if std::thread::Builder::new().spawn_scoped(scope, help).is_ok() {
                shared.add_helper();
            }
        }
    }
}

enum Removed {
    /// It is gone.
    Done,
    NotEmpty,
    /// It has become a file.
    IsFile,
    /// It stays, and that was counted.
    Failed,
}

/// Is it a directory? Some file systems do not list the types of entries.
fn is_directory(dir: BorrowedFd<'_>, name: &CStr, listed: FileType) -> bool {
    if listed != FileType::Unknown {
        return listed == FileType::Directory;
    }
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Is the directory as the plugin makes that of a job, or marks it as dead?
fn is_private(stat: &Stat) -> bool {
    stat.st_uid == 0 && matches!(stat.st_mode & 0o7777, 0o700 | 0o500) && rustix::process::geteuid().is_root()
}

/// Takes a directory from its user, so that only this process can write to it. That is not possible on a network file
/// system that does not trust this node's root.
fn take(dir: BorrowedFd<'_>) {
    static ME: OnceLock<Uid> = OnceLock::new();
    let me = *ME.get_or_init(rustix::process::geteuid);
    let Ok(stat) = rustix::fs::fstat(dir) else { return };
    if stat.st_uid == me.as_raw() && stat.st_mode & 0o7777 == 0o700 {
        return;
    }
    let own = || -> Result<(), Errno> {
        // The owner first, who could set the mode again. The new mode gives the group no access.
        if stat.st_uid != me.as_raw() {
            rustix::fs::fchown(dir, Some(me), None::<Gid>)?;
        }
        rustix::fs::fchmod(dir, Mode::RWXU)
    };
    let is_cleared = match own() {
        Err(Errno::PERM) => clear_flags_of(dir),
        // The user has made a subvolume read-only.
        Err(Errno::ROFS) => crate::sys::btrfs::make_writable(dir).is_ok(),
        _ => false,
    };
    if is_cleared {
        let _ = own();
    }
}

fn unlink(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, flags) {
        Err(Errno::PERM) if clear_flags(dir, name) => rustix::fs::unlinkat(dir, name, flags),
        result => result,
    }
}

/// Clears the flags that forbid removal (chattr +i, +a) of `name` and of `dir`, which is a directory of
/// the tree. Returns whether there was one. A file that also has another name may not belong to the job
/// alone and keeps its flags.
fn clear_flags(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    let mut cleared = clear_flags_of(dir);
    let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return cleared };
    let ours = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => true,
        FileType::RegularFile => stat.st_nlink == 1,
        // To open a device or a FIFO can have side effects, and neither can have these flags.
        _ => false,
    };
    if ours && let Ok(fd) = open_beneath(dir, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW, BENEATH) {
        cleared |= clear_flags_of(fd.as_fd());
    }
    cleared
}

fn clear_flags_of(fd: BorrowedFd<'_>) -> bool {
    let forbidding = IFlags::IMMUTABLE | IFlags::APPEND;
    match rustix::fs::ioctl_getflags(fd) {
        Ok(flags) if flags.intersects(forbidding) => {
            rustix::fs::ioctl_setflags(fd, flags.difference(forbidding)).is_ok()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;

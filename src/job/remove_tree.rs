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
//!
//! Width is shared: once a tree has proved large, threads help, and a directory that is met while one
//! of them has nothing to do is moved up for it in the same way.

use super::error::Words;
use super::fixed::FixedText;
use super::trusted::{BENEATH, open_beneath};
use core::fmt;
use core::fmt::Write as _;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, IFlags, OFlags, RawDir, RenameFlags};
use rustix::io::Errno;
use rustix::process::Resource;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// Levels walked before directories are moved up.
const MAX_DEPTH: usize = 8;

/// Bytes of directory entries read at once, on the stack, once for each level: with [`MAX_DEPTH`] and
/// the frames below 64 KiB in all.
const BUFFER: usize = 4 * 1024;

/// Somebody may go on making files while we remove them; after so many rounds the rest is left.
const MAX_ROUNDS: usize = 16;

/// Entries after which a tree is large enough for threads.
const LARGE: u64 = 2000;

/// More do not help: they meet in the file system's own locks.
const MAX_THREADS: usize = 8;

/// A soft limit of RLIMIT_NOFILE below which there are no threads.
const ENOUGH_DESCRIPTORS: u64 = 256;

/// What was removed and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub files: u64,
    pub directories: u64,
    /// Mounts found inside, left alone.
    pub mounts: u64,
    /// Other entries that could not be removed.
    pub failed: u64,
    /// It was stopped when its time was over; something is left, which another call goes on with.
    pub out_of_time: bool,
    /// The first reason why something was left.
    pub first_failure: Option<Errno>,
    pub took: Duration,
}

impl Summary {
    /// Nothing is left of the tree.
    #[must_use]
    pub const fn complete(&self) -> bool {
        self.mounts == 0 && self.failed == 0 && !self.out_of_time
    }

    fn failed(&mut self, errno: Errno) {
        self.failed += 1;
        self.first_failure.get_or_insert(errno);
    }

    /// The sum of two removals.
    pub fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.directories += other.directories;
        self.mounts += other.mounts;
        self.failed += other.failed;
        self.out_of_time |= other.out_of_time;
        self.first_failure = self.first_failure.or(other.first_failure);
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
        if self.out_of_time {
            write!(f, ", which is all the time it had")?;
        }
        if self.mounts > 0 {
            write!(f, "; left {} mounts that are not ours inside", self.mounts)?;
        }
        if let Some(errno) = self.first_failure {
            write!(f, "; could not remove {} entries, the first because: {}", self.failed, Words(errno))?;
        }
        Ok(())
    }
}

/// Removes the directory `name` in `parent` and all that is in it, with the help of threads if it is
/// large. `parent` must be a directory that only we write to: directories from deep in the tree are
/// moved there for a while. It stops when `deadline` is over.
#[must_use]
pub fn remove_tree(parent: BorrowedFd<'_>, name: &CStr, deadline: Option<Instant>) -> Summary {
    let shared = Shared::new(parent, name, deadline);
    let mut summary = std::thread::scope(|scope| shared.work(name, Some(Helpers { scope })));
    // Only now have all threads said what they did.
    summary.add(&shared.lock().summary);
    summary.took = shared.start.elapsed();
    summary
}

/// As [`remove_tree`], by the calling thread alone. It allocates nothing and takes no lock that
/// another thread could hold.
#[must_use]
pub fn remove_tree_alone(parent: BorrowedFd<'_>, name: &CStr) -> Summary {
    Shared::new(parent, name, None).work(name, None)
}

/// What the threads that remove one tree share: the directories that were moved up, which are
/// numbered, so that a number is all there is to hand over.
struct Shared<'a> {
    parent: BorrowedFd<'a>,
    name: &'a CStr,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// A copy of `Queue::idle`, to be looked at without the lock.
    idle: AtomicUsize,
    start: Instant,
    deadline: Option<Instant>,
}

#[derive(Default)]
struct Queue {
    /// Numbers below this have been taken by a thread.
    next: u64,
    /// Numbers below this are names in `parent`.
    moved: u64,
    threads: usize,
    idle: usize,
    /// What the threads that have ended removed.
    summary: Summary,
}

/// Where threads can be started.
struct Helpers<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
}

impl<'a> Shared<'a> {
    fn new(parent: BorrowedFd<'a>, name: &'a CStr, deadline: Option<Instant>) -> Self {
        Self {
            parent,
            name,
            queue: Mutex::new(Queue { threads: 1, ..Queue::default() }),
            changed: Condvar::new(),
            idle: AtomicUsize::new(0),
            start: Instant::now(),
            deadline,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first thread: the tree itself, then what was moved up, until there is nothing more. What it
    /// returns is its own part.
    fn work<'env>(&'env self, name: &CStr, helpers: Option<Helpers<'_, 'env>>) -> Summary {
        let mut remover = Remover { shared: self, summary: Summary::default(), helpers };
        remover.directory(self.parent, name, 0);
        remover.queue();
        let mut summary = remover.summary;
        summary.took = self.start.elapsed();
        summary
    }

    fn moved_name(&self, number: u64) -> FixedText<256> {
        let mut name = FixedText::new();
        let _ = name.push(self.name.to_bytes());
        let _ = write!(name, "+{number}");
        name
    }

    /// The next directory that was moved up; None when there is none and no thread left that could
    /// move one.
    fn take(&self) -> Option<u64> {
        let mut queue = self.lock();
        loop {
            if queue.next < queue.moved {
                queue.next += 1;
                return Some(queue.next - 1);
            }
            queue.idle += 1;
            self.idle.store(queue.idle, Ordering::Relaxed);
            if queue.idle == queue.threads {
                self.changed.notify_all();
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            if queue.idle == queue.threads {
                return None;
            }
            queue.idle -= 1;
            self.idle.store(queue.idle, Ordering::Relaxed);
        }
    }
}

/// One thread's part of the work.
struct Remover<'scope, 'env> {
    shared: &'env Shared<'env>,
    summary: Summary,
    /// Threads that are not started yet.
    helpers: Option<Helpers<'scope, 'env>>,
}

impl Remover<'_, '_> {
    /// Removes what was moved up, until there is nothing more.
    fn queue(&mut self) {
        while let Some(number) = self.shared.take() {
            let name = self.shared.moved_name(number);
            self.directory(self.shared.parent, name.as_log_text(), 0);
        }
    }

    /// Removes directory `name` of `dir`.
    fn directory(&mut self, dir: BorrowedFd<'_>, name: &CStr, depth: usize) {
        let mut failed = false;
        for _ in 0..MAX_ROUNDS {
            match unlink(dir, name, AtFlags::REMOVEDIR) {
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
            if self.is_late() {
                return;
            }
            // At the top it is among ours already.
            if depth >= MAX_DEPTH || (depth > 0 && self.shared.idle.load(Ordering::Relaxed) > 0) {
                return self.move_up(dir, name);
            }
            let before = (self.summary.failed, self.summary.mounts);
            match open_beneath(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, BENEATH) {
                Ok(fd) => self.contents(fd.as_fd(), depth),
                Err(Errno::XDEV) => {
                    self.summary.mounts += 1;
                    return;
                }
                Err(Errno::NOENT) => return,
                // Done later, when fewer directories are open.
                Err(Errno::MFILE | Errno::NFILE) if depth > 0 => return self.move_up(dir, name),
                Err(errno) => return self.summary.failed(errno),
            }
            failed = before != (self.summary.failed, self.summary.mounts);
        }
        // Full again after every round.
        self.summary.failed(Errno::NOTEMPTY);
    }

    /// True when there is no time left, which is noted.
    fn is_late(&mut self) -> bool {
        self.summary.out_of_time |= self.shared.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        self.summary.out_of_time
    }

    /// Moves a directory next to the tree, to be done later or by another thread.
    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &CStr) {
        let mut queue = self.shared.lock();
        // Left from a run that was interrupted, such a name may be taken. It is then done in its turn.
        for _ in 0..1_000_000 {
            let to = self.shared.moved_name(queue.moved);
            match self.rename(dir, name, to.as_log_text()) {
                Ok(()) => {
                    queue.moved += 1;
                    self.shared.changed.notify_one();
                    return;
                }
                Err(Errno::EXIST) => queue.moved += 1,
                Err(Errno::NOENT) => return,
                Err(Errno::BUSY) => {
                    self.summary.mounts += 1;
                    return;
                }
                // EXDEV among them: a subvolume of btrfs, out of which nothing can be moved.
                Err(errno) => return self.summary.failed(errno),
            }
        }
        self.summary.failed(Errno::EXIST);
    }

    fn rename(&self, dir: BorrowedFd<'_>, name: &CStr, to: &CStr) -> Result<(), Errno> {
        let rename = || rustix::fs::renameat_with(dir, name, self.shared.parent, to, RenameFlags::NOREPLACE);
        match rename() {
            Err(Errno::PERM) if clear_flags(dir, name) => rename(),
            result => result,
        }
    }

    /// Removes what is in the directory `dir`.
    fn contents(&mut self, dir: BorrowedFd<'_>, depth: usize) {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut entries = RawDir::new(dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    self.summary.failed(errno);
                    break;
                }
            };
            if self.is_late() {
                return;
            }
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                self.directory(dir, name, depth + 1);
                self.get_help();
                continue;
            }
            match unlink(dir, name, AtFlags::empty()) {
                Ok(()) => self.summary.files += 1,
                Err(Errno::NOENT) => {}
                // A file system that does not tell types, or one that was exchanged meanwhile.
                Err(Errno::ISDIR) => self.directory(dir, name, depth + 1),
                Err(Errno::BUSY) => self.summary.mounts += 1,
                Err(errno) => self.summary.failed(errno),
            }
        }
    }

    /// Starts the other threads once the tree has proved large.
    fn get_help(&mut self) {
        if self.summary.files < LARGE {
            return;
        }
        let Some(Helpers { scope }) = self.helpers.take() else { return };
        // Each thread needs a descriptor for each level, and the program we run in may not have many.
        let descriptors = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        if descriptors < ENOUGH_DESCRIPTORS {
            return;
        }
        // It fails where there are more CPUs than a `CpuSet` has room for, 1024.
        let cpus = rustix::thread::sched_getaffinity(None).map_or(u32::MAX, |set| set.count());
        let threads = usize::try_from(cpus).unwrap_or(usize::MAX).min(MAX_THREADS);
        for _ in 1..threads {
            let shared = self.shared;
            shared.lock().threads += 1;
            let help = move || {
                let mut helper = Remover { shared, summary: Summary::default(), helpers: None };
                helper.queue();
                shared.lock().summary.add(&helper.summary);
            };
            if std::thread::Builder::new().spawn_scoped(scope, help).is_err() {
                shared.lock().threads -= 1;
            }
        }
    }
}

fn unlink(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, flags) {
        Err(Errno::PERM) if clear_flags(dir, name) => rustix::fs::unlinkat(dir, name, flags),
        result => result,
    }
}

/// Takes the flags that forbid removal (chattr +i, +a) from `name` and from `dir`, which is a
/// directory of the tree. True when one was taken. A file with another name elsewhere may not be the
/// job's alone, and is left as it is.
fn clear_flags(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    let mut cleared = clear_flags_of(dir);
    let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return cleared };
    let ours = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => true,
        FileType::RegularFile => stat.st_nlink == 1,
        // Opening a device or a FIFO could do something, and neither can have these flags.
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

        let summary = remove_tree(dir_fd(&top.path().join("trash")).as_fd(), c"7", None);
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
        let summary = remove_tree(trash.as_fd(), c"9", None);
        assert!(summary.complete(), "{summary}");
        assert_eq!(summary.directories, 3001);
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_large_tree_is_removed_by_several_threads_and_one_alone_alike() {
        for alone in [false, true] {
            let top = tempfile::tempdir().unwrap();
            for directory in 0..60 {
                let path = top.path().join(format!("9/a/{directory}/b"));
                std::fs::create_dir_all(&path).unwrap();
                for file in 0..80 {
                    std::fs::write(path.join(file.to_string()), "").unwrap();
                }
            }
            let trash = dir_fd(top.path());
            let summary =
                if alone { remove_tree_alone(trash.as_fd(), c"9") } else { remove_tree(trash.as_fd(), c"9", None) };
            assert!(summary.complete(), "{summary}");
            assert_eq!((summary.files, summary.directories), (4800, 122));
            assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_mount_inside_is_left_alone_with_what_is_on_it() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let top = tempfile::tempdir().unwrap();
        let (tree, outside) = (top.path().join("9"), top.path().join("outside"));
        std::fs::create_dir_all(tree.join("a/mount")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("keep"), "x").unwrap();
        std::fs::write(tree.join("a/file"), "x").unwrap();
        // A bind of the same file system: the device number tells nothing.
        rustix::mount::mount_bind(&outside, tree.join("a/mount")).unwrap();
        let summary = remove_tree(dir_fd(top.path()).as_fd(), c"9", None);
        rustix::mount::unmount(tree.join("a/mount"), rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!((summary.mounts, summary.failed, summary.files), (1, 0, 1));
        assert!(outside.join("keep").exists() && !tree.join("a/file").exists());
    }

    #[test]
    fn flags_that_forbid_removal_are_taken_from_the_jobs_files_only() {
        let top = tempfile::tempdir_in("/var/tmp").unwrap();
        let tree = top.path().join("9");
        std::fs::create_dir_all(tree.join("d/e")).unwrap();
        for file in ["i", "a", "d/i", "twice"] {
            std::fs::write(tree.join(file), "x").unwrap();
        }
        std::fs::hard_link(tree.join("twice"), top.path().join("other")).unwrap();
        let set = |path: &Path, flag| {
            let fd = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            let now = rustix::fs::ioctl_getflags(&fd).unwrap().difference(IFlags::IMMUTABLE | IFlags::APPEND);
            rustix::fs::ioctl_setflags(&fd, now | flag).unwrap();
        };
        for (path, flag) in [
            ("i", IFlags::IMMUTABLE),
            ("a", IFlags::APPEND),
            ("d/i", IFlags::IMMUTABLE),
            ("d/e", IFlags::APPEND),
            ("d", IFlags::IMMUTABLE),
            ("twice", IFlags::IMMUTABLE),
        ] {
            set(&tree.join(path), flag);
        }
        set(&tree, IFlags::IMMUTABLE);
        let summary = remove_tree(dir_fd(top.path()).as_fd(), c"9", None);
        // The file that has a name outside keeps its flag, and the tree stays with it.
        assert_eq!((summary.failed, summary.first_failure), (1, Some(Errno::PERM)), "{summary}");
        assert_eq!(std::fs::read_dir(&tree).unwrap().count(), 1);
        set(&top.path().join("other"), IFlags::empty());
        assert!(remove_tree(dir_fd(top.path()).as_fd(), c"9", None).complete());
    }

    #[test]
    fn a_name_left_from_an_interrupted_run_is_stepped_over() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("9/1/2/3/4/5/6/7/8/9/10")).unwrap();
        std::fs::create_dir(top.path().join("9+0")).unwrap();
        let summary = remove_tree(dir_fd(top.path()).as_fd(), c"9", None);
        assert!(summary.complete(), "{summary}");
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    }

    #[test]
    fn out_of_time_it_stops_and_goes_on_when_called_again() {
        let top = tempfile::tempdir().unwrap();
        for name in ["9/a/b", "9/c"] {
            std::fs::create_dir_all(top.path().join(name)).unwrap();
        }
        std::fs::write(top.path().join("9/a/file"), "x").unwrap();
        let late = remove_tree(dir_fd(top.path()).as_fd(), c"9", Some(Instant::now()));
        assert!(late.out_of_time && !late.complete() && late.failed == 0, "{late}");
        assert!(top.path().join("9/a/file").exists());
        let later = Instant::now().checked_add(Duration::from_secs(3600));
        assert!(remove_tree(dir_fd(top.path()).as_fd(), c"9", later).complete());
        assert!(!top.path().join("9").exists());
    }
}

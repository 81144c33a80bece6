//! Ends a job's namespaces and hands its directories over for removal.
//!
//! The order is: end the holder, run the epilog while descriptors keep the mount namespace alive, close them, then
//! move all directories to `.trash`, so that the job id is free at once. Nothing here opens a directory that the
//! job's user could write to: the removal program does that, or `jobns` in its own process. A directory that cannot
//! be moved is marked as dead in its place. Every step may be repeated.

use crate::base::base_dir::{UNFINISHED, open_base, open_base_if_there, remove_unfinished};
use crate::base::error::{Doing, Error, FailedCall, Named};
use crate::base::log::{Level, Log};
use crate::base::trusted_path::{BENEATH, open_beneath};
use crate::config::settings::{Script, Settings};
use crate::config::spelling;
use crate::job::kill::{Members, kill_members};
use crate::job::record::job;
use crate::job::record::job::DEAD_MODE;
pub use crate::job::record::job::{Record, TreeRecord};
use crate::job::record::namespaces::Pins;
use crate::job::record::project;
use crate::job::record::state::Header;
use crate::job::remove::lost;
use crate::job::remove::mounts;
use crate::job::remove::trash;
use crate::job::remove::trash::{Moved, Waited, move_to_trash, wait_until_gone};
use crate::job::remove::tree::{Summary, Terms, remove_tree};
use crate::job::script::Environment;
use crate::job::{Milliseconds, script};
use crate::sys::clone::NamespaceFlags;
use crate::sys::process::{reap, wait_ended};
use crate::sys::quota::Quota;
use core::fmt;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

/// How long a killed holder, and with it every process of its PID namespace, may take to end. A process in
/// uninterruptible sleep (a file server is dead, or its user does not let it answer) takes longer. The removal program
/// then deletes the job.
pub(crate) const HOLDER_TIMEOUT_MS: u32 = 5_000;

/// How long this process waits for the lock of a tree, and the pause between two attempts.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
pub(super) const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The script that runs when a job has ended, and the part of its environment that the job's record does not have.
#[derive(Clone, Copy, Debug)]
pub struct Epilog<'a> {
    pub script: &'a Script,
    /// The path of slurm.conf.
    pub slurm_conf: Option<&'a str>,
}

impl<'a> Epilog<'a> {
    #[must_use]
    pub fn new(settings: &'a Settings, slurm_conf: Option<&'a str>) -> Option<Self> {
        settings.clone_ns_epilog.as_ref().map(|script| Self { script, slurm_conf })
    }
}

/// Removes a tree under its lock: [`remove_locked`]. The plugin never refers to that function, so it does not contain
/// its code.
pub(crate) type Remove = fn(BorrowedFd<'_>, &CStr, &Terms<'_>) -> Result<Summary, Error>;

/// Who removes the directories of a deleted job. They are moved from their place at once.
#[derive(Clone, Copy, Debug)]
pub enum Removal {
    /// The removal program. `delete` waits for it, at most this long.
    ByProgram(Duration),
    /// This process, before `delete` returns. `jobns` does this.
    Here(Remove),
    /// This process belongs to the removal program, which removes the trees afterwards, in turns.
    InProgram,
}

impl Removal {
    pub const HERE: Self = Self::Here(remove_locked);

    /// The way that the settings ask for at the end of a job.
    #[must_use]
    pub(crate) const fn at_end_of_job(settings: &Settings) -> Self {
        Self::ByProgram(Duration::from_secs(settings.removal_timeout as u64))
    }
}

/// What is left of a job after [`delete`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Nothing,
    /// The removal program removes the rest.
    InTrash,
    /// Directories could not be moved. The removal program continues with [`remove_in_place`].
    InPlace,
    Some,
}

impl Left {
    const fn word(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::InTrash => "in_trash",
            Self::InPlace | Self::Some => "some",
        }
    }

    /// Is nothing left in its place?
    #[must_use]
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Nothing | Self::InTrash)
    }
}

/// Deletes what `record` names. Logs each error, and continues if that is safe.
pub fn delete(
    host: &dyn Log,
    record: &Record,
    epilog: Option<Epilog<'_>>,
    pins: Option<Pins>,
    removal: Removal,
) -> Left {
    let job = record.header.id;
    let start = Instant::now();
    if let Err(error) = end_holder(record) {
        host.log(Level::Error, format_args!("job {job}: its directories stay until this process has ended: {error}"));
        notify(record);
        return Left::Some;
    }
    if let Some(epilog) = epilog {
        run_epilog(host, record, epilog, pins.as_ref());
    }
    // At the end of the extern step, Slurm has already ended the job's processes.
    if !matches!(removal, Removal::ByProgram(_)) && !end_members(host, record, pins.as_ref()) {
        host.log(
            Level::Error,
            format_args!(
                "job {job}: some of its processes do not end after SIGKILL; its directories stay until they have ended"
            ),
        );
        mark_dead(record);
        return Left::Some;
    }
    drop(pins);
    let quota = project::of_job(record);
    if let Err(error) = mounts::detach_below(&paths_in_place(record)) {
        host.log(Level::Error, format_args!("job {job}: {error}"));
    }
    let aside = set_all_aside(host, record);
    if aside.kept > 0 {
        mark_dead(record);
    }
    let left = match removal {
        Removal::ByProgram(wait) => left_after_waiting(host, job, &aside, wait),
        Removal::Here(remove) => left_after_removal(host, record, &aside, remove),
        Removal::InProgram if aside.kept > 0 => Left::InPlace,
        Removal::InProgram => Left::InTrash,
    };
    let ms = Milliseconds(start.elapsed());
    host.log(
        if matches!(removal, Removal::InProgram) { Level::Debug } else { Level::Info },
        format_args!("job {job}: deleted: left={} uid={}{} ms={ms}", left.word(), record.header.uid, UsedOf(quota)),
    );
    left
}

/// What a job had in its projects, for the line about its end.
struct UsedOf(Option<Quota>);

impl fmt::Display for UsedOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Quota { used, limit, .. }) = &self.0 else { return Ok(()) };
        for (used, limit, name) in [(used.bytes, limit.bytes, ""), (used.inodes, limit.inodes, "_inodes")] {
            if limit > 0 {
                write!(f, " used{name}={used} limit{name}={limit}")?;
            }
        }
        Ok(())
    }
}

fn left_after_waiting(host: &dyn Log, job: u32, aside: &Aside, wait: Duration) -> Left {
    let bases = || aside.moved.iter().map(|moved| moved.base.as_str()).collect::<Vec<_>>().join(", ");
    let waited = if wait.is_zero() { Waited::OutOfTime } else { wait_until_gone(&aside.moved, wait) };
    match waited {
        Waited::Gone => {}
        Waited::OutOfTime if wait.is_zero() => {}
        Waited::OutOfTime => host.log(
            Level::Info,
            format_args!(
                "job {job}: not all its files were removed after {} s ({}); the rest is in .trash of {} and is removed in the background: see jobns list",
                wait.as_secs(),
                spelling::key("removal_timeout"),
                bases()
            ),
        ),
        Waited::NoProgram => host.log(
            Level::Info,
            format_args!(
                "job {job}: its files are in .trash of {}; jobns-remover is not running, and removes them when slurmd has started it again",
                bases()
            ),
        ),
    }
    match (aside.kept, waited) {
        (0, Waited::Gone) => Left::Nothing,
        (0, _) => Left::InTrash,
        _ => Left::Some,
    }
}

/// Removes the directories in this process.
fn left_after_removal(host: &dyn Log, record: &Record, aside: &Aside, remove: Remove) -> Left {
    let mut left = Left::Nothing;
    if aside.kept > 0 {
        match remove_in_place(record, &Terms::default(), remove) {
            Ok(summary) if summary.complete() => {}
            result => {
                is_removed(host, &format!("job {}", record.header.id), &result);
                left = Left::Some;
            }
        }
    }
    for Moved { base, trash, name } in &aside.moved {
        let name_text = name.to_string_lossy();
        let result = remove(trash.as_fd(), name, &Terms::default());
        if !is_removed(host, &format!("job {}: {base}/.trash/{name_text}", record.header.id), &result) {
            left = Left::Some;
        }
    }
    left
}

/// Logs the result of a removal. Returns true if nothing is left.
fn is_removed(host: &dyn Log, what: &str, result: &Result<Summary, Error>) -> bool {
    match result {
        Ok(summary) if summary.complete() => host.log(Level::Debug, format_args!("{what}: {summary}")),
        Ok(summary) => host.log(Level::Error, format_args!("{what}: {summary}")),
        Err(error) => host.log(Level::Error, format_args!("{what}: {error}")),
    }
    result.as_ref().is_ok_and(Summary::complete)
}

/// Removes a tree under its lock.
///
/// # Errors
///
/// EWOULDBLOCK: another process is removing it.
pub(crate) fn remove_locked(parent: BorrowedFd<'_>, name: &CStr, terms: &Terms<'_>) -> Result<Summary, Error> {
    let intention = || format!("remove {}", name.to_string_lossy());
    let tree = open_beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH).doing("openat2", intention)?;
    let start = Instant::now();
    loop {
        match trash::lock(tree.as_fd()) {
            // A child of a slurmstepd that was just killed may still have the descriptor.
            Err(Errno::WOULDBLOCK) if start.elapsed() < LOCK_TIMEOUT => std::thread::sleep(LOCK_PAUSE),
            Err(errno) => {
                return Err(Error::call(intention(), "flock", errno)
                    .with_hint("another process is removing it: see jobns list"));
            }
            Ok(()) => break,
        }
    }
    let project = project::own(tree.as_fd(), parent);
    let summary = remove_tree(parent, name, terms);
    drop(tree);
    if let Some(project) = project.filter(|_| summary.complete()) {
        project::release_soon(parent, project);
    }
    Ok(summary)
}

/// Removes the directories that could not be moved. The one with the state file is the last.
pub(crate) fn remove_in_place(record: &Record, terms: &Terms<'_>, remove: Remove) -> Result<Summary, Error> {
    let mut sum = Summary::default();
    for (index, tree) in record.trees.iter().enumerate().rev() {
        let Some(base) = open_base_if_there(&tree.base)? else { continue };
        if let Some(name) = find(record, tree, base.as_fd(), index == 0)? {
            sum.add(&remove(base.as_fd(), &name, terms)?);
        }
        if !sum.complete() {
            break;
        }
    }
    Ok(sum)
}

/// The directories of a job that were not moved, and their paths.
fn in_place(record: &Record) -> impl Iterator<Item = (OwnedFd, String)> {
    record.trees.iter().enumerate().filter_map(|(index, tree)| {
        let base = open_base_if_there(&tree.base).ok()??;
        let name = find(record, tree, base.as_fd(), index == 0).ok()??;
        let dir = open_beneath(base.as_fd(), &name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH).ok()?;
        Some((dir, format!("{}/{}", tree.base, record.header.id)))
    })
}

fn paths_in_place(record: &Record) -> Vec<String> {
    in_place(record).map(|(_, path)| path).collect()
}

/// The directories of a job that were not moved, and the file system that a script has mounted only for it.
#[must_use]
pub(crate) fn trees_in_place(record: &Record) -> Vec<OwnedFd> {
    let source = CString::new(format!(".{}", record.header.id)).unwrap_or_default();
    // With O_PATH, since a file server may not answer.
    let resolve = BENEATH.difference(ResolveFlags::NO_XDEV);
    let mut found = Vec::new();
    for (dir, path) in in_place(record) {
        let own = open_beneath(dir.as_fd(), &source, OFlags::PATH | OFlags::DIRECTORY, resolve).ok();
        found.push(dir);
        found.extend(own.filter(|own| mounts::is_only_below(own.as_fd(), &path)));
    }
    found
}

/// Ends the processes of a job that has no PID namespace. With one, they have ended with its PID 1, the holder. Returns
/// false if some do not end.
fn end_members(host: &dyn Log, record: &Record, pins: Option<&Pins>) -> bool {
    if record.namespaces.contains(NamespaceFlags::PROCESS_ID) || !record.of_this_boot {
        return true;
    }
    let members = Members {
        namespace: pins.map(|pins| pins.mount.as_fd()),
        directories: trees_in_place(record),
        uid: record.header.uid,
    };
    kill_members(host, record.header.id, &members)
}

fn run_epilog(host: &dyn Log, record: &Record, Epilog { script, slurm_conf }: Epilog<'_>, pins: Option<&Pins>) {
    let Header { id: job, uid, gid, user, node, .. } = &record.header;
    remove_links(record);
    let environment = Environment::of_job(*job, *uid, *gid, user, node, slurm_conf);
    let environment = if let Some(pins) = pins {
        let me = rustix::process::getpid().as_raw_nonzero();
        environment.with("SLURM_NS", format!("/proc/{me}/fd/{}", pins.mount.as_raw_fd()))
    } else {
        let key = spelling::key("clone_ns_epilog");
        let line = format!("job {job}: its mount namespace is gone; {key} runs without SLURM_NS");
        host.log(Level::Info, format_args!("{line}"));
        environment
    };
    if let Err(error) = script::run(host, *job, "clone_ns_epilog", script, environment) {
        host.log(Level::Error, format_args!("job {job}: {error}"));
    }
}

/// Removes the links in `.ns` that earlier versions made. They contain the holder's pid, which another process may have
/// by now, so scripts must not use them.
fn remove_links(record: &Record) {
    let Some(tree) = record.trees.first() else { return };
    let Ok(base) = open_base(&tree.base) else { return };
    for link in ["mnt", "pid", "user", "ipc"] {
        let path = CString::new(format!("{}/.ns/{link}", record.header.id)).unwrap_or_default();
        let _ = rustix::fs::unlinkat(&base, &path, AtFlags::empty());
    }
}

/// Marks a job as dead in its place, so that its epilog does not run again. The removal program notices the change.
fn mark_dead(record: &Record) {
    set_mode(record, DEAD_MODE);
}

/// Tells the removal program to examine a job that has not ended completely. It notices every change of mode.
pub(crate) fn notify(record: &Record) {
    set_mode(record, 0o700);
}

fn set_mode(record: &Record, mode: u32) {
    let Some(tree) = record.trees.first() else { return };
    if let Ok(Some(base)) = open_base_if_there(&tree.base)
        && let Ok(Some(_)) = find(record, tree, base.as_fd(), true)
    {
        let name = CString::new(record.header.id.to_string()).unwrap_or_default();
        if let Ok(dir) = open_beneath(base.as_fd(), &name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH) {
            let _ = rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode));
        }
    }
}

/// Kills the holder, and with it every process of its PID namespace, and waits for their end.
fn end_holder(record: &Record) -> Result<(), Error> {
    let Some(holder) = record.holder else { return Ok(()) };
    let intention = || format!("end the process {} that holds the job's namespaces", holder.pid.as_raw_nonzero());
    let pidfd = match holder.open() {
        // As usual, it was killed and reaped with the extern step.
        Err(Errno::SRCH) => return Ok(()),
        result => result.doing("pidfd_open", intention)?,
    };
    match rustix::process::pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(Error::call(intention(), "pidfd_send_signal", errno)),
    }
    if !wait_ended(pidfd.as_fd(), HOLDER_TIMEOUT_MS).doing("poll", intention)? {
        return Err(Error::because(
            intention(),
            format!("it did not end within {} seconds after SIGKILL", HOLDER_TIMEOUT_MS / 1000),
        )
        .with_hint("a process of the job may be waiting for a dead file server"));
    }
    // ECHILD: init reaps it, or it was already reaped.
    let _ = reap(pidfd.as_fd());
    Ok(())
}

/// What has become of a job's directories.
struct Aside {
    moved: Vec<Moved>,
    /// How many stay in their place.
    kept: usize,
}

/// Moves all directories to the trash. The one with the state file is the last, and stays if another one stays, since
/// the state file names the others.
fn set_all_aside(host: &dyn Log, record: &Record) -> Aside {
    let mut aside = Aside { moved: Vec::new(), kept: 0 };
    for (index, tree) in record.trees.iter().enumerate().rev() {
        if index == 0 && aside.kept > 0 {
            aside.kept += 1;
            break;
        }
        match set_aside(record, tree, index == 0) {
            Ok(None) => {}
            Ok(Some(moved)) => aside.moved.push(moved),
            Err(error) => {
                aside.kept += 1;
                host.log(Level::Error, format_args!("job {}: {error}; it is removed in its place", record.header.id));
            }
        }
    }
    aside
}

/// Moves one recorded directory to the trash. `is_main`: it is the one with the state file. None: it was already
/// gone.
fn set_aside(record: &Record, tree: &TreeRecord, is_main: bool) -> Result<Option<Moved>, Error> {
    let Some(base) = open_base_if_there(&tree.base)? else { return Ok(None) };
    let Some(name) = find(record, tree, base.as_fd(), is_main)? else { return Ok(None) };
    move_to_trash(base.as_fd(), &tree.base, &name, record.header.uid).map(Some)
}

/// The name of a recorded directory in its base, if it still exists there.
fn find(record: &Record, tree: &TreeRecord, base: BorrowedFd<'_>, is_main: bool) -> Result<Option<CString>, Error> {
    let name = CString::new(record.header.id.to_string()).unwrap_or_default();
    let intention = || format!("remove {}/{}", tree.base, record.header.id);
    // Its maker was killed before it was renamed. (The main one would have no record then.) One that is locked is
    // being made for another instance.
    let had_no_name = || {
        let unfinished = CString::new(format!("{UNFINISHED}{}", record.header.id)).unwrap_or_default();
        !is_main && remove_unfinished(base, &unfinished).is_ok()
    };
    if tree.inode == 0 {
        // A power cut has destroyed the line that says that it was made.
        if !is_main && lost::is_stray(base, &record.header.id.to_string(), &record.header.node) {
            return Ok(Some(name));
        }
        had_no_name();
        return Ok(None);
    }
    let dir = match open_beneath(base, &name, OFlags::PATH | OFlags::DIRECTORY, BENEATH) {
        Err(Errno::NOENT) => {
            had_no_name();
            return Ok(None);
        }
        Err(Errno::XDEV) => {
            return Err(Error::because(intention(), "something is mounted over it").with_hint("unmount it"));
        }
        result => result.doing("openat2", intention)?,
    };
    let stat = rustix::fs::fstat(&dir).doing("fstat", intention)?;
    // If the file system was mounted again since, the numbers may differ, and the state file decides.
    let has_its_state =
        || job::read(base, &tree.base, &name.to_string_lossy()).is_ok_and(|found| found.record.header == record.header);
    if record.is_at(tree, &stat) || (is_main && has_its_state()) {
        return Ok(Some(name));
    }
    if had_no_name() {
        return Ok(None);
    }
    Err(Error::because(intention(), "it is not the directory that was made for the job; it is left alone"))
}

/// Takes the lock under which the directory of a dead job is deleted, so that only one process does so and runs its
/// epilog. The caller must read the record again. The lock ends with the descriptor.
///
/// # Errors
///
/// ENOENT: it is gone. EWOULDBLOCK: after `wait`, another process is still deleting it.
pub(super) fn lock_job(base: BorrowedFd<'_>, job: u32, wait: Duration) -> Result<OwnedFd, FailedCall> {
    let name = CString::new(format!("{job}/.ns")).unwrap_or_default();
    let start = Instant::now();
    loop {
        let ns = open_beneath(base, &name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH).named("openat2")?;
        match trash::lock(ns.as_fd()) {
            Err(Errno::WOULDBLOCK) if start.elapsed() < wait => {
                std::thread::sleep(LOCK_PAUSE);
                continue;
            }
            result => result.named("flock")?,
        }
        // The process that had the lock may have moved it, and its name may be in use again.
        let inode = rustix::fs::statat(base, &name, AtFlags::SYMLINK_NOFOLLOW).named("fstatat")?.st_ino;
        if rustix::fs::fstat(&ns).named("fstat")?.st_ino == inode {
            return Ok(ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::record::state::Header;

    #[test]
    fn what_is_mounted_is_detached_from_directories_of_the_job_only() {
        use std::os::unix::fs::MetadataExt;
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name).display().to_string();
        for dir in ["ours/7", "planned/7", "of-others/7"] {
            std::fs::create_dir_all(path(dir)).unwrap();
        }
        let stat = std::fs::metadata(path("ours/7")).unwrap();
        let tree = |base: &str, inode| TreeRecord { base: path(base), device: stat.dev(), inode, project: 0 };
        let record = Record {
            header: Header { id: 7, sluid: 0, uid: 1000, gid: 1000, user: "alice".into(), node: "n1".into() },
            namespaces: NamespaceFlags::MOUNT,
            holder: None,
            of_this_boot: true,
            trees: vec![tree("ours", stat.ino()), tree("planned", 0), tree("of-others", stat.ino())],
        };
        assert_eq!(paths_in_place(&record), [path("ours/7")]);
    }
}

//! The project of a job in one base path, by which ext4 and XFS limit what is in its directories there.
//!
//! The quotas of the file system are the record of which ids are in use: an id is free if its project has no limit and
//! contains nothing. So no id is lost when processes are killed or the node goes down. A project gets its limit before
//! its first directory, and keeps one until it contains nothing, wherever its files were moved. Then the limit is
//! cleared, and the id is free. When the removal of a job's directory begins, the limit becomes what the project contains:
//! a process that still has one of the files open cannot make it larger.
//!
//! While a project has a limit and no directory yet, its maker has the lock of the file system. All base paths on a file
//! system share one lock.

use crate::base::base_dir::{open_base, open_base_if_there};
use crate::base::error::{Doing, Error};
use crate::base::trusted_path;
use crate::base::trusted_path::{BENEATH, Missing, c_path, open_beneath};
use crate::config::size::ProjectIds;
use crate::job::record::job::Record;
use crate::job::record::registry::WHEREABOUTS;
use crate::sys::quota::{Amounts, Quota};
use crate::sys::{project, quota};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::time::Duration;

/// How often a project that should be empty is checked.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) use crate::sys::project::inherited;
pub(crate) use crate::sys::quota::is_enforced;

/// Locks the project ids of the file system that `dir` is on, until the result is dropped. EWOULDBLOCK: `how` does not
/// wait, and another process has the lock.
fn lock(dir: BorrowedFd<'_>, how: FlockOperation) -> Result<OwnedFd, Error> {
    let intention = || "lock the project ids of the file system".to_owned();
    let device = rustix::fs::fstat(dir).doing("fstat", intention)?.st_dev;
    let place = trusted_path::open_dir("the directory", WHEREABOUTS, Missing::MakeForAll)?;
    // A hidden name: no node has it.
    let name = c_path(&format!(".projects.{device}"))?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&place.fd, name, flags, Mode::from_raw_mode(0o600)).doing("openat", intention)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, how)).doing("flock", intention)?;
    Ok(file)
}

/// What a project contains, and its limit.
pub(crate) fn of(dir: BorrowedFd<'_>, id: u32) -> Result<Quota, Errno> {
    let nothing = Quota { id, used: Amounts::default(), limit: Amounts::default() };
    Ok(quota::next(dir, id)?.filter(|found| found.id == id).unwrap_or(nothing))
}

fn is_free(quota: &Quota) -> bool {
    quota.used == Amounts::default() && quota.limit == Amounts::default()
}

/// Gives the empty directory `dir` of a job a project with this limit. None if no id is free.
pub(crate) fn give(dir: BorrowedFd<'_>, job: u32, ids: ProjectIds, limit: Amounts) -> Result<Option<u32>, Error> {
    let intention = || format!("limit the size of the directories of job {job}");
    let _lock = lock(dir, FlockOperation::LockExclusive)?;
    if !quota::is_enforced(dir).doing("quotactl_fd(Q_XGETQSTATV)", intention)? {
        return Err(Error::because(intention(), "the file system is not mounted with quotas of projects any more")
            .with_hint("mount it with the option prjquota"));
    }
    let found = free(dir, job, ids).doing("quotactl_fd(Q_GETNEXTQUOTA)", intention)?;
    let Some(id) = found else { return Ok(None) };
    quota::set(dir, id, limit).doing("quotactl_fd(Q_SETQUOTA)", intention)?;
    project::set(dir, id).doing("ioctl(FS_IOC_FSSETXATTR)", intention).inspect_err(|_| {
        let _ = quota::set(dir, id, Amounts::default());
    })?;
    Ok(Some(id))
}

/// The first free id. The search starts at an id that depends on the job's id, so that jobs seldom check the same ids.
///
/// If all are in use, it is one whose project contains nothing and was not released yet.
fn free(dir: BorrowedFd<'_>, job: u32, ids: ProjectIds) -> Result<Option<u32>, Errno> {
    let (first, count) = (ids.first(), ids.count());
    let mut empty = None;
    for step in 0..count {
        let found = of(dir, first + (job % count + step) % count)?;
        if is_free(&found) {
            return Ok(Some(found.id));
        }
        if found.used == Amounts::default() {
            empty.get_or_insert(found.id);
        }
    }
    Ok(empty)
}

/// Clears the limit of a project if it contains nothing. Returns true if the id is free.
pub(crate) fn release(dir: BorrowedFd<'_>, id: u32) -> Result<bool, Error> {
    let _lock = lock(dir, FlockOperation::LockExclusive)?;
    release_locked(dir, id)
}

fn release_locked(dir: BorrowedFd<'_>, id: u32) -> Result<bool, Error> {
    let intention = || format!("clear the limit of project {id}");
    let found = of(dir, id).doing("quotactl_fd(Q_GETNEXTQUOTA)", intention)?;
    if found.used != Amounts::default() {
        return Ok(false);
    }
    if !is_free(&found) {
        quota::set(dir, id, Amounts::default()).doing("quotactl_fd(Q_SETQUOTA)", intention)?;
    }
    Ok(true)
}

/// The project of `dir`, unless it has inherited it from `parent`.
#[must_use]
pub(crate) fn own(dir: BorrowedFd<'_>, parent: BorrowedFd<'_>) -> Option<u32> {
    let project = inherited(dir).ok()??;
    (inherited(parent) != Ok(Some(project))).then_some(project)
}

/// Before the directory of an ended job is removed: sets the limit of its project to what the project contains. A script
/// may have given the directory another project, which is not in `ids` and stays as it is.
pub(crate) fn freeze(dir: BorrowedFd<'_>, project: u32, ids: Option<ProjectIds>) {
    if ids.is_some_and(|ids| ids.contains(project))
        && let Ok(Quota { used, .. }) = of(dir, project)
    {
        // 0 would be no limit. If this fails, the limit stays as it was.
        let _ = quota::set(dir, project, Amounts { bytes: used.bytes.max(1), inodes: used.inodes.max(1) });
    }
}

/// As [`release`], when the files of the project have just been removed: XFS updates its counts a little later. A project
/// that is not released here is released by [`release_unused`].
pub(crate) fn release_soon(dir: BorrowedFd<'_>, id: u32) {
    for _ in 0..TRIES {
        match release(dir, id) {
            Ok(false) => std::thread::sleep(PAUSE),
            _ => break,
        }
    }
}

/// Clears the limits of job projects that contain nothing, on the file system of this base. Processes that were killed
/// leave such projects.
///
/// # Errors
///
/// The projects cannot be listed.
pub(crate) fn release_unused(base_path: &str, ids: Option<ProjectIds>) -> Result<(), Error> {
    let Some(ids) = ids else { return Ok(()) };
    let Some(base) = open_base_if_there(base_path)? else { return Ok(()) };
    // Not every base path has limits, and so quotas.
    if is_enforced(base.as_fd()) == Ok(true) { release_all(base.as_fd(), ids) } else { Ok(()) }
}

/// Clears the limits of all projects in the range that contain nothing. Does nothing if another process has the lock: the
/// next call clears them.
fn release_all(dir: BorrowedFd<'_>, ids: ProjectIds) -> Result<(), Error> {
    let intention = || format!("look for projects from {ids} without files");
    let mut from = ids.first();
    let _lock = match lock(dir, FlockOperation::NonBlockingLockExclusive) {
        Err(error) if error.errno() == Some(Errno::WOULDBLOCK) => return Ok(()),
        lock => lock?,
    };
    while from <= ids.last()
        && let Some(found) = quota::next(dir, from).doing("quotactl_fd(Q_GETNEXTQUOTA)", intention)?
        && found.id <= ids.last()
    {
        release_locked(dir, found.id)?;
        from = found.id + 1;
    }
    Ok(())
}

/// The sum of what a job has in its projects, and of their limits. `None` if it has no project.
#[must_use]
pub fn of_job(record: &Record) -> Option<Quota> {
    let mut sum = None;
    for tree in record.trees.iter().filter(|tree| tree.project != 0) {
        let base = open_base(&tree.base).ok()?;
        let name = CString::new(record.header.id.to_string()).unwrap_or_default();
        let dir = open_beneath(base.as_fd(), &name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH).ok()?;
        // The directory may be gone, and the id may be that of another job.
        let id = inherited(dir.as_fd()).ok()?.filter(|id| *id == tree.project)?;
        let Quota { used, limit, .. } = of(dir.as_fd(), id).ok()?;
        let all = sum.get_or_insert(Quota { id, used: Amounts::default(), limit: Amounts::default() });
        for (all, one) in [(&mut all.used, used), (&mut all.limit, limit)] {
            all.bytes = all.bytes.saturating_add(one.bytes);
            all.inodes = all.inodes.saturating_add(one.inodes);
        }
    }
    sum
}

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
use crate::config::size;
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

/// After this many ids in use, the search ends with one that no directory of a job has.
const MANY: u32 = 1024;

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
pub(crate) fn give(dir: BorrowedFd<'_>, job: u32, ids: ProjectIds, limit: Amounts) -> Result<Option<Quota>, Error> {
    let intention = || format!("limit the size of the directories of job {job}");
    let _lock = lock(dir, FlockOperation::LockExclusive)?;
    if !quota::is_enforced(dir).doing("quotactl_fd(Q_XGETQSTATV)", intention)? {
        return Err(Error::because(intention(), "the file system is not mounted with quotas of projects any more")
            .with_hint("mount it with the option prjquota"));
    }
    let found = free(dir, job, ids).doing("quotactl_fd(Q_GETNEXTQUOTA)", intention)?;
    let Some(Quota { id, used, .. }) = found else { return Ok(None) };
    let above = |used: u64, limit: u64| if limit == 0 { 0 } else { used.saturating_add(limit).min(size::MAX) };
    let limit = Amounts { bytes: above(used.bytes, limit.bytes), inodes: above(used.inodes, limit.inodes) };
    quota::set(dir, id, limit).doing("quotactl_fd(Q_SETQUOTA)", intention)?;
    project::set(dir, id).doing("ioctl(FS_IOC_FSSETXATTR)", intention).inspect_err(|_| {
        let _ = quota::set(dir, id, Amounts::default());
    })?;
    Ok(Some(Quota { id, used, limit }))
}

/// Takes back what [`give`] has given, after the directory was removed. `dir` is another one on the file system.
pub(crate) fn take_back(dir: BorrowedFd<'_>, given: &Quota) {
    if given.used == Amounts::default() {
        release_soon(dir, given.id);
    } else {
        // It contains what it contained before, without a limit.
        let _ = quota::set(dir, given.id, Amounts::default());
    }
}

/// The first free id. The search starts at an id that depends on the job's id, so that jobs seldom check the same ids.
///
/// If there are only ids in use, it is the first that no directory of a job has. A project without a limit contains
/// something else: users without a user namespace can give it to files of their own, and could otherwise keep jobs of
/// others from starting. A project without contents was not released yet.
fn free(dir: BorrowedFd<'_>, job: u32, ids: ProjectIds) -> Result<Option<Quota>, Errno> {
    let (first, count) = (ids.first(), ids.count());
    let mut spare = None;
    for step in 0..count {
        let found = of(dir, first + (job % count + step) % count)?;
        if is_free(&found) {
            return Ok(Some(found));
        }
        if found.limit == Amounts::default() || found.used == Amounts::default() {
            spare.get_or_insert(found);
        }
        if step >= MANY && spare.is_some() {
            break;
        }
    }
    Ok(spare)
}

/// Clears the limit of a project if it contains nothing. Returns true if the id is free.
fn release(dir: BorrowedFd<'_>, id: u32) -> Result<bool, Error> {
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

/// Before `dir` is removed: sets the limit of its project to what the project contains. Returns the project, unless `dir`
/// has inherited it from `parent`.
#[must_use]
pub(crate) fn freeze(dir: BorrowedFd<'_>, parent: BorrowedFd<'_>) -> Option<u32> {
    let project = inherited(dir).ok()??;
    if inherited(parent) == Ok(Some(project)) {
        return None;
    }
    if let Ok(Quota { used, limit, .. }) = of(dir, project)
        && limit != Amounts::default()
    {
        // 0 would be no limit. If this fails, the limit stays as it was.
        let _ = quota::set(dir, project, Amounts { bytes: used.bytes.max(1), inodes: used.inodes.max(1) });
    }
    Some(project)
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

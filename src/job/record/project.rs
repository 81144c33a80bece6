//! The project of a job in one base path, by which ext4 and XFS limit what is in its directories there.
//!
//! Which ids are taken, the quotas of the file system itself say: a project with a limit, or with something in it, is
//! somebody's. So nothing is lost when processes are killed or the node goes down. A project gets its limit before it
//! gets its first directory, and keeps it until nothing is in it any more, wherever that was moved. Then the limit is
//! cleared, and the id is free.
//!
//! In between, when a project has a limit and no directory yet, its maker has the lock of the file system. It is one
//! for all base paths there.

use crate::base::base_dir::open_base;
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

/// How often a project is looked at that should be empty.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) use crate::sys::project::inherited;
pub(crate) use crate::sys::quota::is_enforced;

/// The lock of the file system that `dir` is on, until it is dropped. EWOULDBLOCK: `how` does not wait, and somebody has
/// it.
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

/// What a project has and may have.
pub(crate) fn of(dir: BorrowedFd<'_>, id: u32) -> Result<Quota, Errno> {
    let nothing = Quota { id, used: Amounts::default(), limit: Amounts::default() };
    Ok(quota::next(dir, id)?.filter(|found| found.id == id).unwrap_or(nothing))
}

fn is_free(quota: &Quota) -> bool {
    quota.used == Amounts::default() && quota.limit == Amounts::default()
}

/// Gives the empty directory `dir` of a job a project with this limit, and returns its id.
pub(crate) fn give(dir: BorrowedFd<'_>, job: u32, ids: ProjectIds, limit: Amounts) -> Result<u32, Error> {
    let intention = || format!("limit the size of what job {job} has");
    let _lock = lock(dir, FlockOperation::LockExclusive)?;
    if !quota::is_enforced(dir).doing("quotactl_fd(Q_XGETQSTATV)", intention)? {
        return Err(Error::because(intention(), "the file system is not mounted with quotas of projects any more")
            .with_hint("mount it with the option prjquota"));
    }
    let id = free(dir, job, ids).doing("quotactl_fd(Q_GETNEXTQUOTA)", intention)?.ok_or_else(|| {
        Error::because(intention(), format!("all project ids from {ids} are in use on the file system"))
            .with_hint("see jobns list for what is still being removed, or make project_ids larger")
    })?;
    quota::set(dir, id, limit).doing("quotactl_fd(Q_SETQUOTA)", intention)?;
    project::set(dir, id).doing("ioctl(FS_IOC_FSSETXATTR)", intention).inspect_err(|_| {
        let _ = quota::set(dir, id, Amounts::default());
    })?;
    Ok(id)
}

/// The first id that is free, from one on that the job's own number says, so that few look at the same.
fn free(dir: BorrowedFd<'_>, job: u32, ids: ProjectIds) -> Result<Option<u32>, Errno> {
    let (first, count) = (ids.first(), ids.count());
    for step in 0..count {
        let id = first + (job % count + step) % count;
        if is_free(&of(dir, id)?) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Clears the limit of a project if nothing is in it. True: its id is free.
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

/// The project that was given to `dir` itself, and not to what is around it.
#[must_use]
pub(crate) fn own(dir: BorrowedFd<'_>, parent: BorrowedFd<'_>) -> Option<u32> {
    let project = inherited(dir).ok()??;
    (inherited(parent) != Ok(Some(project))).then_some(project)
}

/// As [`release`], when what was in the project has just been removed: XFS counts that a little later. What is not
/// released is when somebody comes by again.
pub(crate) fn release_soon(dir: BorrowedFd<'_>, id: u32) {
    for _ in 0..TRIES {
        match release(dir, id) {
            Ok(false) => std::thread::sleep(PAUSE),
            _ => break,
        }
    }
}

/// Clears the limits of projects that are for jobs and have nothing in them, on the file system of this base: what is
/// left where processes were killed.
///
/// # Errors
///
/// When they cannot be looked at.
pub(crate) fn release_unused(base_path: &str, ids: Option<ProjectIds>) -> Result<(), Error> {
    let Some(ids) = ids else { return Ok(()) };
    let base = match open_base(base_path) {
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(()),
        result => result?,
    };
    // Not every base path has limits, and so quotas.
    if is_enforced(base.as_fd()) == Ok(true) { release_all(base.as_fd(), ids) } else { Ok(()) }
}

/// Clears the limits of all projects of the range that have nothing in them. Waits for nobody: a project that is left
/// is cleared when somebody looks again.
pub(crate) fn release_all(dir: BorrowedFd<'_>, ids: ProjectIds) -> Result<(), Error> {
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

/// What a job has in its projects, and may have. None: it has no project.
#[must_use]
pub fn of_job(record: &Record) -> Option<Quota> {
    let mut sum = None;
    for tree in record.trees.iter().filter(|tree| tree.project != 0) {
        let base = open_base(&tree.base).ok()?;
        let name = CString::new(record.header.id.to_string()).unwrap_or_default();
        let dir = open_beneath(base.as_fd(), &name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH).ok()?;
        // It may be gone, and the id another job's.
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

//! Detaches what root's scripts have mounted below the directories of jobs.
//!
//! A mount is found in `proc_pid_mountinfo(5)` and recognised by its number: its path leads through directories of the
//! job's user, who can change them. The contents of the mounted file system stay as they are.

use crate::base::base_dir::open_base;
use crate::base::error::{Doing, Error, FailedCall, Named, TryingTo};
use crate::base::listing::job_id;
use crate::base::mountinfo::{Mount, mounts, table_of};
use crate::base::trusted_path::{NO_LINKS, c_path, open_beneath};
use crate::config::path::path_below;
use crate::job::inside::on_thread_inside;
use crate::job::record::job;
use crate::job::remove::trash::{TRASH, parse_name};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::collections::BTreeMap;

/// A mount may cover another, and a path may be changed while it is looked up.
const MAX_ROUNDS: usize = 16;

/// A mount point, and the number of the mount.
type Point = (String, u64);

/// The mounts that `is_wanted` selects, the outermost first. Those on it are detached with it, so their paths are never
/// looked up through it.
fn points(table: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<Point> {
    let wanted = |mount: Mount<'_>| Some((mount.point.to_string(), mount.id.parse().ok()?));
    mounts(table).filter(|mount| is_wanted(&mount.point)).filter_map(wanted).collect()
}

fn table(process: &str) -> Result<String, Error> {
    table_of(process).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        Error::call(format!("read /proc/{process}/mountinfo"), "read", errno)
    })
}

/// Detaches one mount, unless another mount is at its path. `proc` is a /proc that shows this thread.
fn detach(proc: BorrowedFd<'_>, (path, id): &Point) -> Result<(), FailedCall> {
    let name = c_path(path).map_err(|_| Errno::INVAL).named("openat2")?;
    let fd = open_beneath(CWD, &name, OFlags::PATH, NO_LINKS).named("openat2")?;
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = rustix::fs::statx(&fd, c"", flags, StatxFlags::MNT_ID).named("statx")?;
    if found.stx_mnt_id != *id {
        return Err(Errno::AGAIN).named("statx");
    }
    rustix::process::fchdir(proc).named("fchdir")?;
    let path = format!("thread-self/fd/{}", fd.as_raw_fd());
    rustix::mount::unmount(path, UnmountFlags::DETACH).named("umount2")
}

fn open_proc() -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, c"/proc", flags, Mode::empty()).doing("openat", || "open /proc".to_owned())
}

/// Detaches on the node what is mounted below the directories `paths`, which are provably those of jobs.
pub fn detach_below(paths: &[String]) -> Result<(), Error> {
    let is_below = |point: &str| paths.iter().any(|path| path_below(point, path).is_some());
    let mut failed = Ok(());
    for _ in 0..MAX_ROUNDS {
        let found = points(&table("self")?, is_below);
        if found.is_empty() {
            return Ok(());
        }
        // `detach` changes the working directory.
        failed = with_own_directory(|proc| {
            let mut result = Ok(());
            for point in &found {
                let intention = || format!("detach what is mounted on {}", point.0);
                result = result.and(detach(proc, point).trying_to(intention));
            }
            result
        })?;
    }
    failed.map_err(|error| error.with_hint("unmount it: a script has mounted it for a job that has ended"))
}

/// Calls `work` with /proc, on a thread that does not share its working directory.
fn with_own_directory<T: Send>(work: impl FnOnce(BorrowedFd<'_>) -> T + Send) -> Result<T, Error> {
    let proc = open_proc()?;
    std::thread::scope(|scope| {
        let run = || {
            crate::sys::process::unshare_fs().doing("unshare(CLONE_FS)", || "detach mounts of scripts".to_owned())?;
            Ok(work(proc.as_fd()))
        };
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, run)
            .map_err(|error| Error::because("start a thread that detaches mounts of scripts", error.to_string()))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(Error::because("detach mounts of scripts", "the thread that did so panicked")))
    })
}

/// Are all of the node's mounts of the file system of `dir` below `path`?
#[must_use]
pub fn is_only_below(dir: BorrowedFd<'_>, path: &str) -> bool {
    let check = || -> Option<bool> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let id = rustix::fs::statx(dir, c"", flags, StatxFlags::MNT_ID).ok()?.stx_mnt_id.to_string();
        let table = table_of("self").ok()?;
        let device = mounts(&table).find(|mount| mount.id == id)?.device;
        Some(
            mounts(&table).filter(|mount| mount.device == device).all(|mount| path_below(&mount.point, path).is_some()),
        )
    };
    check().unwrap_or(false)
}

/// Detaches, only in the mount namespace of a new job, what scripts have mounted for other jobs. The job's copies would
/// keep those file systems in use until it ends. `holder` is a process in the namespace.
///
/// With a user namespace these copies are locked (`mount_namespaces(7)`) and stay.
pub fn detach_those_of_others(
    mount_namespace: BorrowedFd<'_>,
    holder: &str,
    bases: &[&str],
    job: u32,
) -> Result<(), Error> {
    let mut known: BTreeMap<(usize, String), bool> = BTreeMap::new();
    let table = table(holder)?;
    let mut found = points(&table, |point| bases.iter().any(|base| path_below(point, base).is_some()));
    found.retain(|(point, _)| {
        let of_base = bases.iter().enumerate().find_map(|(index, base)| Some((index, base, path_below(point, base)?)));
        let Some((index, base, below)) = of_base else { return false };
        let name = below.split('/').next().unwrap_or_default();
        if name == job.to_string() {
            return false;
        }
        let name = if name.as_bytes() == TRASH.to_bytes() { below } else { name };
        *known.entry((index, name.to_owned())).or_insert_with(|| is_of_a_job(base, name))
    });
    if found.is_empty() {
        return Ok(());
    }
    let proc = open_proc()?;
    on_thread_inside(mount_namespace, || {
        // If two are at one place, the upper one must be detached first.
        for point in found.iter().chain(found.iter().rev()) {
            // A locked mount stays.
            let _ = detach(proc.as_fd(), point);
        }
        Ok(())
    })
}

/// Is `name`, below a base path, provably the directory of a job, or a tree in the trash?
fn is_of_a_job(base_path: &str, name: &str) -> bool {
    if let Some(tree) = path_below(name, ".trash") {
        return parse_name(tree.split('/').next().unwrap_or_default().as_bytes()).is_some();
    }
    job_id(name).is_some() && open_base(base_path).is_ok_and(|base| job::read(base.as_fd(), base_path, name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_comes_first_and_neighbours_do_not_count() {
        let table = "\
1 0 8:1 / / rw - ext4 /dev/a rw
2 1 8:2 / /base/7/.7 rw - ext4 /dev/b rw
3 2 8:3 / /base/7/.7/_tmp/x\\040y rw - ext4 /dev/c rw
4 1 8:4 / /base/77 rw - ext4 /dev/d rw
5 1 8:5 / /base/7 rw - ext4 /dev/e rw
";
        let below = |path: &str| {
            points(table, |point| path_below(point, path).is_some()).into_iter().map(|(_, id)| id).collect::<Vec<_>>()
        };
        assert_eq!(below("/base/7"), [2, 3]);
        assert_eq!(below("/base/7/.7"), [3]);
        assert_eq!(below("/base/8"), [0; 0]);
    }

    #[test]
    #[ignore = "needs root"]
    fn mounts_of_a_script_are_detached_and_what_is_on_them_stays() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name);
        for name in ["outside/kept", "7/a", "70"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        let bind = |from: &str, to: &str| rustix::mount::mount_bind(path(from), path(to)).unwrap();
        bind("outside", "7/a");
        bind("outside", "7/a/kept");
        // Two at one place.
        bind("outside", "7/a");
        bind("outside", "70");
        let at = path("7").display().to_string();
        let directory = std::env::current_dir().unwrap();
        detach_below(std::slice::from_ref(&at)).unwrap();
        let left = points(&table_of("self").unwrap(), |point| point.starts_with(&at));
        rustix::mount::unmount(path("70"), UnmountFlags::DETACH).unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(path("7/a").exists() && !path("7/a/kept").exists() && path("outside/kept").exists());
        assert_eq!(std::env::current_dir().unwrap(), directory);
    }
}

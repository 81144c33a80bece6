//! Runs code in the job's mount namespace that must not run in the clone3 child.
//!
//! `switch_g_fs_init` is Slurm's code and may allocate and lock. So it runs on a thread of the
//! extern slurmstepd that has entered the mount namespace. A thread can do so once it no longer shares
//! its root and working directory with other threads (`CLONE_FS`, setns(2)); the other threads stay
//! where they are. The thread ends when the work is done.
//!
//! The thread stays in the host's user namespace: root there may mount in a namespace that a user
//! namespace below it owns.

use crate::base::error::{Doing, Error, Named, TryingTo};
use crate::base::trusted_path::{NO_LINKS, c_path, open_beneath};
use crate::sys::clone::NamespaceFlags;
use crate::sys::mount::attach_to;
use crate::sys::process::{setns, unshare_fs};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Covers each of the directories `paths` in that mount namespace with an empty read-only tmpfs.
pub fn hide(mount_namespace: BorrowedFd<'_>, paths: &[String]) -> Result<(), Error> {
    if paths.is_empty() {
        return Ok(());
    }
    let covers = paths.iter().map(|path| Ok((cover(path)?, path))).collect::<Result<Vec<_>, Error>>()?;
    on_thread_inside(mount_namespace, || {
        for (cover, path) in &covers {
            let intention = || format!("hide {path} inside the job");
            let target = open_beneath(CWD, &c_path(path)?, OFlags::PATH | OFlags::DIRECTORY, NO_LINKS)
                .doing("openat2", intention)?;
            attach_to(cover.as_fd(), target.as_fd()).doing("move_mount", intention)?;
        }
        Ok(())
    })
}

/// Runs `work` on a thread that has entered the mount namespace.
pub(super) fn on_thread_inside(
    mount_namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<(), Error> + Send,
) -> Result<(), Error> {
    let enter_and_work = || {
        let intention = || "enter the job's mount namespace".to_owned();
        unshare_fs().doing("unshare(CLONE_FS)", intention)?;
        setns(mount_namespace, NamespaceFlags::MOUNT).doing("setns", intention)?;
        work()
    };
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("jobns-inside".to_owned()).spawn_scoped(scope, enter_and_work).map_err(
                |error| Error::because("start a thread that enters the job's mount namespace", error.to_string()),
            )?;
        thread.join().unwrap_or_else(|_| {
            Err(Error::because("set up inside the job's mount namespace", "the thread that did so panicked"))
        })
    })
}

/// The empty, read-only, detached tmpfs that covers a base path.
pub fn cover(base_path: &str) -> Result<OwnedFd, Error> {
    let make = || {
        let fs = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).named("fsopen")?;
        for (key, value) in [(c"source", c"tmpfs"), (c"mode", c"555"), (c"nr_inodes", c"1"), (c"size", c"4k")] {
            rustix::mount::fsconfig_set_string(fs.as_fd(), key, value).named("fsconfig")?;
        }
        rustix::mount::fsconfig_create(fs.as_fd()).named("fsconfig(CREATE)")?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC
            | MountAttrFlags::MOUNT_ATTR_RDONLY;
        rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).named("fsmount")
    };
    make().trying_to(|| format!("make an empty tmpfs to hide {base_path} with"))
}

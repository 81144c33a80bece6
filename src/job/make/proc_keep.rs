//! Clones the mounts over parts of the node's `/proc` that a job's own `/proc` is to have as well (`proc_keep`),
//! such as the file that tells NVIDIA's driver to make no device files.
//!
//! The parent clones them before it makes the job's namespaces, like the source of every other mount. The child
//! attaches them.

use crate::base::error::{Doing, Error};
use crate::base::trusted_path::{NO_LINKS, c_path, open_beneath};
use crate::config::path::path_below;
use crate::sys::mount::make_private;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use std::ffi::CString;

/// The result for one path.
#[derive(Debug)]
pub enum Kept {
    /// A clone of the mount there and of the mounts below it, and where it goes.
    Mount(OwnedFd, CString),
    /// It is part of the clone for a path above it.
    WithAnother,
    /// Nothing is mounted over it.
    NotMounted,
    /// The kernel has no such file.
    Missing,
}

/// Clones the mounts of `paths`, each of which comes after the paths above it.
///
/// # Errors
///
/// A mount cannot be cloned. The job would see what the mount covers.
pub fn keep(paths: &[String]) -> Result<Vec<Kept>, Error> {
    let mut whole: Vec<&str> = Vec::new();
    let mut out = Vec::new();
    for path in paths {
        if whole.iter().any(|above| path_below(path, above).is_some()) {
            out.push(Kept::WithAnother);
            continue;
        }
        let kept = keep_one(path)?;
        if matches!(kept, Kept::Mount(..)) {
            whole.push(path);
        }
        out.push(kept);
    }
    Ok(out)
}

fn keep_one(path: &str) -> Result<Kept, Error> {
    let intention = || format!("keep what is mounted over {path}");
    let fd = match open_beneath(CWD, &c_path(path)?, OFlags::PATH, NO_LINKS) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Kept::Missing),
        Err(Errno::LOOP) => {
            return Err(Error::call(intention(), "openat2", Errno::LOOP).with_hint("name the target of the link"));
        }
        result => result.doing("openat2", intention)?,
    };
    let (here, of_proc) = (stat_mount(&fd).doing("statx", intention)?, stat_path("/proc").doing("statx", intention)?);
    if here.stx_mnt_id == of_proc.stx_mnt_id {
        return Ok(Kept::NotMounted);
    }
    if !is_mount_point(&here) {
        let error = Error::because(
            intention(),
            "it is not a mount point itself: something is mounted over a directory above it",
        );
        return Err(match mount_point_above(path) {
            Some(above) => error.with_hint(format!("write {above} in proc_keep")),
            None => error,
        });
    }
    let mount = rustix::mount::open_tree(
        fd.as_fd(),
        c"",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE,
    )
    .doing("open_tree", intention)?;
    make_private(mount.as_fd()).doing("mount_setattr", intention)?;
    Ok(Kept::Mount(mount, c_path(path)?))
}

/// The nearest mount point above `path`.
fn mount_point_above(path: &str) -> Option<&str> {
    let above = std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above));
    above.skip(1).find(|above| stat_path(above).is_ok_and(|stat| is_mount_point(&stat)))
}

fn is_mount_point(stat: &Statx) -> bool {
    stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
}

fn stat_mount(fd: &OwnedFd) -> Result<Statx, Errno> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
}

fn stat_path(path: &str) -> Result<Statx, Errno> {
    rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_nothing_to_keep_of_what_is_not_mounted_or_not_there() {
        let paths = ["/proc/version", "/proc/no-such-file", "/proc/version/below"].map(str::to_owned);
        let kept = keep(&paths).unwrap();
        assert!(matches!(kept.as_slice(), [Kept::NotMounted, Kept::Missing, Kept::Missing]), "{kept:?}");
    }

    #[test]
    fn links_are_refused_and_not_followed() {
        let error = keep(&["/proc/mounts".to_owned()]).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::LOOP));
    }
}

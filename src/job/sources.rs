//! What a job's private directories are made of: detached mounts with their final flags.
//!
//! Made by the parent before the clone; the child only attaches them.

#![forbid(unsafe_code)]

use super::Job;
use super::error::{Doing, Error};
use super::plan::{Plan, PlannedDir, Source};
use super::trusted::{BENEATH, NO_LINKS, c_path, is_trusted_owner, open_beneath};
use crate::sys::mount::set_attributes;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use std::ffi::{CStr, CString};

/// A detached mount for every private directory, with its final flags, and where it goes. `trees` are
/// the job's directories in the plan's bases; `after_script`: init_script may have made some itself.
///
/// # Errors
///
/// The first that cannot be made.
pub fn make(plan: &Plan, job: &Job, trees: &[OwnedFd], after_script: bool) -> Result<Vec<(OwnedFd, CString)>, Error> {
    plan.dirs
        .iter()
        .map(|dir| {
            let mount = match &dir.source {
                Source::Directory { base, name } => {
                    clone_directory(plan, job, trees, after_script, (dir, *base, name))?
                }
                Source::Tmpfs(_) => make_tmpfs(dir)?,
            };
            Ok((mount, c_path(&dir.target)?))
        })
        .collect()
}

fn clone_directory(
    plan: &Plan,
    job: &Job,
    trees: &[OwnedFd],
    after_script: bool,
    (dir, base, name): (&PlannedDir, usize, &str),
) -> Result<OwnedFd, Error> {
    let base_path = plan.bases.get(base).map_or("", String::as_str);
    let intention = || format!("make {base_path}/{}/{name} for {}", job.id, dir.target);
    let tree = trees.get(base).ok_or_else(|| Error::because(intention(), "no job directory"))?;
    let name = c_path(name)?;
    let fd = match make_private_dir(tree.as_fd(), &name, 0o700) {
        // init_script may have made it, or mounted something there: only root can have, the
        // directory around it is ours and 0700.
        Err(Errno::EXIST) if after_script => open_beneath(
            tree.as_fd(),
            &name,
            OFlags::RDONLY | OFlags::DIRECTORY,
            BENEATH.difference(rustix::fs::ResolveFlags::NO_XDEV),
        ),
        result => result,
    }
    .doing("mkdirat", intention)?;
    rustix::fs::fchown(&fd, Some(Uid::from_raw(job.uid)), None).doing("fchown", intention)?;
    if dir.mode != 0o700 {
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(dir.mode)).doing("fchmod", intention)?;
    }
    let mount = rustix::mount::open_tree(
        fd.as_fd(),
        c"",
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH,
    )
    .doing("open_tree", intention)?;
    set_attributes(mount.as_fd(), dir.attributes).doing("mount_setattr", intention)?;
    Ok(mount)
}

/// A fresh tmpfs with its parameters, detached.
///
/// # Errors
///
/// What the kernel says of its parameters.
pub fn make_tmpfs(dir: &PlannedDir) -> Result<OwnedFd, Error> {
    let intention = || format!("make a tmpfs for {}", dir.target);
    let fs = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).doing("fsopen", intention)?;
    let set = |key: &str, value: Option<&str>| {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(fs.as_fd(), key, value),
            None => rustix::mount::fsconfig_set_flag(fs.as_fd(), key),
        }
        .doing("fsconfig", || format!("set {key}={} for the tmpfs on {}", value.unwrap_or_default(), dir.target))
    };
    set("source", Some("tmpfs"))?;
    let mut has_mode = false;
    if let Source::Tmpfs(params) = &dir.source {
        for param in params {
            has_mode |= param.key == "mode";
            set(&param.key, param.value.as_deref())?;
        }
    }
    if !has_mode {
        set("mode", Some(&format!("{:o}", dir.mode)))?;
    }
    rustix::mount::fsconfig_create(fs.as_fd()).doing("fsconfig(CREATE)", intention)?;
    let mount = rustix::mount::fsmount(
        fs.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(dir.attributes.bits()),
    )
    .doing("fsmount", intention)?;
    Ok(mount)
}

/// Opens a base directory that was found trusted when slurmd started, and makes sure that it still
/// is what it was.
///
/// # Errors
///
/// When it is not, or cannot be opened.
pub fn open_base(path: &str) -> Result<OwnedFd, Error> {
    let intention = || format!("open base_path {path}");
    let base =
        open_beneath(CWD, &c_path(path)?, OFlags::RDONLY | OFlags::DIRECTORY, NO_LINKS).doing("openat2", intention)?;
    let stat = rustix::fs::fstat(&base).doing("fstat", intention)?;
    if !is_trusted_owner(stat.st_uid) || stat.st_mode & 0o002 != 0 {
        return Err(Error::because(
            intention(),
            format!(
                "it belongs to uid {} with mode {:04o}; it was root's alone when slurmd started",
                stat.st_uid,
                stat.st_mode & 0o7777
            ),
        ));
    }
    Ok(base)
}

/// Makes `<base>/<name>`, which must not exist, and opens it. When it cannot be opened, it is gone again.
///
/// # Errors
///
/// `mkdirat(2)`: EEXIST; `openat2(2)`.
pub fn make_private_dir(parent: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode))?;
    open_beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH).inspect_err(|_| {
        let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
    })
}

//! Paths of the node that stay visible inside a job's private directories (`keep`), such as the sockets of an X server
//! or of NVIDIA's MPS.
//!
//! The private directory hides what the node has there. A clone of the node's file, directory or socket goes on an empty
//! target in it. Users can write to the directories around such a path on the node, so nothing there is trusted: the
//! path is opened name by name, and root, or the job's user where the path names the user, must own every part of it.

use crate::base::base_dir::make_private_dir;
use crate::base::error::{Doing, Error, FailedCall, Named, TryingTo};
use crate::base::log::{Level, Log};
use crate::base::trusted_path::{BENEATH, NO_LINKS, is_administrator, open_beneath};
use crate::config::settings::KeepPath;
use crate::job::Job;
use crate::job::make::plan::PlannedKeep;
use crate::sys::mount::set_attributes;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use std::ffi::{CStr, CString};

/// Why a path is not kept.
enum Lacking {
    /// A call failed that says nothing of the path.
    Failed(Error),
    /// The node has no such path.
    Missing,
    /// What is there must not be used; a sentence says why.
    Unsafe(String),
}

/// A clone of what the node has at the path, and its target in `mount`, the private directory around it, which is
/// `outer` on the node and has it at `below`. None where there is nothing to keep; a line says why.
///
/// # Errors
///
/// When a path that is required cannot be kept, or a call fails.
pub(super) fn keep(
    (log, job): (&dyn Log, &Job),
    planned: &PlannedKeep,
    (outer, below): (&str, &str),
    (mount, is_ours): (BorrowedFd<'_>, bool),
) -> Result<Option<(OwnedFd, OwnedFd)>, Error> {
    let PlannedKeep { kept: KeepPath { path, read_only, required }, may_be_users } = planned;
    let intention = || format!("keep {path} in the private directory {outer}");
    let owner = may_be_users.then_some(job.header.uid);
    let (source, stat) = match open_on_node(outer, below, owner) {
        Ok(found) => found,
        Err(lacking) => {
            let (level, why, hint) = match lacking {
                Lacking::Missing => (Level::Debug, "the node has no such path".to_owned(), "make it before jobs start"),
                Lacking::Unsafe(why) => (Level::Warning, why, "correct that"),
                Lacking::Failed(error) => return Err(error),
            };
            if *required {
                return Err(Error::because(intention(), why)
                    .with_hint(format!("{hint}, or remove missing: refuse from this entry of keep")));
            }
            log.log(level, format_args!("job {}: cannot {}: {why}", job.header.id, intention()));
            return Ok(None);
        }
    };
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(source.as_fd(), c"", clone).doing("open_tree", intention)?;
    let mut flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, *read_only);
    set_attributes(tree.as_fd(), flags, MountAttrFlags::empty()).doing("mount_setattr", intention)?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let target = if is_ours { make_target(mount, below, is_directory) } else { find_target(mount, below) };
    let target = target.trying_to(intention).map_err(|error| {
        if is_ours || error.errno() != Some(Errno::NOENT) {
            return error;
        }
        error.with_hint(format!("init_script has made {outer} and must make {below} in it as well"))
    });
    match target {
        Err(error) if !is_ours && !*required => {
            log.log(Level::Warning, format_args!("job {}: {error}", job.header.id));
            Ok(None)
        }
        target => target.map(|target| Some((tree, target))),
    }
}

/// Makes the empty target, root's like the directories around it, and opens it. Some of it may be there: of another path
/// of `keep`.
fn make_target(mount: BorrowedFd<'_>, below: &str, is_directory: bool) -> Result<OwnedFd, FailedCall> {
    let (above, last) = below.rsplit_once('/').map_or((None, below), |(above, last)| (Some(above), last));
    let mut parent = None;
    for name in above.iter().flat_map(|above| above.split('/')) {
        parent = Some(make_directory(parent.as_ref().map_or(mount, AsFd::as_fd), &name_c(name))?);
    }
    let (parent, name) = (parent.as_ref().map_or(mount, AsFd::as_fd), name_c(last));
    let made = if is_directory {
        rustix::fs::mkdirat(parent, name.as_c_str(), Mode::empty()).named("mkdirat")
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name.as_c_str(), flags, Mode::empty()).map(drop).named("openat")
    };
    match made {
        Err(failed) if failed.errno != Errno::EXIST => Err(failed),
        _ => open_beneath(parent, &name, OFlags::PATH, BENEATH).named("openat2"),
    }
}

/// The target in a directory that init_script has made. Users can change that at this moment, so nothing is made there.
fn find_target(mount: BorrowedFd<'_>, below: &str) -> Result<OwnedFd, FailedCall> {
    open_beneath(mount, &name_c(below), OFlags::PATH, BENEATH).named("openat2")
}

/// A directory on the way to a target.
fn make_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, FailedCall> {
    match make_private_dir(parent, name) {
        Err(FailedCall { errno: Errno::EXIST, .. }) => {
            open_beneath(parent, name, OFlags::PATH | OFlags::DIRECTORY, BENEATH).named("openat2")
        }
        made => {
            let made = made?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).named("fchmod")?;
            Ok(made)
        }
    }
}

/// No path of the settings contains a NUL.
fn name_c(name: &str) -> CString {
    CString::new(name).unwrap_or_default()
}

/// Opens `below` in the directory `outer` of the node. `owner` may own it besides root.
fn open_on_node(outer: &str, below: &str, owner: Option<u32>) -> Result<(OwnedFd, Stat), Lacking> {
    let flags = OFlags::PATH;
    let mut path = outer.to_owned();
    let mut here = open_beneath(CWD, &name_c(outer), flags, NO_LINKS).map_err(|errno| lacking(&path, errno))?;
    let mut stat = checked(&here, &path, owner)?;
    for name in below.split('/') {
        path.extend(["/", name]);
        here = open_beneath(here.as_fd(), &name_c(name), flags, BENEATH).map_err(|errno| lacking(&path, errno))?;
        stat = checked(&here, &path, owner)?;
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory | FileType::RegularFile | FileType::Socket => Ok((here, stat)),
        _ => Err(Lacking::Unsafe(format!("{path} is not a directory, a file or a socket"))),
    }
}

fn checked(fd: &OwnedFd, path: &str, owner: Option<u32>) -> Result<Stat, Lacking> {
    let stat = rustix::fs::fstat(fd).doing("fstat", || format!("look at {path}")).map_err(Lacking::Failed)?;
    if is_administrator(stat.st_uid) || Some(stat.st_uid) == owner {
        return Ok(stat);
    }
    let or_user = owner.map_or_else(String::new, |uid| format!(" or to uid {uid}"));
    Err(Lacking::Unsafe(format!("{path} belongs to uid {}, and must belong to root{or_user}", stat.st_uid)))
}

fn lacking(path: &str, errno: Errno) -> Lacking {
    let why = match errno {
        Errno::NOENT | Errno::NOTDIR => return Lacking::Missing,
        Errno::LOOP => "is a symbolic link",
        Errno::XDEV => "is a mount point",
        Errno::ACCESS => "cannot be opened by root",
        errno => return Lacking::Failed(Error::call(format!("open {path}"), "openat2", errno)),
    };
    Lacking::Unsafe(format!("{path} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    #[ignore = "needs root"]
    fn only_what_root_or_the_user_owns_is_opened() {
        let top = tempfile::tempdir().unwrap();
        let outer = top.path().to_str().unwrap();
        let path = |name: &str| top.path().join(name);
        let own = |name: &str, uid| std::os::unix::fs::chown(path(name), Some(uid), None).unwrap();
        std::fs::create_dir_all(path("of-root/below")).unwrap();
        std::fs::write(path("of-1000"), "").unwrap();
        own("of-1000", 1000);
        std::fs::create_dir_all(path("dir-of-1001/of-root")).unwrap();
        own("dir-of-1001", 1001);
        symlink("of-root", path("link")).unwrap();
        let said = |below: &str, owner| match open_on_node(outer, below, owner) {
            Ok(_) => "open".to_owned(),
            Err(Lacking::Missing) => "missing".to_owned(),
            Err(Lacking::Unsafe(why)) => why.replace(outer, ""),
            Err(Lacking::Failed(error)) => panic!("{error}"),
        };
        for (below, owner, expected) in [
            ("of-root", None, "open"),
            ("of-root/below", None, "open"),
            ("of-root/none", None, "missing"),
            ("of-1000/x", Some(1000), "missing"),
            ("of-1000", Some(1000), "open"),
            ("of-1000", None, "/of-1000 belongs to uid 1000, and must belong to root"),
            ("of-1000", Some(1001), "/of-1000 belongs to uid 1000, and must belong to root or to uid 1001"),
            ("dir-of-1001/of-root", None, "/dir-of-1001 belongs to uid 1001, and must belong to root"),
            ("link", None, "/link is a symbolic link"),
            ("link/below", Some(1000), "/link is a symbolic link"),
        ] {
            assert_eq!(said(below, owner), expected, "{below} {owner:?}");
        }
    }
}

//! Checks that base paths can be limited, by doing once what each job with a limit does.

use crate::base::base_dir::{UNFINISHED, make_unfinished, open_base, remove_unfinished};
use crate::base::error::{Doing, Error, TryingTo};
use crate::base::file_system::{self, EXT4, XFS};
use crate::base::trusted_path::c_path;
use crate::config::settings::{Backing, Settings};
use crate::config::size::ProjectIds;
use crate::config::spelling::key;
use crate::job::record::project;
use crate::node::finding::{About, Findings};
use crate::node::paths::cannot_write;
use crate::sys::quota::Amounts;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

/// Other file systems that administrators use for such directories.
const OTHERS: [(u64, &str); 9] = [
    (file_system::ZFS, "ZFS"),
    (file_system::BTRFS, "btrfs"),
    (0x0bd0_0bd0, "Lustre"),
    (0x6969, "NFS"),
    (file_system::OVERLAY, "overlay"),
    (file_system::TMPFS, "tmpfs"),
    (0x00c3_6400, "CephFS"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
];

/// The base paths with a limit, the main one first.
pub(super) fn limited(settings: &Settings) -> Vec<&str> {
    let mut bases = Vec::new();
    for dir in settings.dirs.iter().filter(|dir| dir.is_limited()) {
        let base = match &dir.backing {
            Backing::BasePath => settings.base_path.as_str(),
            Backing::OtherBase(base) => base.as_str(),
            Backing::SameAs(_) | Backing::Tmpfs(_) => continue,
        };
        if !bases.contains(&base) {
            bases.push(base);
        }
    }
    bases
}

/// Tries to limit a base path.
pub(super) fn examine(settings: &Settings, base: &str, found: &mut Findings) {
    let Some(ids) = settings.project_ids else { return };
    match try_limit(base, ids) {
        Ok(true) => {}
        // slurmd starts: the steps of jobs need it, and it removes what is left of jobs.
        Ok(false) => found.error(
            "project_ids",
            format!(
                "{}: all project ids from {ids} are in use on the file system of {base}; new jobs fail until one is free: see jobns list",
                key("project_ids")
            ),
        ),
        Err(error) => return cannot_write("project_ids", base, error, found),
    }
    if !settings.namespaces.user {
        found.note(
            About::Key("project_ids"),
            format!(
                "the limits in {base} stop mistakes only: without CLONE_NEWUSER, users can take their own files out of the limit by changing the project of the files"
            ),
        );
    }
}

/// Limits a directory for a moment. Returns false if no project id is free.
fn try_limit(base_path: &str, ids: ProjectIds) -> Result<bool, Error> {
    let intention = || format!("limit the sizes of directories in base_path {base_path}");
    let refuse = |why: &str, hint: &str| Err(Error::because(intention(), why).with_hint(hint));
    let base = open_base(base_path)?;
    let base = base.as_fd();
    let kind = file_system::kind(base).doing("fstatfs", intention)?;
    if kind != EXT4 && kind != XFS {
        let name = OTHERS.iter().find(|(known, _)| *known == kind).map_or("neither ext4 nor XFS", |(_, name)| name);
        return refuse(
            &format!("its file system is {name}, and only ext4 and XFS have the quotas for that"),
            "leave size out, and limit $SLURM_JOB_MOUNTPOINT_SRC in init_script: see namespace.yaml(5), Sizes",
        );
    }
    match project::is_enforced(base) {
        Ok(true) => {}
        // ENOSYS: the file system, or the kernel, has no quotas.
        Ok(false) | Err(Errno::NOSYS | Errno::SRCH) if kind == XFS => {
            return refuse(
                "XFS is mounted without quotas of projects",
                "mount it with the option prjquota; a remount is not enough, and the kernel needs CONFIG_XFS_QUOTA",
            );
        }
        Ok(false) | Err(Errno::NOSYS | Errno::SRCH) => {
            return refuse(
                "ext4 is mounted without quotas of projects",
                "mount it with the option prjquota; if that fails, unmount it and run tune2fs -O project,quota -Q prjquota; the kernel needs CONFIG_QUOTA",
            );
        }
        Err(errno) => return Err(Error::call(intention(), "quotactl_fd(Q_XGETQSTATV)", errno)),
    }
    if project::inherited(base) != Ok(None) {
        return refuse(
            "it is in a project itself, and nothing can be moved from it to another one",
            "use another base_path, or remove it from its project: chattr -p 0 -P, or xfs_quota project -C",
        );
    }
    // No job has this number.
    let name = &c_path(&format!("{UNFINISHED}0"))?;
    let dir = match make_unfinished(base, name) {
        // Another process is trying at this moment.
        Err(failed) if failed.errno == Errno::WOULDBLOCK => return Ok(true),
        result => result.trying_to(intention)?,
    };
    let tried = try_project(dir.as_fd(), ids);
    drop(dir);
    remove_unfinished(base, name).trying_to(|| format!("remove {base_path}/{UNFINISHED}0"))?;
    let Some(id) = tried? else { return Ok(false) };
    project::release_soon(base, id);
    Ok(true)
}

/// Sets a limit, and checks that the same limit can be read.
fn try_project(dir: BorrowedFd<'_>, ids: ProjectIds) -> Result<Option<u32>, Error> {
    let limit = Amounts { bytes: 1 << 20, inodes: 100 };
    let Some(id) = project::give(dir, 0, ids, limit)? else { return Ok(None) };
    let read =
        project::of(dir, id).doing("quotactl_fd(Q_GETNEXTQUOTA)", || format!("read the limit of project {id}"))?;
    if project::inherited(dir) != Ok(Some(id)) || read.limit != limit || read.used.inodes == 0 {
        return Err(Error::because(
            format!("limit project {id}"),
            "the limit that was set cannot be read back: the file system does not count quotas of projects as ext4 and XFS do",
        ));
    }
    Ok(Some(id))
}

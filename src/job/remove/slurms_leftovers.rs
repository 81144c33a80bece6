//! The job directories of Slurm's own plugins, which a node may have after a switch-over.
//!
//! `base_path/<job>` (`base_path/<node>/<job>` if Slurm is built for several slurmds per host, as Debian's is)
//! is mounted on itself. It contains `.ns`, with the job's namespaces mounted on empty files, and `.<job>`,
//! the private directories (namespace_linux.c, `_create_ns`); for namespace/tmpfs see [`is_of_tmpfs`]. A
//! directory that contains anything else, or does not belong to root, is not recognised. This file only
//! removes such directories; `join` enters their namespaces.

use crate::base::error::{Doing, Error};
use crate::base::file_system::is_local;
use crate::base::listing::names;
use crate::base::log::{Level, Log};
use crate::base::trusted_path::{BENEATH, NO_LINKS, c_path, is_trusted_owner, mode_of, open_beneath};
use crate::job::kill::{Members, kill_members};
use crate::job::remove::trash::move_to_trash;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::ffi::CStr;

/// The names in `.ns`.
const NAMESPACES: [&str; 3] = ["pid", "user", "mnt"];

/// Like [`BENEATH`], but may cross mounts: the directory is mounted on itself.
const BELOW: ResolveFlags = NO_LINKS.union(ResolveFlags::BENEATH);

/// A job directory of Slurm's plugin.
#[derive(Debug)]
pub struct Leftover {
    pub job: u32,
    dir: OwnedFd,
}

fn is_private(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        && is_trusted_owner(stat.st_uid)
        && mode_of(stat) == 0o700
}

/// Recognises the directory of a job of Slurm's plugin; None if there is any doubt. `name` is a job id.
#[must_use]
pub fn recognise(base: BorrowedFd<'_>, name: &str) -> Option<Leftover> {
    let job = name.parse().ok()?;
    let dir = open_beneath(base, &c_path(name).ok()?, OFlags::RDONLY | OFlags::DIRECTORY, BELOW).ok()?;
    let (stat, base_stat) = (rustix::fs::fstat(&dir).ok()?, rustix::fs::fstat(base).ok()?);
    let private_dirs = format!(".{job}");
    let has_only_its_own = names(dir.as_fd(), name).ok()?.iter().all(|entry| entry == ".ns" || *entry == private_dirs);
    if !is_private(&stat) || stat.st_dev != base_stat.st_dev || !has_only_its_own {
        return None;
    }
    if is_of_tmpfs(dir.as_fd(), &private_dirs) {
        return Some(Leftover { job, dir });
    }
    let ns = open_beneath(dir.as_fd(), c".ns", OFlags::RDONLY | OFlags::DIRECTORY, BELOW).ok()?;
    let entries = names(ns.as_fd(), ".ns").ok()?;
    let is_its_own = entries.iter().all(|entry| NAMESPACES.contains(&entry.as_str()));
    let has_mount = entries.iter().any(|entry| entry == "mnt");
    (is_private(&rustix::fs::fstat(&ns).ok()?) && is_its_own && has_mount).then_some(Leftover { job, dir })
}

/// namespace/tmpfs mounts its only namespace on a file `.ns` with mode 0700, and `.<job>` belongs to the user
/// (namespace_tmpfs.c, `_create_ns`).
fn is_of_tmpfs(dir: BorrowedFd<'_>, private_dirs: &str) -> bool {
    let stat = |name: &str, flags| {
        let fd = open_beneath(dir, &c_path(name).ok()?, OFlags::PATH | flags, BELOW).ok()?;
        rustix::fs::fstat(&fd).ok()
    };
    let is_ns = |ns: &Stat| {
        FileType::from_raw_mode(ns.st_mode) == FileType::RegularFile
            && is_trusted_owner(ns.st_uid)
            && ns.st_size == 0
            && (mode_of(ns) == 0o700 || is_namespace(ns))
    };
    stat(".ns", OFlags::empty()).is_some_and(|ns| is_ns(&ns))
        && stat(private_dirs, OFlags::DIRECTORY).is_some_and(|stat| mode_of(&stat) == 0o700)
}

/// Is it a file of the namespace file system, nsfs?
fn is_namespace(stat: &Stat) -> bool {
    rustix::fs::stat(c"/proc/self/ns/mnt").is_ok_and(|own| own.st_dev == stat.st_dev)
}

impl Leftover {
    /// Returns true if another node may have made it, because both nodes have this base path by mistake. If this node
    /// made it since `booted`, it is mounted here. If this node made it before, it is not mounted, but then the file
    /// system must be local.
    #[must_use]
    pub fn may_be_of_another_node(&self, base: BorrowedFd<'_>, booted: i64) -> bool {
        let name = self.job.to_string();
        let beneath = |name: &CStr| open_beneath(base, name, OFlags::PATH | OFlags::DIRECTORY, BENEATH);
        let is_mounted = || c_path(&name).is_ok_and(|name| beneath(&name).is_err_and(|errno| errno == Errno::XDEV));
        let is_older = || rustix::fs::fstat(&self.dir).is_ok_and(|stat| stat.st_ctime < booted);
        !is_mounted() && self.mount_namespace().is_none() && !(is_older() && is_local(base))
    }

    /// Kills the processes in its mount namespace, undoes its mounts and moves it to the trash. Returns true if it was
    /// moved.
    #[must_use]
    pub fn move_to_trash(self, host: &dyn Log, base: BorrowedFd<'_>, base_path: &str) -> bool {
        let job = self.job;
        // Find them only by the namespace: all jobs of Slurm's plugin have copies of its mounts.
        if let Some(namespace) = self.mount_namespace() {
            kill_members(host, job, &Members { namespace: Some(namespace.as_fd()), ..Members::default() });
        }
        match self.unmount_and_move(base, base_path) {
            Ok(()) => true,
            Err(error) => {
                host.log(Level::Error, format_args!("job {job}: {error}"));
                false
            }
        }
    }

    /// The job's mount namespace, if it is still mounted.
    fn mount_namespace(&self) -> Option<OwnedFd> {
        [c".ns/mnt", c".ns"].into_iter().find_map(|name| {
            let fd = open_beneath(self.dir.as_fd(), name, OFlags::RDONLY | OFlags::NONBLOCK, BELOW).ok()?;
            is_namespace(&rustix::fs::fstat(&fd).ok()?).then_some(fd)
        })
    }

    /// The user of the job, who owns the private directories.
    #[must_use]
    pub fn uid(&self) -> u32 {
        let inside = c_path(&format!(".{}", self.job))
            .map(|name| open_beneath(self.dir.as_fd(), &name, OFlags::PATH, BELOW).and_then(rustix::fs::fstat));
        inside.ok().and_then(Result::ok).map_or(0, |stat| stat.st_uid)
    }

    /// The files below its directory on which its namespaces are mounted, each with the name that nsenter(1) has for
    /// the kind.
    #[must_use]
    pub fn namespaces(&self) -> Vec<(&'static str, &'static str)> {
        [("mount", ".ns"), ("mount", ".ns/mnt"), ("pid", ".ns/pid"), ("user", ".ns/user")]
            .into_iter()
            .filter(|(_, file)| {
                let fd = c_path(file).map(|file| open_beneath(self.dir.as_fd(), &file, OFlags::PATH, BELOW));
                fd.is_ok_and(|fd| fd.and_then(rustix::fs::fstat).is_ok_and(|stat| is_namespace(&stat)))
            })
            .collect()
    }

    fn unmount_and_move(self, base: BorrowedFd<'_>, base_path: &str) -> Result<(), Error> {
        let name = c_path(&self.job.to_string())?;
        let path = format!("{base_path}/{}", self.job);
        let intention = || format!("undo the mounts of Slurm's own plugin on {path}");
        let unmount = |path: &str| match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // NOTDIR: it was made by the other of Slurm's two plugins.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(Error::call(intention(), "umount2", errno)),
        };
        for namespace in NAMESPACES.map(|name| format!("/{name}")).iter().map(String::as_str).chain([""]) {
            unmount(&format!("/proc/self/fd/{}/.ns{namespace}", self.dir.as_raw_fd()))?;
        }
        let uid = self.uid();
        drop(self);
        // Usually once. Something may have been mounted on it again.
        for _ in 0..8 {
            match open_beneath(base, &name, OFlags::PATH | OFlags::DIRECTORY, BENEATH) {
                Err(Errno::XDEV) => unmount(&path)?,
                result => {
                    result.doing("openat2", intention)?;
                    break;
                }
            }
        }
        move_to_trash(base, base_path, &name, uid).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::record::job::boot_time;
    use std::fs::{DirBuilder, File};
    use std::os::unix::fs::DirBuilderExt;

    #[test]
    fn without_its_mounts_it_is_this_nodes_only_if_it_was_made_before_the_boot() {
        let top = tempfile::tempdir().unwrap();
        for dir in ["7", "7/.ns", "7/.7"] {
            DirBuilder::new().mode(0o700).create(top.path().join(dir)).unwrap();
        }
        File::create(top.path().join("7/.ns/mnt")).unwrap();
        let base = File::open(top.path()).unwrap();
        let leftover = recognise(base.as_fd(), "7").unwrap();
        assert!(leftover.may_be_of_another_node(base.as_fd(), boot_time()));
        // The tests have their files on a local file system.
        assert!(!leftover.may_be_of_another_node(base.as_fd(), i64::MAX));
        // This one counts as shared, like any that is not known to be local.
        let proc = File::open("/proc").unwrap();
        assert!(leftover.may_be_of_another_node(proc.as_fd(), i64::MAX));
    }
}

//! Job directories whose state file a power cut has destroyed.
//!
//! Under `base_path` such a directory has an empty state file ([`job::is_lost`]). In a base path of `dir_confs` a directory
//! has a mark ([`Mark`]); here are those that the state file of their job does not name, or whose state file is gone.

use crate::base::base_dir::open_base_if_there;
use crate::base::error::{Doing, Error};
use crate::base::file_system::is_local;
use crate::base::listing::{job_id, visit};
use crate::base::trusted_path::{BENEATH, c_path, open_beneath};
use crate::job::record::job;
use crate::job::record::mark::Mark;
use crate::job::record::process::BootId;
use crate::job::remove::trash;
use crate::job::remove::trash::move_to_trash;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use std::time::Duration;

/// How often, and how long, this process pauses while another one moves the directory.
const PAUSES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// The directories in a base path that have a mark of an earlier boot, so that their jobs have ended.
#[derive(Debug, Default)]
pub struct Strays {
    pub jobs: Vec<u32>,
    /// There are more, whose jobs still have a directory under a `base_path`. That one is deleted first, with the epilog.
    pub some_wait: bool,
}

/// The mark of `<base>/<name>`.
#[must_use]
pub fn mark_of(base: BorrowedFd<'_>, name: &str) -> Option<Mark> {
    let name = c_path(name).ok()?;
    Mark::of(open_beneath(base, &name, OFlags::PATH | OFlags::DIRECTORY, BENEATH).ok()?.as_fd())
}

/// Does `<base>/<name>` have a mark of an earlier boot of this node?
#[must_use]
pub fn is_stray(base: BorrowedFd<'_>, name: &str, node: &str) -> bool {
    let boot = BootId::current().ok();
    boot.zip(mark_of(base, name)).is_some_and(|(boot, mark)| mark.is_of_earlier_boot(boot, node))
}

/// Has a power cut destroyed the state file of `<base>/<name>`? An empty state file does not say which node it is from, so
/// it counts only on a file system that no other node has.
#[must_use]
pub fn is_lost(base: BorrowedFd<'_>, name: &str, node: &str) -> bool {
    is_stray(base, name, node) || (is_local(base) && job::is_lost(base, name, job::boot_time()))
}

/// Finds them in `path`. The state files of the node's jobs are under `bases`.
///
/// # Errors
///
/// When `path` cannot be listed. One that is not there has none.
pub fn find(path: &str, node: &str, bases: &[String]) -> Result<Strays, Error> {
    let mut strays = Strays::default();
    let Some(base) = open_base_if_there(path)? else { return Ok(strays) };
    visit(base.as_fd(), path, |name| {
        if let Some(job) = job_id(name)
            && is_stray(base.as_fd(), name, node)
        {
            let is_gone =
                |main: &String| matches!(rustix::fs::lstat(format!("{main}/{name}").as_str()), Err(Errno::NOENT));
            if bases.iter().all(is_gone) {
                strays.jobs.push(job);
            } else {
                strays.some_wait = true;
            }
        }
        true
    })?;
    Ok(strays)
}

/// Moves `<base>/<name>` into the trash if its state file is lost. False: it is not there, or its state file is not
/// lost.
///
/// # Errors
///
/// When it cannot be moved, or another process does so for long.
pub(crate) fn move_away(base: BorrowedFd<'_>, base_path: &str, name: &str, node: &str) -> Result<bool, Error> {
    let intention = || format!("move {base_path}/{name} to .trash");
    let name_c = c_path(name)?;
    let dir = match open_beneath(base, &name_c, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH) {
        Err(Errno::NOENT) => return Ok(false),
        result => result.doing("openat2", intention)?,
    };
    // Only one process moves it. After that, a new job may have a directory of the same name.
    let mut pauses = 0..PAUSES;
    while let Err(errno) = trash::lock(dir.as_fd()) {
        if errno != Errno::WOULDBLOCK || pauses.next().is_none() {
            return Err(Error::call(intention(), "flock", errno));
        }
        std::thread::sleep(PAUSE);
    }
    let inode = rustix::fs::fstat(&dir).doing("fstat", intention)?.st_ino;
    match rustix::fs::statat(base, &name_c, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if stat.st_ino == inode => {}
        _ => return Ok(false),
    }
    if !is_lost(base, name, node) {
        return Ok(false);
    }
    // Its user is not known either.
    move_to_trash(base, base_path, &name_c, 0).map(|_| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{DirBuilder, create_dir, read_dir};
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};

    #[test]
    fn what_a_power_cut_left_elsewhere_is_found_by_its_mark_and_nothing_else_is() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name).display().to_string();
        for dir in ["main", "other"] {
            DirBuilder::new().mode(0o711).create(path(dir)).unwrap();
        }
        let mark = |name: &str, inode: u64, node: &str, boot: &str| {
            symlink(format!("slurm-jobns 1 {inode} {boot} {node}"), path(&format!("other/{name}/.job"))).unwrap();
        };
        let make = |name: &str| {
            DirBuilder::new().mode(0o700).create(path(&format!("other/{name}"))).unwrap();
            std::fs::metadata(path(&format!("other/{name}"))).unwrap().ino()
        };
        let earlier = "00000000-0000-4000-8000-000000000000";
        let today = String::from_utf8(BootId::current().unwrap().as_bytes().to_vec()).unwrap();
        for (name, node, boot) in
            [("7", "n1", earlier), ("8", "n2", earlier), ("9", "n1", &today), ("010", "n1", earlier)]
        {
            mark(name, make(name), node, boot);
        }
        mark("11", make("11") + 1, "n1", earlier);
        make("12");
        let bases = [path("main")];
        let find = || find(&path("other"), "n1", &bases).unwrap();
        // Its state file is elsewhere, and may be whole.
        create_dir(path("main/7")).unwrap();
        assert_eq!((find().jobs, find().some_wait), (vec![], true));
        std::fs::remove_dir(path("main/7")).unwrap();
        assert_eq!((find().jobs, find().some_wait), (vec![7], false));
        let base = crate::base::base_dir::open_base(&path("other")).unwrap();
        let moved = |name: &str| move_away(base.as_fd(), &path("other"), name, "n1").unwrap();
        for name in ["8", "9", "11", "12", "13"] {
            assert!(!moved(name), "{name}");
        }
        assert!(moved("7") && !moved("7"));
        let mut left: Vec<_> =
            read_dir(path("other")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, [".trash", "010", "11", "12", "8", "9"]);
    }
}

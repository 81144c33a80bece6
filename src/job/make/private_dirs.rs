//! Makes a job's private directories: detached mounts with their final flags.
//!
//! The parent makes them before the clone. The child only attaches them.

use crate::base::base_dir::make_private_dir;
use crate::base::error::{Doing, Error, Named, TryingTo};
use crate::base::log::Log;
use crate::base::trusted_path::{BENEATH, c_path, open_beneath};
use crate::config::settings::MountFlags;
use crate::config::spelling::key;
use crate::job::Job;
use crate::job::make::child::Target;
use crate::job::make::job_dir::JobDir;
use crate::job::make::keep;
use crate::job::make::plan::{Plan, PlannedDir, Source, attributes, nearest};
use crate::job::record::project;
use crate::sys::mount::set_attributes;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, OpenTreeFlags};

/// Makes a detached mount for every private directory and every path of `keep`, with its final flags, and returns it with
/// its target; None for a path that is not kept. `source` is `$SLURM_JOB_MOUNTPOINT_SRC`, `project` its project, `others`
/// are the job's directories in other bases. `after_script`: init_script may have made some directories itself.
pub(super) fn make(
    plan: &Plan,
    job: &Job,
    (source, project, others): (&OwnedFd, u32, &[JobDir]),
    after_script: bool,
    log: &dyn Log,
) -> Result<Vec<Option<(OwnedFd, Target)>>, Error> {
    let mut made: Vec<Made<'_>> = Vec::with_capacity(plan.dirs.len());
    for dir in &plan.dirs {
        let target = match nearest(&dir.target, made.iter().map(|made| (made.dir.target.as_str(), made))) {
            Some((outer, below)) => Target::Within(make_target(dir, below, job, outer)?),
            None => Target::Path(c_path(&dir.target)?),
        };
        let same = made.iter().find(|made| made.dir.source == dir.source);
        let (mount, tree, is_ours) =
            match (&dir.source, same.and_then(|same| Some((same.tree.as_ref()?, same.is_ours)))) {
                (Source::Directory { .. }, Some((tree, is_ours))) => (clone_mount(tree, dir)?, None, is_ours),
                (Source::Directory { base, name }, None) => {
                    let other = others.iter().find(|other| other.record.base == *base);
                    let (parent, project) = other.map_or((source, project), |dir| (&dir.fd, dir.record.project));
                    let path = format!("{base}/{}/{name}", job.header.id);
                    let (tree, is_ours) = directory(parent.as_fd(), name, job, after_script, (dir, &path))?;
                    check_project(&tree, project, &path)?;
                    (clone_mount(&tree, dir)?, Some(tree), is_ours)
                }
                (Source::Tmpfs(_), _) => (make_tmpfs(dir)?, None, true),
            };
        made.push(Made { dir, mount, target, tree, is_ours });
    }
    let mut keep = Vec::with_capacity(plan.keep.len());
    for planned in &plan.keep {
        let outers = made.iter().map(|made| (made.dir.target.as_str(), made));
        let kept = match nearest(&planned.kept.path, outers) {
            Some((outer, below)) => {
                keep::keep((log, job), planned, (&outer.dir.target, below), (outer.mount.as_fd(), outer.is_ours))?
            }
            None => None,
        };
        keep.push(kept.map(|(mount, target)| (mount, Target::Within(target))));
    }
    // Only after the targets in it are made, since it may become read-only.
    for Made { dir, mount, .. } in &made {
        let (set, clear) = attributes(dir.flags);
        set_attributes(mount.as_fd(), set, clear)
            .doing("mount_setattr", || format!("set the flags of the private directory {}", dir.target))?;
    }
    Ok(made.into_iter().map(|Made { mount, target, .. }| Some((mount, target))).chain(keep).collect())
}

struct Made<'a> {
    dir: &'a PlannedDir,
    mount: OwnedFd,
    target: Target,
    /// The directory below a base path, if it is in one.
    tree: Option<OwnedFd>,
    /// The plugin made it, so no user had access to it.
    is_ours: bool,
}

/// Makes the target of `dir`, `below` another private directory, which hides the node's own. All of it belongs
/// to the job's user, like the outer directory.
fn make_target(dir: &PlannedDir, below: &str, job: &Job, outer: &Made<'_>) -> Result<OwnedFd, Error> {
    let intention = || format!("make {below} for {} in the private directory around it", dir.target);
    let level = |parent: BorrowedFd<'_>, name: &str| {
        let name = c_path(name)?;
        // init_script may have mounted a directory there that its user can access at this moment.
        if outer.is_ours {
            match make_private_dir(parent, &name) {
                // It was made for another directory below the same one.
                Err(failed) if failed.errno == Errno::EXIST => {}
                made => give(&made.trying_to(intention)?, job, (job.header.uid, true), intention)?,
            }
        }
        open_beneath(parent, &name, OFlags::PATH | OFlags::DIRECTORY, BENEATH).map_err(|errno| {
            let error = Error::call(intention(), "openat2", errno);
            match errno {
                Errno::NOENT => error.with_hint(format!(
                    "{} has made the directory around it and must make this one as well",
                    key("init_script")
                )),
                _ => error,
            }
        })
    };
    let mut names = below.split('/');
    let first = level(outer.mount.as_fd(), names.next().unwrap_or_default())?;
    names.try_fold(first, |here, name| level(here.as_fd(), name))
}

/// Makes the directory of the job below a base path. Also returns whether it is new.
fn directory(
    parent: BorrowedFd<'_>,
    name: &str,
    job: &Job,
    after_script: bool,
    (dir, path): (&PlannedDir, &str),
) -> Result<(OwnedFd, bool), Error> {
    let intention = || format!("make {path} for {}", dir.target);
    let name = c_path(name)?;
    let (fd, is_new) = match make_private_dir(parent, &name) {
        // init_script may have made it, or mounted something there.
        Err(failed) if failed.errno == Errno::EXIST && after_script => {
            let resolve = BENEATH.difference(rustix::fs::ResolveFlags::NO_XDEV);
            (open_beneath(parent, &name, OFlags::RDONLY | OFlags::DIRECTORY, resolve).named("openat2"), false)
        }
        result => (result, true),
    };
    let fd = fd.trying_to(intention)?;
    let owner = if dir.owned_by_root { 0 } else { job.header.uid };
    give(&fd, job, (owner, is_new), intention)?;
    if let Some(mode) = dir.mode {
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).doing("fchmod", intention)?;
    }
    Ok((fd, is_new))
}

/// Is what will be in it limited? init_script may have mounted something around it.
fn check_project(tree: &OwnedFd, project: u32, path: &str) -> Result<(), Error> {
    if project == 0 || project::inherited(tree.as_fd()) == Ok(Some(project)) {
        return Ok(());
    }
    Err(Error::because(format!("limit the size of {path}"), "it is not in the project of the job").with_hint(
        "init_script has mounted something there, or has set another project: leave that, or the size, to one of the two",
    ))
}

/// Gives a directory to root or to the job's user. A script may have mounted a directory around it that users can write
/// to, and one of them may have replaced it with a directory of someone else.
fn give(
    dir: &OwnedFd,
    job: &Job,
    (new_owner, is_new): (u32, bool),
    intention: impl Fn() -> String,
) -> Result<(), Error> {
    let owner = rustix::fs::fstat(dir).doing("fstat", &intention)?.st_uid;
    if owner != rustix::process::geteuid().as_raw() && (is_new || owner != job.header.uid) {
        return Err(Error::because(intention(), format!("the directory there belongs to uid {owner}"))
            .with_hint("it must belong to root or to the job's user: check what init_script makes or mounts there"));
    }
    rustix::fs::fchown(dir, Some(Uid::from_raw(new_owner)), None).doing("fchown", intention)
}

/// A clone of the mount that contains the directory, with the directory as its root.
fn clone_mount(tree: &OwnedFd, dir: &PlannedDir) -> Result<OwnedFd, Error> {
    rustix::mount::open_tree(
        tree.as_fd(),
        c"",
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH,
    )
    .doing("open_tree", || format!("clone the mount of the private directory {}", dir.target))
}

/// A fresh, detached tmpfs with its parameters. It is writable until it gets its flags.
pub fn make_tmpfs(dir: &PlannedDir) -> Result<OwnedFd, Error> {
    let intention = || format!("make a tmpfs for {}", dir.target);
    let fs = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).doing("fsopen", intention)?;
    let set = |key: &str, value: Option<&str>| {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(fs.as_fd(), key, value),
            None => rustix::mount::fsconfig_set_flag(fs.as_fd(), key),
        }
        .doing("fsconfig", || {
            let value = value.map_or_else(String::new, |value| format!("={value}"));
            format!("set {key}{value} for the tmpfs on {}", dir.target)
        })
        .map_err(|error| match error.errno() {
            Some(Errno::INVAL) => {
                error.with_hint("this kernel does not know the parameter or its value: remove it from the options")
            }
            _ => error,
        })
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
        // The default (tmpfs(5)), which programs expect of /dev/shm.
        set("mode", Some(&format!("{:o}", dir.mode.unwrap_or(if dir.owned_by_root { 0o1777 } else { 0o700 }))))?;
    }
    rustix::mount::fsconfig_create(fs.as_fd()).doing("fsconfig(CREATE)", intention)?;
    let (attributes, _) = attributes(MountFlags { read_only: false, ..dir.flags });
    rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).doing("fsmount", intention)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::record::state::Header;

    #[test]
    #[ignore = "needs root"]
    fn a_directory_of_somebody_else_is_not_given_away() {
        let top = tempfile::tempdir().unwrap();
        let dir = rustix::fs::open(top.path(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let job = Job {
            header: Header { id: 7, sluid: 0, uid: 1000, gid: 1000, user: "alice".into(), node: "n1".into() },
            sluid_text: String::new(),
            environment: crate::job::script::Environment::default(),
            has: crate::config::size::JobHas::default(),
            slurm_conf: None,
            boot: crate::job::record::process::BootId::current().unwrap(),
        };
        let give = |is_new| give(&dir, &job, (1000, is_new), || "make it".to_owned());
        give(true).unwrap();
        assert_eq!(rustix::fs::fstat(&dir).unwrap().st_uid, 1000);
        give(false).unwrap();
        assert!(give(true).is_err(), "a new one is root's");
        rustix::fs::fchown(&dir, Some(Uid::from_raw(1001)), None).unwrap();
        assert!(give(false).unwrap_err().to_string().contains("belongs to uid 1001"));
        assert_eq!(rustix::fs::fstat(&dir).unwrap().st_uid, 1001);
    }
}

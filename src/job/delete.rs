//! Ends a job's namespaces and removes its directories.
//!
//! In this order: end the holder, run the epilog while the mount namespace is still pinned, let go of
//! the pins, then move all directories into `.trash`, so that the job id is free at once, and remove
//! them there. Every step may be done twice.

use super::error::{Doing, Error};
use super::pins::Pins;
pub use super::record::{Record, TreeRecord};
use super::remove_tree::Summary;
use super::sources::{make_private_dir, open_base};
use super::trash::{move_to_trash, remove_moved};
use super::trusted::{BENEATH, open_beneath};
use super::{Host, Job, Level, Milliseconds, plan, record, script};
use crate::config::{Script, Settings};
use crate::sys::process::{reap, wait_ended};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

/// How long a killed holder, and with it every process of its PID namespace, may take to end. One
/// in uninterruptible sleep (a dead file server) can take for ever.
pub const HOLDER_TIMEOUT_MS: u32 = 30_000;

/// Begins the name of a job's directory until its state file is written.
pub const UNFINISHED: &str = ".new.";

/// The variables of the epilog, besides `SLURM_NS`: of a job that ran no more is known.
const OF_EPILOG: [&str; 6] =
    ["SLURM_JOB_ID", "SLURM_CONF", "SLURMD_NODENAME", "SLURM_JOB_UID", "SLURM_JOB_GID", "SLURM_JOB_USER"];

fn of_epilog<'a>(environment: &'a [(&'static str, Vec<u8>)]) -> Vec<(&'a str, &'a [u8])> {
    environment.iter().filter(|(name, _)| OF_EPILOG.contains(name)).map(|(n, v)| (*n, v.as_slice())).collect()
}

/// What the record of a job says to the epilog.
#[must_use]
pub fn of_record(record: &Record) -> [(&'static str, Vec<u8>); 4] {
    [
        ("SLURM_JOB_ID", record.job.to_string().into_bytes()),
        ("SLURM_JOB_UID", record.uid.to_string().into_bytes()),
        ("SLURM_JOB_GID", record.gid.to_string().into_bytes()),
        ("SLURM_JOB_USER", record.user.clone().into_bytes()),
    ]
}

/// When the files of a deleted job are removed. Its directories are gone from their place at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Before `delete` returns.
    Now,
    /// As far as that goes before this moment; the rest by whoever empties the trash next.
    Until(Instant),
    /// By whoever empties the trash next.
    Later,
}

impl Removal {
    /// What the settings want at the end of a job.
    #[must_use]
    pub fn at_end_of_job(settings: &Settings) -> Self {
        match settings.removal_timeout {
            None => Self::Now,
            Some(0) => Self::Later,
            Some(seconds) => {
                Instant::now().checked_add(Duration::from_secs(seconds.into())).map_or(Self::Now, Self::Until)
            }
        }
    }
}

/// Deletes what `record` says. Goes on after an error, as far as that is safe, and logs each; true
/// when nothing is left.
pub fn delete(
    host: &dyn Host,
    record: &Record,
    epilog: Option<&Script>,
    environment: &[(&'static str, Vec<u8>)],
    pins: Option<Pins>,
    removal: Removal,
) -> bool {
    let job = record.job;
    let start = Instant::now();
    let mut removed = Summary::default();
    if let Err(error) = end_holder(record) {
        host.log(Level::Error, format_args!("job {job}: {error}; its files are kept until the next start of slurmd"));
        return false;
    }
    if let Some(epilog) = epilog {
        let ns = pins
            .as_ref()
            .map(|pins| format!("/proc/{}/fd/{}", rustix::process::getpid().as_raw_nonzero(), pins.mount.as_raw_fd()));
        let mut pairs = of_epilog(environment);
        match &ns {
            Some(ns) => {
                pairs.push(("SLURM_NS", ns.as_bytes()));
                if let Err(error) = lead_to_pin(record, ns) {
                    host.log(
                        Level::Warning,
                        format_args!("job {job}: {error}; .ns/mnt leads nowhere in clone_ns_epilog"),
                    );
                }
            }
            None => host.log(
                Level::Info,
                format_args!("job {job}: its mount namespace is gone; clone_ns_epilog runs without SLURM_NS"),
            ),
        }
        match script::run("clone_ns_epilog", epilog, plan::environment(&pairs)) {
            Ok(output) => host.log(Level::Debug, format_args!("job {job}: clone_ns_epilog succeeded: {output}")),
            Err(error) => host.log(Level::Error, format_args!("job {job}: {error}")),
        }
    }
    drop(pins);
    let mut complete = true;
    // The directory with the state file last, and not while another is in its place: until then it says
    // what else there is.
    let mut moved = Vec::new();
    for (index, tree) in record.trees.iter().enumerate().rev() {
        if index == 0 && !complete {
            host.log(
                Level::Error,
                format_args!(
                    "job {job}: {}/{job} is kept until the next start of slurmd, which tries again",
                    tree.base
                ),
            );
            break;
        }
        match set_aside(record, tree, index == 0) {
            Ok(None) => {}
            Ok(Some(place)) => moved.push((&tree.base, place)),
            Err(error) => {
                complete = false;
                host.log(Level::Error, format_args!("job {job}: {error}"));
            }
        }
    }
    for (base, place) in &moved {
        let Some(summary) = remove_moved(place, removal) else { continue };
        removed.add(&summary);
        if summary.complete() {
            host.log(Level::Debug, format_args!("job {job}: {base}/{job}: {summary}"));
        } else if summary.out_of_time && summary.failed == 0 && summary.mounts == 0 {
            host.log(
                Level::Info,
                format_args!(
                    "job {job}: {base}/{job}: {summary}; the rest is in {base}/.trash and removed in the background"
                ),
            );
        } else {
            complete = false;
            host.log(Level::Error, format_args!("job {job}: {base}/{job}: {summary}; the rest is in {base}/.trash and tried again at the next start of slurmd"));
        }
    }
    let ms = Milliseconds(start.elapsed());
    host.log(
        Level::Info,
        format_args!(
            "job {job}: deleted: files={} directories={} left={} uid={} ms={ms}",
            removed.files,
            removed.directories,
            if complete && removed.complete() { "none" } else { "some" },
            record.uid
        ),
    );
    complete
}

/// For clone_ns_epilog, `.ns/mnt` leads to what still keeps the mount namespace: the holder has ended.
fn lead_to_pin(record: &Record, pin: &str) -> Result<(), Error> {
    let Some(tree) = record.trees.first() else { return Ok(()) };
    let intention = || format!("make {}/{}/.ns/mnt", tree.base, record.job);
    let ns = CString::new(format!("{}/.ns", record.job)).unwrap_or_default();
    let base = open_base(&tree.base)?;
    let ns = open_beneath(base.as_fd(), &ns, OFlags::PATH | OFlags::DIRECTORY, BENEATH).doing("openat2", intention)?;
    match rustix::fs::unlinkat(&ns, c"mnt", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(Error::call(intention(), "unlinkat", errno)),
    }
    rustix::fs::symlinkat(pin, &ns, c"mnt").doing("symlinkat", intention)
}

/// Kills the holder, and with it every process of its PID namespace, and waits for that.
fn end_holder(record: &Record) -> Result<(), Error> {
    let Some(holder) = record.holder else { return Ok(()) };
    let intention = || format!("end the process {} that holds the job's namespaces", holder.pid.as_raw_nonzero());
    let pidfd = match holder.open() {
        // Killed and reaped with the extern step, as usual.
        Err(Errno::SRCH) => return Ok(()),
        result => result.doing("pidfd_open", intention)?,
    };
    match rustix::process::pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(Error::call(intention(), "pidfd_send_signal", errno)),
    }
    if !wait_ended(pidfd.as_fd(), HOLDER_TIMEOUT_MS).doing("poll", intention)? {
        return Err(Error::because(
            intention(),
            format!("it did not end within {} seconds after SIGKILL", HOLDER_TIMEOUT_MS / 1000),
        )
        .with_hint("a process of the job may be waiting for a dead file server"));
    }
    // ECHILD: it is init's to reap, or somebody has.
    let _ = reap(pidfd.as_fd());
    Ok(())
}

/// Moves one recorded directory into the trash, the one with the state file if it `is_main`. None: it was gone
/// already.
fn set_aside(record: &Record, tree: &TreeRecord, is_main: bool) -> Result<Option<(OwnedFd, CString)>, Error> {
    let name = CString::new(record.job.to_string()).unwrap_or_default();
    let intention = || format!("remove {}/{}", tree.base, record.job);
    let base = match open_base(&tree.base) {
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(None),
        result => result?,
    };
    // Killed before it got its name; the main one would have no record then. One that is locked is
    // being made for another instance.
    let had_no_name = || {
        let unfinished = CString::new(format!("{UNFINISHED}{}", record.job)).unwrap_or_default();
        !is_main && remove_unfinished(base.as_fd(), &unfinished).is_ok()
    };
    if tree.inode == 0 {
        had_no_name();
        return Ok(None);
    }
    let dir = match open_beneath(base.as_fd(), &name, OFlags::PATH | OFlags::DIRECTORY, BENEATH) {
        Err(Errno::NOENT) => {
            had_no_name();
            return Ok(None);
        }
        Err(Errno::XDEV) => {
            return Err(Error::because(intention(), "something is mounted over it")
                .with_hint("unmount it; the next start of slurmd then removes it"));
        }
        result => result.doing("openat2", intention)?,
    };
    let stat = rustix::fs::fstat(&dir).doing("fstat", intention)?;
    if !record.is_at(tree, &stat) {
        if had_no_name() {
            return Ok(None);
        }
        return Err(Error::because(intention(), "it is not the directory that was made for the job; it is left alone"));
    }
    drop(dir);
    move_to_trash(base.as_fd(), &tree.base, &name).map(Some)
}

/// Makes way for a new job directory of the same number: the old one goes if it is ours and dead.
///
/// # Errors
///
/// When it is alive, or not provably ours.
pub(super) fn dispose_of_stale(host: &dyn Host, settings: &Settings, base: &OwnedFd, job: &Job) -> Result<(), Error> {
    let intention = || format!("make {}/{}", settings.base_path, job.id);
    let found = record::read(base.as_fd(), &settings.base_path, &job.id.to_string()).map_err(|why| {
        Error::because(intention(), format!("it exists: {why}"))
            .with_hint("look at it, and move it away if nobody needs it")
    })?;
    if found.record.node != job.node {
        return Err(Error::because(intention(), format!("it belongs to node {}", found.record.node))
            .with_hint("base_path must be unique to each node: use %n in it"));
    }
    if found.has_live_process(job.boot) {
        return Err(Error::because(intention(), "another instance of this job still lives on this node"));
    }
    host.log(Level::Info, format_args!("job {}: removing the directory of an earlier instance", job.id));
    // What cannot be removed is logged, and out of the way in the trash.
    let mut environment = job.environment.clone();
    environment.retain(|(name, _)| matches!(*name, "SLURM_CONF" | "SLURMD_NODENAME"));
    environment.extend(of_record(&found.record));
    let removal = Removal::at_end_of_job(settings);
    delete(host, &found.record, settings.clone_ns_epilog.as_ref(), &environment, None, removal);
    Ok(())
}

/// Makes a job directory that has no name yet.
///
/// # Errors
///
/// EWOULDBLOCK: another that is being made has it.
pub(super) fn make_unfinished(base: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let tree = match make_private_dir(base, name, 0o700) {
        // One was killed here before.
        Err(Errno::EXIST) => remove_unfinished(base, name).and_then(|()| make_private_dir(base, name, 0o700)),
        result => result,
    }?;
    // For as long as we live nobody takes it for left over. Where the filesystem has no such locks,
    // nobody can get one to remove it either.
    let _ = rustix::fs::flock(&tree, FlockOperation::LockExclusive);
    Ok(tree)
}

/// Removes a job directory that has no name yet: in `base`, `name` begins with [`UNFINISHED`].
///
/// # Errors
///
/// When it is still there: EWOULDBLOCK if its maker lives (the lock of [`begin`](super::create)).
pub(super) fn remove_unfinished(base: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let tree = open_beneath(base, name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH)?;
    rustix::fs::flock(&tree, FlockOperation::NonBlockingLockExclusive)?;
    for (file, flags) in [(c".ns/state", AtFlags::empty()), (c".ns", AtFlags::REMOVEDIR)] {
        let _ = rustix::fs::unlinkat(&tree, file, flags);
    }
    rustix::fs::unlinkat(base, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epilog_of_a_job_that_was_given_up_has_no_more_variables_than_others() {
        let environment = [("SLURM_JOB_ID", b"7".to_vec()), ("SLURM_JOB_MEM", b"1".to_vec())];
        assert_eq!(of_epilog(&environment), [("SLURM_JOB_ID", &b"7"[..])]);
    }
}

//! Finds the directories of jobs that are gone and deletes them. Runs when slurmd starts, possibly
//! with jobs running.
//!
//! In doubt a directory stays. A job is dead only on proof: its state file is of an earlier boot; or
//! the list of live slurmstepds could be read, has none of this job, and the slurmstepd that made the
//! directory (which removes it itself after its socket is gone) has ended.

use super::delete::{Removal, delete, open_trash};
use super::error::{Doing, Error};
use super::identity::BootId;
use super::pins::Pins;
use super::record::{self, Found, Record};
use super::remove_tree::remove_tree;
use super::sources::open_base;
use super::sweep;
use super::{Host, Level, LiveJobs};
use crate::config::{Backing, Settings};
use crate::sys::clone::NamespaceFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::CString;
use std::mem::MaybeUninit;

/// What is to be done with one entry of `base_path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Dead,
    Alive,
    /// Another slurmd's.
    Foreign,
    /// It cannot be told.
    InDoubt,
}

/// What is known about a job whose directory was found.
#[derive(Clone, Copy, Debug)]
struct Facts {
    same_node: bool,
    same_boot: bool,
    stepd_alive: bool,
    /// A slurmstepd of the job answers; None when the list could not be read.
    step_alive: Option<bool>,
}

const fn verdict(facts: Facts) -> Verdict {
    match facts {
        Facts { same_node: false, .. } => Verdict::Foreign,
        Facts { same_boot: false, .. } => Verdict::Dead,
        Facts { stepd_alive: true, .. } | Facts { step_alive: Some(true), .. } => Verdict::Alive,
        Facts { step_alive: None, .. } => Verdict::InDoubt,
        Facts { step_alive: Some(false), .. } => Verdict::Dead,
    }
}

/// Deletes what dead jobs left on this node.
///
/// # Errors
///
/// When `base_path` itself cannot be read.
pub fn restore(
    host: &dyn Host,
    settings: &Settings,
    node: &str,
    live: Result<LiveJobs, Error>,
    environment: &[(&'static str, Vec<u8>)],
    removal: Removal,
) -> Result<(), Error> {
    let boot = BootId::current().doing("read", || "read the boot id".to_owned())?;
    let live =
        live.inspect_err(|error| host.log(Level::Error, format_args!("{error}; no job directory is removed now"))).ok();
    let base = open_base(&settings.base_path)?;
    for name in names(base.as_fd(), &settings.base_path)? {
        if !is_job_id(&name) {
            continue;
        }
        let found = match record::read(base.as_fd(), &settings.base_path, &name) {
            Ok(found) => found,
            Err(error) => {
                host.log(Level::Warning, format_args!("{error}; it is left alone"));
                continue;
            }
        };
        let job = found.record.job;
        let facts = Facts {
            same_node: found.record.node == node,
            same_boot: found.is_of(boot),
            stepd_alive: found.is_of(boot) && found.stepd.is_alive(),
            step_alive: live.as_ref().map(|live| live.0.contains(&job)),
        };
        match verdict(facts) {
            Verdict::Alive => host.log(Level::Debug, format_args!("job {job}: lives on")),
            Verdict::Foreign => host.log(
                Level::Warning,
                format_args!(
                    "job {job}: {}/{name} belongs to node {}; it is left alone",
                    settings.base_path, found.record.node
                ),
            ),
            Verdict::InDoubt => host.log(
                Level::Warning,
                format_args!("job {job}: it cannot be told whether it lives; its directory is kept"),
            ),
            Verdict::Dead => delete_dead(host, settings, &found, boot, environment, removal),
        }
    }
    let others = settings.dirs.iter().filter_map(|dir| match &dir.backing {
        Backing::OtherBase(path) => Some(path),
        _ => None,
    });
    let bases = std::iter::once(&settings.base_path).chain(others);
    let trash: Vec<OwnedFd> = bases.filter_map(|base| trash_to_empty(host, base)).collect();
    if trash.is_empty() {
        return Ok(());
    }
    match removal {
        Removal::Later => sweep::start(&trash),
        Removal::Now => trash.iter().try_for_each(|trash| empty(host, trash)),
    }
}

/// Removes what is in a trash, and waits for it.
fn empty(host: &dyn Host, trash: &OwnedFd) -> Result<(), Error> {
    for name in names(trash.as_fd(), ".trash")? {
        let summary = remove_tree(trash.as_fd(), &CString::new(name.as_str()).unwrap_or_default());
        let level = if summary.complete() { Level::Info } else { Level::Error };
        host.log(level, format_args!(".trash/{name}: {summary}"));
    }
    Ok(())
}

fn delete_dead(
    host: &dyn Host,
    settings: &Settings,
    found: &Found,
    boot: BootId,
    environment: &[(&'static str, Vec<u8>)],
    removal: Removal,
) {
    let record = &found.record;
    host.log(
        Level::Info,
        format_args!("job {}: no slurmstepd of it is left; deleting its namespaces and directories", record.job),
    );
    let pins = record.holder.filter(|_| found.is_of(boot)).and_then(|holder| {
        // Open while the number is known to be the holder's.
        let pidfd = holder.open().ok()?;
        let pins = Pins::open(&holder.pid.as_raw_nonzero().to_string(), record.namespaces).ok()?;
        (!crate::sys::process::has_ended(pidfd.as_fd()).ok()?).then_some(pins)
    });
    if let Some(pins) = &pins {
        kill_members(host, record, pins.mount.as_fd());
    }
    let job_id = record.job.to_string().into_bytes();
    let mut pairs = vec![
        ("SLURM_JOB_ID", job_id),
        ("SLURM_JOB_UID", record.uid.to_string().into_bytes()),
        ("SLURM_JOB_GID", record.gid.to_string().into_bytes()),
        ("SLURM_JOB_USER", record.user.clone().into_bytes()),
    ];
    pairs.extend_from_slice(environment);
    delete(host, record, settings.clone_ns_epilog.as_ref(), &pairs, pins, removal);
}

/// Kills every process in the job's mount namespace, `members_of`. With a PID namespace there is no
/// need to: they all end with its PID 1, the holder.
pub(crate) fn kill_members(host: &dyn Host, record: &Record, members_of: BorrowedFd<'_>) {
    if record.namespaces.contains(NamespaceFlags::PID) {
        return;
    }
    let (Ok(theirs), Ok(ours)) = (rustix::fs::fstat(members_of), rustix::fs::stat(c"/proc/self/ns/mnt")) else {
        return;
    };
    let id = (theirs.st_dev, theirs.st_ino);
    if id == (ours.st_dev, ours.st_ino) {
        return;
    }
    let holder = record.holder.map(|holder| holder.pid.as_raw_nonzero().to_string());
    let is_member = |pid: &str| {
        if holder.as_deref() == Some(pid) {
            return false;
        }
        rustix::fs::stat(format!("/proc/{pid}/ns/mnt").as_str()).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == id)
    };
    let Ok(proc) =
        rustix::fs::openat(CWD, c"/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    else {
        return;
    };
    let mut killed = 0_u32;
    // One that forks while we look is found in the next round.
    for _ in 0..32 {
        let members: Vec<String> = names(proc.as_fd(), "/proc")
            .unwrap_or_default()
            .into_iter()
            .filter(|name| is_job_id(name) && is_member(name))
            .collect();
        if members.is_empty() {
            break;
        }
        for name in members {
            let Some(pid) = name.parse().ok().and_then(Pid::from_raw) else { continue };
            let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
            // Looked at again with the pidfd open: now the number means that process.
            if is_member(&name) && rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).is_ok() {
                killed += 1;
                let _ = crate::sys::process::wait_ended(pidfd.as_fd(), 1000);
            }
        }
    }
    if killed > 0 {
        host.log(Level::Info, format_args!("job {}: killed {killed} processes that it left", record.job));
    }
}

/// The trash of a base, if there is something in it.
fn trash_to_empty(host: &dyn Host, base_path: &str) -> Option<OwnedFd> {
    let open = || -> Result<(OwnedFd, usize), Error> {
        let trash = open_trash(open_base(base_path)?.as_fd(), base_path)?;
        let count = names(trash.as_fd(), base_path)?.len();
        Ok((trash, count))
    };
    match open() {
        Ok((_, 0)) => None,
        Ok((trash, count)) => {
            host.log(
                Level::Info,
                format_args!("{base_path}/.trash: {count} directories of former jobs are to be removed"),
            );
            Some(trash)
        }
        Err(error) => {
            host.log(Level::Error, format_args!("{error}"));
            None
        }
    }
}

/// The names in a directory that are text; ours all are.
pub(super) fn names(dir: BorrowedFd<'_>, path: &str) -> Result<Vec<String>, Error> {
    let dir = rustix::fs::openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing("openat", || format!("list {path}"))?;
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.doing("getdents64", || format!("list {path}"))?;
        if let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// A number as we write it: no sign, no leading zero. `007` is somebody else's directory.
fn is_job_id(name: &str) -> bool {
    name.parse::<u32>().is_ok_and(|number| number.to_string() == name)
}

/// True when nothing lives in `base_path` any more but an empty trash, which is removed.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn remove_if_empty(base_path: &str) -> Result<bool, Error> {
    let base = open_base(base_path)?;
    let _ = rustix::fs::unlinkat(&base, super::delete::TRASH, AtFlags::REMOVEDIR);
    Ok(rustix::fs::unlinkat(CWD, base_path, AtFlags::REMOVEDIR).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_only_on_proof() {
        let live = Facts { same_node: true, same_boot: true, stepd_alive: true, step_alive: Some(true) };
        assert_eq!(verdict(live), Verdict::Alive);
        // Its socket is gone before it deletes its own directory.
        assert_eq!(verdict(Facts { step_alive: Some(false), ..live }), Verdict::Alive);
        // The extern slurmstepd was killed, a step lives.
        assert_eq!(verdict(Facts { stepd_alive: false, ..live }), Verdict::Alive);
        assert_eq!(verdict(Facts { stepd_alive: false, step_alive: None, ..live }), Verdict::InDoubt);
        assert_eq!(verdict(Facts { stepd_alive: false, step_alive: Some(false), ..live }), Verdict::Dead);
        assert_eq!(verdict(Facts { same_boot: false, step_alive: None, ..live }), Verdict::Dead);
        assert_eq!(verdict(Facts { same_node: false, same_boot: false, ..live }), Verdict::Foreign);
    }

    #[test]
    fn only_canonical_numbers_are_job_ids() {
        for yes in ["0", "7", "4294967295"] {
            assert!(is_job_id(yes));
        }
        for no in ["", "007", "+7", "-7", " 7", "7 ", "4294967296", "7a", ".trash", "0x7"] {
            assert!(!is_job_id(no), "{no}");
        }
    }
}

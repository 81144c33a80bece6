//! Finds the directories of jobs that are gone and deletes them. Runs when slurmd starts, possibly
//! with jobs running.
//!
//! In doubt a directory stays. A job is dead only on proof: its state file is of an earlier boot; or
//! the list of live slurmstepds could be read, has none of this job, and the slurmstepd that made the
//! directory (which removes it itself after its socket is gone) has ended.

use super::c_plugin::{self, Leftover};
use super::delete::{Removal, UNFINISHED, delete, of_record, remove_unfinished};
use super::error::{Doing, Error};
use super::identity::BootId;
use super::kill::kill_all;
use super::listing::{is_job_id, names};
use super::record::{self, Found, Record};
use super::remove_tree::remove_tree;
use super::sources::open_base;
use super::sweep;
use super::trash::{TRASH, entries, move_to_trash, open_trash, remove_moved};
use super::trusted::{BENEATH, open_beneath};
use super::{Host, Level, LiveJobs};
use crate::config::{Backing, Script, Settings};
use crate::sys::clone::NamespaceFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, OFlags};
use rustix::io::Errno;
use std::ffi::CString;

/// What is to be done with one job directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
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

/// A node, as restore needs to know it.
#[derive(Debug)]
pub struct Node<'a> {
    /// Slurm's name of it.
    pub name: &'a str,
    /// Where its job directories are, or were before the configuration was changed.
    pub bases: &'a [String],
    /// Other directories with a trash: those of `dir_confs`, and former ones.
    pub other_bases: Vec<&'a str>,
    pub epilog: Option<&'a Script>,
    /// Of the epilog, for every job.
    pub environment: &'a [(&'static str, Vec<u8>)],
    pub removal: Removal,
}

/// The bases of `settings` besides the main one.
#[must_use]
pub fn other_bases(settings: &Settings) -> Vec<&str> {
    let others = settings.dirs.iter().filter_map(|dir| match &dir.backing {
        Backing::OtherBase(path) => Some(path.as_str()),
        _ => None,
    });
    others.collect()
}

/// One directory under a base that is a job's, and what is to be done with it.
#[derive(Debug)]
pub struct Sight {
    pub verdict: Verdict,
    pub job: SightOf,
}

/// Whose job directory it is.
#[derive(Debug)]
pub enum SightOf {
    Ours(Box<Found>),
    /// Made by Slurm's own plugin.
    Slurms(Leftover),
    /// Ours; what it was is lost with a power cut ([`record::is_lost`]).
    Lost(u32),
}

/// What there is in `base`, an open base path, of the node's jobs. What is not provably a job's is
/// not among it, and said.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn look(
    host: &dyn Host,
    base: BorrowedFd<'_>,
    base_path: &str,
    node: &str,
    live: Option<&LiveJobs>,
) -> Result<Vec<Sight>, Error> {
    let boot = BootId::current().doing("read", || "read the boot id".to_owned())?;
    let mut sights = Vec::new();
    for name in names(base, base_path)? {
        if !is_job_id(&name) {
            continue;
        }
        if let Some(leftover) = c_plugin::recognise(base, &name) {
            let verdict = match live.map(|live| live.0.contains(&leftover.job)) {
                None => Verdict::InDoubt,
                Some(true) => Verdict::Alive,
                Some(false) => Verdict::Dead,
            };
            sights.push(Sight { verdict, job: SightOf::Slurms(leftover) });
            continue;
        }
        let found = match record::read(base, base_path, &name) {
            Ok(found) => found,
            Err(_) if record::is_lost(base, &name, record::boot_time()) => {
                let job = name.parse().unwrap_or_default();
                sights.push(Sight { verdict: Verdict::Dead, job: SightOf::Lost(job) });
                continue;
            }
            // It may be a job's: it could not be looked at.
            Err(error)
                if error.errno().is_some_and(|errno| !matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) =>
            {
                host.log(Level::Error, format_args!("{error}"));
                let job = name.parse().unwrap_or_default();
                sights.push(Sight { verdict: Verdict::InDoubt, job: SightOf::Lost(job) });
                continue;
            }
            Err(error) => {
                host.log(Level::Warning, format_args!("{error}; it is left alone"));
                continue;
            }
        };
        let verdict = verdict(Facts {
            same_node: found.record.node == node,
            same_boot: found.is_of(boot),
            stepd_alive: found.is_of(boot) && found.stepd.is_alive(),
            step_alive: live.map(|live| live.0.contains(&found.record.job)),
        });
        sights.push(Sight { verdict, job: SightOf::Ours(Box::new(found)) });
    }
    Ok(sights)
}

/// Deletes what dead jobs left on this node. Returns the bases that still have a job's directory, or
/// could not be looked at: one that is not there may be on a file system that is mounted later.
///
/// # Errors
///
/// When a base could not be looked at, or a trash cannot be emptied. Everything else was done.
pub fn restore(host: &dyn Host, node: &Node<'_>, live: Result<LiveJobs, Error>) -> (Vec<String>, Result<(), Error>) {
    let live =
        live.inspect_err(|error| host.log(Level::Error, format_args!("{error}; no job directory is removed now"))).ok();
    let mut in_use = Vec::new();
    let mut result = Ok(());
    let is_missing = |error: &Error| error.errno() == Some(Errno::NOENT);
    for path in node.bases {
        match one_base(host, node, path, live.as_ref()) {
            Ok(0) => {}
            Ok(_) => in_use.push(path.clone()),
            Err(error) => {
                in_use.push(path.clone());
                if !is_missing(&error) {
                    result = Err(error);
                }
            }
        }
    }
    (in_use, result.and(empty_trash(host, node)))
}

/// How many job directories stay in this base.
fn one_base(host: &dyn Host, node: &Node<'_>, path: &str, live: Option<&LiveJobs>) -> Result<usize, Error> {
    let base = open_base(path)?;
    if let Some(live) = live {
        remove_all_unfinished(host, base.as_fd(), path, live)?;
    }
    let mut stay = act(host, node, &base, path, look(host, base.as_fd(), path, node.name, live)?);
    // Where Slurm's plugin is built for several slurmds per host, its directories are one level below.
    let below = format!("{path}/{}", node.name);
    match open_base(&below) {
        Ok(base) => {
            let sights = look(host, base.as_fd(), &below, node.name, live)?;
            stay += act(host, node, &base, &below, sights);
        }
        Err(error) if error.errno() == Some(Errno::NOENT) => {}
        Err(error) => return Err(error),
    }
    Ok(stay)
}

/// Removes the directories of jobs that were killed while they were made, before they had a state file.
fn remove_all_unfinished(host: &dyn Host, base: BorrowedFd<'_>, path: &str, live: &LiveJobs) -> Result<(), Error> {
    for name in names(base, path)? {
        let job = name.strip_prefix(UNFINISHED).filter(|job| is_job_id(job)).and_then(|job| job.parse().ok());
        if job.is_none_or(|job| live.0.contains(&job)) {
            continue;
        }
        match remove_unfinished(base, &CString::new(name.as_str()).unwrap_or_default()) {
            Ok(()) => host.log(Level::Info, format_args!("removed {path}/{name}, whose maker was killed")),
            // Its maker lives.
            Err(Errno::WOULDBLOCK) => {}
            Err(errno) => {
                let error = Error::call(format!("remove {path}/{name}"), "unlinkat", errno);
                host.log(Level::Error, format_args!("{error}"));
            }
        }
    }
    Ok(())
}

/// Does what the verdicts say; returns how many directories stay.
fn act(host: &dyn Host, node: &Node<'_>, base: &OwnedFd, base_path: &str, sights: Vec<Sight>) -> usize {
    let mut stay = 0;
    for Sight { verdict, job } in sights {
        let id = job.id();
        stay += usize::from(verdict != Verdict::Dead);
        match (verdict, job) {
            (Verdict::Alive, _) => host.log(Level::Debug, format_args!("job {id}: lives on")),
            (Verdict::Foreign, SightOf::Ours(found)) => host.log(
                Level::Warning,
                format_args!("job {id}: {base_path}/{id} belongs to node {}; it is left alone", found.record.node),
            ),
            (Verdict::InDoubt | Verdict::Foreign, _) => host.log(
                Level::Warning,
                format_args!("job {id}: it cannot be told whether it lives; its directory is kept"),
            ),
            (Verdict::Dead, SightOf::Ours(found)) => stay += usize::from(!delete_dead(host, node, &found)),
            (Verdict::Dead, SightOf::Lost(_)) => {
                host.log(
                    Level::Info,
                    format_args!(
                        "job {id}: removing {base_path}/{id}, whose state file was lost when the node went down"
                    ),
                );
                let name = CString::new(id.to_string()).unwrap_or_default();
                match move_to_trash(base.as_fd(), base_path, &name) {
                    Ok(moved) => drop(remove_moved(&moved, node.removal)),
                    Err(error) => {
                        host.log(Level::Error, format_args!("job {id}: {error}"));
                        stay += 1;
                    }
                }
            }
            (Verdict::Dead, SightOf::Slurms(leftover)) => {
                host.log(
                    Level::Info,
                    format_args!("job {id}: removing {base_path}/{id}, which Slurm's own plugin has left"),
                );
                stay += usize::from(!leftover.remove(host, base.as_fd(), base_path, node.removal));
            }
        }
    }
    stay
}

impl SightOf {
    #[must_use]
    pub fn id(&self) -> u32 {
        match self {
            Self::Ours(found) => found.record.job,
            Self::Slurms(leftover) => leftover.job,
            Self::Lost(job) => *job,
        }
    }
}

/// Removes what is in the trash of every base.
fn empty_trash(host: &dyn Host, node: &Node<'_>) -> Result<(), Error> {
    let bases = node.bases.iter().map(String::as_str).chain(node.other_bases.iter().copied());
    let trash: Vec<OwnedFd> = bases.filter_map(|base| trash_to_empty(host, base)).collect();
    if trash.is_empty() {
        return Ok(());
    }
    match node.removal {
        Removal::Later => sweep::start(&trash),
        Removal::Now | Removal::Until(_) => trash.iter().try_for_each(|trash| empty(host, trash)),
    }
}

/// Starts the process that empties the trash, if the end of a job has left something there that none was
/// started for: `seen` has what was, and is brought up to date.
///
/// # Errors
///
/// When it cannot be started, or a base cannot be looked at; the others were.
pub fn sweep_what_is_left(settings: &Settings, seen: &mut Vec<TrashState>) -> Result<(), Error> {
    let bases = std::iter::once(settings.base_path.as_str()).chain(other_bases(settings));
    let mut trash = Vec::new();
    let mut result = Ok(());
    let mut look = |base: &str| {
        let fd = open_trash(open_base(base)?.as_fd(), base)?;
        if entries(fd.as_fd(), base)?.is_empty() {
            return Ok(());
        }
        let stat = rustix::fs::fstat(&fd).doing("fstat", || format!("look into {base}/.trash"))?;
        let state = TrashState { directory: (stat.st_dev, stat.st_ino), changed: (stat.st_mtime, stat.st_mtime_nsec) };
        // While it does not change, another would remove no more.
        if !seen.contains(&state) {
            trash.push((fd, state));
        }
        Ok(())
    };
    for base in bases {
        result = result.and(look(base));
    }
    if trash.is_empty() {
        return result;
    }
    let (fds, states): (Vec<OwnedFd>, Vec<TrashState>) = trash.into_iter().unzip();
    sweep::start(&fds)?;
    seen.retain(|old| states.iter().all(|new| new.directory != old.directory));
    seen.extend(states);
    result
}

/// A `.trash` as it was when a process was started for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrashState {
    /// Device and inode.
    directory: (u64, u64),
    /// Seconds and nanoseconds.
    changed: (i64, u64),
}

/// How many entries the trash of a base has. Makes none.
///
/// # Errors
///
/// When it cannot be looked at.
pub fn in_trash(base_path: &str) -> Result<usize, Error> {
    let base = match open_base(base_path) {
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(0),
        result => result?,
    };
    match open_beneath(base.as_fd(), TRASH, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH) {
        Err(Errno::NOENT) => Ok(0),
        result => {
            let trash = result.doing("openat2", || format!("look into {base_path}/.trash"))?;
            Ok(entries(trash.as_fd(), base_path)?.len())
        }
    }
}

/// Removes what is in a trash, and waits for it.
fn empty(host: &dyn Host, trash: &OwnedFd) -> Result<(), Error> {
    for name in entries(trash.as_fd(), "")? {
        let summary = remove_tree(trash.as_fd(), &CString::new(name.as_str()).unwrap_or_default(), None);
        let level = if summary.complete() { Level::Info } else { Level::Error };
        host.log(level, format_args!(".trash/{name}: {summary}"));
    }
    Ok(())
}

/// True when nothing is left in its place.
fn delete_dead(host: &dyn Host, node: &Node<'_>, found: &Found) -> bool {
    let record = &found.record;
    host.log(
        Level::Info,
        format_args!("job {}: no slurmstepd of it is left; deleting its namespaces and directories", record.job),
    );
    let of_this_boot = BootId::current().is_ok_and(|boot| found.is_of(boot));
    let pins = of_this_boot.then(|| found.pins().ok()).flatten();
    if let Some(pins) = &pins {
        kill_members(host, record, pins.mount.as_fd());
    }
    let pairs = [of_record(record).as_slice(), node.environment].concat();
    delete(host, record, node.epilog, &pairs, pins, node.removal)
}

/// Kills every process in the job's mount namespace, `members_of`. With a PID namespace there is no
/// need to: they all end with its PID 1, the holder.
pub(crate) fn kill_members(host: &dyn Host, record: &Record, members_of: BorrowedFd<'_>) {
    if !record.namespaces.contains(NamespaceFlags::PID) {
        kill_all(host, record.job, members_of, record.holder.map(|holder| holder.pid));
    }
}

/// The trash of a base, if there is something in it.
fn trash_to_empty(host: &dyn Host, base_path: &str) -> Option<OwnedFd> {
    let open = || -> Result<(OwnedFd, usize), Error> {
        let trash = open_trash(open_base(base_path)?.as_fd(), base_path)?;
        let count = entries(trash.as_fd(), base_path)?.len();
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
        Err(error) if error.errno() == Some(Errno::NOENT) => None,
        Err(error) => {
            host.log(Level::Error, format_args!("{error}"));
            None
        }
    }
}

/// True when nothing lives in `base_path` any more but an empty trash, which is removed.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn remove_if_empty(base_path: &str) -> Result<bool, Error> {
    let base = open_base(base_path)?;
    let _ = rustix::fs::unlinkat(&base, TRASH, AtFlags::REMOVEDIR);
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
}

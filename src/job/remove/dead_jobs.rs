//! Finds the directories of jobs that are gone and deletes them, possibly with jobs running. The removal program and
//! `jobns` do that; slurmd only looks which base paths have jobs.
//!
//! In doubt a directory stays. A job is dead only on proof: its state file is of an earlier boot; or
//! the list of live slurmstepds could be read, has none of this job, and the slurmstepd that made the
//! directory (which removes it itself after its socket is gone) has ended.

use crate::base::base_dir::open_base;
use crate::base::base_dir::{UNFINISHED, remove_unfinished};
use crate::base::error::{Doing, Error, FailedCall};
use crate::base::listing::{is_job_id, names};
use crate::base::log::{Level, Log};
use crate::base::trusted_path::{BENEATH, open_beneath};
use crate::config::settings::{Backing, Settings};
use crate::job::LiveJobs;
use crate::job::record::job;
use crate::job::record::job::{Found, Record};
use crate::job::record::process::BootId;
use crate::job::remove::delete::{Epilog, Left, Removal, delete, lock_job, remove_locked};
use crate::job::remove::mounts;
use crate::job::remove::slurms_leftovers;
use crate::job::remove::slurms_leftovers::Leftover;
use crate::job::remove::trash::{TRASH, entries, has_some, move_to_trash, open_trash};
use crate::job::remove::tree::Terms;
use core::fmt;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, OFlags};
use rustix::io::Errno;
use std::cell::OnceCell;
use std::ffi::CString;
use std::time::Duration;

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
    /// The slurmstepd that made it has marked it as dead.
    is_marked: bool,
    stepd_alive: bool,
    /// A slurmstepd of the job answers; None when the list could not be read.
    step_alive: Option<bool>,
}

const fn verdict(facts: Facts) -> Verdict {
    match facts {
        Facts { same_node: false, .. } => Verdict::Foreign,
        Facts { same_boot: false, .. } | Facts { is_marked: true, .. } => Verdict::Dead,
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
    pub epilog: Option<Epilog<'a>>,
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

/// The jobs that have a slurmstepd that answers, asked for only where it matters: each of them is connected to.
pub struct Live<'a> {
    ask: &'a dyn Fn() -> Option<LiveJobs>,
    known: OnceCell<Option<LiveJobs>>,
}

impl<'a> Live<'a> {
    #[must_use]
    pub const fn new(ask: &'a dyn Fn() -> Option<LiveJobs>) -> Self {
        Self { ask, known: OnceCell::new() }
    }

    /// None: it cannot be told.
    fn contains(&self, job: u32) -> Option<bool> {
        Some(self.known()?.0.contains(&job))
    }

    fn known(&self) -> Option<&LiveJobs> {
        self.known.get_or_init(self.ask).as_ref()
    }
}

impl fmt::Debug for Live<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("known", &self.known).finish_non_exhaustive()
    }
}

/// One directory under a base that is a job's, and what is to be done with it.
#[derive(Debug)]
pub struct Sight {
    pub verdict: Verdict,
    pub job: SightOf,
    /// The slurmstepd that made it has ended, and others of the job have not: when they have, it is dead.
    pub awaits_end: bool,
}

/// Whose job directory it is.
#[derive(Debug)]
pub enum SightOf {
    Ours(Box<Found>),
    /// Made by Slurm's own plugin.
    Slurms(Leftover),
    /// Ours; what it was is lost with a power cut ([`job::is_lost`]).
    Lost(u32),
}

/// What there is in `base`, an open base path, of the node's jobs. What is not provably a job's is
/// not among it, and said.
pub fn look(
    host: &dyn Log,
    base: BorrowedFd<'_>,
    base_path: &str,
    node: &str,
    live: &Live<'_>,
) -> Result<Vec<Sight>, Error> {
    let mut sights = Vec::new();
    for name in names(base, base_path)? {
        sights.extend(look_at(host, base, base_path, &name, node, live)?);
    }
    Ok(sights)
}

/// As [`look`], at one name in `base`. None: it is not provably a job's.
pub fn look_at(
    host: &dyn Log,
    base: BorrowedFd<'_>,
    base_path: &str,
    name: &str,
    node: &str,
    live: &Live<'_>,
) -> Result<Option<Sight>, Error> {
    if !is_job_id(name) {
        return Ok(None);
    }
    let id = name.parse().unwrap_or_default();
    let sight = |verdict, job| Ok(Some(Sight { verdict, job, awaits_end: false }));
    if let Some(leftover) = slurms_leftovers::recognise(base, name) {
        let verdict = match live.contains(id) {
            None => Verdict::InDoubt,
            Some(true) => Verdict::Alive,
            Some(false) => Verdict::Dead,
        };
        return sight(verdict, SightOf::Slurms(leftover));
    }
    let found = match job::read(base, base_path, name) {
        Ok(found) => found,
        Err(_) if job::is_lost(base, name, job::boot_time()) => return sight(Verdict::Dead, SightOf::Lost(id)),
        // It may be a job's: it could not be looked at.
        Err(error)
            if error.errno().is_some_and(|errno| !matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) =>
        {
            host.log(Level::Error, format_args!("{error}"));
            return sight(Verdict::InDoubt, SightOf::Lost(id));
        }
        Err(error) => {
            host.log(Level::Warning, format_args!("{error}; it is left alone"));
            return Ok(None);
        }
    };
    let boot = BootId::current().doing("read", || "read the boot id".to_owned())?;
    let stepd_alive = found.is_of(boot) && found.stepd.is_alive();
    let verdict = verdict(Facts {
        same_node: found.record.header.node == node,
        same_boot: found.is_of(boot),
        is_marked: found.is_marked,
        stepd_alive,
        step_alive: if stepd_alive { None } else { live.contains(id) },
    });
    let awaits_end = verdict == Verdict::Alive && !stepd_alive;
    Ok(Some(Sight { verdict, job: SightOf::Ours(Box::new(found)), awaits_end }))
}

/// Which of these bases have a job's directory, or cannot be looked at: one that is not there may be on a file system
/// that is mounted later.
#[must_use]
pub fn in_use(host: &dyn Log, bases: &[String], node: &str) -> Vec<String> {
    let nobody = || None;
    let live = Live::new(&nobody);
    let has_jobs = |path: &str| -> Result<bool, Error> {
        let base = open_base(path)?;
        // The first is enough: there may be hundreds.
        for name in names(base.as_fd(), path)? {
            if look_at(host, base.as_fd(), path, &name, node, &live)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let is_in_use = |path: &&String| {
        let below = format!("{path}/{node}");
        has_jobs(path).unwrap_or(true) || has_jobs(&below).unwrap_or_else(|error| error.errno() != Some(Errno::NOENT))
    };
    bases.iter().filter(is_in_use).cloned().collect()
}

/// Deletes what dead jobs left on this node, in this process.
///
/// # Errors
///
/// When a base could not be looked at, or a trash cannot be emptied. Everything else was done.
pub fn clean(host: &dyn Log, node: &Node<'_>, live: Result<LiveJobs, Error>) -> Result<(), Error> {
    let live =
        live.inspect_err(|error| host.log(Level::Error, format_args!("{error}; no job directory is removed now"))).ok();
    let ask = || live.clone();
    let live = Live::new(&ask);
    let mut result = Ok(());
    for path in node.bases {
        for one in places(path, node.name) {
            match one_place(host, node, &one, &live) {
                Err(error) if error.errno() != Some(Errno::NOENT) => result = Err(error),
                _ => {}
            }
        }
    }
    let bases = node.bases.iter().map(String::as_str).chain(node.other_bases.iter().copied());
    for base in bases {
        match empty(host, base) {
            Err(error) if error.errno() != Some(Errno::NOENT) => result = result.and(Err(error)),
            _ => {}
        }
    }
    result
}

/// Where the jobs of a base may be. Where Slurm's plugin is built for several slurmds per host, its directories are
/// one level below.
#[must_use]
pub fn places(base: &str, node: &str) -> [String; 2] {
    [base.to_owned(), format!("{base}/{node}")]
}

fn one_place(host: &dyn Log, node: &Node<'_>, path: &str, live: &Live<'_>) -> Result<(), Error> {
    let base = open_base(path)?;
    remove_all_unfinished(host, base.as_fd(), path, live)?;
    for sight in look(host, base.as_fd(), path, node.name, live)? {
        act(host, node, &base, path, sight);
    }
    Ok(())
}

/// Removes the directories of jobs that were killed while they were made, before they had a state file.
pub fn remove_all_unfinished(host: &dyn Log, base: BorrowedFd<'_>, path: &str, live: &Live<'_>) -> Result<(), Error> {
    for name in names(base, path)? {
        let job = name.strip_prefix(UNFINISHED).filter(|job| is_job_id(job)).and_then(|job| job.parse().ok());
        if job.is_none_or(|job| live.contains(job) != Some(false)) {
            continue;
        }
        match remove_unfinished(base, &CString::new(name.as_str()).unwrap_or_default()) {
            Ok(()) => host.log(Level::Info, format_args!("removed {path}/{name}, whose maker was killed")),
            // Its maker lives, or has just given it its name.
            Err(failed) if matches!(failed.errno, Errno::WOULDBLOCK | Errno::NOENT) => {}
            Err(FailedCall { name: call, errno }) => {
                let error = Error::call(format!("remove {path}/{name}"), call, errno);
                host.log(Level::Error, format_args!("{error}"));
            }
        }
    }
    Ok(())
}

/// What became of a job's directory.
#[derive(Debug)]
pub enum Became {
    /// Nothing is left in its place.
    Gone,
    Stays,
    /// It could not be moved: the removal program goes on in its place, under this lock.
    InPlace(Box<Record>, OwnedFd),
    /// Another process deletes it.
    Busy,
}

/// Does what a verdict says.
pub fn act(host: &dyn Log, node: &Node<'_>, base: &OwnedFd, base_path: &str, sight: Sight) -> Became {
    let Sight { verdict, job, .. } = sight;
    let id = job.id();
    match (verdict, job) {
        (Verdict::Alive, _) => {
            host.log(Level::Debug, format_args!("job {id}: lives on"));
            Became::Stays
        }
        (Verdict::Foreign, SightOf::Ours(found)) => {
            host.log(
                Level::Warning,
                format_args!(
                    "job {id}: {base_path}/{id} belongs to node {}; it is left alone",
                    found.record.header.node
                ),
            );
            Became::Stays
        }
        (Verdict::InDoubt | Verdict::Foreign, _) => {
            host.log(
                Level::Warning,
                format_args!("job {id}: it cannot be told whether it lives; its directory is kept"),
            );
            Became::Stays
        }
        (Verdict::Dead, SightOf::Ours(found)) => delete_dead(host, node, base, base_path, &found),
        (Verdict::Dead, SightOf::Lost(_)) => {
            host.log(
                Level::Info,
                format_args!("job {id}: removing {base_path}/{id}, whose state file was lost when the node went down"),
            );
            let name = CString::new(id.to_string()).unwrap_or_default();
            // Whose it was is lost as well.
            match move_to_trash(base.as_fd(), base_path, &name, 0) {
                Ok(_) => Became::Gone,
                Err(error) => {
                    host.log(Level::Error, format_args!("job {id}: {error}"));
                    Became::Stays
                }
            }
        }
        (Verdict::Dead, SightOf::Slurms(leftover)) => {
            host.log(
                Level::Info,
                format_args!("job {id}: removing {base_path}/{id}, which Slurm's own plugin has left"),
            );
            if leftover.move_to_trash(host, base.as_fd(), base_path) { Became::Gone } else { Became::Stays }
        }
    }
}

impl SightOf {
    #[must_use]
    pub fn id(&self) -> u32 {
        match self {
            Self::Ours(found) => found.record.header.id,
            Self::Slurms(leftover) => leftover.job,
            Self::Lost(job) => *job,
        }
    }

    /// Whose job it was, as far as that is known.
    #[must_use]
    pub fn uid(&self) -> u32 {
        match self {
            Self::Ours(found) => found.record.header.uid,
            Self::Slurms(leftover) => leftover.uid(),
            Self::Lost(_) => 0,
        }
    }
}

/// How many trees the trash of a base contains. Makes none, and looks into none.
pub fn in_trash(base_path: &str) -> Result<usize, Error> {
    Ok(open_existing_trash(base_path)?.map_or(Ok(Vec::new()), |trash| entries(trash.as_fd(), base_path))?.len())
}

/// Does the trash of a base contain a tree? Makes none, and looks into none.
pub fn has_trash(base_path: &str) -> Result<bool, Error> {
    open_existing_trash(base_path)?.map_or(Ok(false), |trash| has_some(trash.as_fd(), base_path))
}

/// None: there is no such base, or it has no trash.
fn open_existing_trash(base_path: &str) -> Result<Option<OwnedFd>, Error> {
    let base = match open_base(base_path) {
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(None),
        result => result?,
    };
    match open_beneath(base.as_fd(), TRASH, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH) {
        Err(Errno::NOENT) => Ok(None),
        // Owner and mode are made sure of.
        Ok(_) => open_trash(base.as_fd(), base_path).map(Some),
        Err(errno) => Err(Error::call(format!("look into {base_path}/.trash"), "openat2", errno)),
    }
}

/// Removes what is in the trash of a base, in this process.
fn empty(host: &dyn Log, base_path: &str) -> Result<(), Error> {
    let Some(trash) = open_existing_trash(base_path)? else { return Ok(()) };
    for name in entries(trash.as_fd(), base_path)? {
        let name_c = CString::new(name.as_str()).unwrap_or_default();
        if let Err(error) = mounts::detach_below(&[format!("{base_path}/.trash/{name}")]) {
            host.log(Level::Error, format_args!(".trash/{name}: {error}"));
        }
        match remove_locked(trash.as_fd(), &name_c, &Terms::default()) {
            Ok(summary) => {
                let level = if summary.complete() { Level::Info } else { Level::Error };
                host.log(level, format_args!(".trash/{name}: {summary}"));
            }
            Err(error) => host.log(Level::Error, format_args!(".trash/{name}: {error}")),
        }
    }
    Ok(())
}

/// A process that was killed while it deleted the job may have started a script, which shares its lock until it is
/// executed.
const UNTIL_EXEC: Duration = Duration::from_millis(500);

/// What is in the trash afterwards is for somebody else.
fn delete_dead(host: &dyn Log, node: &Node<'_>, base: &OwnedFd, base_path: &str, seen: &Found) -> Became {
    let id = seen.record.header.id;
    let lock = match lock_job(base.as_fd(), id, UNTIL_EXEC) {
        Ok(lock) => lock,
        Err(FailedCall { errno: Errno::NOENT, .. }) => return Became::Gone,
        Err(FailedCall { errno: Errno::WOULDBLOCK, .. }) => return Became::Busy,
        Err(FailedCall { name, errno }) => {
            let error = Error::call(format!("lock {base_path}/{id}/.ns"), name, errno);
            host.log(Level::Error, format_args!("job {id}: {error}"));
            return Became::Stays;
        }
    };
    let found = match job::read(base.as_fd(), base_path, &id.to_string()) {
        // Another process has deleted it, and another instance of the job may have its number.
        Err(error) if error.errno() == Some(Errno::NOENT) => return Became::Gone,
        Ok(found) if found.stepd != seen.stepd => return Became::Gone,
        Ok(found) => found,
        Err(error) => {
            host.log(Level::Error, format_args!("job {id}: {error}"));
            return Became::Stays;
        }
    };
    let record = &found.record;
    host.log(Level::Info, format_args!("job {id}: it has ended; deleting its namespaces and directories"));
    let of_this_boot = BootId::current().is_ok_and(|boot| found.is_of(boot));
    let pins = of_this_boot.then(|| found.pins().ok()).flatten();
    // One that is marked as dead has had its epilog.
    let epilog = node.epilog.filter(|_| !found.is_marked);
    match delete(host, record, epilog, pins, node.removal) {
        Left::Nothing | Left::InTrash => Became::Gone,
        Left::InPlace => Became::InPlace(Box::new(found.record), lock),
        Left::Some => Became::Stays,
    }
}

/// True when nothing lives in `base_path` any more but an empty trash, which is removed.
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
        let live =
            Facts { same_node: true, same_boot: true, is_marked: false, stepd_alive: true, step_alive: Some(true) };
        assert_eq!(verdict(live), Verdict::Alive);
        // Its socket is gone before it deletes its own directory.
        assert_eq!(verdict(Facts { step_alive: Some(false), ..live }), Verdict::Alive);
        // The extern slurmstepd was killed, a step lives.
        assert_eq!(verdict(Facts { stepd_alive: false, ..live }), Verdict::Alive);
        assert_eq!(verdict(Facts { stepd_alive: false, step_alive: None, ..live }), Verdict::InDoubt);
        assert_eq!(verdict(Facts { stepd_alive: false, step_alive: Some(false), ..live }), Verdict::Dead);
        assert_eq!(verdict(Facts { same_boot: false, step_alive: None, ..live }), Verdict::Dead);
        assert_eq!(verdict(Facts { is_marked: true, ..live }), Verdict::Dead);
        assert_eq!(verdict(Facts { same_node: false, same_boot: false, ..live }), Verdict::Foreign);
    }
    #[derive(Debug)]
    struct Silent;
    impl Log for Silent {
        fn log(&self, _: Level, _: fmt::Arguments<'_>) {}
    }

    /// The directory of job 7, which ran before this boot.
    fn make_dead_job(base: &std::path::Path) {
        use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
        let path = base.join("7");
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(path.join(".ns")).unwrap();
        let stat = std::fs::metadata(&path).unwrap();
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join(".ns/state")).unwrap();
        let text = format!(
            "{}\njob 7\nsluid 0\nuid 1000\ngid 1000\nuser alice\nnode n1\nboot {}\nstepd 1 1 1\nnamespaces 131072\n\
             tree {} {} {}\nready\n",
            crate::job::record::state::HEADER,
            "00000000-0000-0000-0000-000000000000",
            stat.dev(),
            stat.ino(),
            base.display()
        );
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    #[test]
    #[ignore = "needs root"]
    fn of_many_that_delete_a_dead_job_one_does_and_runs_its_epilog() {
        use std::os::unix::fs::PermissionsExt;
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let top = tempfile::tempdir().unwrap();
        let base = top.path().join("base");
        std::fs::create_dir(&base).unwrap();
        let script = top.path().join("epilog");
        std::fs::write(&script, "#!/bin/sh\necho \"$SLURM_JOB_ID\" >>\"$0.ran\"; sleep 0.5\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
        let epilog = crate::config::settings::Script { path: script.display().to_string(), wait_seconds: 10 };
        let bases = [base.display().to_string()];
        make_dead_job(&base);
        let clean_up = || {
            let node = Node {
                name: "n1",
                bases: &bases,
                other_bases: Vec::new(),
                epilog: Some(Epilog { script: &epilog, slurm_conf: None }),
                removal: Removal::HERE,
            };
            clean(&Silent, &node, Ok(LiveJobs::default()))
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(clean_up);
            }
        });
        assert_eq!(std::fs::read_to_string(top.path().join("epilog.ran")).unwrap(), "7\n");
        assert!(!base.join("7").exists());
        assert_eq!(std::fs::read_dir(base.join(".trash")).unwrap().count(), 0);
    }
    #[test]
    #[ignore = "needs root"]
    fn what_cannot_be_moved_has_turns_in_its_place() {
        use std::os::unix::fs::PermissionsExt;
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let top = tempfile::tempdir().unwrap();
        make_dead_job(top.path());
        std::fs::create_dir(top.path().join("7/_tmp")).unwrap();
        // Not a trash that is used.
        std::fs::create_dir(top.path().join(".trash")).unwrap();
        std::fs::set_permissions(top.path().join(".trash"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = top.path().display().to_string();
        let node = Node { name: "n1", bases: &[], other_bases: Vec::new(), epilog: None, removal: Removal::InProgram };
        let base = open_base(&path).unwrap();
        let nobody = || None;
        let look = || look_at(&Silent, base.as_fd(), &path, "7", "n1", &Live::new(&nobody)).unwrap().unwrap();
        for (deadline, is_left) in [(Some(std::time::Instant::now()), true), (None, false)] {
            let Became::InPlace(record, _lock) = act(&Silent, &node, &base, &path, look()) else { panic!() };
            let terms = Terms { deadline, ..Terms::default() };
            let summary = crate::job::remove::delete::remove_in_place(&record, &terms, remove_locked).unwrap();
            assert_eq!((summary.out_of_time, top.path().join("7/.ns/state").exists()), (is_left, is_left));
        }
        assert!(!top.path().join("7").exists());
    }
}

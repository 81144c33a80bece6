//! Finds the directories of dead jobs and deletes them, possibly while other jobs run. The removal program and `jobns`
//! do this; slurmd only checks which base paths have jobs.
//!
//! In doubt a directory stays. A job is dead only if there is proof: its state file is of an earlier boot; or the list
//! of live slurmstepds could be read and contains none of this job, and the slurmstepd that made the directory has
//! ended. (That slurmstepd removes the directory itself, after its socket is gone.)

use crate::base::base_dir::{UNFINISHED, open_base, open_base_if_there, remove_unfinished};
use crate::base::error::{Error, FailedCall};
use crate::base::listing::{job_id, names};
use crate::base::log::{Level, Log};
use crate::base::trusted_path::{BENEATH, open_beneath};
use crate::config::settings::{self, Settings};
use crate::config::size::ProjectIds;
use crate::job::LiveJobs;
use crate::job::record::job::{self, Found, Record};
use crate::job::record::project;
use crate::job::remove::delete::{Epilog, Left, Removal, delete, lock_job, remove_locked};
use crate::job::remove::lost;
use crate::job::remove::mounts;
use crate::job::remove::slurms_leftovers::{self, Leftover};
use crate::job::remove::trash::{TRASH, entries, has_some, open_trash};
use crate::job::remove::tree::Terms;
use core::fmt;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, OFlags};
use rustix::io::Errno;
use std::cell::OnceCell;
use std::ffi::CString;
use std::time::Duration;

/// The state of the job of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Dead,
    Alive,
    /// It belongs to another slurmd.
    Foreign,
    /// Its state is unknown.
    InDoubt,
}

/// The facts about a job whose directory was found.
#[derive(Clone, Copy, Debug)]
struct Facts {
    same_node: bool,
    same_boot: bool,
    /// The slurmstepd that made it has marked it as dead.
    is_marked: bool,
    stepd_alive: bool,
    /// A slurmstepd of the job answers; None if the list could not be read.
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

/// A node whose dead jobs are deleted.
#[derive(Debug)]
pub struct Node<'a> {
    /// The name that Slurm has for it.
    pub name: &'a str,
    /// Where its job directories are, or were before the configuration was changed.
    pub bases: &'a [String],
    /// Other directories with a trash: those of `dir_confs`, and former ones.
    pub other_bases: Vec<&'a str>,
    pub epilog: Option<Epilog<'a>>,
    pub removal: Removal,
    /// The projects of its jobs.
    pub project_ids: Option<ProjectIds>,
}

/// The bases of `settings` besides the main one.
#[must_use]
pub fn other_bases(settings: &Settings) -> Vec<&str> {
    settings::other_bases(&settings.dirs).collect()
}

/// The jobs with a live slurmstepd. The list is made only if it is needed, since it takes a connection to each.
pub struct Live<'a> {
    ask: &'a dyn Fn() -> Option<LiveJobs>,
    known: OnceCell<Option<LiveJobs>>,
}

impl<'a> Live<'a> {
    #[must_use]
    pub const fn new(ask: &'a dyn Fn() -> Option<LiveJobs>) -> Self {
        Self { ask, known: OnceCell::new() }
    }

    /// None: the list could not be read.
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

/// The directory of a job below a base, and the state of the job.
#[derive(Debug)]
pub struct JobEntry {
    pub verdict: Verdict,
    pub job: MadeBy,
    /// The slurmstepd that made it has ended, but others of the job have not. Once they have, it is dead.
    pub awaits_end: bool,
}

impl JobEntry {
    /// A directory that only its mark describes.
    #[must_use]
    pub const fn of_lost(job: u32) -> Self {
        Self { verdict: Verdict::Dead, job: MadeBy::Lost(job), awaits_end: false }
    }
}

/// The origin of a job directory.
#[derive(Debug)]
pub enum MadeBy {
    Ours(Box<Found>),
    /// Made by Slurm's own plugin.
    Slurms(Leftover),
    /// Made by this plugin. A power cut has destroyed its state file ([`lost`]).
    Lost(u32),
}

/// Finds the directories of the node's jobs in `base`, an open base path. A directory that is not provably a job's is
/// left out, with a warning.
pub fn job_entries(
    host: &dyn Log,
    base: BorrowedFd<'_>,
    base_path: &str,
    node: &str,
    live: &Live<'_>,
) -> Result<Vec<JobEntry>, Error> {
    let mut entries = Vec::new();
    for name in names(base, base_path)? {
        entries.extend(job_entry(host, base, base_path, &name, node, live)?);
    }
    Ok(entries)
}

/// As [`job_entries`], for one name in `base`. None: it is not provably the directory of a job.
pub fn job_entry(
    host: &dyn Log,
    base: BorrowedFd<'_>,
    base_path: &str,
    name: &str,
    node: &str,
    live: &Live<'_>,
) -> Result<Option<JobEntry>, Error> {
    let Some(id) = job_id(name) else { return Ok(None) };
    let entry = |verdict, job| Ok(Some(JobEntry { verdict, job, awaits_end: false }));
    if let Some(leftover) = slurms_leftovers::recognise(base, name) {
        let verdict = match live.contains(id) {
            Some(true) => Verdict::Alive,
            Some(false) if !leftover.may_be_of_another_node(base, job::boot_time()) => Verdict::Dead,
            _ => Verdict::InDoubt,
        };
        return entry(verdict, MadeBy::Slurms(leftover));
    }
    let found = match job::read(base, base_path, name) {
        Ok(found) => found,
        Err(_) if lost::is_lost(base, name, node) => return entry(Verdict::Dead, MadeBy::Lost(id)),
        // The state file of its job is elsewhere.
        Err(_) if lost::mark_of(base, name).is_some() => return Ok(None),
        // It could not be read, so it may be a job's.
        Err(error)
            if error.errno().is_some_and(|errno| !matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) =>
        {
            host.log(Level::Error, format_args!("{error}"));
            return entry(Verdict::InDoubt, MadeBy::Lost(id));
        }
        Err(error) => {
            host.log(Level::Warning, format_args!("{error}; it is left alone"));
            return Ok(None);
        }
    };
    let stepd_alive = found.record.of_this_boot && found.stepd.is_alive();
    let verdict = verdict(Facts {
        same_node: found.record.header.node == node,
        same_boot: found.record.of_this_boot,
        is_marked: found.is_marked,
        stepd_alive,
        step_alive: if stepd_alive { None } else { live.contains(id) },
    });
    let awaits_end = verdict == Verdict::Alive && !stepd_alive;
    Ok(Some(JobEntry { verdict, job: MadeBy::Ours(Box::new(found)), awaits_end }))
}

/// The bases that contain the directory of a job, or cannot be read: a missing one may be on a file system that is
/// mounted later.
#[must_use]
pub fn in_use(host: &dyn Log, bases: &[String], node: &str) -> Vec<String> {
    let nobody = || None;
    let live = Live::new(&nobody);
    let has_jobs = |path: &str| -> Result<bool, Error> {
        let base = open_base(path)?;
        // Stop at the first: there may be hundreds.
        for name in names(base.as_fd(), path)? {
            if job_entry(host, base.as_fd(), path, &name, node, &live)?.is_some() {
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

/// Deletes what dead jobs have left on this node, in this process.
///
/// # Errors
///
/// A base could not be read, or a trash not emptied. Everything else was done.
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
    for path in &node.other_bases {
        match strays(host, node, path, &live) {
            Err(error) if error.errno() != Some(Errno::NOENT) => result = Err(error),
            _ => {}
        }
    }
    let bases = node.bases.iter().map(String::as_str).chain(node.other_bases.iter().copied());
    for base in bases {
        match empty(host, base) {
            Err(error) if error.errno() != Some(Errno::NOENT) => result = result.and(Err(error)),
            _ => {}
        }
        result = result.and(project::release_unused(base, node.project_ids));
    }
    result
}

/// The directories of a base that may contain jobs. If Slurm is built for several slurmds per host, the jobs of its
/// plugin are one level below.
#[must_use]
pub fn places(base: &str, node: &str) -> [String; 2] {
    [base.to_owned(), format!("{base}/{node}")]
}

fn one_place(host: &dyn Log, node: &Node<'_>, path: &str, live: &Live<'_>) -> Result<(), Error> {
    let base = open_base(path)?;
    remove_all_unfinished(host, base.as_fd(), path, live)?;
    for entry in job_entries(host, base.as_fd(), path, node.name, live)? {
        delete_if_dead(host, node, &base, path, entry);
    }
    Ok(())
}

/// Deletes the directories in a base path of `dir_confs` that no state file names.
fn strays(host: &dyn Log, node: &Node<'_>, path: &str, live: &Live<'_>) -> Result<(), Error> {
    let base = open_base(path)?;
    remove_all_unfinished(host, base.as_fd(), path, live)?;
    for job in lost::find(path, node.name, node.bases)?.jobs {
        delete_if_dead(host, node, &base, path, JobEntry::of_lost(job));
    }
    Ok(())
}

/// Removes job directories that still have their temporary name because the process that made them was killed.
pub fn remove_all_unfinished(host: &dyn Log, base: BorrowedFd<'_>, path: &str, live: &Live<'_>) -> Result<(), Error> {
    for name in names(base, path)? {
        let job = name.strip_prefix(UNFINISHED).and_then(job_id);
        if job.is_none_or(|job| live.contains(job) != Some(false)) {
            continue;
        }
        match remove_unfinished(base, &CString::new(name.as_str()).unwrap_or_default()) {
            Ok(()) => host.log(Level::Info, format_args!("removed {path}/{name}, left by a process that was killed")),
            // The process that makes it is alive, or has just renamed it.
            Err(failed) if matches!(failed.errno, Errno::WOULDBLOCK | Errno::NOENT) => {}
            Err(FailedCall { name: call, errno }) => {
                let error = Error::call(format!("remove {path}/{name}"), call, errno);
                host.log(Level::Error, format_args!("{error}"));
            }
        }
    }
    Ok(())
}

/// What has become of a job's directory.
#[derive(Debug)]
pub enum Became {
    /// Nothing is left in its place.
    Gone,
    Stays,
    /// It could not be moved: the removal program removes it in its place, under this lock.
    InPlace(Box<Record>, OwnedFd),
    /// Another process is deleting it.
    Busy,
}

/// Logs why the directory of a job that is not dead stays.
pub fn log_why_it_stays(host: &dyn Log, base_path: &str, entry: &JobEntry) {
    let id = entry.job.id();
    match (entry.verdict, &entry.job) {
        (Verdict::Dead, _) => {}
        (Verdict::Alive, _) => host.log(Level::Debug, format_args!("job {id}: it is alive")),
        (Verdict::Foreign, MadeBy::Ours(found)) => host.log(
            Level::Warning,
            format_args!("job {id}: {base_path}/{id} belongs to node {}; it is left alone", found.record.header.node),
        ),
        (Verdict::InDoubt | Verdict::Foreign, _) => {
            host.log(Level::Warning, format_args!("job {id}: it may still be alive; its directory is kept"));
        }
    }
}

/// Deletes the directory if its job is dead.
pub fn delete_if_dead(host: &dyn Log, node: &Node<'_>, base: &OwnedFd, base_path: &str, entry: JobEntry) -> Became {
    log_why_it_stays(host, base_path, &entry);
    let id = entry.job.id();
    match entry.job {
        _ if entry.verdict != Verdict::Dead => Became::Stays,
        MadeBy::Ours(found) => delete_dead(host, node, base, base_path, &found),
        MadeBy::Lost(_) => {
            host.log(
                Level::Info,
                format_args!("job {id}: removing {base_path}/{id}, whose state file was lost when the node went down"),
            );
            match lost::move_away(base.as_fd(), base_path, &id.to_string(), node.name) {
                Ok(_) => Became::Gone,
                Err(error) => {
                    host.log(Level::Error, format_args!("job {id}: {error}"));
                    Became::Stays
                }
            }
        }
        MadeBy::Slurms(leftover) => {
            host.log(
                Level::Info,
                format_args!("job {id}: removing {base_path}/{id}, which Slurm's own plugin left behind"),
            );
            if leftover.move_to_trash(host, base.as_fd(), base_path) { Became::Gone } else { Became::Stays }
        }
    }
}

impl MadeBy {
    #[must_use]
    pub fn id(&self) -> u32 {
        match self {
            Self::Ours(found) => found.record.header.id,
            Self::Slurms(leftover) => leftover.job,
            Self::Lost(job) => *job,
        }
    }

    /// The user of the job; 0 if it is unknown.
    #[must_use]
    pub fn uid(&self) -> u32 {
        match self {
            Self::Ours(found) => found.record.header.uid,
            Self::Slurms(leftover) => leftover.uid(),
            Self::Lost(_) => 0,
        }
    }
}

/// How many trees the trash of a base contains. Does not make the trash, and opens no tree.
pub fn in_trash(base_path: &str) -> Result<usize, Error> {
    Ok(open_existing_trash(base_path)?.map_or(Ok(Vec::new()), |trash| entries(trash.as_fd(), base_path))?.len())
}

/// Does the trash of a base contain a tree? Does not make the trash, and opens no tree.
pub fn has_trash(base_path: &str) -> Result<bool, Error> {
    open_existing_trash(base_path)?.map_or(Ok(false), |trash| has_some(trash.as_fd(), base_path))
}

/// None: there is no such base, or it has no trash.
fn open_existing_trash(base_path: &str) -> Result<Option<OwnedFd>, Error> {
    let Some(base) = open_base_if_there(base_path)? else { return Ok(None) };
    match open_beneath(base.as_fd(), TRASH, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH) {
        Err(Errno::NOENT) => Ok(None),
        // This checks owner and mode.
        Ok(_) => open_trash(base.as_fd(), base_path).map(Some),
        Err(errno) => Err(Error::call(format!("open {base_path}/.trash"), "openat2", errno)),
    }
}

/// Empties the trash of a base, in this process.
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

/// If a process was killed while it deleted the job, a script that it has started shares its lock until the script is
/// executed.
const UNTIL_EXEC: Duration = Duration::from_millis(500);

/// Deletes the directory of a dead job. The trash is emptied elsewhere.
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
        // Another process has deleted it. Another instance of the job may use its number.
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
    let pins = record.of_this_boot.then(|| found.pins().ok()).flatten();
    // The epilog has already run for a job that is marked as dead.
    let epilog = node.epilog.filter(|_| !found.is_marked);
    match delete(host, record, epilog, pins, node.removal) {
        Left::Nothing | Left::InTrash => Became::Gone,
        Left::InPlace => Became::InPlace(Box::new(found.record), lock),
        Left::Some => Became::Stays,
    }
}

/// Removes `base_path` if it contains nothing but an empty trash. Returns whether it was removed.
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
        // Its socket is gone before it has deleted its own directory.
        assert_eq!(verdict(Facts { step_alive: Some(false), ..live }), Verdict::Alive);
        // The extern slurmstepd was killed, a step is alive.
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
    fn if_many_delete_a_dead_job_one_does_and_runs_its_epilog() {
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
                project_ids: None,
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
    fn a_directory_that_cannot_be_moved_is_removed_in_its_place() {
        use std::os::unix::fs::PermissionsExt;
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let top = tempfile::tempdir().unwrap();
        make_dead_job(top.path());
        std::fs::create_dir(top.path().join("7/_tmp")).unwrap();
        // The wrong mode for a trash.
        std::fs::create_dir(top.path().join(".trash")).unwrap();
        std::fs::set_permissions(top.path().join(".trash"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = top.path().display().to_string();
        let node = Node {
            name: "n1",
            bases: &[],
            other_bases: Vec::new(),
            epilog: None,
            removal: Removal::InProgram,
            project_ids: None,
        };
        let base = open_base(&path).unwrap();
        let nobody = || None;
        let look = || job_entry(&Silent, base.as_fd(), &path, "7", "n1", &Live::new(&nobody)).unwrap().unwrap();
        for (deadline, is_left) in [(Some(std::time::Instant::now()), true), (None, false)] {
            let Became::InPlace(record, _lock) = delete_if_dead(&Silent, &node, &base, &path, look()) else { panic!() };
            let terms = Terms { deadline, ..Terms::default() };
            let summary = crate::job::remove::delete::remove_in_place(&record, &terms, remove_locked).unwrap();
            assert_eq!((summary.out_of_time, top.path().join("7/.ns/state").exists()), (is_left, is_left));
        }
        assert!(!top.path().join("7").exists());
    }
}

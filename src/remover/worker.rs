//! A worker process does one turn of one task at a time. A user may make it wait in the kernel forever.
//!
//! Standard input is a socket to the supervisor. The worker answers each request line with reply lines, the last of
//! which is the result of the turn:
//!
//! ```text
//! tree 1 10 60 17.1001.0 /nvme/jobns            kind, turn, its seconds, seconds at normal priority, name, base
//! directories 66306:1234 66306:1240             device and inode of what the user's processes may have open
//! progress 12000                                entries removed so far
//! gone | more | busy | held 3 it contains 1 mounts, which are left alone
//! ```

use crate::base::base_dir::open_base;
use crate::base::error::Error;
use crate::base::listing::names;
use crate::base::log::{Level, Log};
use crate::base::trusted_path::{BENEATH, c_path, open_beneath};
use crate::config::size::ProjectIds;
use crate::job::record::live_jobs::live_jobs;
use crate::job::record::project;
use crate::job::remove::dead_jobs;
use crate::job::remove::dead_jobs::{Became, Live, Node, Verdict};
use crate::job::remove::delete;
use crate::job::remove::delete::{Epilog, Removal, remove_locked};
use crate::job::remove::mounts;
use crate::job::remove::trash;
use crate::job::remove::trash::{open_trash, parse_name};
use crate::job::remove::tree::{Summary, Terms, remove_tree};
use crate::remover::Options;
use crate::remover::log::Relay;
use crate::remover::queue::{Kind, Outcome, Task};
use crate::remover::survivors;
use crate::remover::survivors::Directory;
use core::ffi::CStr;
use core::fmt;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use std::io::{BufRead, BufReader};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// The name of a worker's process: at most 15 bytes.
const WORKER: &CStr = c"jobns-remover";

/// A request to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Turn {
        task: Task,
        /// Counted from 1. Errors are logged in the first turn.
        turn: u32,
        /// How long it may take.
        slice: Duration,
        /// How long the end of a job may still wait for it.
        polite_after: Duration,
    },
    /// Name the processes of this user that have one of these directories open, or something in them.
    Survivors { path: String, uid: u32, directories: Vec<Directory> },
}

impl Request {
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Turn { task: Task { kind, base, name }, turn, slice, polite_after } => {
                let kind = match kind {
                    Kind::Tree => "tree",
                    Kind::Job => "job",
                };
                format!("{kind} {turn} {} {} {name} {base}\n", slice.as_secs(), polite_after.as_secs())
            }
            Self::Survivors { path, uid, directories } => {
                let list: Vec<String> = directories.iter().map(Directory::to_string).collect();
                format!("survivors {uid} {} {path}\n", list.join(","))
            }
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.strip_suffix('\n')?.split_once(' ')?;
        let kind = match kind {
            "tree" => Kind::Tree,
            "job" => Kind::Job,
            "survivors" => {
                let mut fields = rest.splitn(3, ' ');
                return Some(Self::Survivors {
                    uid: fields.next()?.parse().ok()?,
                    directories: fields.next()?.split(',').filter_map(Directory::parse).collect(),
                    path: fields.next()?.to_owned(),
                });
            }
            _ => return None,
        };
        let mut fields = rest.splitn(5, ' ');
        let mut number = || fields.next()?.parse::<u32>().ok();
        let (turn, slice, polite_after) = (number()?, number()?, number()?);
        let task = Task { kind, name: fields.next()?.to_owned(), base: fields.next()?.to_owned() };
        let seconds = |number: u32| Duration::from_secs(number.into());
        Some(Self::Turn { task, turn, slice: seconds(slice), polite_after: seconds(polite_after) })
    }
}

/// A reply of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Directories(Vec<Directory>),
    Progress(u64),
    Ended(Outcome),
}

impl Reply {
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Directories(list) => {
                let list: Vec<String> = list.iter().map(Directory::to_string).collect();
                format!("directories {}\n", list.join(" "))
            }
            Self::Progress(removed) => format!("progress {removed}\n"),
            Self::Ended(Outcome::Gone) => "gone\n".to_owned(),
            Self::Ended(Outcome::More) => "more\n".to_owned(),
            Self::Ended(Outcome::Busy) => "busy\n".to_owned(),
            Self::Ended(Outcome::Held { left, why }) => format!("held {left} {}\n", why.replace(char::is_control, " ")),
        }
    }

    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        Some(match word {
            "directories" => Self::Directories(rest.split(' ').filter_map(Directory::parse).collect()),
            "progress" => Self::Progress(rest.parse().ok()?),
            "gone" => Self::Ended(Outcome::Gone),
            "more" => Self::Ended(Outcome::More),
            "busy" => Self::Ended(Outcome::Busy),
            "held" => {
                let (left, why) = rest.split_once(' ')?;
                Self::Ended(Outcome::Held { left: left.parse().ok()?, why: why.to_owned() })
            }
            _ => return None,
        })
    }
}

/// Handles the requests on standard input until the supervisor closes it.
pub fn run(options: &Options) -> Result<(), String> {
    // Without this the name would be "exe", after /proc/self/exe.
    let _ = rustix::thread::set_name(WORKER);
    raise_descriptors();
    // Room for the directories of a tree.
    let mut input = BufReader::with_capacity(64 * 1024, std::io::stdin().lock());
    loop {
        let mut line = String::new();
        let read = input.read_line(&mut line);
        if read.map_err(|error| format!("jobns-remover: read a request: {error}"))? == 0 {
            return Ok(());
        }
        match Request::parse(&line) {
            Some(Request::Survivors { path, uid, directories }) => {
                survivors::name(&Relay { debug: options.debug }, &path, uid, &directories);
                say(&Reply::Ended(Outcome::Gone));
            }
            Some(Request::Turn { task, turn, slice, polite_after }) => {
                let outcome = match task.kind {
                    Kind::Tree => tree(&task, options.project_ids, slice, polite_after),
                    Kind::Job => job(options, &task, turn, slice, polite_after),
                };
                say(&Reply::Ended(outcome));
            }
            None => return Err(format!("jobns-remover: this is not a request: {line:?}")),
        }
    }
}

/// Raises the limit on descriptors as far as possible: a very deep tree needs many.
fn raise_descriptors() {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn say(reply: &Reply) {
    // This fails if the supervisor has ended.
    let _ = rustix::io::write(rustix::stdio::stdin(), reply.line().as_bytes());
}

fn held(why: impl fmt::Display) -> Outcome {
    Outcome::Held { left: 0, why: why.to_string() }
}

fn tree(Task { base, name, .. }: &Task, ids: Option<ProjectIds>, slice: Duration, polite_after: Duration) -> Outcome {
    let open = || -> Result<_, Error> { open_trash(open_base(base)?.as_fd(), base) };
    let (trash, name) = match (open(), c_path(name)) {
        (Ok(trash), Ok(name)) => (trash, name),
        (Err(error), _) | (_, Err(error)) => return held(error),
    };
    let top = match open_beneath(trash.as_fd(), &name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Outcome::Gone,
        Err(Errno::XDEV) => return held("something is mounted over it; unmount it"),
        Err(errno) => {
            return held(Error::call(format!("open {base}/.trash/{}", name.to_string_lossy()), "openat2", errno));
        }
    };
    if trash::lock(top.as_fd()).is_err() {
        return Outcome::Busy;
    }
    say_directories(directories_of(top.as_fd()));
    // A script of root may have mounted something since the job's directory was moved.
    if let Err(error) = mounts::detach_below(&[format!("{base}/.trash/{}", name.to_string_lossy())]) {
        return held(error);
    }
    let project = project::own(top.as_fd(), trash.as_fd());
    if let Some(project) = project {
        project::freeze(top.as_fd(), project, ids);
    }
    let outcome = with_terms(slice, polite_after, |terms| Ok(remove_tree(trash.as_fd(), &name, terms)));
    drop(top);
    if let Some(project) = project.filter(|_| outcome == Outcome::Gone) {
        project::release_soon(trash.as_fd(), project);
    }
    outcome
}

fn say_directories(directories: Vec<Directory>) {
    if !directories.is_empty() {
        say(&Reply::Directories(directories));
    }
}

/// One turn of a removal.
fn with_terms(
    slice: Duration,
    polite_after: Duration,
    remove: impl FnOnce(&Terms<'_>) -> Result<Summary, Error>,
) -> Outcome {
    let start = Instant::now();
    let progress = |files, directories| say(&Reply::Progress(files + directories));
    let terms = Terms {
        deadline: start.checked_add(slice),
        polite_after: start.checked_add(polite_after),
        progress: Some(&progress),
    };
    let summary = match remove(&terms) {
        Ok(summary) => summary,
        Err(error) => return held(error),
    };
    let removed = summary.files + summary.directories;
    say(&Reply::Progress(removed));
    if summary.complete() {
        Outcome::Gone
    } else if summary.out_of_time {
        // On a long way down each directory is taken from its user, and perhaps none is removed yet.
        Outcome::More
    } else {
        Outcome::Held { left: summary.failed + summary.mounts, why: summary.why_incomplete() }
    }
}

/// The private directories of a job, which its user could open. They are in the top directory of a tree, which belongs
/// to root, or in the directory there whose name begins with a dot.
fn directories_of(top: BorrowedFd<'_>) -> Vec<Directory> {
    let mut found = directories_in(top);
    let inner = |name: &String| name.starts_with('.') && name != ".ns";
    for name in names(top, "a tree").unwrap_or_default().iter().filter(|name| inner(name)) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        if let Ok(source) =
            c_path(name).map_err(|_| ()).and_then(|name| open_beneath(top, &name, flags, BENEATH).map_err(|_| ()))
        {
            found.extend(directories_in(source.as_fd()));
        }
    }
    found.truncate(64);
    found
}

fn directories_in(top: BorrowedFd<'_>) -> Vec<Directory> {
    let stats = names(top, "a tree").unwrap_or_default().into_iter().filter_map(|name| {
        let stat = rustix::fs::statat(top, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        (FileType::from_raw_mode(stat.st_mode) == FileType::Directory && name != ".ns")
            .then_some(Directory { device: stat.st_dev, inode: stat.st_ino })
    });
    stats.take(64).collect()
}

/// Deletes a dead job. Its directory is moved to the trash, where it has its own turns. A directory that cannot be
/// moved is removed in its place, in turns of this task.
fn job(
    options: &Options,
    Task { base, name, .. }: &Task,
    turn: u32,
    slice: Duration,
    polite_after: Duration,
) -> Outcome {
    let host = FirstTurnLog { relay: Relay { debug: options.debug }, is_first: turn == 1, last: Mutex::new(None) };
    let delete = || -> Result<Outcome, Error> {
        let fd = open_base(base)?;
        let ask = || live_jobs(&options.spool, &options.node).ok();
        let live = Live::new(&ask);
        let Some(entry) = dead_jobs::job_entry(&host, fd.as_fd(), base, name, &options.node, &live)? else {
            return Ok(Outcome::Gone);
        };
        if entry.verdict != Verdict::Dead {
            return Ok(Outcome::Gone);
        }
        let node = Node {
            name: &options.node,
            bases: &options.bases,
            other_bases: Vec::new(),
            epilog: options.epilog.as_ref().map(|script| Epilog { script, slurm_conf: Some(&options.slurm_conf) }),
            removal: Removal::InProgram,
            project_ids: None,
        };
        Ok(match dead_jobs::delete_if_dead(&host, &node, &fd, base, entry) {
            Became::Gone => Outcome::Gone,
            Became::Busy => Outcome::Busy,
            Became::InPlace(record, _lock) => {
                say_directories(
                    delete::trees_in_place(&record).iter().flat_map(|top| directories_of(top.as_fd())).collect(),
                );
                with_terms(slice, polite_after, |terms| delete::remove_in_place(&record, terms, remove_locked))
            }
            Became::Stays => held(host.why()),
        })
    };
    delete().unwrap_or_else(held)
}

/// Logs in the first turn, and remembers the first error.
#[derive(Debug)]
struct FirstTurnLog {
    relay: Relay,
    is_first: bool,
    last: Mutex<Option<String>>,
}

impl FirstTurnLog {
    fn why(&self) -> String {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(|| "see the log".to_owned())
    }
}

impl Log for FirstTurnLog {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        if matches!(level, Level::Error | Level::Warning) {
            self.last.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| line.to_string());
        }
        self.relay.log(if self.is_first { level } else { Level::Debug }, line);
    }
}

/// The user of a tree in a trash, from its name; None if it is not the name of a tree.
#[must_use]
pub fn uid_of_tree(name: &str) -> Option<u32> {
    parse_name(name.as_bytes()).map(|name| name.uid.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_survive_the_socket() {
        let task = Task { kind: Kind::Tree, base: "/a b".into(), name: "7.1001.0".into() };
        let directories = vec![Directory { device: 66306, inode: 5 }, Directory { device: 1, inode: 6 }];
        let second = Duration::from_secs(1);
        for request in [
            Request::Turn { task: task.clone(), turn: 1, slice: 10 * second, polite_after: 60 * second },
            Request::Turn {
                task: Task { kind: Kind::Job, ..task },
                turn: 2,
                slice: second,
                polite_after: Duration::ZERO,
            },
            Request::Survivors { path: "/a b/x".into(), uid: 1001, directories: directories.clone() },
        ] {
            assert_eq!(Request::parse(&request.line()), Some(request));
        }
        let held = Outcome::Held { left: 3, why: "it contains a mount".into() };
        for reply in [
            Reply::Directories(directories),
            Reply::Progress(7),
            Reply::Ended(Outcome::Gone),
            Reply::Ended(Outcome::More),
            Reply::Ended(Outcome::Busy),
            Reply::Ended(held),
        ] {
            assert_eq!(Reply::parse(reply.line().trim_end_matches('\n')), Some(reply));
        }
        assert_eq!(Request::parse("tree 1 10 60 7.1001.0\n"), None);
        assert_eq!(Reply::parse("done"), None);
    }
}

//! Enters the namespaces of a job.
//!
//! This runs in a forked child of a threaded slurmd, just before the child becomes a slurmstepd, and in forked children
//! of slurmstepd. glibc's fork makes malloc usable there, but not every lock of the process. So this code allocates nothing,
//! takes no lock, writes only to its own stack, and leaves no descriptor open. It uses only what was
//! recorded when the job was created, not today's configuration.
//!
//! `tests/no_alloc.rs` runs this with an allocator that ends the process.

#![deny(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use crate::base::error::Words;
use crate::base::fixed_text::FixedText;
use crate::base::io::read_all;
use crate::base::trusted_path::{NO_LINKS, is_roots_file};
use crate::config::spelling::key;
use crate::job::record::process::{BootId, Identity};
use crate::job::record::state::{MAX_SIZE, State};
use crate::sys::clone::NamespaceFlags;
use crate::sys::process::setns;
use core::fmt;
use core::fmt::Write as _;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// The longest path of a state file: Linux' PATH_MAX.
const PATH_MAX: usize = 4096;

/// Why a job's namespaces were not entered. Formatting it allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// `base_path` is too long.
    Path,
    /// The state file cannot be opened. ENOENT: there is no such job here, or it is being removed.
    OpenState(Errno),
    ReadState(Errno),
    /// The state file could have been written by someone else.
    NotOurs,
    /// The state file has another format.
    Malformed,
    /// The state file belongs to another job, node or boot.
    Stale,
    /// Set-up has not finished.
    NotReady,
    /// The holder has ended, and the descriptors that keep the namespaces are gone or are not enough.
    HolderGone(Errno),
    OomScore(Errno),
    Enter(Errno),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("the path of its state file is too long"),
            Self::OpenState(Errno::NOENT) => {
                write!(
                    f,
                    "it has no state file under {0}: its set-up failed or has only begun (see PrologFlags=DeferBatch in slurm.conf(5)), it has ended, {0} was changed while it ran, or it started before the plugin was enabled",
                    key("base_path")
                )
            }
            Self::OpenState(errno) => write!(f, "opening its state file: {}", Words(*errno)),
            Self::ReadState(errno) => write!(f, "reading its state file: {}", Words(*errno)),
            Self::NotOurs => f.write_str("its state file does not belong to root alone"),
            Self::Malformed => f.write_str("its state file is damaged"),
            Self::Stale => f.write_str("its state file belongs to another job, node or boot"),
            Self::NotReady => {
                f.write_str("its namespaces are still being set up; see PrologFlags=DeferBatch in slurm.conf(5)")
            }
            Self::HolderGone(errno) => {
                write!(f, "the process that holds its namespaces has ended: {}", Words(*errno))
            }
            Self::OomScore(errno) => write!(f, "giving up a negative value of {OOM_SCORE}: {}", Words(*errno)),
            Self::Enter(errno) => write!(f, "setns: {}", Words(*errno)),
        }
    }
}

/// How to treat a PID namespace whose holder, its PID 1, has ended. No new process can be made in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadPid {
    /// An error: a step must not run outside of it.
    Fails,
    /// Enter only the other namespaces: Slurm still has work in the job's directories after the job has ended.
    IsLeftOut,
}

/// Enters all namespaces of job `job`, by its state file under one of `bases`, or, after a switch-over, by
/// what Slurm's own plugin has left there. After an error the caller must not continue: some namespaces may
/// have been entered.
pub fn join<'b>(
    bases: impl Iterator<Item = &'b str> + Clone,
    node: &str,
    boot: BootId,
    job: u32,
    dead: DeadPid,
) -> Result<(), JoinError> {
    const NONE: JoinError = JoinError::OpenState(Errno::NOENT);
    for base in bases.clone() {
        match join_below(base, node, boot, job, dead) {
            Err(NONE) => {}
            result => return result,
        }
    }
    for base in bases {
        for below in ["", node] {
            match join_made_by_slurm(base, below, job) {
                Err(NONE) => {}
                result => return result,
            }
        }
    }
    Err(NONE)
}

/// As [`join`], by the state file under `base_path`.
fn join_below(base_path: &str, node: &str, boot: BootId, job: u32, dead: DeadPid) -> Result<(), JoinError> {
    let (file, size) = open_state(base_path, job)?;
    // After a fork, each page of the stack that is written to costs a page fault. So the buffer, which is
    // filled with zeros, is small if possible.
    if size < USUAL_SIZE as u64 {
        enter(&read_state(&file, &mut [0_u8; USUAL_SIZE])?, node, boot, job, dead)
    } else {
        join_by_large_state(&file, node, boot, job, dead)
    }
}

/// Larger than a state file, unless the job has many base paths.
const USUAL_SIZE: usize = 2048;

#[inline(never)]
fn join_by_large_state(file: &OwnedFd, node: &str, boot: BootId, job: u32, dead: DeadPid) -> Result<(), JoinError> {
    enter(&read_state(file, &mut [0_u8; MAX_SIZE])?, node, boot, job, dead)
}

/// Enters the namespaces that `state` names, if they belong to `job`.
fn enter(state: &State<'_>, node: &str, boot: BootId, job: u32, dead: DeadPid) -> Result<(), JoinError> {
    if state.header.id != job || state.header.node != node || state.boot != boot.as_bytes() {
        return Err(JoinError::Stale);
    }
    if !state.ready {
        return Err(JoinError::NotReady);
    }
    let holder = state.holder.ok_or(JoinError::Malformed)?;
    match holder.open() {
        Ok(pidfd) => match enter_by(pidfd.as_fd(), state.namespaces) {
            // It ended between the two calls.
            Err(JoinError::Enter(Errno::SRCH)) => join_by_pin(state, Errno::SRCH, dead),
            result => result,
        },
        Err(errno) => join_by_pin(state, errno, dead),
    }
}

/// Enters these namespaces of a process or of a descriptor of /proc/PID/ns.
fn enter_by(fd: BorrowedFd<'_>, namespaces: NamespaceFlags) -> Result<(), JoinError> {
    if namespaces.contains(NamespaceFlags::USER) {
        give_up_oom_protection().map_err(JoinError::OomScore)?;
    }
    setns(fd, namespaces).map_err(JoinError::Enter)
}

const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// Sets a negative oom_score_adj to 0. A process may always lower its value to the lowest that CAP_SYS_RESOURCE has
/// set (proc_pid_oom_score_adj(5)), and a child inherits that. The tasks of a user namespace would have the
/// protection of slurmd: slurmstepd sets theirs to 0 without the capability.
fn give_up_oom_protection() -> Result<(), Errno> {
    let file = rustix::fs::open(OOM_SCORE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    if read_all(file.as_fd(), &mut [0_u8; 16])?.starts_with(b"-") {
        rustix::io::write(&file, b"0")?;
    }
    Ok(())
}

/// The state file of `job`, if only root could have written it, and its size.
fn open_state(base_path: &str, job: u32) -> Result<(OwnedFd, u64), JoinError> {
    let mut path = FixedText::<PATH_MAX>::new();
    write!(path, "{base_path}/{job}/.ns/state").map_err(|_| JoinError::Path)?;
    let path = path.as_c_str().ok_or(JoinError::Path)?;
    let file =
        rustix::fs::openat2(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty(), NO_LINKS)
            .map_err(JoinError::OpenState)?;
    let stat = rustix::fs::fstat(&file).map_err(JoinError::ReadState)?;
    if !is_roots_file(&stat, 0o077) {
        return Err(JoinError::NotOurs);
    }
    Ok((file, stat.st_size.unsigned_abs()))
}

fn read_state<'a>(file: &OwnedFd, buffer: &'a mut [u8]) -> Result<State<'a>, JoinError> {
    let text = read_all(file.as_fd(), buffer).map_err(JoinError::ReadState)?;
    State::parse(text).map_err(|_| JoinError::Malformed)
}

/// Enters the namespaces that Slurm's own plugin has mounted on `<base>[/<node>]/<job>/.ns/{pid,user,mnt}`, in
/// the order in which it enters them itself. namespace/tmpfs has mounted one on `.ns`.
fn join_made_by_slurm(base_path: &str, below: &str, job: u32) -> Result<(), JoinError> {
    let kinds =
        [("/pid", NamespaceFlags::PROCESS_ID), ("/user", NamespaceFlags::USER), ("/mnt", NamespaceFlags::MOUNT)];
    let mut opened = [None, None, None];
    for ((name, kind), slot) in kinds.into_iter().zip(&mut opened) {
        match open_namespace(base_path, below, job, name) {
            Ok(fd) => *slot = Some((fd, kind)),
            // The job need not have the other two.
            Err(JoinError::OpenState(Errno::NOENT | Errno::NOTDIR)) if kind != NamespaceFlags::MOUNT => {}
            Err(JoinError::OpenState(Errno::NOTDIR)) => {
                *slot = Some((open_namespace(base_path, below, job, "")?, kind));
            }
            // This plugin makes links: the state file of the job was removed.
            Err(JoinError::OpenState(Errno::LOOP)) => return Err(JoinError::OpenState(Errno::NOENT)),
            Err(error) => return Err(error),
        }
    }
    for (fd, kind) in opened.into_iter().flatten() {
        enter_by(fd.as_fd(), kind)?;
    }
    Ok(())
}

fn open_namespace(base_path: &str, below: &str, job: u32, name: &str) -> Result<OwnedFd, JoinError> {
    let mut path = FixedText::<PATH_MAX>::new();
    write!(path, "{base_path}/{below}/{job}/.ns{name}").map_err(|_| JoinError::Path)?;
    let path = path.as_c_str().ok_or(JoinError::Path)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::openat2(CWD, path, flags, Mode::empty(), NO_LINKS).map_err(JoinError::OpenState)
}

/// Enters the namespaces by the descriptors that the extern slurmstepd keeps, if the holder is gone.
fn join_by_pin(state: &State<'_>, holder_gone: Errno, dead: DeadPid) -> Result<(), JoinError> {
    let gone = JoinError::HolderGone(holder_gone);
    if state.namespaces.contains(NamespaceFlags::PROCESS_ID) && dead == DeadPid::Fails {
        return Err(gone);
    }
    let pins = state.pins.ok_or(gone)?;
    // The paths below belong to the slurmstepd as long as it lives. This is checked again once they are
    // open.
    let stepd = state.stepd.open().map_err(|_| gone)?;
    let user = open_pin(&state.stepd, pins.user)?;
    let ipc = open_pin(&state.stepd, pins.ipc)?;
    let mount = open_pin(&state.stepd, pins.mount)?;
    if crate::sys::process::has_ended(stepd.as_fd()).unwrap_or(true) {
        return Err(gone);
    }
    for (pin, kind) in [
        (user, NamespaceFlags::USER),
        (ipc, NamespaceFlags::INTER_PROCESS_COMMUNICATION),
        (mount, NamespaceFlags::MOUNT),
    ] {
        match pin {
            Some(pin) => enter_by(pin.as_fd(), kind)?,
            None if state.namespaces.contains(kind) => return Err(gone),
            None => {}
        }
    }
    Ok(())
}

/// Descriptor `number` of the slurmstepd; None if it is negative.
fn open_pin(stepd: &Identity, number: i32) -> Result<Option<OwnedFd>, JoinError> {
    if number < 0 {
        return Ok(None);
    }
    let mut path = FixedText::<64>::new();
    write!(path, "/proc/{}/fd/{number}", stepd.pid.as_raw_nonzero()).map_err(|_| JoinError::Path)?;
    let path = path.as_c_str().ok_or(JoinError::Path)?;
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map(Some)
        .map_err(JoinError::HolderGone)
}

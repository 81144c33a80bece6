//! Ends processes that are known by what they belong to: a mount namespace, or a script.

#![forbid(unsafe_code)]

use super::identity::stat_field;
use super::listing::{is_job_id, names};
use super::{Host, Level};
use crate::sys::process::{has_ended, wait_ended};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::time::{Duration, Instant};

/// Rounds after which processes that go on forking are left.
const MAX_ROUNDS: usize = 32;

/// What waits for a dead file server does not end, and slurmd, or a job's end, waits no longer than this.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Ancestors that are looked at.
const MAX_DEPTH: usize = 256;

/// Kills every process in a mount namespace but `spare`, unless it is our own.
pub(super) fn kill_all(host: &dyn Host, job: u32, members_of: BorrowedFd<'_>, spare: Option<Pid>) {
    let (Ok(theirs), Ok(ours)) = (rustix::fs::fstat(members_of), rustix::fs::stat(c"/proc/self/ns/mnt")) else {
        return;
    };
    let id = (theirs.st_dev, theirs.st_ino);
    if id == (ours.st_dev, ours.st_ino) {
        return;
    }
    let killed = kill_every(|pid| {
        spare != Some(pid)
            && rustix::fs::stat(format!("/proc/{}/ns/mnt", pid.as_raw_nonzero()).as_str())
                .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == id)
    });
    if killed > 0 {
        host.log(Level::Info, format_args!("job {job}: killed {killed} processes that it left"));
    }
}

/// Kills what `leader`, a child that nobody has reaped, has started and not made a daemon of: its
/// descendants and the members of its session. The leader itself is the caller's.
pub(super) fn kill_started_by(leader: Pid) {
    let pid_in = |pid: Pid, field| i32::try_from(stat_field(pid, field).unwrap_or(0)).ok().and_then(Pid::from_raw);
    kill_every(|pid| {
        if pid == leader {
            return false;
        }
        let mut ancestors = std::iter::successors(pid_in(pid, 4), |parent| pid_in(*parent, 4)).take(MAX_DEPTH);
        pid_in(pid, 6) == Some(leader) || ancestors.any(|ancestor| ancestor == leader)
    });
}

/// Kills every process of which `is_member` says so; how many that were.
fn kill_every(is_member: impl Fn(Pid) -> bool) -> u32 {
    let Ok(proc) =
        rustix::fs::openat(CWD, c"/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    else {
        return 0;
    };
    let mut killed = 0_u32;
    let deadline = Instant::now().checked_add(TIMEOUT);
    let left = || deadline.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
    // One that forks while we look is found in the next round.
    for _ in 0..MAX_ROUNDS {
        let found = names(proc.as_fd(), "/proc").unwrap_or_default();
        let pids =
            found.iter().filter(|name| is_job_id(name)).filter_map(|name| name.parse().ok().and_then(Pid::from_raw));
        // All of them before the first is killed: with a parent goes what tells of the children.
        let members: Vec<OwnedFd> = pids
            .filter(|pid| is_member(*pid))
            .filter_map(|pid| {
                let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
                // Looked at again with the pidfd open: now the number means that process. What has ended,
                // and is only not reaped, is still listed.
                (is_member(pid) && !has_ended(pidfd.as_fd()).unwrap_or(true)).then_some(pidfd)
            })
            .collect();
        if members.is_empty() || left().is_zero() {
            break;
        }
        for pidfd in &members {
            killed += u32::from(rustix::process::pidfd_send_signal(pidfd, Signal::KILL).is_ok());
        }
        for pidfd in &members {
            let _ = wait_ended(pidfd.as_fd(), u32::try_from(left().as_millis()).unwrap_or(0).min(1000));
        }
    }
    killed
}

//! Ends the processes of a job, found by its mount namespace or directories, and those that a script has started.

use crate::base::listing::names_at;
use crate::base::log::{Level, Log};
use crate::base::mountinfo::{Mount, mounts, table_of};
use crate::job::record::process::stat_field;
use crate::sys::process::{has_ended, wait_ended};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// After this many rounds, processes that continue to fork are left alone.
const MAX_ROUNDS: usize = 32;

/// The longest wait: a process that waits for a dead file server does not end.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The most ancestors that are examined.
const MAX_DEPTH: usize = 256;

/// Identifies the processes of a job that has no PID namespace.
#[derive(Debug, Default)]
pub struct Members<'a> {
    /// The job's mount namespace, if it still exists.
    pub namespace: Option<BorrowedFd<'a>>,
    /// The job's directories, for processes that have made a mount namespace of their own.
    pub directories: Vec<OwnedFd>,
    /// The user of those processes. Others are left alone: an administrator may have mounted a job's directory
    /// elsewhere, and every namespace that was made since has a copy of that mount.
    pub uid: u32,
}

/// Kills every process in the job's mount namespace, and every process of its user in a namespace that was copied from
/// it. Returns false if some do not end.
pub fn kill_members(host: &dyn Log, job: u32, members: &Members<'_>) -> bool {
    let own = namespace_of("self");
    let namespace = members.namespace.and_then(|fd| rustix::fs::fstat(fd).ok()).map(|stat| (stat.st_dev, stat.st_ino));
    if namespace.is_some() && namespace == own {
        return true;
    }
    let places: Vec<Place> = members.directories.iter().filter_map(|dir| Place::of(dir.as_fd())).collect();
    let mut copies = BTreeMap::new();
    let outcome = kill_every(|pid| match namespace_of(&pid.as_raw_nonzero().to_string()) {
        None => false,
        found if found == own => false,
        found if found == namespace => true,
        Some(_) if real_uid(pid) != Some(members.uid) => false,
        Some(found) => *copies.entry(found).or_insert_with(|| places.iter().any(|place| place.is_mounted_for(pid))),
    });
    if outcome.killed > 0 {
        host.log(Level::Info, format_args!("job {job}: killed {} processes that it left", outcome.killed));
    }
    outcome.all_ended
}

/// The real uid of a process. The owner of `/proc/<pid>` is another one if the process is not dumpable.
pub(crate) fn real_uid(pid: Pid) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok())
}

fn namespace_of(process: &str) -> Option<(u64, u64)> {
    rustix::fs::stat(format!("/proc/{process}/ns/mnt").as_str()).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// The place of a directory, in the terms of `proc_pid_mountinfo(5)`.
struct Place {
    /// `major:minor`
    device: String,
    /// From the root of the file system.
    path: String,
    /// The directory that contains it, from the root of this process.
    base: String,
}

impl Place {
    fn of(directory: BorrowedFd<'_>) -> Option<Self> {
        let number = directory.as_raw_fd();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
        let path = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?.into_os_string().into_string().ok()?;
        let table = table_of("self").ok()?;
        let Mount { device, root, point, .. } = mounts(&table).find(|mount| mount.id == id)?;
        let below = if point == "/" { path.as_str() } else { path.strip_prefix(&*point)? };
        let root = if root == "/" { "" } else { &root };
        let base = path.rsplit_once('/')?.0.to_owned();
        Some(Self { device: device.to_owned(), path: format!("{root}{below}"), base })
    }

    /// Does the mount namespace of `pid` contain a mount of it, or of something in it? Mounts below the base path do
    /// not count: root's scripts made them, and the namespaces of other jobs have copies.
    fn is_mounted_for(&self, pid: Pid) -> bool {
        let table = table_of(&pid.as_raw_nonzero().to_string()).unwrap_or_default();
        mounts(&table).any(|Mount { device, root, point, .. }| {
            device == self.device
                && !point.strip_prefix(self.base.as_str()).is_some_and(|rest| rest.starts_with('/'))
                && root.strip_prefix(self.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// The processes that `leader`, a live child, has started, except daemons: its descendants and the members of its
/// session. Once it has ended, its descendants can no longer be found.
#[derive(Debug)]
pub(super) struct Started {
    leader: Pid,
    /// Those that were found first, with their start times.
    known: Vec<(Pid, u64)>,
}

impl Started {
    pub fn by(leader: Pid) -> Self {
        let mut started = Self { leader, known: Vec::new() };
        let pids = processes().into_iter().filter(|pid| started.has(*pid));
        started.known = pids.filter_map(|pid| Some((pid, stat_field(pid, 22).ok()?))).collect();
        started
    }

    fn has(&self, pid: Pid) -> bool {
        let pid_in = |pid: Pid, field| i32::try_from(stat_field(pid, field).unwrap_or(0)).ok().and_then(Pid::from_raw);
        let is_known =
            |pid: Pid| self.known.iter().any(|(known, began)| *known == pid && stat_field(pid, 22) == Ok(*began));
        let mut ancestors = std::iter::successors(pid_in(pid, 4), |parent| pid_in(*parent, 4)).take(MAX_DEPTH);
        pid != self.leader
            && (pid_in(pid, 6) == Some(self.leader)
                || is_known(pid)
                || ancestors.any(|ancestor| ancestor == self.leader || is_known(ancestor)))
    }

    /// Kills them, and the processes that they have started since, but not the leader. The caller must not have reaped
    /// the leader.
    pub fn kill(&self) {
        kill_every(|pid| self.has(pid));
    }
}

/// All processes in /proc.
fn processes() -> Vec<Pid> {
    let names = names_at("/proc").unwrap_or_default();
    names.iter().filter_map(|name| Pid::from_raw(name.parse().ok()?)).collect()
}

struct Outcome {
    killed: u32,
    all_ended: bool,
}

/// Kills every process for which `is_member` is true.
fn kill_every(is_member: impl FnMut(Pid) -> bool) -> Outcome {
    kill_every_within(TIMEOUT, is_member)
}

fn kill_every_within(timeout: Duration, mut is_member: impl FnMut(Pid) -> bool) -> Outcome {
    let mut outcome = Outcome { killed: 0, all_ended: true };
    let start = Instant::now();
    // A child that is forked during the search is found in the next round.
    for _ in 0..MAX_ROUNDS {
        // Find all of them before the first is killed: children are found by their parents. A process is recognised by
        // its start time, so that few descriptors are open at once.
        let mut members: Vec<(Pid, u64)> = Vec::new();
        let mut is_whole = true;
        for pid in processes() {
            if start.elapsed() >= timeout {
                is_whole = false;
                break;
            }
            if is_member(pid)
                && let Ok(began) = stat_field(pid, 22)
            {
                members.push((pid, began));
            }
        }
        let mut last = None;
        for (pid, began) in members {
            let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
            // A process that has ended and was not reaped is still listed.
            if stat_field(pid, 22) != Ok(began) || has_ended(pidfd.as_fd()).unwrap_or(true) {
                continue;
            }
            outcome.killed += u32::from(rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).is_ok());
            last = Some(pidfd);
        }
        let Some(last) = last else {
            outcome.all_ended = is_whole;
            return outcome;
        };
        outcome.all_ended = false;
        let left = timeout.saturating_sub(start.elapsed());
        if left.is_zero() {
            return outcome;
        }
        let _ = wait_ended(last.as_fd(), u32::try_from(left.as_millis()).unwrap_or(0).min(50));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags};

    #[test]
    #[ignore = "needs root"]
    fn a_directory_is_found_in_mount_tables_by_its_place() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("a b/_tmp")).unwrap();
        let open = |name: &str| rustix::fs::open(top.path().join(name), OFlags::PATH, Mode::empty()).unwrap();
        let place = Place::of(open("a b").as_fd()).unwrap();
        assert!(place.path.ends_with("/a b"), "{}", place.path);
        let me = rustix::process::getpid();
        assert!(!place.is_mounted_for(me));
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let elsewhere = tempfile::tempdir().unwrap();
        let is_seen_at = |point: &std::path::Path| {
            rustix::mount::mount_bind(top.path().join("a b/_tmp"), point).unwrap();
            let seen = place.is_mounted_for(me);
            rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH).unwrap();
            seen
        };
        assert!(is_seen_at(elsewhere.path()));
        std::fs::create_dir(top.path().join("script")).unwrap();
        assert!(!is_seen_at(&top.path().join("script")), "a script of root has mounted it in the base path");
    }

    #[test]
    fn an_interrupted_search_does_not_prove_that_all_have_ended() {
        let nobody = |timeout| kill_every_within(timeout, |_| false);
        assert!(nobody(TIMEOUT).all_ended);
        assert!(!nobody(Duration::ZERO).all_ended);
    }
}

//! The order in which a login enters its job's namespaces.
//!
//! pam_slurm_adopt of Slurm 25.11, 26.05 and 26.11 calls `setns(2)` for one entry after the other and stops at
//! the first that fails, but the login continues. It also continues if there is no list. (Before 26.11 sshd
//! then aborts, because a list is freed twice.) So a refusal must be an entry, not an error.
//!
//! The first entry is a PID namespace in which nothing can fork ([`dead_end`](mod@dead_end)). A login that stops
//! there or at a later entry ends, because sshd forks the process that becomes the user's. The last entry leads
//! to the PID namespace of the login, the job's or the node's. `setns(CLONE_NEWPID)` only decides where children
//! are made, so the last one counts.
//!
//! The node's PID namespace cannot be entered from the job's user namespace, which does not own it. If a job has
//! a user namespace and no PID namespace, the last entry is a pidfd of a process in both: the kernel
//! enters all that it is asked for or nothing (Linux 5.8). A login in the job's mount namespace with the node's user
//! namespace could give the user root's rights on the node, through what the job has mounted.

#![forbid(unsafe_code)]

use crate::base::error::{Doing, Error};
use crate::job::dead_end;
use crate::job::record::namespaces::Pins;
use crate::slurm::layout::NsFdMap;
use crate::sys::clone::NamespaceFlags;
use rustix::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use rustix::fs::{CWD, Mode, OFlags};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What happens to a login that cannot enter its job, for the log.
pub const ENDS: &str = "a login to the job ends at once (sshd logs \"fork of unprivileged child failed\")";

/// The first entry. Its descriptor stays open for as long as this process lives.
static DEAD_END: OnceLock<[NsFdMap; 1]> = OnceLock::new();
static WITH_DEAD_END: OnceLock<Vec<NsFdMap>> = OnceLock::new();
static MAKING: Mutex<()> = Mutex::new(());

/// The list for a login that must not continue.
pub fn dead_end() -> Result<&'static [NsFdMap], Error> {
    let _one_by_one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(made) = DEAD_END.get() {
        return Ok(made);
    }
    let namespace = dead_end::make()?.into_raw_fd();
    Ok(DEAD_END.get_or_init(|| [entry(NamespaceFlags::PROCESS_ID, namespace)]))
}

/// The list for a login to a job, from its `entries` of [`of_job`].
pub fn with_dead_end(entries: &[NsFdMap]) -> Result<&'static [NsFdMap], Error> {
    if let Some(made) = WITH_DEAD_END.get() {
        return Ok(made);
    }
    let dead_end = dead_end()?;
    let (pid, others) = entries.split_at(entries.len().min(1));
    Ok(WITH_DEAD_END.get_or_init(|| [dead_end, others, pid].concat()))
}

fn entry(namespaces: NamespaceFlags, fd: RawFd) -> NsFdMap {
    NsFdMap { kind: i32::try_from(namespaces.bits()).unwrap_or(0), fd }
}

/// The entries for a login to a job with `namespaces`: the PID namespace first, as in Slurm's plugin, and the mount
/// namespace last. `process` returns a pidfd of a process in the job's user namespace and in the node's PID
/// namespace. Descriptors that are opened here stay open for as long as this process lives.
pub fn of_job(
    pins: &Pins,
    namespaces: NamespaceFlags,
    process: impl FnOnce() -> Result<OwnedFd, Error>,
) -> Result<Vec<NsFdMap>, Error> {
    let pin = |fd: &Option<OwnedFd>, kind| {
        fd.as_ref().filter(|_| namespaces.contains(kind)).map(|fd| entry(kind, fd.as_raw_fd()))
    };
    let (pid, user) = match (pin(&pins.pid, NamespaceFlags::PROCESS_ID), pin(&pins.user, NamespaceFlags::USER)) {
        (Some(pid), user) => (pid, user),
        (None, Some(_)) => (entry(NamespaceFlags::USER | NamespaceFlags::PROCESS_ID, process()?.into_raw_fd()), None),
        (None, None) => {
            let path = "/proc/self/ns/pid";
            let node = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .doing("openat", || format!("open the node's PID namespace {path}"))?;
            (entry(NamespaceFlags::PROCESS_ID, node.into_raw_fd()), None)
        }
    };
    // The user namespace owns the others.
    let mount = entry(NamespaceFlags::MOUNT, pins.mount.as_raw_fd());
    Ok([Some(pid), user, pin(&pins.ipc, NamespaceFlags::INTER_PROCESS_COMMUNICATION), Some(mount)]
        .into_iter()
        .flatten()
        .collect())
}

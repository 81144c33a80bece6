//! The order in which a login enters its job's namespaces.
//!
//! pam_slurm_adopt of Slurm 25.11, 26.05 and 26.11 calls `setns(2)` for one entry after the other, stops at
//! the first that fails, and lets the login go on all the same. It also goes on when it got no list. (Before
//! 26.11 the sshd then aborts, because a list is freed twice.) So a refusal is an entry, not an error.
//!
//! The first entry is a PID namespace in which nothing can fork ([`dead_end`](mod@dead_end)). A login that stops there, or
//! anywhere behind it, ends: sshd forks the process that becomes the user's. The last entry brings the PID
//! namespace that the login shall have, the job's or the node's. `setns(CLONE_NEWPID)` only says where
//! children are born, so the last one counts.
//!
//! The node's PID namespace cannot be entered from the job's user namespace, which does not own it. Where a job
//! has a user namespace and no PID namespace, the last entry is a pidfd of a process in both: the kernel
//! enters all that it is asked for or nothing (Linux 5.8). A login in the job's mount namespace with the
//! node's user namespace could give the user root's rights on the node, by what the job has mounted.

#![forbid(unsafe_code)]

use crate::base::error::{Doing, Error};
use crate::job::dead_end;
use crate::job::record::namespaces::Pins;
use crate::slurm::layout::NsFdMap;
use crate::sys::clone::NamespaceFlags;
use rustix::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use rustix::fs::{CWD, Mode, OFlags};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What a login that cannot be brought into its job comes to, for the log.
pub const ENDS: &str = "a login to the job ends at once (sshd logs \"fork of unprivileged child failed\")";

/// One entry. Its descriptor stays open for as long as this process lives.
static DEAD_END: OnceLock<[NsFdMap; 1]> = OnceLock::new();
static WITH_DEAD_END: OnceLock<Vec<NsFdMap>> = OnceLock::new();
static MAKING: Mutex<()> = Mutex::new(());

/// The list for a login that must not go on.
pub fn dead_end() -> Result<&'static [NsFdMap], Error> {
    let _one_by_one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(made) = DEAD_END.get() {
        return Ok(made);
    }
    let namespace = dead_end::make()?.into_raw_fd();
    Ok(DEAD_END.get_or_init(|| [entry(NamespaceFlags::PROCESS_ID, namespace)]))
}

/// The list for a login to the job that `entries`, of [`of_job`], are of.
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

/// What a job with `namespaces` has for a login: the PID namespace first, as in Slurm's plugin, and the mount
/// namespace last. `process` gives a pidfd of a process that is in the job's user namespace and in the node's
/// PID namespace. What is opened here stays open for as long as this process lives.
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

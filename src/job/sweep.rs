//! Empties the trash in a process of its own, at the lowest priority, for which nobody waits.
//!
//! slurmd must not wait for a removal when it starts, and a job's end not for ever, so what is in the
//! trash is removed by a process that outlives both. It is a copy of a threaded process and never
//! execs (there may be nothing to exec: the plugin is a library), so between the clone and its end it
//! makes system calls only, on its own stack, as `child.rs` does. It holds nothing open but the trash
//! directories: slurmd's sockets in particular, which a restarted slurmd wants.
//!
//! Two of them never work on one trash: each takes a lock on it (`flock`), which ends with it.

#![deny(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use super::error::{Doing, Error};
use super::remove_tree::remove_tree_alone;
use super::trash;
use crate::sys::clone::{ExitSignal, NamespaceFlags, SignalsBlocked, spawn};
use crate::sys::exec::{close_from, exit_group, move_down};
use crate::sys::process::{forbid_dump, lowest_priority, reap};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FlockOperation, RawDir};
use std::mem::MaybeUninit;

/// Trash directories that one process empties; there rarely is more than one base.
pub const MAX: usize = 64;

struct SweepPlan<'a> {
    trash: &'a [OwnedFd],
}

/// Starts the process that empties `trash`, directories that only we write to.
///
/// # Errors
///
/// When it cannot be started.
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the parent may allocate")]
pub fn start(trash: &[OwnedFd]) -> Result<(), Error> {
    let intention = || "start the process that empties .trash".to_owned();
    // Numbers above those that the child gives them.
    let high: Vec<OwnedFd> = trash
        .iter()
        .take(MAX)
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, i32::try_from(MAX).unwrap_or(0)).doing("fcntl", intention))
        .collect::<Result<_, _>>()?;
    let plan = SweepPlan { trash: &high };
    let _blocked = SignalsBlocked::new().doing("rt_sigprocmask", intention)?;
    let child = spawn(NamespaceFlags::NONE, ExitSignal::Silent, &plan, detach).doing("clone3", intention)?;
    // It ends at once: init reaps the one that works.
    reap(child.pidfd.as_fd()).doing("waitid", intention)?;
    Ok(())
}

/// The first child, which ends at once, so that the second is nobody's to wait for.
extern "C" fn detach(plan: &SweepPlan<'_>) -> ! {
    let status = spawn(NamespaceFlags::NONE, ExitSignal::Sigchld, plan, sweep).map_or(1, |_| 0);
    exit_group(status)
}

/// The second child. Root, host namespaces, a copy of slurmd's or slurmstepd's memory, which is why
/// nobody may look into it.
extern "C" fn sweep(plan: &SweepPlan<'_>) -> ! {
    let _ = forbid_dump();
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir(c"/");
    let _ = rustix::thread::set_name(c"jobns-sweep");
    lowest_priority();
    // The trash directories become 0, 1, …, and everything above is closed.
    let mut count = 0;
    for trash in plan.trash {
        if let Ok(next) = move_down(trash.as_fd(), count) {
            count = next;
        }
    }
    close_from(count);
    for number in 0..count {
        empty(crate::sys::exec::low_descriptor(number));
    }
    exit_group(0)
}

fn empty(trash: BorrowedFd<'_>) {
    if rustix::fs::flock(trash, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    // Until a round removes nothing: what is left then is for an administrator, and for the next start.
    for _ in 0..1000 {
        if !round(trash) {
            return;
        }
    }
}

/// True when something was removed.
fn round(trash: BorrowedFd<'_>) -> bool {
    let _ = rustix::fs::seek(trash, rustix::fs::SeekFrom::Start(0));
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(trash, &mut buffer);
    let mut progress = false;
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name();
        if trash::is_ours(name.to_bytes()) {
            let summary = remove_tree_alone(trash, name);
            progress |= summary.files + summary.directories > 0;
        }
    }
    progress
}

//! Waiting for a process by pidfd, and what a process does to itself.
//!
//! rustix has these calls; here they get the shape that the core needs.

use crate::sys::clone::NamespaceFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, WaitId, WaitIdOptions};
use rustix::thread::CapabilitiesSecureBits;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By `exit` with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Waits until the child behind `pidfd` has ended, and reaps it.
///
/// # Errors
///
/// `waitid(2)`: ECHILD when it is not our child, or somebody else has reaped it.
pub fn reap(pidfd: BorrowedFd<'_>) -> Result<Ended, Errno> {
    // __WALL: a child whose exit signal is not SIGCHLD is waited for only when asked so.
    let options = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(linux_raw_sys::general::__WALL);
    let status =
        rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd), options))?.ok_or(Errno::CHILD)?;
    Ok(match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => Ended::Exited(status),
        (None, signal) => Ended::Killed(signal.unwrap_or(0)),
    })
}

/// True once the process behind `pidfd` has ended (`pidfd_open(2)`: it then polls readable).
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> Result<bool, Errno> {
    wait_ended(pidfd, 0)
}

/// Waits at most `milliseconds` for the end of the process behind `pidfd`; false when it lives on.
pub(crate) fn wait_ended(pidfd: BorrowedFd<'_>, milliseconds: u32) -> Result<bool, Errno> {
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    let timeout = timespec(milliseconds);
    Ok(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout)))? > 0)
}

/// Milliseconds as `poll` takes them.
#[must_use]
pub(crate) const fn timespec(milliseconds: u32) -> Timespec {
    Timespec { tv_sec: (milliseconds / 1000) as _, tv_nsec: ((milliseconds % 1000) * 1_000_000) as _ }
}

/// Enters those namespaces of the process behind `pidfd`, all of them or none (Linux 5.8), or the
/// one namespace that an nsfs descriptor stands for.
///
/// # Errors
///
/// `setns(2)`: ESRCH when the process has ended, EINVAL in a process of several threads.
pub(crate) fn setns(fd: BorrowedFd<'_>, namespaces: NamespaceFlags) -> Result<(), Errno> {
    rustix::thread::move_into_thread_name_spaces(fd, namespaces)
}

/// A new user namespace and a mount namespace that it owns, for a process of one thread.
///
/// # Errors
///
/// `unshare(2)`: EPERM or ENOSPC where ordinary users may not have user namespaces, EINVAL in a
/// process of several threads.
pub(crate) fn unshare_user_and_mounts() -> Result<(), Errno> {
    use rustix::thread::UnshareFlags;
    // SAFETY: neither flag touches the table of descriptors, so no borrowed fd changes meaning.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }
}

/// Gives this thread a root, working directory and umask of its own, which `setns(2)` asks for
/// before one thread of several may change its mount namespace.
pub(crate) fn unshare_fs() -> Result<(), Errno> {
    // SAFETY: CLONE_FS does not touch the table of descriptors, so no borrowed fd changes meaning.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }
}

/// Nobody without CAP_SYS_PTRACE over this process reads its memory (`PR_SET_DUMPABLE`).
pub(crate) fn forbid_dump() -> Result<(), Errno> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Makes the next exec of a plain file lose every capability, even as uid 0, for good:
/// `SECBIT_NOROOT` and its like, locked, and `no_new_privs`. With both, no file that could be executed
/// later gives a capability back, so there is no need to empty the bounding set, one call for each.
///
/// # Errors
///
/// `prctl(2)`: EPERM without CAP_SETPCAP in this user namespace.
pub(crate) fn drop_privileges_at_exec() -> Result<(), Errno> {
    rustix::thread::set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_no_new_privs(true)
}

/// Nice 19, and disk time only when nobody else wants any (`ioprio_set(2)`, idle class). For a
/// process that works in the background; that it cannot be set is no reason not to work.
pub(crate) fn lowest_priority() {
    let _ = rustix::process::setpriority_process(None, 19);
    // IOPRIO_WHO_PROCESS, ourselves, IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT (linux/ioprio.h).
    // SAFETY: takes no pointer.
    let _ = unsafe { super::syscall::syscall(linux_raw_sys::general::__NR_ioprio_set, [1, 0, 3 << 13, 0, 0, 0]) };
}

/// Does this kernel have BPF tokens (`BPF_TOKEN_CREATE` of `bpf(2)`, Linux 6.9)?
pub(crate) fn has_bpf_tokens() -> bool {
    // linux/bpf.h, enum bpf_cmd; struct token_create { flags, bpffs_fd }.
    const BPF_TOKEN_CREATE: usize = 36;
    let no_such_fs = [0_u32, u32::MAX];
    // SAFETY: the kernel reads the two words, which live until it returns. It cannot succeed: there
    // is no descriptor -1.
    let result = unsafe {
        super::syscall::syscall(
            linux_raw_sys::general::__NR_bpf,
            [BPF_TOKEN_CREATE, no_such_fs.as_ptr() as usize, size_of_val(&no_such_fs), 0, 0, 0],
        )
    };
    // EINVAL: no such command; ENOSYS or EPERM: no bpf for us at all.
    result == Err(Errno::BADF)
}

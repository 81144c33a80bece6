//! Waits for processes by pidfd, and changes the attributes of this process.
//!
//! These are mostly calls of rustix, in the form that the other rooms need.

use crate::sys::clone::NamespaceFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, WaitId, WaitIdOptions};
use rustix::thread::CapabilitiesSecureBits;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It called `exit` with this status.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

/// Waits until the child of `pidfd` has ended, and reaps it. ECHILD: it is not a child of this process, or was
/// already reaped.
pub fn reap(pidfd: BorrowedFd<'_>) -> Result<Ended, Errno> {
    // __WALL also waits for a child whose exit signal is not SIGCHLD.
    let options = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(linux_raw_sys::general::__WALL);
    let status =
        rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd), options))?.ok_or(Errno::CHILD)?;
    Ok(match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => Ended::Exited(status),
        (None, signal) => Ended::Killed(signal.unwrap_or(0)),
    })
}

/// Has the process of `pidfd` ended? The descriptor is then readable (`pidfd_open(2)`).
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> Result<bool, Errno> {
    wait_ended(pidfd, 0)
}

/// Waits at most `milliseconds` for the end of the process of `pidfd`. Returns whether it has ended.
pub(crate) fn wait_ended(pidfd: BorrowedFd<'_>, milliseconds: u32) -> Result<bool, Errno> {
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    let timeout = timespec(milliseconds);
    Ok(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout)))? > 0)
}

/// Milliseconds as a timeout for `poll`.
#[must_use]
pub(crate) const fn timespec(milliseconds: u32) -> Timespec {
    Timespec { tv_sec: (milliseconds / 1000) as _, tv_nsec: ((milliseconds % 1000) * 1_000_000) as _ }
}

/// Enters these namespaces of a process, if `fd` is its pidfd, all or none of them (Linux 5.8). Or enters the
/// namespace of which `fd` is a descriptor.
///
/// # Errors
///
/// `setns(2)`: ESRCH if the process has ended; EINVAL if this process has several threads and the namespace is a user
/// namespace, or a mount namespace and they share the working directory.
pub(crate) fn setns(fd: BorrowedFd<'_>, namespaces: NamespaceFlags) -> Result<(), Errno> {
    rustix::thread::move_into_thread_name_spaces(fd, namespaces)
}

/// Moves this process, which must have one thread, to a new user namespace and a mount namespace that it owns.
///
/// # Errors
///
/// `unshare(2)`: EPERM or ENOSPC if ordinary users may not have user namespaces.
pub(crate) fn unshare_user_and_mounts() -> Result<(), Errno> {
    use rustix::thread::UnshareFlags;
    // SAFETY: neither flag touches the table of descriptors, so no borrowed fd changes meaning.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }
}

/// Stops sharing root, working directory and umask with other threads. `setns(2)` requires this before one of
/// several threads may change its mount namespace.
pub(crate) fn unshare_fs() -> Result<(), Errno> {
    // SAFETY: CLONE_FS does not touch the table of descriptors, so no borrowed fd changes meaning.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }
}

/// Only processes with CAP_SYS_PTRACE over this process can then read its memory (`PR_SET_DUMPABLE`).
pub(crate) fn forbid_dump() -> Result<(), Errno> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Makes the next exec of a plain file drop every capability for good, even as uid 0: sets `SECBIT_NOROOT`
/// and similar bits, locked, and `no_new_privs`. With both, no file that is executed later can give a
/// capability back, so the bounding set need not be emptied, which takes one call for each capability.
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

/// Sets nice 19 and the idle I/O class (`ioprio_set(2)`), for a process that works in the background. Errors
/// are ignored.
pub(crate) fn lowest_priority() {
    let _ = rustix::process::setpriority_process(None, 19);
    // IOPRIO_WHO_PROCESS, ourselves, IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT (linux/ioprio.h).
    // SAFETY: the call takes no pointer.
    let _ = unsafe { super::syscall::syscall(linux_raw_sys::general::__NR_ioprio_set, [1, 0, 3 << 13, 0, 0, 0]) };
}

/// Does this kernel have BPF tokens (`BPF_TOKEN_CREATE` of `bpf(2)`, Linux 6.9)?
pub(crate) fn has_bpf_tokens() -> bool {
    // linux/bpf.h, enum bpf_cmd; struct token_create { flags, bpffs_fd }.
    const BPF_TOKEN_CREATE: usize = 36;
    let no_such_fs = [0_u32, u32::MAX];
    // SAFETY: the kernel reads the two words, which live until it returns. The call cannot succeed, since
    // there is no descriptor -1.
    let result = unsafe {
        super::syscall::syscall(
            linux_raw_sys::general::__NR_bpf,
            [BPF_TOKEN_CREATE, no_such_fs.as_ptr() as usize, size_of_val(&no_such_fs), 0, 0, 0],
        )
    };
    // EINVAL: the command is unknown. ENOSYS or EPERM: this process cannot use bpf at all.
    result == Err(Errno::BADF)
}

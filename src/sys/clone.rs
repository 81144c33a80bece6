//! `clone3(2)`: a child in new namespaces, with a pidfd, in a copy of this process.

use super::syscall::syscall;
use linux_raw_sys::general::{
    __NR_clone3, CLONE_CLEAR_SIGHAND, CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_PARENT,
    CLONE_PIDFD, clone_args,
};
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Pid;

/// The namespaces that a child gets of its own, as the bits of `clone(2)` and `setns(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceFlags(u32);

impl NamespaceFlags {
    pub const NONE: Self = Self(0);
    pub const MOUNT: Self = Self(CLONE_NEWNS);
    pub const PID: Self = Self(CLONE_NEWPID);
    pub const USER: Self = Self(CLONE_NEWUSER);
    pub const IPC: Self = Self(CLONE_NEWIPC);

    /// Keeps only the four bits that this type knows.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUSER | CLONE_NEWIPC))
    }

    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// What the parent's exit notification for a child is (`clone(2)`, "the child termination signal").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitSignal {
    /// SIGCHLD, as after fork. Slurm's own `waitpid` calls see such a child.
    Sigchld,
    /// None: only a wait with `__WALL` by us sees the child, so the host's handlers and its
    /// `waitpid(-1)` do not.
    Silent,
    /// The child is our parent's, as we are (`CLONE_PARENT`), and its end is told as ours is.
    Parents,
}

/// A child that `clone3` has made.
#[derive(Debug)]
pub struct Child {
    pub pid: Pid,
    /// close-on-exec, as the kernel makes it.
    pub pidfd: OwnedFd,
}

/// Makes a child, as `fork` does, in new `namespaces`, and runs `child(plan)` in it.
///
/// Signal handlers of this process are not inherited (`CLONE_CLEAR_SIGHAND`, Linux 5.5). The child
/// is a copy of a process in which other threads may have held any lock, so `child` must make
/// nothing but system calls on what `plan` holds; it is a plain function and not a closure so that
/// a reader sees all that it can reach.
///
/// # Errors
///
/// `clone3(2)`: ENOSPC and EUSERS for the limits below `/proc/sys/user`, EPERM, EAGAIN, ENOMEM,
/// ENOSYS where a filter hides the call.
pub fn spawn<P>(
    namespaces: NamespaceFlags,
    exit_signal: ExitSignal,
    plan: &P,
    child: extern "C" fn(&P) -> !,
) -> Result<Child, Errno> {
    let mut pidfd: i32 = -1;
    let parent = if exit_signal == ExitSignal::Parents { CLONE_PARENT } else { 0 };
    let args = clone_args {
        flags: u64::from(namespaces.bits() | CLONE_PIDFD | parent) | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: match exit_signal {
            ExitSignal::Sigchld => linux_raw_sys::general::SIGCHLD.into(),
            // With CLONE_PARENT the kernel takes no other.
            ExitSignal::Silent | ExitSignal::Parents => 0,
        },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: `args` is a live clone_args of exactly the size given, and `pidfd` is the only memory
    // that the kernel writes, before it returns. Without CLONE_VM and with a null stack the child
    // gets a copy of this frame, as with fork, and leaves it only through `child`, which does not
    // return: no destructor of the parent runs twice.
    let pid = unsafe { syscall(__NR_clone3, [(&raw const args) as usize, size_of::<clone_args>(), 0, 0, 0, 0]) }?;
    match Pid::from_raw(i32::try_from(pid).unwrap_or(0)) {
        None => child(plan),
        Some(pid) => {
            // SAFETY: the kernel stored a new descriptor there (CLONE_PIDFD), and nobody else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid, pidfd })
        }
    }
}

/// All signals of this thread are blocked while a value of this type lives, so that a copy of the
/// thread made by [`spawn`] starts with all of them blocked.
#[derive(Debug)]
pub struct SignalsBlocked {
    before: u64,
}

impl SignalsBlocked {
    /// # Errors
    ///
    /// None that `rt_sigprocmask(2)` documents for valid arguments.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self { before: set_signal_mask(u64::MAX)? })
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // There is nothing to do about a failure, and none is documented.
        let _ = set_signal_mask(self.before);
    }
}

/// Sets this thread's mask of blocked signals (bit n-1 is signal n) and returns the one before.
///
/// # Errors
///
/// None that `rt_sigprocmask(2)` documents for valid arguments.
pub fn set_signal_mask(mask: u64) -> Result<u64, Errno> {
    let mut before: u64 = 0;
    // SAFETY: both pointers are to live 8-byte values, the size that the kernel is told.
    unsafe {
        syscall(
            linux_raw_sys::general::__NR_rt_sigprocmask,
            [
                linux_raw_sys::general::SIG_SETMASK as usize,
                (&raw const mask) as usize,
                (&raw mut before) as usize,
                size_of::<u64>(),
                0,
                0,
            ],
        )
    }?;
    Ok(before)
}

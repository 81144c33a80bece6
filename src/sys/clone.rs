//! `clone3(2)`: a child in new namespaces, with a pidfd, in a copy of this process.

use crate::sys::syscall::syscall;
use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general::{
    __NR_clone3, CLONE_CHILD_CLEARTID, CLONE_CLEAR_SIGHAND, CLONE_PIDFD, CLONE_VM, clone_args,
};
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Pid;
/// Kinds of namespaces, as the bits of `clone(2)` and `setns(2)`.
pub use rustix::thread::ThreadNameSpaceType as NamespaceFlags;

/// The namespaces of a job for these bits. Other bits are ignored.
pub(crate) fn namespaces_of_job(bits: u32) -> NamespaceFlags {
    let of_job = NamespaceFlags::MOUNT
        | NamespaceFlags::PROCESS_ID
        | NamespaceFlags::USER
        | NamespaceFlags::INTER_PROCESS_COMMUNICATION;
    NamespaceFlags::from_bits_retain(bits) & of_job
}

/// A child of `clone3`.
#[derive(Debug)]
pub struct Child {
    pub pid: Pid,
    /// The kernel makes it close-on-exec.
    pub pidfd: OwnedFd,
}

/// Makes a child, as `fork` does, in new `namespaces`, and runs `child(plan)` in it.
///
/// The child does not inherit signal handlers (`CLONE_CLEAR_SIGHAND`, Linux 5.5). It is a copy of a
/// process in which other threads may have held any lock, so `child` must only make system calls with
/// the values in `plan`. It is a plain function and not a closure, so that a reader sees everything that
/// it can reach.
///
/// The parent gets no SIGCHLD for a child that ends before it executes a program, and only a wait with `__WALL` sees
/// it. `execve(2)` makes it an ordinary child. slurmd and the extern slurmstepd do not take it away from [`reap`]: both
/// wait only for children that they have made themselves.
///
/// [`reap`]: crate::sys::process::reap
///
/// # Errors
///
/// `clone3(2)`: ENOSPC and EUSERS for the limits below `/proc/sys/user`, EPERM, EAGAIN, ENOMEM,
/// ENOSYS if a filter hides the call.
pub fn spawn<P>(namespaces: NamespaceFlags, plan: &P, child: extern "C" fn(&P) -> !) -> Result<Child, Errno> {
    let mut pidfd: i32 = -1;
    let args = clone_args {
        flags: u64::from(namespaces.bits() | CLONE_PIDFD) | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: 0,
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
            // SAFETY: the kernel stored a new descriptor there (CLONE_PIDFD), and nothing else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid, pidfd })
        }
    }
}

/// The size of the stack of a child that shares memory: more than enough for half a dozen frames of
/// `job/make/child.rs`.
const STACK_SIZE: usize = 64 * 1024;
/// The guard below the stack, at least one page (64 KiB with some kernels of arm64), so that an overflow does not
/// write to other memory. (Before Linux 5.16, a core dump ends all processes that share the memory: the
/// slurmstepd, and with it the job.)
const GUARD_SIZE: usize = 64 * 1024;

/// Memory for a child's stack, unmapped on drop.
#[derive(Debug)]
struct Stack(NonNull<c_void>);

impl Stack {
    fn new() -> Result<Self, Errno> {
        use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
        let flags = MapFlags::PRIVATE | MapFlags::STACK;
        // SAFETY: this makes a new mapping, at an address that the kernel chooses.
        let at = unsafe {
            mmap_anonymous(core::ptr::null_mut(), GUARD_SIZE + STACK_SIZE, ProtFlags::READ | ProtFlags::WRITE, flags)
        }?;
        let stack = Self(NonNull::new(at).ok_or(Errno::NOMEM)?);
        // SAFETY: these are the first pages of that mapping, which nothing uses yet.
        unsafe { mprotect(at, GUARD_SIZE, MprotectFlags::empty()) }?;
        Ok(stack)
    }

    fn bottom(&self) -> usize {
        self.0.as_ptr() as usize + GUARD_SIZE
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: this is the mapping of `new`. `SharingChild` keeps it while the child may use it.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr(), GUARD_SIZE + STACK_SIZE) };
    }
}

/// A child that shares this process's memory until it execs or ends, as after vfork, while this
/// process continues to run. Its plan and its stack are kept until then.
///
/// A copy of the memory, as fork makes it, costs more than everything that the child does: the page tables
/// of the whole slurmstepd are copied, and then every page that is written to. With [`spawn`] in its place, creating a
/// job takes 0.2 ms more: 0.54 to 0.57 of the time of Slurm's plugin with a user namespace, where it takes 0.45 to 0.49
/// (`tests/bench --only lives`).
#[derive(Debug)]
pub(crate) struct SharingChild<P: 'static> {
    pub child: Child,
    /// The memory that the child uses. It is not dropped while the child may use it.
    used: Option<(Box<P>, Stack)>,
    /// When the child execs or ends, the kernel sets this to 0 and wakes the threads that wait for it
    /// (CLONE_CHILD_CLEARTID, clone(2)).
    sharing: Option<Box<AtomicU32>>,
}

/// Like [`spawn`], but the parent gets SIGCHLD, and the child shares memory. It has its own descriptors,
/// signal handlers, working directory and credentials.
///
/// `child` must write only to its stack: other threads use the same memory meanwhile.
pub(crate) fn spawn_sharing_memory<P: Sync + 'static>(
    namespaces: NamespaceFlags,
    plan: Box<P>,
    child: extern "C" fn(&P) -> !,
) -> Result<SharingChild<P>, Errno> {
    let stack = Stack::new()?;
    let sharing = Box::new(AtomicU32::new(1));
    let mut pidfd: i32 = -1;
    let args = clone_args {
        flags: u64::from(namespaces.bits() | CLONE_PIDFD | CLONE_VM | CLONE_CHILD_CLEARTID) | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: sharing.as_ptr() as u64,
        parent_tid: 0,
        exit_signal: linux_raw_sys::general::SIGCHLD.into(),
        stack: stack.bottom() as u64,
        stack_size: STACK_SIZE as u64,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: `args` is a live clone_args of exactly the size given; the kernel writes to `pidfd`
    // before it returns, and to `sharing` when the child stops sharing memory. The child starts on
    // its own stack with `plan`, which it only reads. Plan, stack and `sharing` are freed only
    // when `sharing` is 0 (`SharingChild`), so the child never uses freed memory.
    let pid = unsafe { clone3_on_stack(&args, core::ptr::from_ref(plan.as_ref()).cast(), child as *const ()) }?;
    let pid = Pid::from_raw(i32::try_from(pid).unwrap_or(0)).ok_or(Errno::CHILD)?;
    // SAFETY: the kernel stored a new descriptor there (CLONE_PIDFD), and nothing else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(SharingChild { child: Child { pid, pidfd }, used: Some((plan, stack)), sharing: Some(sharing) })
}

/// clone3 for a child on another stack. The child cannot return into this frame, which is on the old stack,
/// so the instructions after the system call call `child(plan)`.
///
/// # Safety
///
/// `args` has a stack; `child` is an `extern "C" fn(&P) -> !` for the `P` that `plan` points to.
unsafe fn clone3_on_stack(args: &clone_args, plan: *const c_void, child: *const ()) -> Result<usize, Errno> {
    let ret: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `syscall`. In the child, rsp is the top of its stack, 16-byte aligned as a call
    // requires, and the other registers are those of the parent. The child never reaches label 2.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {plan}",
            "call {child}",
            "ud2",
            "2:",
            plan = in(reg) plan,
            child = in(reg) child,
            inlateout("rax") __NR_clone3 as usize => ret,
            in("rdi") core::ptr::from_ref(args),
            in("rsi") size_of::<clone_args>(),
            // Not lateout: `plan` and `child` are used after the system call, which overwrites these.
            out("rcx") _, out("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above, with sp instead of rsp.
    unsafe {
        core::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, {plan}",
            "blr {child}",
            "brk #1",
            "2:",
            plan = in(reg) plan,
            child = in(reg) child,
            in("x8") __NR_clone3 as usize,
            inlateout("x0") core::ptr::from_ref(args) => ret,
            in("x1") size_of::<clone_args>(),
            out("x30") _,
        );
    }
    if ret < 0 { Err(Errno::from_raw_os_error(ret.unsigned_abs() as i32)) } else { Ok(ret.cast_unsigned()) }
}

impl<P: 'static> SharingChild<P> {
    /// Waits at most `milliseconds` until the child has exec'd or ended. Returns whether it has.
    pub(crate) fn wait_for_exec(&self, milliseconds: u32) -> bool {
        let Some(sharing) = &self.sharing else { return true };
        let timeout = super::process::timespec(milliseconds);
        loop {
            let value = sharing.load(Ordering::Acquire);
            if value == 0 {
                return true;
            }
            match rustix::thread::futex::wait(sharing, rustix::thread::futex::Flags::empty(), value, Some(&timeout)) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return sharing.load(Ordering::Acquire) == 0,
            }
        }
    }
}

impl<P: 'static> Drop for SharingChild<P> {
    fn drop(&mut self) {
        // If the child still shares memory, what it uses is leaked rather than freed.
        if !self.wait_for_exec(0) {
            core::mem::forget((self.used.take(), self.sharing.take()));
        }
    }
}

/// While a value of this type exists, all signals of this thread are blocked, so that a child of
/// [`spawn`] starts with all of them blocked.
#[derive(Debug)]
pub struct SignalsBlocked {
    before: u64,
}

impl SignalsBlocked {
    pub fn new() -> Result<Self, Errno> {
        Ok(Self { before: set_signal_mask(u64::MAX)? })
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // No failure is documented.
        let _ = set_signal_mask(self.before);
    }
}

/// Sets this thread's mask of blocked signals (bit n-1 is signal n) and returns the one before.
pub(crate) fn set_signal_mask(mask: u64) -> Result<u64, Errno> {
    let mut before: u64 = 0;
    // SAFETY: both pointers are to live 8-byte values, and 8 is the size that is passed.
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

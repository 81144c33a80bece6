//! The instruction that enters the kernel.
//!
//! libc's `syscall()` is not used because it writes `errno` in thread-local storage, which in the `clone3`
//! child belongs to a thread that does not exist there.

use core::arch::asm;
use rustix::io::Errno;

/// Makes system call `number` with up to six arguments (`syscall(2)`).
///
/// # Safety
///
/// The arguments must be valid for that system call: the kernel reads and writes through those that
/// are pointers.
#[inline]
pub(super) unsafe fn syscall(number: u32, args: [usize; 6]) -> Result<usize, Errno> {
    let ret: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the x86-64 convention (syscall(2)): number in rax, arguments in rdi, rsi, rdx, r10,
    // r8, r9. The kernel overwrites only rax, rcx and r11. By default the compiler assumes effects on memory.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as usize => ret,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the arm64 convention (syscall(2)): number in x8, arguments in x0 to x5. The kernel
    // overwrites only x0.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number as usize,
            inlateout("x0") args[0] => ret,
            in("x1") args[1], in("x2") args[2], in("x3") args[3],
            in("x4") args[4], in("x5") args[5],
            options(nostack)
        );
    }
    // The values -4095..=-1 are errors (err.h, MAX_ERRNO).
    if (-4095..0).contains(&ret) {
        Err(Errno::from_raw_os_error(ret.unsigned_abs() as i32))
    } else {
        Ok(ret.cast_unsigned())
    }
}

/// A system call that not every kernel has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub name: &'static str,
    number: u32,
    /// The release of Linux that has it, with the flags that are used here.
    pub since: &'static str,
}

/// Those that make, enter and remove a job's namespaces, apart from those that every supported libc needs.
pub(crate) const CALLS: [Call; 11] = {
    use linux_raw_sys::general as numbers;
    const fn call(name: &'static str, number: u32, since: &'static str) -> Call {
        Call { name, number, since }
    }
    [
        call("pidfd_send_signal", numbers::__NR_pidfd_send_signal, "5.1"),
        call("open_tree", numbers::__NR_open_tree, "5.2"),
        call("move_mount", numbers::__NR_move_mount, "5.2"),
        call("fsopen", numbers::__NR_fsopen, "5.2"),
        call("fsconfig", numbers::__NR_fsconfig, "5.2"),
        call("fsmount", numbers::__NR_fsmount, "5.2"),
        call("pidfd_open", numbers::__NR_pidfd_open, "5.3"),
        call("clone3", numbers::__NR_clone3, "5.5"),
        call("openat2", numbers::__NR_openat2, "5.6"),
        call("close_range", numbers::__NR_close_range, "5.11"),
        call("mount_setattr", numbers::__NR_mount_setattr, "5.12"),
    ]
};

impl Call {
    /// Makes the call with arguments that no kernel accepts.
    ///
    /// # Errors
    ///
    /// ENOSYS: the kernel does not have it, or a filter hides it. EPERM: a filter refuses it, or this process may not
    /// make it.
    pub(crate) fn try_out(self) -> Result<(), Errno> {
        // SAFETY: -1 is no descriptor, no address, no valid set of flags and no size of a structure, so each of
        // `CALLS` fails before it reads or writes through a pointer, and changes nothing.
        match unsafe { syscall(self.number, [usize::MAX; 6]) } {
            Err(errno @ (Errno::NOSYS | Errno::PERM)) => Err(errno),
            _ => Ok(()),
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!(
    "slurm-jobns supports only x86_64 and aarch64; add the system call instruction of another architecture to src/sys/syscall.rs and src/sys/holder_image.rs"
);

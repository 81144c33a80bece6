//! Executes another program, or ends the process.

use crate::sys::clone::set_signal_mask;
use crate::sys::syscall::syscall;
use core::ffi::{CStr, c_char};
use linux_raw_sys::general::{__NR_close_range, __NR_execveat, __NR_exit_group, AT_EMPTY_PATH};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// linux/close_range.h (Linux 5.11)
const CLOSE_RANGE_CLOEXEC: usize = 1 << 2;

/// A null-terminated array of C strings for `execve(2)`, made before the clone.
///
/// It is only read, so a child that shares memory may use it.
#[derive(Debug)]
pub(crate) struct CStringArray {
    pointers: Vec<*const c_char>,
    /// Owns the strings that `pointers` points to. The heap block of a CString does not move with it.
    _strings: Vec<CString>,
}

// SAFETY: the pointers are to strings that the value owns and that nothing writes to.
unsafe impl Send for CStringArray {}
// SAFETY: as above.
unsafe impl Sync for CStringArray {}

impl CStringArray {
    #[must_use]
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(core::ptr::null());
        Self { pointers, _strings: strings }
    }
}

/// Executes the program at `path` (relative to `dir`), or the file `dir` if `path` is empty.
///
/// Returns only on failure, with the error (`execveat(2)`).
pub(crate) fn execveat(dir: BorrowedFd<'_>, path: &CStr, argv: &CStringArray, envp: &CStringArray) -> Errno {
    // SAFETY: `path` is a C string, and both arrays end with a null pointer and own their strings
    // (`CStringArray`). The kernel only reads them.
    let result = unsafe {
        syscall(
            __NR_execveat,
            [
                dir.as_raw_fd() as usize,
                path.as_ptr() as usize,
                argv.pointers.as_ptr() as usize,
                envp.pointers.as_ptr() as usize,
                if path.is_empty() { AT_EMPTY_PATH as usize } else { 0 },
                0,
            ],
        )
    };
    result.err().unwrap_or(Errno::IO)
}

/// Lets a command start with this mask of blocked signals (bit n-1 is signal n).
pub fn with_signal_mask(command: &mut Command, mask: u64) -> &mut Command {
    // SAFETY: between fork and exec it makes one system call and allocates nothing.
    unsafe { command.pre_exec(move || Ok(set_signal_mask(mask).map(|_| ())?)) }
}

/// Ends this process at once, without exit handlers and destructors.
pub fn exit_group(status: i32) -> ! {
    loop {
        // SAFETY: the call takes no pointer and does not return.
        let _ = unsafe { syscall(__NR_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Marks every descriptor from `first` up as close-on-exec (`close_range(2)`, Linux 5.11).
pub(crate) fn cloexec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: the call takes no pointer, and the mark changes nothing before an exec.
    unsafe { syscall(__NR_close_range, [first as usize, u32::MAX as usize, CLOSE_RANGE_CLOEXEC, 0, 0, 0]) }?;
    Ok(())
}

/// The number of a descriptor that a child inherits in its copy of the table and should close.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherited(i32);

impl Inherited {
    pub(crate) fn new(fd: impl AsFd) -> Self {
        Self(fd.as_fd().as_raw_fd())
    }

    /// Closes it in the child. The parent's descriptor stays open.
    pub(crate) fn close_in_child(self) {
        // SAFETY: this is called in a clone3 child, whose table is a copy, and no object there owns the number.
        let _ = unsafe { syscall(linux_raw_sys::general::__NR_close, [self.0 as usize, 0, 0, 0, 0, 0]) };
    }
}

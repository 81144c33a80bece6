//! `mount_setattr(2)` (Linux 5.12), which rustix does not have.

use crate::sys::syscall::syscall;
use core::ffi::CStr;
use linux_raw_sys::general::{__NR_mount_setattr, AT_EMPTY_PATH, AT_RECURSIVE, mount_attr};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags};

fn mount_setattr(fd: BorrowedFd<'_>, path: &CStr, flags: u32, attr: &mount_attr) -> Result<(), Errno> {
    // SAFETY: `path` is a C string, `attr` a live mount_attr of the size given; the kernel only
    // reads both.
    unsafe {
        syscall(
            __NR_mount_setattr,
            [
                fd.as_raw_fd() as usize,
                path.as_ptr() as usize,
                flags as usize,
                core::ptr::from_ref(attr) as usize,
                size_of::<mount_attr>(),
                0,
            ],
        )
    }?;
    Ok(())
}

/// Changes the flags of a detached mount, `clear` before `set`, and takes it out of every peer group.
///
/// Flags that the mount has already stay: a clone of a `nosuid` mount is `nosuid` whatever is
/// asked here.
pub fn set_attributes(mount: BorrowedFd<'_>, set: MountAttrFlags, clear: MountAttrFlags) -> Result<(), Errno> {
    let attr = mount_attr {
        attr_set: set.bits().into(),
        attr_clr: clear.bits().into(),
        ..propagation_only(MountPropagationFlags::PRIVATE)
    };
    mount_setattr(mount, c"", AT_EMPTY_PATH, &attr)
}

fn propagation_only(propagation: MountPropagationFlags) -> mount_attr {
    mount_attr { attr_set: 0, attr_clr: 0, propagation: propagation.bits().into(), userns_fd: 0 }
}

/// Takes a detached mount and all that is mounted below it out of every peer group.
pub fn make_private(tree: BorrowedFd<'_>) -> Result<(), Errno> {
    mount_setattr(tree, c"", AT_EMPTY_PATH | AT_RECURSIVE, &propagation_only(MountPropagationFlags::PRIVATE))
}

/// Sets the propagation of every mount below "/" of this mount namespace in one step, so that
/// there is no moment in which a part of it still is a peer of the host's.
pub fn set_propagation_of_root(propagation: MountPropagationFlags) -> Result<(), Errno> {
    mount_setattr(rustix::fs::CWD, c"/", AT_RECURSIVE, &propagation_only(propagation))
}

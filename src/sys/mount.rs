//! `mount_setattr(2)` (Linux 5.12), which rustix lacks.

use crate::sys::syscall::syscall;
use core::ffi::CStr;
use linux_raw_sys::general::{__NR_mount_setattr, AT_EMPTY_PATH, AT_RECURSIVE, mount_attr};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, MoveMountFlags};

fn mount_setattr(fd: BorrowedFd<'_>, path: &CStr, flags: u32, attr: &mount_attr) -> Result<(), Errno> {
    // SAFETY: `path` is a C string, `attr` is a live mount_attr of the size given. The kernel only
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

/// Changes the flags of a detached mount, `clear` before `set`, and removes it from its peer group.
///
/// Other flags of the mount stay: a clone of a `nosuid` mount is always `nosuid`.
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

/// Removes a detached mount and all mounts below it from their peer groups.
pub fn make_private(tree: BorrowedFd<'_>) -> Result<(), Errno> {
    mount_setattr(tree, c"", AT_EMPTY_PATH | AT_RECURSIVE, &propagation_only(MountPropagationFlags::PRIVATE))
}

/// Sets the propagation of all mounts of this mount namespace in one step, so that at no time only some of
/// them are still peers of the host's mounts.
pub fn set_propagation_of_root(propagation: MountPropagationFlags) -> Result<(), Errno> {
    mount_setattr(rustix::fs::CWD, c"/", AT_RECURSIVE, &propagation_only(propagation))
}

/// Attaches a detached mount at `target`, which must be a directory or a file like the root of the mount.
pub fn attach_to(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", target, c"", flags)
}

//! `mount_setattr(2)` (Linux 5.12), which rustix does not have.

use crate::sys::syscall::syscall;
use core::ffi::CStr;
use linux_raw_sys::general::{
    __NR_mount_setattr, AT_EMPTY_PATH, AT_RECURSIVE, MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME, mount_attr,
};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

/// `MS_PRIVATE` and `MS_SLAVE` of `mount(2)`, which mount_setattr takes as propagation types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// No mount event comes in or goes out.
    Private,
    /// The host's new mounts appear here; nothing goes back.
    Slave,
}

impl Propagation {
    const fn bits(self) -> u64 {
        match self {
            Self::Private => 1 << 18,
            Self::Slave => 1 << 19,
        }
    }
}

/// The per-mount flags of `mount_setattr(2)` that a directory of a job can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
    pub read_only: bool,
    pub nodiratime: bool,
    /// None: as it is.
    pub atime: Option<Atime>,
}

/// How access times are kept on a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atime {
    Relatime,
    Noatime,
}

impl Attributes {
    /// The bits that `fsmount(2)` and `mount_setattr(2)` take in `attr_set`.
    #[must_use]
    pub fn bits(self) -> u32 {
        let mut bits = 0;
        for (on, bit) in [
            (self.nosuid, MOUNT_ATTR_NOSUID),
            (self.nodev, MOUNT_ATTR_NODEV),
            (self.noexec, MOUNT_ATTR_NOEXEC),
            (self.read_only, MOUNT_ATTR_RDONLY),
            (self.nodiratime, MOUNT_ATTR_NODIRATIME),
            (self.atime == Some(Atime::Noatime), MOUNT_ATTR_NOATIME),
            (self.atime == Some(Atime::Relatime), MOUNT_ATTR_RELATIME),
        ] {
            if on {
                bits |= bit;
            }
        }
        bits
    }
}

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

/// Adds `attributes` to a detached mount and takes it out of every peer group.
///
/// Flags that the mount has already stay: a clone of a `nosuid` mount is `nosuid` whatever is
/// asked here.
///
/// # Errors
///
/// `mount_setattr(2)`.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: Attributes) -> Result<(), Errno> {
    let attr = mount_attr {
        attr_set: attributes.bits().into(),
        // The kernel wants the whole access-time field cleared when a part of it is set.
        attr_clr: if attributes.atime.is_some() { MOUNT_ATTR__ATIME.into() } else { 0 },
        propagation: Propagation::Private.bits(),
        userns_fd: 0,
    };
    mount_setattr(mount, c"", AT_EMPTY_PATH, &attr)
}

/// Takes a detached mount and all that is mounted below it out of every peer group.
///
/// # Errors
///
/// `mount_setattr(2)`.
pub fn make_private(tree: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = mount_attr { attr_set: 0, attr_clr: 0, propagation: Propagation::Private.bits(), userns_fd: 0 };
    mount_setattr(tree, c"", AT_EMPTY_PATH | AT_RECURSIVE, &attr)
}

/// Sets the propagation of every mount below "/" of this mount namespace in one step, so that
/// there is no moment in which a part of it still is a peer of the host's.
///
/// # Errors
///
/// `mount_setattr(2)`.
pub fn set_propagation_of_root(propagation: Propagation) -> Result<(), Errno> {
    let attr = mount_attr { attr_set: 0, attr_clr: 0, propagation: propagation.bits(), userns_fd: 0 };
    mount_setattr(rustix::fs::CWD, c"/", AT_RECURSIVE, &attr)
}

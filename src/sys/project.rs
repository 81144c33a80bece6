//! The project of a directory, by which ext4 and XFS count quotas (`ioctl_fs(2)`, FS_IOC_FSGETXATTR).

use core::ffi::c_void;
use linux_raw_sys::general::fsxattr;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

const GET: Opcode = opcode::read::<fsxattr>(b'X', 31);
const SET: Opcode = opcode::write::<fsxattr>(b'X', 32);

struct Attributes(Opcode, fsxattr);

// SAFETY: both calls take a pointer to a `struct fsxattr` (linux/fs.h), which lives as long as the call.
unsafe impl Ioctl for Attributes {
    type Output = fsxattr;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.0
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.1).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, pointer: *mut c_void) -> rustix::io::Result<fsxattr> {
        // SAFETY: it is the pointer of `as_ptr`.
        Ok(unsafe { pointer.cast::<fsxattr>().read() })
    }
}

fn call(fd: BorrowedFd<'_>, opcode: Opcode, attributes: fsxattr) -> Result<fsxattr, Errno> {
    // SAFETY: `Attributes` is the type for these two opcodes, the only ones that are passed.
    unsafe { ioctl(fd, Attributes(opcode, attributes)) }
}

const INHERIT: u32 = linux_raw_sys::general::FS_XFLAG_PROJINHERIT;

fn attributes(fd: BorrowedFd<'_>) -> Result<fsxattr, Errno> {
    // SAFETY: a structure of integers, for which zeros are a value.
    call(fd, GET, unsafe { core::mem::zeroed() })
}

/// The project that what is made in `dir` gets, if it gets one.
///
/// # Errors
///
/// `ioctl(2)`: ENOTTY where the file system has no projects.
pub fn inherited(dir: BorrowedFd<'_>) -> Result<Option<u32>, Errno> {
    let fsxattr { fsx_projid, fsx_xflags, .. } = attributes(dir)?;
    Ok((fsx_xflags & INHERIT != 0 && fsx_projid != 0).then_some(fsx_projid))
}

/// Gives `dir` the project `id`, also for what is made in it from now on.
///
/// # Errors
///
/// `ioctl(2)`: EOPNOTSUPP where the file system has no projects.
pub fn set(dir: BorrowedFd<'_>, id: u32) -> Result<(), Errno> {
    let mut own = attributes(dir)?;
    own.fsx_projid = id;
    own.fsx_xflags |= INHERIT;
    call(dir, SET, own).map(drop)
}

/// Sets the project of `dir` to that of `model`. Its contents keep their projects. ENOTTY: the file system has no
/// projects.
pub fn join(dir: BorrowedFd<'_>, model: BorrowedFd<'_>) -> Result<(), Errno> {
    let (wanted, mut own) = (attributes(model)?, attributes(dir)?);
    own.fsx_projid = wanted.fsx_projid;
    own.fsx_xflags = own.fsx_xflags & !INHERIT | wanted.fsx_xflags & INHERIT;
    call(dir, SET, own).map(drop)
}

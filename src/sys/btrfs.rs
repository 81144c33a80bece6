//! Subvolumes of btrfs (linux/btrfs.h).

use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// `BTRFS_IOC_SUBVOL_SETFLAGS`.
const SET_FLAGS: Opcode = opcode::write::<u64>(0x94, 26);

/// Makes a read-only subvolume writable. `root` is its top directory. EINVAL: it is another directory of btrfs.
/// ENOTTY: it is on another file system.
pub fn make_writable(root: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the call reads a `__u64`, in which no flag is set.
    unsafe { ioctl(root, Setter::<SET_FLAGS, u64>::new(0)) }
}

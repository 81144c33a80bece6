//! Which file system a directory is on, by its magic number (linux/magic.h; statfs(2)).

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// ext2, ext3 and ext4.
pub const EXT4: u64 = 0xEF53;
pub const XFS: u64 = 0x5846_5342;
pub const BTRFS: u64 = 0x9123_683E;
pub const TMPFS: u64 = 0x0102_1994;
pub const OVERLAY: u64 = 0x794C_7630;
pub const ZFS: u64 = 0x2FC1_2FC1;

/// File systems that only one machine can have mounted. Others, such as NFS, Lustre and those of FUSE, may be shared with
/// other nodes.
const LOCAL: [u64; 10] = [
    EXT4,
    XFS,
    BTRFS,
    0xF2F5_2010, // F2FS
    0x3153_464A, // JFS
    TMPFS,
    0x8584_58F6, // ramfs
    OVERLAY,
    ZFS,
    0xCA45_1A4E, // bcachefs
];

/// The magic number of the file system of `fd`.
///
/// # Errors
///
/// `fstatfs(2)`.
pub fn kind(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    #[allow(clippy::cast_sign_loss, reason = "a magic number, whatever the width of f_type")]
    rustix::fs::fstatfs(fd).map(|found| found.f_type as u64)
}

/// Returns true if no other machine can have mounted the file system of `fd`, and false if it may have.
#[must_use]
pub fn is_local(fd: BorrowedFd<'_>) -> bool {
    kind(fd).is_ok_and(|kind| LOCAL.contains(&kind))
}

//! Quotas of projects: `quotactl_fd(2)` (Linux 5.14), the same for ext4 and XFS.

use crate::sys::syscall::syscall;
use linux_raw_sys::general::__NR_quotactl_fd;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

/// `PRJQUOTA`, and the commands of linux/quota.h and linux/dqblk_xfs.h.
const PROJECT: u32 = 2;
const SET: u32 = 0x80_0008;
const GET_NEXT: u32 = 0x80_0009;
const GET_STATE: u32 = 0x5808;
/// `QIF_BLIMITS`, `QIF_ILIMITS`
const LIMITS: u32 = 1 | 4;
/// `FS_QUOTA_PDQ_ENFD`
const ENFORCED: u8 = 1 << 5;
/// `QIF_DQBLKSIZE`: the unit of limits of space.
const BLOCK: u64 = 1024;

/// `struct if_nextdqblk`. `struct if_dqblk` is the same without the id, which is padding there.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Block {
    space_limit: u64,
    space_soft: u64,
    space: u64,
    inode_limit: u64,
    inode_soft: u64,
    inodes: u64,
    times: [u64; 2],
    valid: u32,
    id: u32,
}

/// Numbers of bytes and of inodes. A limit of 0 means that there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub bytes: u64,
    pub inodes: u64,
}

/// What a project contains, and its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub id: u32,
    pub used: Amounts,
    pub limit: Amounts,
}

/// # Safety
///
/// `memory` is as large as the command wants.
unsafe fn call<T>(fd: BorrowedFd<'_>, command: u32, id: u32, memory: &mut T) -> Result<(), Errno> {
    // SAFETY: the kernel reads from and writes to `memory`, which is live and borrowed for this call.
    unsafe {
        syscall(
            __NR_quotactl_fd,
            [
                fd.as_raw_fd() as usize,
                (command << 8 | PROJECT) as usize,
                id as usize,
                core::ptr::from_mut(memory) as usize,
                0,
                0,
            ],
        )
    }
    .map(drop)
}

/// The first project with an id of at least `id`, on the file system of `fd`, that has a limit or contains something.
///
/// # Errors
///
/// `quotactl_fd(2)`: ESRCH where quotas of projects are off.
pub fn next(fd: BorrowedFd<'_>, id: u32) -> Result<Option<Quota>, Errno> {
    let mut block = Block::default();
    // SAFETY: Q_GETNEXTQUOTA writes a struct if_nextdqblk.
    match unsafe { call(fd, GET_NEXT, id, &mut block) } {
        Err(Errno::NOENT) => Ok(None),
        result => result.map(|()| {
            let Block { id, space, inodes, space_limit, inode_limit, .. } = block;
            let limit = Amounts { bytes: space_limit.saturating_mul(BLOCK), inodes: inode_limit };
            Some(Quota { id, used: Amounts { bytes: space, inodes }, limit })
        }),
    }
}

/// Sets the limits of a project.
///
/// # Errors
///
/// `quotactl_fd(2)`.
pub fn set(fd: BorrowedFd<'_>, id: u32, limit: Amounts) -> Result<(), Errno> {
    let space_limit = limit.bytes.div_ceil(BLOCK);
    let mut block = Block { space_limit, inode_limit: limit.inodes, valid: LIMITS, ..Block::default() };
    // SAFETY: Q_SETQUOTA reads a struct if_dqblk.
    unsafe { call(fd, SET, id, &mut block) }
}

/// Does the file system enforce the limits of projects?
///
/// # Errors
///
/// `quotactl_fd(2)`: ENOSYS where it has no quotas at all.
pub fn is_enforced(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    // A struct fs_quota_statv has 160 bytes: its version, padding, the flags.
    let mut state = [0_u8; 256];
    state[0] = 1;
    // SAFETY: Q_XGETQSTATV writes a structure of version 1.
    unsafe { call(fd, GET_STATE, 0, &mut state) }?;
    Ok(u16::from_ne_bytes([state[2], state[3]]) & u16::from(ENFORCED) != 0)
}

//! Recognises a recorded process, since pids are reused.
//!
//! A process is identified by its start time (proc_pid_stat(5), field 22, clock ticks since boot) and,
//! since Linux 6.9, by the inode of its pidfd, which is unique within one boot (pidfs). Both are valid
//! only together with the boot id.

#![deny(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use crate::base::fixed_text::FixedText;
use crate::base::io::read_file;
use crate::config::lines::{Fields, number};
use core::fmt;
use core::fmt::Write as _;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

/// The magic number of pidfs (linux/magic.h).
const PID_FS_MAGIC: u64 = 0x5049_4446;

/// Identifies a process among all processes of the same boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub pid: Pid,
    /// Clock ticks since boot; 0 if the inode is known.
    pub start_time: u64,
    /// Inode of its pidfd; 0 if the kernel has no pidfs.
    pub pidfs_inode: u64,
}

impl Identity {
    /// The identity of the process with this pid and pidfd. ESRCH: it is gone.
    pub fn of(pid: Pid, pidfd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let pidfs_inode = pidfs_inode(pidfd)?;
        // The inode is enough. Reading /proc costs more than everything else here.
        let start_time = if pidfs_inode == 0 { start_time(pid)? } else { 0 };
        Ok(Self { pid, start_time, pidfs_inode })
    }

    /// Reads the written form.
    pub(crate) fn read(mut fields: Fields<'_>) -> Option<Self> {
        Some(Self {
            pid: Pid::from_raw(fields.number()?)?,
            start_time: fields.number()?,
            pidfs_inode: fields.number()?,
        })
    }

    /// A pidfd of this process. ESRCH: it is gone, even if another process has its pid now.
    pub fn open(&self) -> Result<OwnedFd, Errno> {
        let pidfd = rustix::process::pidfd_open(self.pid, PidfdFlags::empty())?;
        let same = if self.pidfs_inode == 0 {
            // The pid cannot be reused while the pidfd is open and the process is alive, so the start time
            // in /proc is that of the process of the pidfd.
            start_time(self.pid)? == self.start_time
        } else {
            pidfs_inode(pidfd.as_fd())? == self.pidfs_inode
        };
        if same { Ok(pidfd) } else { Err(Errno::SRCH) }
    }

    /// Is there no proof that it has ended? A zombie has ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match self.open() {
            Ok(pidfd) => !crate::sys::process::has_ended(pidfd.as_fd()).unwrap_or(false),
            // Any other error, such as EMFILE, proves nothing.
            Err(errno) => errno != Errno::SRCH,
        }
    }
}

/// The written form: three numbers.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, start_time, pidfs_inode } = self;
        write!(f, "{} {start_time} {pidfs_inode}", pid.as_raw_nonzero())
    }
}

fn pidfs_inode(pidfd: BorrowedFd<'_>) -> Result<u64, Errno> {
    // Without pidfs all pidfds share one anonymous inode.
    #[allow(clippy::cast_sign_loss, reason = "a magic number, whatever the width of f_type")]
    if rustix::fs::fstatfs(pidfd)?.f_type as u64 != PID_FS_MAGIC {
        return Ok(0);
    }
    Ok(rustix::fs::fstat(pidfd)?.st_ino)
}

/// Start time of a process in clock ticks since boot.
fn start_time(pid: Pid) -> Result<u64, Errno> {
    stat_field(pid, 22)
}

/// A field of `/proc/<pid>/stat` by its number in `proc_pid_stat(5)`, from 4 (the parent) on.
pub(crate) fn stat_field(pid: Pid, field: usize) -> Result<u64, Errno> {
    let mut path = FixedText::<64>::new();
    write!(path, "/proc/{}/stat", pid.as_raw_nonzero()).map_err(|_| Errno::NAMETOOLONG)?;
    let mut buffer = [0_u8; 1024];
    let text = match read_file(path.as_c_str().ok_or(Errno::INVAL)?, &mut buffer) {
        Err(failed) if failed.errno == Errno::NOENT => return Err(Errno::SRCH),
        other => other.map_err(|failed| failed.errno)?,
    };
    parse_stat(text, field).ok_or(Errno::IO)
}

/// The name (field 2) is in parentheses and may contain anything, so the fields are counted from the last
/// parenthesis.
fn parse_stat(stat: &[u8], field: usize) -> Option<u64> {
    let mut after_name = stat.rsplitn(2, |&b| b == b')');
    let fields = after_name.next()?;
    after_name.next()?;
    // Field 3 is the second piece. The first is empty, before the space after the parenthesis.
    number(fields.split(|&b| b == b' ').nth(field.checked_sub(2)?)?)
}

/// The boot id: 36 characters that differ for each boot (random(4)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId([u8; 36]);

impl BootId {
    /// The id of this boot.
    pub fn current() -> Result<Self, Errno> {
        let mut buffer = [0_u8; 64];
        let text = read_file(c"/proc/sys/kernel/random/boot_id", &mut buffer).map_err(|failed| failed.errno)?;
        text.first_chunk().copied().map(Self).ok_or(Errno::IO)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_the_name_contains() {
        let stat = b"7 (a) b) (c 1 2) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 998877 1000 5";
        assert_eq!(parse_stat(stat, 22), Some(998_877));
        assert_eq!(parse_stat(b"7 (x", 22), None);
        assert_eq!(parse_stat(b"", 22), None);
    }

    #[test]
    fn this_process_is_itself_and_not_another() {
        let pid = rustix::process::getpid();
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let me = Identity::of(pid, pidfd.as_fd()).unwrap();
        assert!(me.open().is_ok() && me.is_alive());
        // As on a kernel without pidfs.
        let me = Identity { start_time: start_time(pid).unwrap(), ..me };
        let by_time_only = Identity { pidfs_inode: 0, ..me };
        assert!(by_time_only.open().is_ok());
        let older = Identity { pidfs_inode: 0, start_time: me.start_time.wrapping_sub(1), ..me };
        assert_eq!(older.open().unwrap_err(), Errno::SRCH);
        if me.pidfs_inode != 0 {
            let other = Identity { pidfs_inode: me.pidfs_inode.wrapping_add(1), ..me };
            assert_eq!(other.open().unwrap_err(), Errno::SRCH);
        }
    }
}

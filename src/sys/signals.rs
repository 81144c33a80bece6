//! Reads signals from a descriptor, for `jobns`, which must survive Ctrl-C to clean up.

use crate::sys::clone::set_signal_mask;
use crate::sys::syscall::syscall;
use linux_raw_sys::general::{__NR_signalfd4, O_CLOEXEC, O_NONBLOCK};
use rustix::fd::{AsFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

/// SIGHUP, SIGINT, SIGQUIT and SIGTERM: bit n-1 is signal n.
const ASKED_TO_END: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 14;

/// The signals that ask a program to end. They are blocked and can be read.
#[derive(Debug)]
pub struct EndSignals {
    fd: OwnedFd,
    /// The former mask of blocked signals, for the programs that this one starts.
    pub mask_before: u64,
}

impl EndSignals {
    pub fn block() -> Result<Self, Errno> {
        let mask_before = set_signal_mask(ASKED_TO_END)?;
        let set: u64 = ASKED_TO_END;
        // SAFETY: the set is a live 8-byte value, 8 is the size that is passed, and the kernel only reads it.
        let fd = unsafe {
            syscall(
                __NR_signalfd4,
                [usize::MAX, (&raw const set) as usize, size_of::<u64>(), (O_CLOEXEC | O_NONBLOCK) as usize, 0, 0],
            )
        }?;
        // SAFETY: signalfd4 returned a new descriptor that nothing else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) };
        Ok(Self { fd, mask_before })
    }

    /// The next signal that another process has sent; None if none is pending. Signals from the terminal are
    /// skipped, because they reach the whole foreground process group anyway.
    pub fn next_sent(&self) -> Result<Option<i32>, Errno> {
        // struct signalfd_siginfo (signalfd(2)): 128 bytes, ssi_signo at 0, ssi_code at 8.
        let mut info = [0_u8; 128];
        loop {
            match rustix::io::read(&self.fd, &mut info[..]) {
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
                Ok(_) => {
                    let field = |at: usize| {
                        info.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes)
                    };
                    // SI_KERNEL (0x80) and other positive codes come from the kernel.
                    if field(8) <= 0 {
                        return Ok(Some(field(0)));
                    }
                }
            }
        }
    }
}

impl AsFd for EndSignals {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

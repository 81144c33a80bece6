//! Reads small files into a buffer, and writes whole buffers. Allocates nothing.

use crate::base::error::{FailedCall, Named};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;

/// Reads a file that is smaller than the buffer; else the error is EFBIG.
pub fn read_file<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], FailedCall> {
    let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).named("openat")?;
    read_all(file.as_fd(), buffer).named("read")
}

/// Reads `file` to its end, which must come before that of the buffer; else the error is EFBIG.
pub fn read_all<'a>(file: BorrowedFd<'_>, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let mut len: usize = 0;
    loop {
        let rest = buffer.get_mut(len..).unwrap_or_default();
        if rest.is_empty() {
            return Err(Errno::FBIG);
        }
        match rustix::io::read(file, rest) {
            Ok(0) => break,
            Ok(n) => len = len.saturating_add(n),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(buffer.get(..len).unwrap_or_default())
}

/// Writes all of `rest`. After an error, a part may have been written.
pub fn write_all(file: BorrowedFd<'_>, mut rest: &[u8]) -> Result<(), Errno> {
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(file, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

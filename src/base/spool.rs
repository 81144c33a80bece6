//! Small text files in slurmd's spool directory.

use crate::base::error::{Doing, Error};
use crate::base::io::{read_all, write_all};
use crate::base::trusted_path::{NO_LINKS, c_path, is_roots_file, open_beneath};
use crate::config::lines::{BadLine, Lines};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// Must the file survive a power cut?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    Survives,
    MayLoseIt,
}

fn open_spool(spool: &str, flags: OFlags, intention: impl Fn() -> String) -> Result<OwnedFd, Error> {
    rustix::fs::openat(CWD, spool, flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing("openat", intention)
}

/// The content of a file of less than `max` bytes; None if it does not exist.
///
/// # Errors
///
/// The file exists but cannot be read, or not only root can write to it.
pub fn read(spool: &str, name: &str, max: usize) -> Result<Option<Vec<u8>>, Error> {
    let intention = || format!("read {spool}/{name}");
    // The path of the spool directory may contain symbolic links; the file itself must not be one.
    let dir = open_spool(spool, OFlags::PATH, intention)?;
    let file = match open_beneath(dir.as_fd(), &c_path(name)?, OFlags::RDONLY | OFlags::NONBLOCK, NO_LINKS) {
        Err(Errno::NOENT) => return Ok(None),
        result => result.doing("openat2", intention)?,
    };
    let stat = rustix::fs::fstat(&file).doing("fstat", intention)?;
    if !is_roots_file(&stat, 0o022) {
        return Err(Error::because(intention(), "it is not root's alone"));
    }
    let mut buffer = vec![0_u8; max];
    let len = read_all(file.as_fd(), &mut buffer).doing("read", intention)?.len();
    buffer.truncate(len);
    Ok(Some(buffer))
}

/// The lines after `header`. Files are only ever replaced as a whole, so one without a final newline is damaged.
///
/// # Errors
///
/// The text has another format, or is cut.
pub fn lines<'a>(header: &'static str, text: &'a [u8]) -> Result<Lines<'a>, BadLine> {
    if text.ends_with(b"\n") { Lines::after(header, text) } else { Err(BadLine(header)) }
}

/// Replaces the file atomically: the text is written to the file `new`, which is then renamed.
pub fn replace(spool: &str, name: &str, new: &str, text: &str, power_cut: PowerCut) -> Result<(), Error> {
    let intention = || format!("write {spool}/{name}");
    let dir = open_spool(spool, OFlags::RDONLY, intention)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, new, flags, Mode::RUSR | Mode::WUSR).doing("openat", intention)?;
    write_all(file.as_fd(), text.as_bytes()).doing("write", intention)?;
    if power_cut == PowerCut::Survives {
        rustix::fs::fsync(&file).doing("fsync", intention)?;
    }
    rustix::fs::renameat(&dir, new, &dir, name).doing("renameat", intention)
}

//! Small files of text in slurmd's spool directory.

use crate::base::error::{Doing, Error};
use crate::base::io::{read_all, write_all};
use crate::base::trusted_path::{NO_LINKS, c_path, is_trusted_owner, open_beneath};
use crate::config::lines::{BadLine, Lines};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Does the file have to be there after a power cut?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    Survives,
    MayLoseIt,
}

fn open_spool(spool: &str, flags: OFlags, intention: impl Fn() -> String) -> Result<OwnedFd, Error> {
    rustix::fs::openat(CWD, spool, flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing("openat", intention)
}

/// What is in the file, which has at most `max` bytes. None: there is no such file.
///
/// # Errors
///
/// When the file is there and cannot be read, or is not root's alone.
pub fn read(spool: &str, name: &str, max: usize) -> Result<Option<Vec<u8>>, Error> {
    let intention = || format!("read {spool}/{name}");
    // The path of the spool directory may contain links; the file itself is not a link.
    let dir = open_spool(spool, OFlags::PATH, intention)?;
    let file = match open_beneath(dir.as_fd(), &c_path(name)?, OFlags::RDONLY | OFlags::NONBLOCK, NO_LINKS) {
        Err(Errno::NOENT) => return Ok(None),
        result => result.doing("openat2", intention)?,
    };
    let stat = rustix::fs::fstat(&file).doing("fstat", intention)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
        || !is_trusted_owner(stat.st_uid)
        || stat.st_mode & 0o022 != 0
    {
        return Err(Error::because(intention(), "it is not root's alone"));
    }
    let mut buffer = vec![0_u8; max];
    let len = read_all(file.as_fd(), &mut buffer).doing("read", intention)?.len();
    buffer.truncate(len);
    Ok(Some(buffer))
}

/// The lines behind `header`. The file was replaced as a whole, so its last line has an end.
///
/// # Errors
///
/// When it is of another format, or cut.
pub fn lines<'a>(header: &'static str, text: &'a [u8]) -> Result<Lines<'a>, BadLine> {
    if text.ends_with(b"\n") { Lines::after(header, text) } else { Err(BadLine(header)) }
}

/// Replaces the file, whole or not at all. Until then the text is in the file `new`.
///
/// # Errors
///
/// When it cannot be written.
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

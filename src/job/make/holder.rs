//! The program that holds a job's namespaces, ready to be executed.

use crate::base::error::{Doing, Error};
use crate::sys::holder_image;
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// The program in a memfd, with `name` as the name of its process. There is no file on disk that could be
/// replaced or missing. The memfd is sealed, so nobody can change it through `/proc/<holder>/exe`.
///
/// # Errors
///
/// EACCES: the sysctl `vm.memfd_noexec` forbids programs in memory.
pub fn program(name: &str) -> Result<OwnedFd, Error> {
    let intention = || "prepare the program that holds a job's namespaces".to_owned();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = match rustix::fs::memfd_create(c"jobns-holder", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 the flag is unknown, and every memfd may be executed.
        Err(Errno::INVAL) => rustix::fs::memfd_create(c"jobns-holder", flags),
        result => result,
    }
    .map_err(|errno| {
        let error = Error::call(intention(), "memfd_create", errno);
        if errno == Errno::ACCESS {
            error.with_hint("the sysctl vm.memfd_noexec must be 0 or 1: sysctl vm.memfd_noexec=1")
        } else {
            error
        }
    })?;
    let image = holder_image::image(name.as_bytes());
    if rustix::io::write(&memfd, &image).doing("write", intention)? != image.len() {
        return Err(Error::because(intention(), "short write to a memfd"));
    }
    rustix::fs::fcntl_add_seals(&memfd, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
        .doing("fcntl", intention)?;
    Ok(memfd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_write_to_it() {
        let memfd = program("jobns").unwrap();
        assert_eq!(rustix::io::pwrite(&memfd, b"x", 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&memfd, 0), Err(Errno::PERM));
    }
}

//! One node, one of the two plugins.
//!
//! `NamespaceType` may list both. Where both are on for a node, a process would enter the mount
//! namespace of the one and then that of the other, and so have the directories of the last only:
//! weaker than configured, and without a word. The two know nothing of each other but that they live
//! in one slurmd, so each leaves a mark there that the other finds: a memory file with its name,
//! which ends with the process or its next exec.

#![forbid(unsafe_code)]

use crate::job::listing::names;
use rustix::fd::{AsFd, IntoRawFd};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;

const MARKS: [(&str, &CStr); 2] =
    [("namespace/linux", c"jobns on: namespace/linux"), ("namespace/tmpfs", c"jobns on: namespace/tmpfs")];

/// Marks this slurmd as one in which `name` gives jobs their namespaces. Some when another does so
/// already: why `name` must not.
pub fn claim(name: &str) -> Option<String> {
    let other = MARKS.into_iter().find(|(other, mark)| *other != name && is_marked(mark).unwrap_or(false));
    if let Some((other, _)) = other {
        return Some(format!(
            "{other} is on for this node, too, and a job can be in the mount namespace of one of them only; hint: set base_path (BasePath) to none for this node in the file of the other"
        ));
    }
    for (_, mark) in MARKS.into_iter().filter(|(own, _)| *own == name) {
        // Without the mark the other one is not refused: no reason to refuse this one.
        if let Ok(mark) = rustix::fs::memfd_create(mark, MemfdFlags::CLOEXEC) {
            let _: i32 = mark.into_raw_fd();
        }
    }
    None
}

fn is_marked(mark: &CStr) -> Result<bool, Errno> {
    let fds =
        rustix::fs::openat(CWD, c"/proc/self/fd", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let wanted = [b"/memfd:", mark.to_bytes(), b" (deleted)"].concat();
    let found = names(fds.as_fd(), "/proc/self/fd").unwrap_or_default();
    Ok(found
        .iter()
        .any(|fd| rustix::fs::readlinkat(&fds, fd.as_str(), Vec::new()).is_ok_and(|link| link.as_bytes() == wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused() {
        assert_eq!(claim("namespace/linux"), None);
        // slurmd reads its configuration again in the same process: not after a re-exec.
        assert_eq!(claim("namespace/linux"), None);
        assert!(claim("namespace/tmpfs").is_some_and(|why| why.contains("namespace/linux is on")));
    }
}

//! Which of Slurm's two namespace plugins this build stands in for: namespace/linux, or, with the
//! cargo feature `tmpfs`, namespace/tmpfs. Behind this file they are one; what sets them apart beyond
//! the names is in the settings ([`Settings`](crate::config::settings::Settings)).

use crate::base::listing::names;
use crate::job::record::registry;
use crate::node::config_file::{File, JOB_CONTAINER_CONF, NAMESPACE_YAML};
use crate::remover::status;
use rustix::fd::{AsFd, IntoRawFd};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;

/// Ours among [`registry::FILES`].
const INDEX: usize = if cfg!(feature = "tmpfs") { 1 } else { 0 };

/// `plugin_type`
pub const TYPE: &[u8; 16] = [b"namespace/linux\0", b"namespace/tmpfs\0"][INDEX];

/// `plugin_name`, as text.
const NAME_TEXT: &str = [
    concat!("slurm-jobns linux plugin ", env!("CARGO_PKG_VERSION"), "\0"),
    concat!("slurm-jobns tmpfs plugin ", env!("CARGO_PKG_VERSION"), "\0"),
][INDEX];

/// `plugin_name`
pub const NAME: &[u8; NAME_TEXT.len()] = match NAME_TEXT.as_bytes().first_chunk() {
    Some(name) => name,
    None => panic!(),
};

/// Begins every line, so that it is found in a log of many plugins.
pub const PREFIX: &str = ["namespace/linux: ", "namespace/tmpfs: "][INDEX];

/// The configuration.
pub const FILE: File = [NAMESPACE_YAML, JOB_CONTAINER_CONF][INDEX];

/// What slurmd remembers.
pub const REGISTRY: &str = registry::FILES[INDEX];

/// What the removal program says of its work.
pub const REMOVAL_STATUS: &str = status::FILES[INDEX];

// One node, one of the two plugins.
//
// `NamespaceType` may list both. Where both are on for a node, a process would enter the mount
// namespace of the one and then that of the other, and so have the directories of the last only:
// weaker than configured, and without a word. The two know nothing of each other but that they live
// in one slurmd, so each leaves a mark there that the other finds: a memory file with its name,
// which ends with the process or its next exec.

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

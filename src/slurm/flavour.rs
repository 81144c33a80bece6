//! The differences between the builds for Slurm's two namespace plugins: the names, and the check that only one of them
//! is enabled for a node. The other differences are in the settings ([`Settings`](crate::config::settings::Settings)), in
//! [`Flavour`], and in [`host`](super::host).

use crate::base::listing::names;
use crate::config::flavour::Flavour;
use crate::node::config_file::{File, JOB_CONTAINER_CONF, NAMESPACE_YAML};
use rustix::fd::{AsFd, IntoRawFd};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags};
use rustix::io::Errno;

/// A C string, filled up with zeros.
const fn c_array<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let mut array = [0; LENGTH];
    array.split_at_mut(text.len()).0.copy_from_slice(text.as_bytes());
    array
}

/// `plugin_type`
pub const TYPE: [u8; 16] = c_array(Flavour::OWN.plugin_type());

const NAME_TEXT: &str = match Flavour::OWN {
    Flavour::Linux => concat!("slurm-jobns linux plugin ", env!("CARGO_PKG_VERSION")),
    Flavour::Tmpfs => concat!("slurm-jobns tmpfs plugin ", env!("CARGO_PKG_VERSION")),
};

/// `plugin_name`
pub const NAME: [u8; NAME_TEXT.len() + 1] = c_array(NAME_TEXT);

/// The beginning of every log line.
pub const PREFIX: &str = match Flavour::OWN {
    Flavour::Linux => "namespace/linux: ",
    Flavour::Tmpfs => "namespace/tmpfs: ",
};

/// The configuration file.
pub const FILE: File = match Flavour::OWN {
    Flavour::Linux => NAMESPACE_YAML,
    Flavour::Tmpfs => JOB_CONTAINER_CONF,
};

// Only one of the two plugins may be enabled for a node.
//
// `NamespaceType` may list both. If both were enabled for a node, a process would enter the mount
// namespace of one and then that of the other, and silently have only the directories of the second:
// less than configured. Both plugins are in the same slurmd, so each leaves a mark there that the other
// finds: a memfd with its name, which ends with the process or its next exec.

fn mark(flavour: Flavour) -> String {
    format!("jobns on: {}", flavour.plugin_type())
}

/// Marks this slurmd as one in which `own` gives jobs their namespaces. If the other plugin already does,
/// returns why `own` must not.
pub fn claim(own: Flavour) -> Option<String> {
    for other in Flavour::ALL.into_iter().filter(|other| *other != own) {
        if is_marked(&mark(other)).unwrap_or(false) {
            let other = other.plugin_type();
            return Some(format!(
                "{other} is also enabled for this node, but a job can be in only one mount namespace; hint: set base_path (BasePath) to none for this node in the file of one of the two plugins"
            ));
        }
    }
    // Without the mark the other plugin is not refused. That is no reason to refuse this one.
    if let Ok(mark) = rustix::fs::memfd_create(mark(own), MemfdFlags::CLOEXEC) {
        let _: i32 = mark.into_raw_fd();
    }
    None
}

fn is_marked(mark: &str) -> Result<bool, Errno> {
    let fds =
        rustix::fs::openat(CWD, c"/proc/self/fd", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let wanted = format!("/memfd:{mark} (deleted)");
    let found = names(fds.as_fd(), "/proc/self/fd").unwrap_or_default();
    Ok(found.iter().any(|fd| {
        rustix::fs::readlinkat(&fds, fd.as_str(), Vec::new()).is_ok_and(|link| link.as_bytes() == wanted.as_bytes())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused() {
        assert_eq!(claim(Flavour::Linux), None);
        // If slurmd reads its configuration again in the same process, the mark is its own.
        assert_eq!(claim(Flavour::Linux), None);
        assert!(claim(Flavour::Tmpfs).is_some_and(|why| why.contains("namespace/linux is also enabled")));
    }
}

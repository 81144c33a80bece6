//! Which of Slurm's two namespace plugins this build stands in for: namespace/linux, or, with the
//! cargo feature `tmpfs`, namespace/tmpfs. Behind this file they are one; what sets them apart beyond
//! the names is in the settings ([`Settings`](crate::config::Settings)).

#![forbid(unsafe_code)]

use crate::job::registry;
use crate::node::{File, JOB_CONTAINER_CONF, NAMESPACE_YAML};
use crate::remover::status;

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

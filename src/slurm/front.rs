//! Which of Slurm's two namespace plugins this build stands in for: namespace/linux, or, with the
//! cargo feature `tmpfs`, namespace/tmpfs. Behind this file they are one; what sets them apart beyond
//! the names is in the settings ([`Settings`](crate::config::Settings)).

#![forbid(unsafe_code)]

use crate::job::registry;
use crate::node::{File, JOB_CONTAINER_CONF, NAMESPACE_YAML};

/// Ours among [`registry::FILES`].
const INDEX: usize = if cfg!(feature = "tmpfs") { 1 } else { 0 };

/// `plugin_type`
pub const TYPE: &[u8; 16] = [b"namespace/linux\0", b"namespace/tmpfs\0"][INDEX];

/// `plugin_name`
pub const NAME: &[u8; 30] = [b"slurm-jobns linux plugin 0.1\0\0", b"slurm-jobns tmpfs plugin 0.1\0\0"][INDEX];

/// Begins every line, so that it is found in a log of many plugins.
pub const PREFIX: &str = ["namespace/linux: ", "namespace/tmpfs: "][INDEX];

/// The configuration.
pub const FILE: File = [NAMESPACE_YAML, JOB_CONTAINER_CONF][INDEX];

/// What slurmd remembers.
pub const REGISTRY: &str = registry::FILES[INDEX];

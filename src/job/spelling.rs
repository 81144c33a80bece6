//! How the file that this process has read spells a key. One process reads one of the two files.

#![forbid(unsafe_code)]

use crate::config::spelled_in_conf;
use std::sync::atomic::{AtomicBool, Ordering};

/// The file is job_container.conf. In the plugins that is settled when they are built.
static IN_CONF: AtomicBool = AtomicBool::new(cfg!(feature = "tmpfs"));

/// From here on, messages use the keys of job_container.conf, or those of namespace.yaml.
pub fn use_conf(is_conf: bool) {
    IN_CONF.store(is_conf, Ordering::Relaxed);
}

/// The key, given as namespace.yaml has it.
#[must_use]
pub fn key(yaml: &'static str) -> &'static str {
    if IN_CONF.load(Ordering::Relaxed) { spelled_in_conf(yaml).unwrap_or(yaml) } else { yaml }
}

/// A key with its value, as it is written in the file.
#[must_use]
pub fn setting(yaml: &'static str, value: &str) -> String {
    let sign = if IN_CONF.load(Ordering::Relaxed) { "=" } else { ": " };
    format!("{}{sign}{value}", key(yaml))
}

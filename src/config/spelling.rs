//! How the file that this process has read spells a key. One process reads one of the two files.

use crate::config::flavour::Flavour;
use crate::config::keys;
use std::sync::atomic::{AtomicBool, Ordering};

/// The file is job_container.conf. In the plugins that is settled when they are built.
static IN_CONF: AtomicBool = AtomicBool::new(matches!(Flavour::OWN, Flavour::Tmpfs));

/// From here on, messages use the keys of job_container.conf, or those of namespace.yaml.
pub fn use_conf(is_conf: bool) {
    IN_CONF.store(is_conf, Ordering::Relaxed);
}

/// The key, given as namespace.yaml has it. Allocates nothing, since `join` uses it.
#[must_use]
pub fn key(yaml: &str) -> &str {
    if IN_CONF.load(Ordering::Relaxed) { keys::spelled(yaml, Flavour::Tmpfs).unwrap_or(yaml) } else { yaml }
}

/// A key with its value, as it is written in the file.
#[must_use]
pub fn setting(yaml: &str, value: &str) -> String {
    let sign = if IN_CONF.load(Ordering::Relaxed) { "=" } else { ": " };
    format!("{}{sign}{value}", key(yaml))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_of_namespace_tmpfs_has_its_spelling() {
        for (yaml, conf) in [
            ("base_path", "BasePath"),
            ("auto_base_path", "AutoBasePath"),
            ("hide_base_path", "HideBasePath"),
            ("init_script_wait", "InitScriptWait"),
            ("clone_ns_epilog", "CloneNSEpilog"),
            ("clone_ns_epilog_wait", "CloneNSEpilog_Wait"),
            ("entire_step_in_ns", "EntireStepInNS"),
            ("removal_timeout", "RemovalTimeout"),
        ] {
            assert_eq!(keys::spelled(yaml, Flavour::Tmpfs), Some(conf));
        }
        assert_eq!(keys::spelled("dir_confs", Flavour::Tmpfs), None);
    }
}

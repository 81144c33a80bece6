//! The names of keys in the file that this process reads, for messages. A process reads only one of the two files.

use crate::config::flavour::Flavour;
use crate::config::keys;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the file is job_container.conf. In the plugins this is fixed at build time.
static IN_CONF: AtomicBool = AtomicBool::new(matches!(Flavour::OWN, Flavour::Tmpfs));

/// Makes messages use the keys of job_container.conf or those of namespace.yaml.
pub(crate) fn use_conf(is_conf: bool) {
    IN_CONF.store(is_conf, Ordering::Relaxed);
}

/// The name of a key in the file. The argument is the name in namespace.yaml. Does not allocate, because `join` uses it.
pub(crate) fn key(yaml: &str) -> &str {
    if IN_CONF.load(Ordering::Relaxed) { keys::spelled(yaml, Flavour::Tmpfs).unwrap_or(yaml) } else { yaml }
}

/// A key with a value, as written in the file.
pub(crate) fn setting(yaml: &str, value: &str) -> String {
    let sign = if IN_CONF.load(Ordering::Relaxed) { "=" } else { ": " };
    format!("{}{sign}{value}", key(yaml))
}

/// The hint where two nodes have made the directory of one job.
pub(crate) fn one_node_per_base() -> String {
    format!("{} must be unique to each node: use %n in it", key("base_path"))
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

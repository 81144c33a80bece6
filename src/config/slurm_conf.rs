//! Single values of slurm.conf, for `jobns check` and for keys that Slurm's functions do not return.

use crate::config::settings::Node;

/// The last value of `key`, in any letter case. Included files are not read.
pub(crate) fn value(text: &[u8], key: &str) -> Option<String> {
    values(text, key).pop()
}

/// All values of `key`, in any letter case.
pub(crate) fn values(text: &[u8], key: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        for word in line.split_whitespace() {
            if let Some((name, value)) = word.split_once('=')
                && name.eq_ignore_ascii_case(key)
            {
                found.push(value.trim_matches('"').to_owned());
            }
        }
    }
    found
}

/// An absolute path with the names of the node filled in, as in `SlurmdSpoolDir` and `TmpFS`.
pub(crate) fn path(text: &[u8], key: &str, node: &Node<'_>) -> Option<String> {
    let path = value(text, key)?.replace("%h", node.hostname).replace("%n", node.name);
    path.starts_with('/').then_some(path)
}

/// The path of munge's socket, if `AuthInfo` names it.
pub(crate) fn munge_socket(text: &[u8]) -> Option<String> {
    let info = value(text, "AuthInfo")?;
    let found = info.split(',').find_map(|part| part.strip_prefix("socket="));
    found.filter(|path| path.starts_with('/')).map(str::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests stop where they fail")]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_as_slurm_finds_them() {
        let text = b"# SlurmUser=no\nslurmuser=slurm # not root\nSlurmdSpoolDir=\"/var/spool/%n\"\nTmpFS=/scratch\n\
            AuthInfo=ttl=3,socket=/opt/munge/socket\nNodeName=n1 CPUs=1\n\xff";
        let node = Node { name: "n1", hostname: "h1" };
        assert_eq!(value(text, "SlurmUser").unwrap(), "slurm");
        assert_eq!(path(text, "SlurmdSpoolDir", &node).unwrap(), "/var/spool/n1");
        assert_eq!(munge_socket(text).unwrap(), "/opt/munge/socket");
        assert_eq!(value(text, "CPUs").unwrap(), "1");
        assert_eq!(value(text, "AuthType"), None);
        assert_eq!(path(b"TmpFS=tmp", "TmpFS", &node), None);
    }
}

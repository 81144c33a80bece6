//! Compares the node names in a file with those in slurm.conf. A name that no node has is a typo: the nodes that were
//! meant would silently get no private directories.

use crate::config::problem::quote;
use crate::config::{hostlist, slurm_conf};

/// A hostlist in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) list: String,
    /// Starts at 1.
    pub(crate) line: usize,
    /// It contains the node that the file was read for.
    pub(crate) is_ours: bool,
}

/// Whether the file has entries for single nodes, but none for this node.
pub(crate) fn leaves_out(nodes: &[Named]) -> bool {
    !nodes.is_empty() && !nodes.iter().any(|named| named.is_ours)
}

/// Nodes that are compared at most.
const MAX_NODES: usize = 20_000;
/// Names in the file times nodes of the cluster.
const MAX_WORK: usize = 2_000_000;
const HINT: &str = "write names as in NodeName, not those of a NodeSet or a partition";

/// The nodes that slurm.conf names. Empty if it may not name all of them, because it includes a file or has dynamic
/// nodes.
pub(crate) fn nodes(text: &[u8]) -> Vec<String> {
    let is_whole = !String::from_utf8_lossy(text)
        .lines()
        .any(|line| line.trim_start().get(..8).is_some_and(|word| word.trim_end().eq_ignore_ascii_case("include")));
    if !is_whole || slurm_conf::value(text, "MaxNodeCount").is_some() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for list in slurm_conf::values(text, "NodeName").iter().filter(|list| !list.eq_ignore_ascii_case("DEFAULT")) {
        match hostlist::expand(list, MAX_NODES.saturating_sub(found.len())) {
            Ok(Some(names)) => found.extend(names),
            _ => return Vec::new(),
        }
    }
    found
}

/// The names in the file that no node of the cluster has: the line, and a sentence.
pub(crate) fn strangers(nodes: &[Named], cluster: &[String], node: &str) -> Vec<(usize, String)> {
    // If slurm.conf does not name this node, it may not name others either.
    if !cluster.iter().any(|name| name == node) {
        return Vec::new();
    }
    let names: Vec<(usize, &str)> =
        nodes.iter().flat_map(|named| hostlist::names(&named.list).map(|name| (named.line, name))).collect();
    if names.len().saturating_mul(cluster.len()) > MAX_WORK {
        return Vec::new();
    }
    let exists = |name: &str| cluster.iter().any(|node| hostlist::contains(name, node) != Ok(false));
    let strangers = names.into_iter().filter(|(_, name)| hostlist::idiom(name, node).is_none() && !exists(name));
    strangers.map(|(line, name)| (line, format!("{} is not a node in slurm.conf; hint: {HINT}", quote(name)))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests stop where they fail")]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_node_has_are_found() {
        let text = b"NodeName=DEFAULT CPUs=2\nNodeName=n[1-3] CPUs=2\nnodename=login1\nNodeSet=gpu Nodes=n1\n";
        let cluster = nodes(text);
        assert_eq!(cluster, ["n1", "n2", "n3", "login1"]);
        let named = |list: &str| Named { list: list.to_owned(), line: 7, is_ours: false };
        let lost = |list: &str| {
            let found = strangers(&[named(list)], &cluster, "n1");
            found
                .into_iter()
                .map(|(line, what)| format!("{line} {}", what.split(' ').next().unwrap()))
                .collect::<Vec<_>>()
        };
        assert_eq!(lost("n[1-4],N5,gpu,n[001-100]"), ["7 \"N5\"", "7 \"gpu\"", "7 \"n[001-100]\""]);
        assert!(lost("n[1-3],login1").is_empty());
        assert!(strangers(&[named("gpu")], &cluster, "cloud1").is_empty());
        assert!(nodes(b"NodeName=n1\nInclude more.conf\n").is_empty());
        assert!(nodes(b"NodeName=n1\nMaxNodeCount=10\n").is_empty());
        assert!(nodes(b"NodeName=n[1-65536]\n").is_empty());
    }

    #[test]
    fn a_node_is_left_out_only_by_entries_for_others() {
        let named = |is_ours| Named { list: String::new(), line: 1, is_ours };
        assert!(!leaves_out(&[]));
        assert!(leaves_out(&[named(false), named(false)]));
        assert!(!leaves_out(&[named(false), named(true)]));
    }
}

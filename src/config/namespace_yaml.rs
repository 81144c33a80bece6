//! `namespace.yaml`: the top level of the file, and the entry for this node.
//!
//! As in Slurm, this is the first entry of `node_confs` whose `nodes` contain the node. [`super::merge`] merges it with
//! `defaults`.

use crate::config::cluster::Named;
use crate::config::flavour::Flavour;
use crate::config::keys;
use crate::config::layer::{Layer, Set};
use crate::config::mapping;
use crate::config::merge;
use crate::config::outcome::Parsed;
use crate::config::problem::{Report, Scalar, quote};
use crate::config::settings::Node;
use crate::config::values::{HOSTLIST, ScalarReader};
use crate::config::yaml;
use crate::config::yaml::{Content, Tree};

/// Reads the file for one node. `file_name` is only for messages.
#[must_use]
pub fn parse_namespace_yaml(file_name: &str, text: &[u8], node: &Node<'_>) -> Parsed {
    let mut report = Report::default();
    let mut nodes = Vec::new();
    let mut found = None;
    if report.add_file(file_name, text).is_some() {
        let read = yaml::parse(&mut report).map(|tree| top_level(&tree, node, &mut nodes, &mut report));
        match read {
            Some(layers) if report.errors() == 0 => {
                found = Some(merge::settings(&layers, Flavour::Linux, node, &mut report));
            }
            None if report.errors() == 0 => {
                let hint = "write \"{}\" to configure nothing, or see namespace.yaml(5) for an example";
                report.error_in_file(0, "the file is empty, which Slurm also refuses", hint);
            }
            _ => {}
        }
    }
    Parsed::new(found, report, nodes)
}

/// The layers for this node: its entry, then `defaults`.
fn top_level(tree: &Tree, node: &Node<'_>, named: &mut Vec<Named>, report: &mut Report) -> Vec<Layer> {
    let (mut defaults, mut entry, mut strict) = (Layer::default(), None, None);
    let Some(entries) = mapping::entries("the file", tree, "defaults: in its first line", report) else {
        return Vec::new();
    };
    for (key, value) in entries {
        match key.text.as_str() {
            "defaults" => defaults = options(key, value, report),
            "node_confs" => entry = node_confs(value, node, named, report),
            "strict" => strict = mapping::boolean("strict", value, report),
            "disable_bpf_token" => report.warning(
                key.at,
                "disable_bpf_token has no effect at the top level, in Slurm or here",
                "write it in defaults or in options (Slurm's manual page puts it here)",
            ),
            name if keys::find(name, Flavour::Linux).is_some() => {
                let what = format!("{} is at the top level of the file", quote(name));
                report.error(key.at, what, "indent it under defaults:");
            }
            _ => mapping::unknown_key(key, "the file", &keys::TOP_KEYS, report),
        }
    }
    if let (Some(Set { value: true, at }), None, 0) = (strict, &entry, report.errors()) {
        let what = format!("no entry of node_confs names node {}, and strict is set", quote(node.name));
        let hint = "add an entry with options: {} for the defaults, or with base_path: none to disable the plugin";
        report.error(at, what, hint);
    }
    entry.into_iter().chain([defaults]).collect()
}

/// `defaults`, or `options` of an entry.
fn options(key: &Scalar, value: &Tree, report: &mut Report) -> Layer {
    match &value.content {
        Content::Map(entries) => return mapping::read(entries, &key.text, report),
        Content::Scalar(scalar) if scalar.text.is_empty() => {
            // There is no text to mark, so mark the key.
            let what = format!("{} is empty", key.text);
            report.error(key.at, what, "indent the lines that belong to it, or write {}");
        }
        _ => {
            mapping::entries(&key.text, value, "one key: value in each line, indented", report);
        }
    }
    Layer::default()
}

/// Checks every entry, and returns the first one for this node.
fn node_confs(value: &Tree, node: &Node<'_>, named: &mut Vec<Named>, report: &mut Report) -> Option<Layer> {
    let items = mapping::mappings("node_confs", value, "- nodes: at the start of each entry", report)?;
    let mut found: Option<(usize, Layer)> = None;
    for item in items {
        let Some(entries) = mapping::entries("an entry of node_confs", item, "- nodes: and options:", report) else {
            continue;
        };
        let (mut is_ours, mut layer) = (None, None);
        for (key, value) in entries {
            match key.text.as_str() {
                "nodes" => is_ours = Some(nodes(key, value, node, named, report)),
                "options" => layer = Some(options(key, value, report)),
                name if keys::find(name, Flavour::Linux).is_some() => {
                    let what = format!("{} is next to nodes", quote(name));
                    report.error(key.at, what, "indent it under options:");
                    layer.get_or_insert_default();
                }
                _ => mapping::unknown_key(key, "an entry of node_confs", &keys::ENTRY_KEYS, report),
            }
        }
        if is_ours.is_none() {
            report.error(item.at, "an entry of node_confs has no nodes", "add nodes: and a hostlist such as n[1-9]");
        }
        if layer.is_none() {
            let hint = "add options: and the settings of these nodes, or options: {} for the defaults";
            report.error(item.at, "an entry of node_confs has no options", hint);
        }
        if is_ours == Some(true) {
            let line = report.line_of(item.at);
            match &found {
                Some((first, _)) => {
                    let what = format!("node {} is already in the entry on line {first}", quote(node.name));
                    report.warning(item.at, what, "only the first entry for a node counts");
                }
                None => found = Some((line, layer.unwrap_or_default())),
            }
        }
    }
    found.map(|(_, layer)| Layer { is_of_node: true, ..layer })
}

/// Whether this node is in `nodes`, a hostlist or a list of hostlists. Checks all of them.
fn nodes(key: &Scalar, value: &Tree, node: &Node<'_>, named: &mut Vec<Named>, report: &mut Report) -> bool {
    let Some(items) = mapping::list("nodes", value, "nodes: n[1-9]", report) else { return false };
    let (mut is_ours, mut names_any) = (false, false);
    for item in items {
        let Some(scalar) = mapping::scalar("a node", item, &HOSTLIST, report) else { continue };
        names_any |= !scalar.text.is_empty();
        let mut reader = ScalarReader { format: Flavour::Linux, report };
        is_ours |= reader.hostlist(scalar, node.name, named) == Some(true);
    }
    if !names_any {
        report.warning(
            key.at,
            "nodes is empty, so this entry applies to no node",
            "name the nodes, or remove the entry",
        );
    }
    is_ours
}

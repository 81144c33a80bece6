//! `namespace.yaml`: the top level of the file, and which entry is for this node.
//!
//! As in Slurm, that is the first entry of `node_confs` whose `nodes` hold the node. What it and
//! `defaults` come to is in [`super::merge`].

use crate::config::cluster::Named;
use crate::config::hostlist;
use crate::config::layer;
use crate::config::layer::{Layer, Set};
use crate::config::merge::Merge;
use crate::config::outcome::Parsed;
use crate::config::problem::{Refusal, Report, quote};
use crate::config::settings::Node;
use crate::config::yaml;
use crate::config::yaml::{Key, Kind, Value};

/// Reads the file for one node. `file_name` only names it in messages.
#[must_use]
pub fn parse_namespace_yaml(file_name: &str, text: &[u8], node: &Node<'_>) -> Parsed {
    let text = match yaml::text_of(file_name, text) {
        Ok(text) => text,
        Err(problems) => return Parsed { settings: None, problems, sources: Vec::new(), nodes: Vec::new() },
    };
    let mut report = Report::new(file_name, text);
    let mut nodes = Vec::new();
    let read = yaml::parse(&mut report).map(|tree| top_level(&tree, node, &mut nodes, &mut report));
    let found = match read {
        Some(file) if report.errors() == 0 => Merge { report: &mut report, node, sources: Vec::new() }.file(&file),
        Some(_) => None,
        None => {
            if report.errors() == 0 {
                let hint = "write \"{}\" to configure nothing, or see namespace.yaml(5) for an example";
                report.error_without_place("the file is empty, which Slurm refuses as well", hint);
            }
            None
        }
    };
    let settings = found.filter(|_| report.errors() == 0);
    let (settings, sources) = settings.map_or((None, Vec::new()), |(settings, sources)| (Some(settings), sources));
    Parsed { settings, problems: report.finish(), sources, nodes }
}

/// The file as far as this node needs it.
#[derive(Default)]
pub(super) struct File {
    pub(super) defaults: Layer,
    /// The entry of this node.
    pub(super) entry: Option<Layer>,
    pub(super) strict: Option<Set<bool>>,
}

const TOP_KEYS: [&str; 3] = ["defaults", "node_confs", "strict"];

fn top_level(tree: &Value, node: &Node<'_>, named: &mut Vec<Named>, report: &mut Report<'_>) -> File {
    let mut file = File::default();
    let Kind::Map(entries) = &tree.kind else {
        let what = format!("the file must be a mapping, and this is {}", tree.describe());
        report.error(tree.at, what, "begin it with defaults:");
        return file;
    };
    for (key, value) in entries {
        match key.name.as_str() {
            "defaults" => match &value.kind {
                Kind::Map(entries) => file.defaults = layer::read(entries, "defaults", report),
                _ => not_a_mapping(key, value, report),
            },
            "node_confs" => file.entry = node_confs(value, node, named, report),
            "strict" => file.strict = layer::boolean("strict", value, report),
            "disable_bpf_token" => report.warning(
                key.at,
                "disable_bpf_token has no effect at the top level, neither in Slurm nor here",
                "write it in defaults or in options (Slurm's manual page puts it here)",
            ),
            name if layer::KEYS.contains(&name) => {
                let what = format!("{} stands at the top level of the file", quote(name));
                report.error(key.at, what, "indent it under defaults:");
            }
            _ => layer::unknown_key(key, "the file", &TOP_KEYS, report),
        }
    }
    file
}

fn not_a_mapping(key: &Key, value: &Value, report: &mut Report<'_>) {
    let what = format!("{} must be a mapping, and this is {}", key.name, value.describe());
    let hint = match &value.kind {
        Kind::Scalar(scalar) if scalar.text.is_empty() => "indent the lines that belong to it, or write {}",
        _ => "write one key: value in each line, indented",
    };
    // An empty value has no text to mark.
    let at = if value.at.start == value.at.end { key.at } else { value.at };
    report.error(at, what, hint);
}

/// Checks every entry, and returns the first one for this node.
fn node_confs(value: &Value, node: &Node<'_>, named: &mut Vec<Named>, report: &mut Report<'_>) -> Option<Layer> {
    let Kind::List(items) = &value.kind else {
        let what = format!("node_confs must be a list, and this is {}", value.describe());
        report.error(value.at, what, "begin each entry with \"- nodes:\"");
        return None;
    };
    let mut found: Option<(usize, Layer)> = None;
    for item in items {
        let Kind::Map(entries) = &item.kind else {
            let what = format!("an entry of node_confs must be a mapping, and this is {}", item.describe());
            report.error(item.at, what, "write - nodes: and options:");
            continue;
        };
        let (mut is_ours, mut options) = (None, None);
        for (key, value) in entries {
            match key.name.as_str() {
                "nodes" => is_ours = Some(nodes(key, value, node, named, report)),
                "options" => {
                    if let Kind::Map(entries) = &value.kind {
                        options = Some(layer::read(entries, "options", report));
                    } else {
                        not_a_mapping(key, value, report);
                        options = Some(Layer::default());
                    }
                }
                name if layer::KEYS.contains(&name) => {
                    let what = format!("{} stands beside nodes", quote(name));
                    report.error(key.at, what, "indent it under options:");
                    options.get_or_insert_default();
                }
                _ => layer::unknown_key(key, "an entry of node_confs", &["nodes", "options"], report),
            }
        }
        if is_ours.is_none() {
            report.error(item.at, "an entry of node_confs has no nodes", "add nodes: and a hostlist such as n[1-9]");
        }
        if options.is_none() {
            let hint = "add options: and what is different there, or options: {} for the defaults";
            report.error(item.at, "an entry of node_confs has no options", hint);
        }
        if is_ours == Some(true) {
            let line = report.line_of(item.at.start);
            match &found {
                Some((first, _)) => {
                    let what = format!("node {} is already in the entry of line {first}", quote(node.name));
                    report.warning(item.at, what, "only the first entry of a node counts");
                }
                None => found = Some((line, options.unwrap_or_default())),
            }
        }
    }
    found.map(|(_, layer)| layer)
}

/// Is this node among `nodes`, a hostlist or a list of them? Every one of them is checked.
fn nodes(key: &Key, value: &Value, node: &Node<'_>, named: &mut Vec<Named>, report: &mut Report<'_>) -> bool {
    let items = match &value.kind {
        Kind::Scalar(_) => std::slice::from_ref(value),
        Kind::List(items) => items.as_slice(),
        Kind::Map(_) => {
            report.error(value.at, "nodes must be a hostlist or a list, and this is a mapping", "write nodes: n[1-9]");
            return false;
        }
    };
    let (mut is_ours, mut names_any) = (false, false);
    for item in items {
        let Kind::Scalar(scalar) = &item.kind else {
            let what = format!("a node must be a name or a hostlist, and this is {}", item.describe());
            report.error(item.at, what, "write a hostlist such as n[1-9]");
            continue;
        };
        names_any |= !scalar.text.is_empty();
        match hostlist::contains(&scalar.text, node.name) {
            Ok(found) => {
                is_ours |= found;
                named.push(Named { list: scalar.text.clone(), line: report.line_of(item.at.start), is_ours: found });
                for name in hostlist::names(&scalar.text) {
                    if let Some(Refusal { what, hint }) = hostlist::idiom(name, node.name) {
                        report.warning(scalar.place_of(name), what, hint);
                    }
                }
            }
            Err(error) => {
                names_any = true;
                report.error(item.at, format!("the hostlist {} {}", quote(&scalar.text), error.what), error.hint);
            }
        }
    }
    if !names_any {
        report.warning(key.at, "nodes is empty, so this entry is for no node", "name the nodes, or remove the entry");
    }
    is_ours
}

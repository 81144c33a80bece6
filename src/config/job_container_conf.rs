//! `job_container.conf`, the file of Slurm's namespace/tmpfs: text to the same [`crate::config::settings::Settings`].
//!
//! | file | what it does |
//! |---|---|
//! | this | the file as a whole: the lines for this node, and which of them counts |
//! | [`lines`] | physical lines to logical lines: comments, continuations, escapes, `Include` |
//! | [`words`] | a logical line to `Key=value` words |
//!
//! The rules are Slurm's (parse_config.c, read_jcconf.c):
//!
//! - a line starts with `NodeName=` (a hostlist, followed by the settings of those nodes), starts with `BasePath=`
//!   (settings of all nodes), or is a single setting of all nodes;
//! - if several lines are for a node, a later line overrides an earlier one, key by key;
//! - a key that none of those lines sets comes from the single settings, and otherwise has its default;
//! - `InitScript`, `CloneNSScript` and `CloneNSEpilog` belong on a line with a `BasePath`.
//!
//! Slurm logs some mistakes and continues, such as a key that appears twice or a script that it ignores. This reader
//! reports them as errors or warnings.

mod lines;
mod words;

use crate::config::cluster::Named;
use crate::config::flavour::Flavour;
use crate::config::keys;
use crate::config::keys::Kind;
use crate::config::layer::{Layer, Set, Value};
use crate::config::limits::{MAX_PROBLEMS, MAX_SETTINGS};
use crate::config::merge;
use crate::config::outcome::Parsed;
use crate::config::problem::{Place, Report, quote};
use crate::config::settings::Node;
use crate::config::suggest;
use crate::config::values::ScalarReader;
use lines::{Line, Loader};
use words::Word;

/// Reads an included file by its name as written. Returns the reason if it cannot.
pub type Include<'i> = &'i mut dyn FnMut(&str) -> Result<Vec<u8>, String>;

/// Reads the file for one node. `file_name` is only for messages. The lines in [`Parsed::sources`] are those of the file
/// itself; a setting in an included file has the line of the `Include`.
#[must_use]
pub fn parse_job_container_conf(file_name: &str, text: &[u8], node: &Node<'_>, include: Include<'_>) -> Parsed {
    let mut report = Report::default();
    let lines = Loader::new(include, &mut report).load(file_name, text);
    let mut file = File {
        report: &mut report,
        node,
        single: Layer::default(),
        ours: Vec::new(),
        nodes: Vec::new(),
        last: None,
        settings: 0,
    };
    for line in &lines {
        file.line(line);
        if file.settings > MAX_SETTINGS {
            break;
        }
    }
    let File { mut single, ours, nodes, .. } = file;
    // Slurm looks for scripts only on lines with a BasePath.
    single.sets.retain(|(key, _)| !matches!(key.kind, Kind::Script(_)));
    let layers: Vec<Layer> = ours.into_iter().rev().chain([single]).collect();
    let is_valid = report.errors() == 0;
    let found = is_valid.then(|| merge::settings(&layers, Flavour::Tmpfs, node, &mut report));
    Parsed::new(found, report, nodes)
}

/// The part of the file that has been read.
struct File<'r, 'n> {
    report: &'r mut Report,
    node: &'n Node<'n>,
    /// Settings on lines of their own.
    single: Layer,
    /// The lines for this node.
    ours: Vec<Layer>,
    nodes: Vec<Named>,
    /// The place of the last line for this node, and whether it names the node.
    last: Option<(Place, bool)>,
    /// The number of settings on all lines.
    settings: usize,
}

impl File<'_, '_> {
    fn line(&mut self, line: &Line) {
        let Some(words) = words::split(line, self.report) else { return };
        self.settings += words.len();
        if self.settings > MAX_SETTINGS {
            let at = words.last().map_or(line.place(0, 1), |word| word.key_at);
            let hint = "use hostlists such as n[1-100] instead of single names";
            self.report.error(at, format!("there are more than {MAX_SETTINGS} settings"), hint);
            return;
        }
        let mut layer = Layer::default();
        for word in &words {
            self.setting(word, &mut layer);
        }
        let (Some(first), Some((key, _))) = (words.first(), layer.sets.first()) else { return };
        if layer.sets.len() < words.len() {
            // The errors have been reported. The kind of the line would be a guess.
            return;
        }
        for (_, set) in layer.sets.iter().skip(1).filter(|(_, set)| matches!(set.value, Value::Nodes(_))) {
            self.report.error(set.at, "NodeName is not the first word of its line", "start the line with it");
        }
        if matches!(key.kind, Kind::Nodes | Kind::BasePath) {
            return self.line_of_nodes(first.key_at, layer);
        }
        let name = key.conf.unwrap_or_default();
        let on_base_line = "write it after BasePath, on the same line";
        if key.name == "init_script" {
            let what = format!("{name} is on a line of its own, which Slurm refuses");
            return self.report.error(first.key_at, what, on_base_line);
        }
        if let Some(second) = words.get(1) {
            let what = format!("a line that starts with {name} cannot contain a second setting");
            let hint = "write each on a line of its own, or after BasePath or NodeName";
            return self.report.error(second.key_at, what, hint);
        }
        if let Some(before) = self.single.get(key.name) {
            let line = self.report.line_of(before.at);
            self.report.error(first.key_at, format!("{name} is already set on line {line}"), "keep one of the two");
        }
        if matches!(key.kind, Kind::Script(_)) {
            let what = format!("{name} has no effect on a line of its own, in Slurm or here");
            self.report.warning(first.key_at, what, on_base_line);
        }
        self.single.sets.append(&mut layer.sets);
    }

    /// A line that starts with NodeName or BasePath.
    fn line_of_nodes(&mut self, start: Place, mut layer: Layer) {
        if layer.get("base_path").is_none() {
            let hint = "add BasePath= and a directory, or BasePath=none for no private directories";
            self.report.error(start, "the line has no BasePath", hint);
        }
        if let Some((_, Set { value: Value::Nodes(list), at })) = layer.sets.first() {
            layer.is_of_node = true;
            if list.text.trim_matches([',', ' ', '\t']).is_empty() {
                let what = "NodeName is empty, so this line applies to no node";
                self.report.warning(*at, what, "name the nodes, or remove the line");
            }
            let mut reader = ScalarReader { format: Flavour::Tmpfs, report: self.report };
            if reader.hostlist(list, self.node.name, &mut self.nodes) != Some(true) {
                return;
            }
        }
        // A line for a node may follow a line for all nodes.
        if let Some((before, before_names)) = self.last
            && (before_names || !layer.is_of_node)
        {
            let line = self.report.line_of(before);
            let what = if before_names {
                format!("node {} is already named on line {line}", quote(self.node.name))
            } else {
                format!("BasePath for all nodes is already set on line {line}")
            };
            let hint = "as in Slurm's plugin, this line overrides that one, key by key; write one line, or the line for all nodes first";
            self.report.warning(start, what, hint);
        }
        self.last = Some((start, layer.is_of_node));
        self.ours.push(layer);
    }

    /// Checks one word on its own and adds it to the layer of its line.
    fn setting(&mut self, word: &Word, layer: &mut Layer) {
        let Some(key) = keys::find(&word.key, Flavour::Tmpfs) else {
            if self.report.errors() >= MAX_PROBLEMS {
                // Further errors are only counted, and suggestions for a mebibyte of unknown keys take seconds.
                return self.report.error(word.key_at, "unknown key", "");
            }
            let names: Vec<_> = keys::names(Flavour::Tmpfs).collect();
            let hint = suggest::hint(&word.key, names.iter().copied(), || format!("the keys are {}", names.join(", ")));
            return self.report.error(word.key_at, format!("unknown key {}", quote(&word.key)), hint);
        };
        if layer.get(key.name).is_some() {
            let what = format!("{} appears twice on this line", key.conf.unwrap_or_default());
            self.report.error(word.key_at, what, "keep one of the two");
        }
        let value = ScalarReader { format: Flavour::Tmpfs, report: self.report }.value(key, &word.value);
        layer.sets.extend(value.map(|value| (key, Set { value, at: word.value.at })));
    }
}

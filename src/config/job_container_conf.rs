//! `job_container.conf`, the file of Slurm's namespace/tmpfs: text to the same [`crate::config::settings::Settings`].
//!
//! | file | what it does |
//! |---|---|
//! | this | the file as a whole: which lines are for this node, and which of them count |
//! | [`lines`] | physical lines to logical ones: comments, continuations, escapes, `Include` |
//! | [`words`] | a logical line to `Key=value` words |
//!
//! The rules are Slurm's (parse_config.c, read_jcconf.c):
//!
//! - a line begins with `NodeName=` (a hostlist, then the settings of those nodes), with `BasePath=`
//!   (settings of all nodes), or is one single setting for all nodes;
//! - of several lines for a node, what a later one sets replaces what an earlier one set;
//! - what none of those sets comes from the single settings, else it is built in;
//! - `InitScript`, `CloneNSScript` and `CloneNSEpilog` are settings of a line with a `BasePath`.
//!
//! Where Slurm logs and goes on (a key twice, a script that it then ignores), this says so.

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

/// Reads an included file, of which the name is given as written; the reason when it cannot.
pub type Include<'i> = &'i mut dyn FnMut(&str) -> Result<Vec<u8>, String>;

/// Reads the file for one node. `file_name` only names it in messages. Lines of the sources are those of the file
/// itself, of what is included those of the `Include`.
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
    // Slurm looks for scripts in lines with a BasePath only.
    single.sets.retain(|(key, _)| !matches!(key.kind, Kind::Script(_)));
    let layers: Vec<Layer> = ours.into_iter().rev().chain([single]).collect();
    let is_good = report.errors() == 0;
    let found = is_good.then(|| merge::settings(&layers, Flavour::Tmpfs, node, &mut report));
    Parsed::new(found, report, nodes)
}

/// The file as far as it has been read.
struct File<'r, 'n> {
    report: &'r mut Report,
    node: &'n Node<'n>,
    /// Settings in lines of their own.
    single: Layer,
    /// The lines for this node.
    ours: Vec<Layer>,
    nodes: Vec<Named>,
    /// The last line for this node: where, and whether it names the node.
    last: Option<(Place, bool)>,
    /// How many settings there were, of all lines.
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
            // What is wrong has been said; what kind of line this is would only be guessed.
            return;
        }
        for (_, set) in layer.sets.iter().skip(1).filter(|(_, set)| matches!(set.value, Value::Nodes(_))) {
            self.report.error(set.at, "NodeName is not the first word of its line", "begin the line with it");
        }
        if matches!(key.kind, Kind::Nodes | Kind::BasePath) {
            return self.line_of_nodes(first.key_at, layer);
        }
        let name = key.conf.unwrap_or_default();
        let in_base_line = "write it behind BasePath, in the same line";
        if key.name == "init_script" {
            let what = format!("{name} is in a line of its own, which Slurm refuses");
            return self.report.error(first.key_at, what, in_base_line);
        }
        if let Some(second) = words.get(1) {
            let what = format!("a line that begins with {name} cannot contain a second setting");
            let hint = "write each in a line of its own, or behind BasePath or NodeName";
            return self.report.error(second.key_at, what, hint);
        }
        if let Some(before) = self.single.get(key.name) {
            let line = self.report.line_of(before.at);
            self.report.error(first.key_at, format!("{name} is already set in line {line}"), "keep one of the two");
        }
        if matches!(key.kind, Kind::Script(_)) {
            let what = format!("{name} has no effect in a line of its own, neither in Slurm nor here");
            self.report.warning(first.key_at, what, in_base_line);
        }
        self.single.sets.append(&mut layer.sets);
    }

    /// A line that begins with NodeName or BasePath.
    fn line_of_nodes(&mut self, begin: Place, mut layer: Layer) {
        if layer.get("base_path").is_none() {
            let hint = "add BasePath= and a directory, or BasePath=none for no private directories";
            self.report.error(begin, "the line has no BasePath", hint);
        }
        if let Some((_, Set { value: Value::Nodes(list), at })) = layer.sets.first() {
            layer.is_of_node = true;
            if list.text.trim_matches([',', ' ', '\t']).is_empty() {
                let what = "NodeName is empty, so this line is for no node";
                self.report.warning(*at, what, "name the nodes, or remove the line");
            }
            let mut reader = ScalarReader { format: Flavour::Tmpfs, report: self.report };
            if reader.hostlist(list, self.node.name, &mut self.nodes) != Some(true) {
                return;
            }
        }
        // A line for a node behind one for all nodes is what that is for.
        if let Some((before, before_names)) = self.last
            && (before_names || !layer.is_of_node)
        {
            let line = self.report.line_of(before);
            let what = if before_names {
                format!("node {} is already in line {line}", quote(self.node.name))
            } else {
                format!("BasePath for all nodes is already in line {line}")
            };
            let hint = "what this line sets counts, as in Slurm's plugin, and what only the earlier one sets stays; write one line, or the one for all nodes first";
            self.report.warning(begin, what, hint);
        }
        self.last = Some((begin, layer.is_of_node));
        self.ours.push(layer);
    }

    /// One word, checked for itself, for the layer of its line.
    fn setting(&mut self, word: &Word, layer: &mut Layer) {
        let Some(key) = keys::find(&word.key, Flavour::Tmpfs) else {
            if self.report.errors() >= MAX_PROBLEMS {
                // It is only counted from here on, and a search for each of a mebibyte takes seconds.
                return self.report.error(word.key_at, "unknown key", "");
            }
            let names: Vec<_> = keys::names(Flavour::Tmpfs).collect();
            let hint = suggest::hint(&word.key, names.iter().copied(), || format!("the keys are {}", names.join(", ")));
            return self.report.error(word.key_at, format!("unknown key {}", quote(&word.key)), hint);
        };
        if layer.get(key.name).is_some() {
            let what = format!("{} is twice in this line", key.conf.unwrap_or_default());
            self.report.error(word.key_at, what, "keep one of the two");
        }
        let value = ScalarReader { format: Flavour::Tmpfs, report: self.report }.value(key, &word.value);
        layer.sets.extend(value.map(|value| (key, Set { value, at: word.value.at })));
    }
}

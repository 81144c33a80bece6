//! `job_container.conf`, the file of Slurm's namespace/tmpfs: text to the same [`crate::config::settings::Settings`].
//!
//! | file | what it does |
//! |---|---|
//! | this | the file as a whole: which lines are for this node, and which of them count |
//! | [`lines`] | physical lines to logical ones: comments, continuations, escapes, `Include` |
//! | [`words`] | a logical line to `Key=value` words |
//! | [`merge`] | the words that count to settings |
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
mod merge;
mod words;

use crate::config::cluster::Named;
use crate::config::hostlist;
use crate::config::limits::{MAX_PROBLEMS, MAX_SETTINGS};
use crate::config::outcome::Parsed;
use crate::config::problem::{Refusal, Report, quote};
use crate::config::settings::Node;
use crate::config::suggest;
use lines::Loader;
use words::{Place, Word};

/// Reads an included file, of which the name is given as written; the reason when it cannot.
pub type Include<'i> = &'i mut dyn FnMut(&str) -> Result<Vec<u8>, String>;

/// What a file comes to for one node.
#[derive(Clone, Debug)]
pub struct ParsedConf {
    /// As of namespace.yaml. The keys of the sources are those of namespace.yaml; lines are those of
    /// the file itself, of what is included those of the `Include`.
    pub parsed: Parsed,
    /// `EntireStepInNS`: steps run inside the job's namespaces altogether. Only this file has it.
    pub entire_step_in_ns: bool,
}

/// Reads the file for one node. `file_name` only names it in messages.
#[must_use]
pub fn parse_job_container_conf(file_name: &str, text: &[u8], node: &Node<'_>, include: Include<'_>) -> ParsedConf {
    let mut loader = Loader::new(include);
    loader.file(file_name, text);
    let Loader { files, lines, remarks, broken, .. } = loader;
    let mut reports = Reports { all: files.iter().map(|(name, text)| Report::new(name, text)).collect() };
    for (place, what, hint) in remarks {
        reports.error(place, what, hint);
    }
    let mut reader = Reader {
        reports: &mut reports,
        node,
        global: Vec::new(),
        ours: Vec::new(),
        nodes: Vec::new(),
        last: None,
        words: 0,
    };
    for line in &lines {
        reader.line(line);
        if reader.words > MAX_SETTINGS {
            break;
        }
    }
    let Reader { global, ours, nodes, .. } = reader;
    let found = if reports.errors() == 0 && broken.is_empty() {
        merge::Merge { reports: &mut reports, node, global: &global, ours: &ours, sources: Vec::new() }.settings()
    } else {
        None
    };
    let found = found.filter(|_| reports.errors() == 0);
    let mut problems = broken;
    problems.extend(reports.all.into_iter().flat_map(Report::finish));
    let (settings, sources, entire_step_in_ns) =
        found.map_or((None, Vec::new(), false), |(settings, sources, entire)| (Some(settings), sources, entire));
    ParsedConf { parsed: Parsed { settings, problems, sources, nodes }, entire_step_in_ns }
}

/// One report for each file.
struct Reports<'t> {
    all: Vec<Report<'t>>,
}

impl Reports<'_> {
    fn errors(&self) -> usize {
        self.all.iter().map(Report::errors).sum()
    }

    fn error(&mut self, at: Place, what: impl Into<String>, hint: impl Into<String>) {
        if let Some(report) = self.all.get_mut(at.file) {
            report.error(at.span, what, hint);
        }
    }

    fn warning(&mut self, at: Place, what: impl Into<String>, hint: impl Into<String>) {
        if let Some(report) = self.all.get_mut(at.file) {
            report.warning(at.span, what, hint);
        }
    }

    /// So many errors that no more of them are shown.
    fn is_full(&self, at: Place) -> bool {
        self.all.get(at.file).is_some_and(|report| report.errors() >= MAX_PROBLEMS)
    }

    fn line_of(&self, at: Place) -> usize {
        self.all.get(at.file).map_or(0, |report| report.line_of(at.span.start))
    }

    /// The line in the file itself, not in one that it includes.
    fn top_line_of(&self, at: Place) -> usize {
        self.all.first().map_or(0, |report| report.line_of(at.top))
    }
}

/// The keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    NodeName,
    BasePath,
    AutoBasePath,
    Dirs,
    EntireStepInNs,
    Shared,
    InitScript,
    CloneNsScript,
    CloneNsEpilog,
    CloneNsScriptWait,
    CloneNsEpilogWait,
    // Only this plugin has these.
    ScriptsMayBeMissing,
    HideBasePath,
    RemovalTimeout,
    DirMode,
    InitScriptWait,
}

const KEYS: [(Key, &str); 16] = [
    (Key::NodeName, "NodeName"),
    (Key::BasePath, "BasePath"),
    (Key::AutoBasePath, "AutoBasePath"),
    (Key::Dirs, "Dirs"),
    (Key::EntireStepInNs, "EntireStepInNS"),
    (Key::Shared, "Shared"),
    (Key::InitScript, "InitScript"),
    (Key::CloneNsScript, "CloneNSScript"),
    (Key::CloneNsEpilog, "CloneNSEpilog"),
    (Key::CloneNsScriptWait, "CloneNSScript_Wait"),
    (Key::CloneNsEpilogWait, "CloneNSEpilog_Wait"),
    (Key::ScriptsMayBeMissing, "ScriptsMayBeMissing"),
    (Key::HideBasePath, "HideBasePath"),
    (Key::RemovalTimeout, "RemovalTimeout"),
    (Key::DirMode, "DirMode"),
    (Key::InitScriptWait, "InitScriptWait"),
];

/// How this file spells a key of namespace.yaml. None where it has no such key.
#[must_use]
pub fn spelled_in_conf(key: &str) -> Option<&'static str> {
    /// Letter case and the bars apart, they are the same.
    fn plain(name: &str) -> impl Iterator<Item = u8> {
        name.bytes().filter(|&byte| byte != b'_').map(|byte| byte.to_ascii_lowercase())
    }
    KEYS.iter().find(|(_, name)| plain(name).eq(plain(key))).map(|(_, name)| *name)
}

impl Key {
    fn name(self) -> &'static str {
        KEYS.iter().find(|(key, _)| *key == self).map_or("", |(_, name)| name)
    }

    fn find(word: &str) -> Option<Self> {
        KEYS.iter().find(|(_, name)| name.eq_ignore_ascii_case(word)).map(|(key, _)| *key)
    }
}

/// One setting as written.
#[derive(Clone, Debug)]
struct Setting {
    key: Key,
    text: String,
    at: Place,
    value: Value,
    is_of_node: bool,
}

/// What a setting says, once it has been checked for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Flag(bool),
    Seconds(u32),
    Mode(u32),
    Path(String),
    NoBase,
    /// Normalised, in the order of the file.
    Dirs(Vec<(String, Place)>),
    Nodes,
}

struct Reader<'r, 't, 'n> {
    reports: &'r mut Reports<'t>,
    node: &'n Node<'n>,
    /// Single settings.
    global: Vec<Setting>,
    /// Settings of the lines for this node, in their order.
    ours: Vec<Setting>,
    nodes: Vec<Named>,
    /// The last line for this node: where, and whether it names the node.
    last: Option<(Place, bool)>,
    /// How many settings there were, of all lines.
    words: usize,
}

impl Reader<'_, '_, '_> {
    fn line(&mut self, line: &lines::Line) {
        let Some(words) = words::split(line, self.reports) else { return };
        self.words += words.len();
        if self.words > MAX_SETTINGS {
            let at = words.last().map_or(line.place(0, 1), |word| word.key_at);
            let hint = "use hostlists such as n[1-100] instead of single names";
            self.reports.error(at, format!("there are more than {MAX_SETTINGS} settings"), hint);
            return;
        }
        let mut settings = Vec::new();
        for word in &words {
            settings.extend(self.setting(word, &settings));
        }
        let (Some(first), Some(begin)) = (words.first(), settings.first()) else { return };
        if settings.len() < words.len() {
            // What is wrong has been said; what kind of line this is would only be guessed.
            return;
        }
        for setting in settings.iter().skip(1).filter(|setting| setting.key == Key::NodeName) {
            self.reports.error(setting.at, "NodeName is not the first word of its line", "begin the line with it");
        }
        match begin.key {
            Key::NodeName | Key::BasePath => self.line_of_nodes(first, settings),
            Key::InitScript => {
                self.reports.error(
                    first.key_at,
                    "InitScript stands in a line of its own, which Slurm refuses",
                    "write it behind BasePath, in the same line",
                );
            }
            _ if settings.len() > 1 => {
                let what = format!("a line that begins with {} cannot hold a second setting", begin.key.name());
                let at = words.get(1).map_or(first.key_at, |word| word.key_at);
                self.reports.error(at, what, "write each in a line of its own, or behind BasePath or NodeName");
            }
            key => {
                if matches!(key, Key::CloneNsScript | Key::CloneNsEpilog) {
                    self.reports.warning(
                        first.key_at,
                        format!("{} has no effect in a line of its own, neither in Slurm nor here", key.name()),
                        "write it behind BasePath, in the same line",
                    );
                }
                if let Some(before) = self.global.iter().find(|setting| setting.key == key) {
                    let line = self.reports.line_of(before.at);
                    let what = format!("{} is already set in line {line}", key.name());
                    self.reports.error(first.key_at, what, "keep one of the two");
                }
                self.global.append(&mut settings);
            }
        }
    }

    /// A line that begins with NodeName or BasePath.
    fn line_of_nodes(&mut self, first: &Word, mut settings: Vec<Setting>) {
        let names_nodes = settings.first().is_some_and(|setting| setting.key == Key::NodeName);
        if !settings.iter().any(|setting| setting.key == Key::BasePath) {
            self.reports.error(
                first.key_at,
                "the line has no BasePath",
                "add BasePath= and a directory, or BasePath=none for no private directories",
            );
        }
        let is_ours = match settings.first() {
            Some(setting) if names_nodes => match hostlist::contains(&setting.text, self.node.name) {
                Ok(found) => {
                    if setting.text.trim_matches([',', ' ', '\t']).is_empty() {
                        self.reports.warning(
                            setting.at,
                            "NodeName is empty, so this line is for no node",
                            "name the nodes, or remove the line",
                        );
                    }
                    for name in hostlist::names(&setting.text) {
                        if let Some(Refusal { what, hint }) = hostlist::idiom(name, self.node.name) {
                            self.reports.warning(setting.at, what, hint);
                        }
                    }
                    let line = self.reports.top_line_of(setting.at);
                    self.nodes.push(Named { list: setting.text.clone(), line, is_ours: found });
                    found
                }
                Err(error) => {
                    let what = format!("the hostlist {} {}", quote(&setting.text), error.what);
                    self.reports.error(setting.at, what, error.hint);
                    false
                }
            },
            _ => true,
        };
        if !is_ours {
            return;
        }
        // A line for a node behind one for all nodes is what that is for.
        if let Some((before, before_names)) = self.last
            && (before_names || !names_nodes)
        {
            let line = self.reports.line_of(before);
            let what = if before_names {
                format!("node {} is already in line {line}", quote(self.node.name))
            } else {
                format!("BasePath for all nodes is already in line {line}")
            };
            let hint = "what this line sets counts, as in Slurm's plugin, and what only the earlier one sets stays; write one line, or the one for all nodes first";
            self.reports.warning(first.key_at, what, hint);
        }
        self.last = Some((first.key_at, names_nodes));
        for setting in &mut settings {
            setting.is_of_node = names_nodes;
        }
        self.ours.append(&mut settings);
    }

    /// One word, checked for itself. `before` are those of the same line.
    fn setting(&mut self, word: &Word, before: &[Setting]) -> Option<Setting> {
        let Some(key) = Key::find(&word.key) else {
            let names = KEYS.map(|(_, name)| name);
            if self.reports.is_full(word.key_at) {
                // It is only counted from here on, and a search for each of a mebibyte takes seconds.
                self.reports.error(word.key_at, "unknown key", "");
                return None;
            }
            let hint = suggest::hint(&word.key, names, || format!("the keys are {}", names.join(", ")));
            self.reports.error(word.key_at, format!("unknown key {}", quote(&word.key)), hint);
            return None;
        };
        if before.iter().any(|setting| setting.key == key) {
            let what = format!("{} is twice in this line", key.name());
            self.reports.error(word.key_at, what, "keep one of the two");
        }
        let value = merge::value(key, word, self.reports)?;
        Some(Setting { key, text: word.value.clone(), at: word.value_at, value, is_of_node: false })
    }
}

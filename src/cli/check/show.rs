//! The settings of a node, each value with its source: as a table, and as JSON for programs.

use crate::cli::check::here::Here;
use crate::cli::json;
use crate::config::outcome::Origin;
use crate::config::problem::escape;
use crate::config::problem::{Level, Problem};
use crate::config::settings::{Backing, Dir, DisabledWhy, MountFlags, Node, NodeSettings, Script, Settings};
use crate::node::config_file::{ConfigFile, File, JOB_CONTAINER_CONF, NAMESPACE_YAML};
use std::fmt::Write as _;

/// All that is known about a file and a node.
#[derive(Debug)]
pub(super) struct Checked<'a> {
    pub(super) file: ConfigFile,
    pub(super) format: File,
    pub(super) node: Node<'a>,
    /// A key that only job_container.conf has.
    pub(super) entire_step_in_ns: Option<bool>,
    /// Names that no node of the cluster has: the line, and a sentence.
    pub(super) strangers: Vec<(usize, String)>,
    /// Only with `--here`.
    pub(super) here: Option<Here>,
}

/// A value as it is shown.
enum Value<'a> {
    Flag(bool),
    Number(u32),
    Text(&'a str),
    Mode(u32),
    Words(Vec<String>),
    Paths(&'a [String]),
    Dirs(&'a [Dir]),
}

impl Checked<'_> {
    /// Errors and warnings, of the text and of this machine.
    pub(super) fn counts(&self) -> (usize, usize) {
        let problems = &self.file.parsed.problems;
        let errors = problems.iter().filter(|problem| problem.level == Level::Error).count();
        let warnings = problems.len() - errors;
        let here = self.here.as_ref().map_or((0, 0), |here| (here.errors.len(), here.warnings.len()));
        (errors + here.0, warnings + here.1 + self.strangers.len())
    }

    /// All but the name of the node is the same, so that it can be said of both.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let (a, b) = (&self.file.parsed, &other.file.parsed);
        let is_same = a.settings == b.settings && a.problems == b.problems && a.sources == b.sources;
        is_same
            && self.entire_step_in_ns == other.entire_step_in_ns
            && self.file.left_out.is_some() == other.file.left_out.is_some()
            && self.strangers == other.strangers
    }

    fn strangers(&self) -> impl Iterator<Item = String> {
        self.strangers.iter().map(|(line, what)| format!("{}:{line}: {what}", self.file.path))
    }

    fn origin(&self, key: &str) -> Option<Origin> {
        self.file.origin(key)
    }

    fn unchecked(&self) -> Vec<String> {
        match (&self.here, &self.file.parsed.settings) {
            (Some(here), _) => here.unchecked.clone(),
            (None, Some(NodeSettings::Enabled(_))) => {
                vec!["whether paths exist and who owns them, scripts, what the kernel takes: see --here".to_owned()]
            }
            (None, _) => Vec::new(),
        }
    }

    /// The settings in the order in which they are explained: what, where, then the rest.
    fn rows<'s>(&self, settings: &'s Settings) -> Vec<(&'static str, Value<'s>)> {
        let namespaces = settings.namespaces;
        let flags = [
            ("CLONE_NEWNS", true),
            ("CLONE_NEWPID", namespaces.pid),
            ("CLONE_NEWUSER", namespaces.user),
            ("CLONE_NEWIPC", namespaces.ipc),
        ];
        let flags = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name.to_owned()).collect();
        let mut rows = vec![
            ("base_path", Value::Text(&settings.base_path)),
            ("auto_base_path", Value::Flag(settings.auto_base_path)),
            ("hide_base_path", Value::Flag(settings.hide_base_path)),
            ("clone_ns_flags", Value::Words(flags)),
            ("shared", Value::Flag(settings.shared)),
            ("disable_bpf_token", Value::Flag(settings.disable_bpf_token)),
        ];
        let is_set = |key| self.origin(key).is_some_and(|origin| origin != Origin::BuiltIn);
        if namespaces.user || is_set("user_ns_limits") {
            rows.push(("user_ns_limits", Value::Number(settings.user_ns_limits)));
        }
        if let Some(value) = self.entire_step_in_ns {
            rows.push(("entire_step_in_ns", Value::Flag(value)));
        }
        for (key, wait_key, script) in [
            ("init_script", "init_script_wait", &settings.init_script),
            ("user_ns_script", "user_ns_script_wait", &settings.user_ns_script),
            ("clone_ns_script", "clone_ns_script_wait", &settings.clone_ns_script),
            ("clone_ns_epilog", "clone_ns_epilog_wait", &settings.clone_ns_epilog),
        ] {
            if let Some(Script { path, wait_seconds }) = script {
                rows.push((key, Value::Text(path)));
                rows.push((wait_key, Value::Number(*wait_seconds)));
            }
        }
        let has_script = rows.iter().any(|(key, _)| key.ends_with("_wait"));
        if has_script || is_set("scripts_may_be_missing") {
            rows.push(("scripts_may_be_missing", Value::Flag(settings.scripts_may_be_missing)));
        }
        rows.push(("removal_timeout", Value::Number(settings.removal_timeout)));
        if is_set("proc_options") {
            rows.push(("proc_options", Value::Words(vec![format!("hidepid={}", settings.hide_pid.name())])));
        }
        if is_set("proc_keep") {
            rows.push(("proc_keep", Value::Paths(&settings.proc_keep)));
        }
        if self.format == JOB_CONTAINER_CONF {
            // It is that of all directories under the base path.
            let mode = settings.dirs.iter().find_map(|dir| dir.mode).unwrap_or(0o700);
            rows.push(("dir_mode", Value::Mode(mode)));
        }
        let key = if self.origin("dir_confs").is_some() { "dir_confs" } else { "dirs" };
        rows.push((key, Value::Dirs(&settings.dirs)));
        rows.retain(|(key, _)| self.format.key(key).is_some());
        rows
    }

    fn origin_in_words(&self, key: &str) -> String {
        let (for_all, for_node) = if self.format == NAMESPACE_YAML {
            ("defaults", "node_confs entry")
        } else {
            ("for all nodes", "NodeName line")
        };
        match self.origin(key) {
            Some(Origin::Defaults { line }) => format!("{for_all}, line {line}"),
            Some(Origin::NodeEntry { line }) => format!("{for_node}, line {line}"),
            Some(Origin::BuiltIn) | None => "built in".to_owned(),
        }
    }

    fn why_disabled(&self, why: DisabledWhy) -> String {
        let key = self.format.key("base_path").unwrap_or_default();
        let left_out = self.file.left_out.as_ref().map_or_else(String::new, |left_out| format!("{left_out}, and "));
        match why {
            DisabledWhy::NotConfigured if !left_out.is_empty() => format!("{left_out}there is no {key} for all nodes"),
            DisabledWhy::NotConfigured => format!("the file gives it no {key}"),
            DisabledWhy::SetToNone => format!("{left_out}{key} is none ({})", self.origin_in_words("base_path")),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut out: String = self.file.parsed.problems.iter().map(Problem::render).collect();
        for line in self.strangers() {
            let _ = writeln!(out, "warning: {}", escape(&line));
        }
        if !out.is_empty() {
            out.push('\n');
        }
        let node = escape(self.node.name);
        match &self.file.parsed.settings {
            Some(NodeSettings::Enabled(settings)) => {
                if let Some(left_out) = &self.file.left_out {
                    let _ = writeln!(out, "note: {left_out}: it gets what is for all nodes");
                }
                let _ = writeln!(out, "settings of node {node}:");
                self.table(settings, &mut out);
                out.push('\n');
            }
            Some(NodeSettings::Disabled(why)) => {
                let why = self.why_disabled(*why);
                let _ = writeln!(out, "node {node} gets no private directories or namespaces: {why}");
            }
            None => {}
        }
        if let Some(here) = &self.here {
            for (word, lines) in [("error", &here.errors), ("warning", &here.warnings), ("note", &here.notes)] {
                for line in lines {
                    let _ = writeln!(out, "{word}: {}", escape(line));
                }
            }
        }
        for line in self.unchecked() {
            let _ = writeln!(out, "not checked: {}", escape(&line));
        }
        let (errors, warnings) = self.counts();
        let counted = |count: usize, word: &str| match count {
            0 => format!("no {word}s"),
            1 => format!("1 {word}"),
            _ => format!("{count} {word}s"),
        };
        let _ =
            write!(out, "{}: {}, {}", escape(&self.file.path), counted(errors, "error"), counted(warnings, "warning"));
        out.push_str(match &self.file.parsed.settings {
            None => ": slurmd refuses this file\n",
            Some(_) if errors > 0 => ": it does not work on this machine\n",
            Some(_) => "\n",
        });
        out
    }

    /// One line for each error, and nothing else.
    pub(super) fn errors(&self) -> String {
        let problems = self.file.parsed.problems.iter().filter(|problem| problem.level == Level::Error);
        let here = self.here.iter().flat_map(|here| &here.errors);
        let lines = problems.map(Problem::one_line).chain(here.map(|line| format!("error: {}", escape(line))));
        lines.fold(String::new(), |text, line| text + &line + "\n")
    }

    fn table(&self, settings: &Settings, out: &mut String) {
        let rows = self.rows(settings);
        let shown: Vec<[String; 3]> = rows
            .iter()
            .map(|(key, value)| {
                let value = match value {
                    Value::Flag(flag) => flag.to_string(),
                    Value::Number(number) => number.to_string(),
                    Value::Text(text) => escape(text),
                    Value::Mode(mode) => format!("{mode:04o}"),
                    Value::Words(words) => words.join(","),
                    Value::Paths([]) | Value::Dirs([]) => "none".to_owned(),
                    Value::Paths(paths) => escape(&paths.join(",")),
                    Value::Dirs(_) => String::new(),
                };
                [self.format.key(key).unwrap_or(key).to_owned(), value, self.origin_in_words(key)]
            })
            .collect();
        // One very long path must not push the sources of all values off the screen.
        let width = |column: usize, most: usize| {
            let widths = shown.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            widths.filter(|&width| width <= most).max().unwrap_or(0)
        };
        let (keys, values) = (width(0, 40), width(1, 60));
        for [key, value, origin] in &shown {
            let _ = writeln!(out, "  {key:keys$}  {value:values$}  {origin}");
        }
        let paths = settings.dirs.iter().map(|dir| dir.path.chars().count()).filter(|&width| width <= 40);
        let paths = paths.max().unwrap_or(0);
        for dir in &settings.dirs {
            let _ = write!(out, "    {:paths$}  ", escape(&dir.path));
            match &dir.backing {
                Backing::BasePath => {
                    let _ = write!(out, "in {}", self.format.key("base_path").unwrap_or_default());
                }
                Backing::OtherBase(base) => {
                    let _ = write!(out, "in {}", escape(base));
                }
                Backing::SameAs(other) => {
                    let _ = write!(out, "the same as {}", escape(other));
                }
                Backing::Tmpfs(_) => out.push_str("tmpfs"),
            }
            if let Some(mode) = dir.mode {
                let _ = write!(out, ", mode {mode:04o}");
            }
            let options = options(dir);
            if !options.is_empty() {
                let _ = write!(out, ", options {}", escape(&options.join(",")));
            }
            out.push('\n');
        }
    }

    pub(super) fn json(&self) -> String {
        let (errors, warnings) = self.counts();
        let problems = self.file.parsed.problems.iter().map(json_problem);
        let (state, why, settings) = match &self.file.parsed.settings {
            None => ("refused", None, None),
            Some(NodeSettings::Disabled(why)) => ("disabled", Some(self.why_disabled(*why)), None),
            Some(NodeSettings::Enabled(settings)) => ("enabled", None, Some(self.json_settings(settings))),
        };
        let here = self.here.as_ref().map(|here| {
            let list = |lines: &[String]| json::list(lines.iter().map(|line| json::text(line)));
            json::object([
                ("errors", list(&here.errors)),
                ("warnings", list(&here.warnings)),
                ("notes", list(&here.notes)),
            ])
        });
        json::object([
            ("file", json::text(&self.file.path)),
            ("format", json::text(self.format.name)),
            ("node", json::text(self.node.name)),
            ("hostname", json::text(self.node.hostname)),
            ("errors", errors.to_string()),
            ("warnings", warnings.to_string()),
            ("problems", json::list(problems)),
            ("state", json::text(state)),
            ("why", json::or_null(why.as_deref().map(json::text))),
            ("settings", json::or_null(settings)),
            ("strangers", json::list(self.strangers().map(|line| json::text(&line)))),
            ("here", json::or_null(here)),
            ("unchecked", json::list(self.unchecked().iter().map(|line| json::text(line)))),
        ]) + "\n"
    }

    fn json_settings(&self, settings: &Settings) -> String {
        let rows = self.rows(settings);
        json::object(rows.iter().map(|(key, value)| {
            let shown = match value {
                Value::Flag(flag) => flag.to_string(),
                Value::Number(number) => number.to_string(),
                Value::Text(text) => json::text(text),
                Value::Mode(mode) => json::text(&format!("{mode:04o}")),
                Value::Words(words) => json::list(words.iter().map(|word| json::text(word))),
                Value::Paths(paths) => json::list(paths.iter().map(|path| json::text(path))),
                Value::Dirs(dirs) => json::list(dirs.iter().map(|dir| json_dir(dir, &settings.base_path))),
            };
            let (from, line) = match self.origin(key) {
                Some(Origin::Defaults { line }) => ("defaults", Some(line)),
                Some(Origin::NodeEntry { line }) => ("node", Some(line)),
                Some(Origin::BuiltIn) | None => ("built in", None),
            };
            let line = json::or_null(line.map(|line| line.to_string()));
            // Programs look for the directories in one place, whichever key they come from.
            let key = if *key == "dir_confs" { "dirs" } else { key };
            (
                self.format.key(key).unwrap_or(key),
                json::object([("value", shown), ("from", json::text(from)), ("line", line)]),
            )
        }))
    }
}

/// The options of a directory, as they could be written in a file.
pub fn options(dir: &Dir) -> Vec<String> {
    let MountFlags { nosuid, nodev, noexec, read_only, noatime, nodiratime, relatime } = dir.flags;
    let flags = [
        (nosuid, "nosuid"),
        (nodev, "nodev"),
        (noexec, "noexec"),
        (read_only, "ro"),
        (noatime, "noatime"),
        (nodiratime, "nodiratime"),
        (relatime, "relatime"),
    ];
    let flags = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name.to_owned());
    let params: &[_] = if let Backing::Tmpfs(params) = &dir.backing { params } else { &[] };
    let params = params.iter().map(|param| match &param.value {
        Some(value) => format!("{}={value}", param.key),
        None => param.key.clone(),
    });
    flags.chain(params).collect()
}

fn json_problem(problem: &Problem) -> String {
    let level = match problem.level {
        Level::Error => "error",
        Level::Warning => "warning",
    };
    json::object([
        ("level", json::text(level)),
        ("file", json::text(&problem.file)),
        ("line", problem.line.to_string()),
        ("column", problem.column.to_string()),
        ("length", problem.length.to_string()),
        ("message", json::text(&problem.what)),
        ("hint", json::or_null(problem.hint.as_deref().map(json::text))),
        ("text", json::text(&problem.line_text)),
    ])
}

fn json_dir(dir: &Dir, main_base: &str) -> String {
    let (backing, base) = match &dir.backing {
        Backing::BasePath => ("base_path", Some(main_base)),
        Backing::OtherBase(base) => ("base_path", Some(base.as_str())),
        Backing::SameAs(_) => ("same", None),
        Backing::Tmpfs(_) => ("tmpfs", None),
    };
    json::object([
        ("path", json::text(&dir.path)),
        ("backing", json::text(backing)),
        ("base_path", json::or_null(base.map(json::text))),
        ("mode", json::or_null(dir.mode.map(|mode| json::text(&format!("{mode:04o}"))))),
        ("options", json::list(options(dir).iter().map(|option| json::text(option)))),
    ])
}

//! Prints the settings of a node, each value with its source, as a table or as JSON.

use crate::cli::check::here::Here;
use crate::cli::json;
use crate::config::keys;
use crate::config::keys::{Key, Kind};
use crate::config::outcome::Origin;
use crate::config::problem::escape;
use crate::config::problem::{Level, Problem};
use crate::config::settings::{Backing, Dir, DisabledWhy, KeepPath, Node, NodeSettings, Settings};
use crate::node::config_file::{ConfigFile, File, NAMESPACE_YAML};
use std::fmt::Write as _;

/// The result of checking a file for a node.
#[derive(Debug)]
pub(super) struct Checked<'a> {
    pub(super) file: ConfigFile,
    pub(super) format: File,
    pub(super) node: Node<'a>,
    /// Names in the file that no node of the cluster has: the line, and a sentence.
    pub(super) strangers: Vec<(usize, String)>,
    /// Only with `--here`.
    pub(super) here: Option<Here>,
}

/// A value to print.
enum Shown<'a> {
    Flag(bool),
    Number(u32),
    Text(&'a str),
    Mode(u32),
    Words(Vec<String>),
    Paths(&'a [String]),
    Keep(&'a [KeepPath]),
    Dirs(&'a [Dir]),
}

impl Checked<'_> {
    /// The numbers of errors and warnings, about the text and this machine.
    pub(super) fn counts(&self) -> (usize, usize) {
        let problems = &self.file.parsed.problems;
        let errors = problems.iter().filter(|problem| problem.level == Level::Error).count();
        let warnings = problems.len() - errors;
        let here = self.here.as_ref().map_or((0, 0), |here| (here.errors.len(), here.warnings.len()));
        (errors + here.0, warnings + here.1 + self.strangers.len())
    }

    /// Whether both results are the same except for the name of the node.
    pub(super) fn has_same_result(&self, other: &Self) -> bool {
        let (a, b) = (&self.file.parsed, &other.file.parsed);
        let is_same = a.settings == b.settings && a.problems == b.problems && a.sources == b.sources;
        is_same && self.file.left_out.is_some() == other.file.left_out.is_some() && self.strangers == other.strangers
    }

    fn strangers(&self) -> impl Iterator<Item = String> {
        self.strangers.iter().map(|(line, what)| format!("{}:{line}: {what}", self.file.path))
    }

    /// The name of a key in the file.
    fn key(&self, key: &'static str) -> &'static str {
        self.format.key(key).unwrap_or(key)
    }

    fn origin(&self, key: &str) -> Option<Origin> {
        self.file.origin(key)
    }

    fn unchecked(&self) -> Vec<String> {
        match (&self.here, &self.file.parsed.settings) {
            (Some(here), _) => here.unchecked.clone(),
            (None, Some(NodeSettings::Enabled(_))) => {
                vec!["paths and their owners, scripts, kernel support: see --here".to_owned()]
            }
            (None, _) => Vec::new(),
        }
    }

    /// The settings in the order of the table of keys.
    fn rows<'s>(&self, settings: &'s Settings) -> Vec<(&'static str, Shown<'s>)> {
        let has_script = keys::scripts(settings).next().is_some();
        let mut rows = Vec::new();
        for (_, key) in keys::of(self.format.format) {
            let is_set = self.origin(key.name).is_some_and(|origin| origin != Origin::BuiltIn);
            let is_shown = match key.name {
                "user_ns_limits" => is_set || settings.namespaces.user,
                "scripts_may_be_missing" => is_set || has_script,
                "proc_options" | "proc_keep" | "keep" | "dir_size" | "dir_inodes" | "project_ids" => is_set,
                _ => true,
            };
            if is_shown {
                rows.extend(self.value(key, settings).map(|value| (key.name, value)));
            }
        }
        rows
    }

    fn value<'s>(&self, key: &Key, settings: &'s Settings) -> Option<Shown<'s>> {
        let has_confs = self.origin("dir_confs").is_some();
        Some(match &key.kind {
            Kind::Flag(field) => Shown::Flag(*(field.of)(settings)),
            Kind::Seconds(field) | Kind::Percent(field) => Shown::Number(*(field.of)(settings)),
            Kind::Script(field) => Shown::Text(&(field.of)(settings).as_ref()?.path),
            Kind::Wait(field) => Shown::Number((field.of)(settings).as_ref()?.wait_seconds),
            Kind::BasePath => Shown::Text(&settings.base_path),
            Kind::Namespaces => {
                let flags = ["CLONE_NEWNS"].into_iter().chain(settings.namespaces.names());
                Shown::Words(flags.map(str::to_owned).collect())
            }
            Kind::HidePid => Shown::Words(vec![format!("hidepid={}", settings.hide_pid.name())]),
            Kind::ProcPaths => Shown::Paths(&settings.proc_keep),
            Kind::Keep => Shown::Keep(&settings.keep),
            // All directories under the base path have the same mode.
            Kind::Mode => Shown::Mode(settings.dirs.iter().find_map(|dir| dir.mode).unwrap_or(0o700)),
            // A directory that says nothing itself has it.
            Kind::Size => Shown::Words(vec![settings.dirs.iter().find_map(|dir| dir.size.as_ref())?.to_string()]),
            Kind::Inodes => Shown::Words(vec![settings.dirs.iter().find_map(|dir| dir.inodes)?.to_string()]),
            Kind::ProjectIds => Shown::Words(vec![settings.project_ids?.to_string()]),
            Kind::Dirs if !has_confs => Shown::Dirs(&settings.dirs),
            Kind::DirConfs if has_confs => Shown::Dirs(&settings.dirs),
            Kind::Dirs | Kind::DirConfs | Kind::Nodes => return None,
        })
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
            DisabledWhy::NotConfigured => format!("the file sets no {key} for it"),
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
                    let _ = writeln!(out, "note: {left_out}: it gets the settings for all nodes");
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

    /// Only the errors, one on each line.
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
                    Shown::Flag(flag) => flag.to_string(),
                    Shown::Number(number) => number.to_string(),
                    Shown::Text(text) => escape(text),
                    Shown::Mode(mode) => format!("{mode:04o}"),
                    Shown::Words(words) => words.join(","),
                    Shown::Paths([]) | Shown::Dirs([]) | Shown::Keep([]) => "none".to_owned(),
                    Shown::Keep(paths) => escape(&paths.iter().map(KeepPath::to_string).collect::<Vec<_>>().join(",")),
                    Shown::Paths(paths) => escape(&paths.join(",")),
                    Shown::Dirs(_) => String::new(),
                };
                [self.key(key).to_owned(), value, self.origin_in_words(key)]
            })
            .collect();
        // One very long path must not move the sources of all values off the screen.
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
                    let _ = write!(out, "in {}", self.key("base_path"));
                }
                Backing::OtherBase(base) => {
                    let _ = write!(out, "in {}", escape(base));
                }
                Backing::SameAs(other) => {
                    let _ = write!(out, "the same as {}", escape(other));
                }
                Backing::Tmpfs(_) => out.push_str(if dir.is_cover { "hidden" } else { "tmpfs" }),
            }
            if let Some(owner) = owner(dir) {
                let _ = write!(out, ", owner {owner}");
            }
            if let Some(mode) = dir.mode {
                let _ = write!(out, ", mode {mode:04o}");
            }
            if let Some(size) = &dir.size {
                let _ = write!(out, ", size {size}");
            }
            if let Some(inodes) = &dir.inodes {
                let _ = write!(out, ", inodes {inodes}");
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
                Shown::Flag(flag) => flag.to_string(),
                Shown::Number(number) => number.to_string(),
                Shown::Text(text) => json::text(text),
                Shown::Mode(mode) => json::text(&format!("{mode:04o}")),
                Shown::Words(words) => json::list(words.iter().map(|word| json::text(word))),
                Shown::Paths(paths) => json::list(paths.iter().map(|path| json::text(path))),
                Shown::Keep(paths) => json::list(paths.iter().map(json_keep)),
                Shown::Dirs(dirs) => json::list(dirs.iter().map(|dir| json_dir(dir, &settings.base_path))),
            };
            let (from, line) = match self.origin(key) {
                Some(Origin::Defaults { line }) => ("defaults", Some(line)),
                Some(Origin::NodeEntry { line }) => ("node", Some(line)),
                Some(Origin::BuiltIn) | None => ("built in", None),
            };
            let line = json::or_null(line.map(|line| line.to_string()));
            // Programs find the directories in one place, no matter which key sets them.
            let key = if *key == "dir_confs" { "dirs" } else { key };
            (self.key(key), json::object([("value", shown), ("from", json::text(from)), ("line", line)]))
        }))
    }
}

/// The options of a directory, as in a file.
pub(crate) fn options(dir: &Dir) -> Vec<String> {
    let params: &[_] = if let Backing::Tmpfs(params) = &dir.backing { params } else { &[] };
    dir.flags.names().map(str::to_owned).chain(params.iter().map(ToString::to_string)).collect()
}

/// The owner of a directory, if it is not the default.
pub(crate) fn owner(dir: &Dir) -> Option<&'static str> {
    let is_tmpfs = matches!(dir.backing, Backing::Tmpfs(_));
    (dir.owned_by_root != is_tmpfs).then_some(if is_tmpfs { "user" } else { "root" })
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

fn json_keep(kept: &KeepPath) -> String {
    json::object([
        ("path", json::text(&kept.path)),
        ("mode", json::text(if kept.read_only { "ro" } else { "rw" })),
        ("missing", json::text(if kept.required { "refuse" } else { "skip" })),
    ])
}

fn json_dir(dir: &Dir, main_base: &str) -> String {
    let (backing, base) = match &dir.backing {
        Backing::BasePath => ("base_path", Some(main_base)),
        Backing::OtherBase(base) => ("base_path", Some(base.as_str())),
        Backing::SameAs(_) => ("same", None),
        Backing::Tmpfs(_) => (if dir.is_cover { "hidden" } else { "tmpfs" }, None),
    };
    json::object([
        ("path", json::text(&dir.path)),
        ("backing", json::text(backing)),
        ("base_path", json::or_null(base.map(json::text))),
        ("owner", json::text(if dir.owned_by_root { "root" } else { "user" })),
        ("mode", json::or_null(dir.mode.map(|mode| json::text(&format!("{mode:04o}"))))),
        ("size", json::or_null(dir.size.as_ref().map(|size| json::text(&size.to_string())))),
        ("inodes", json::or_null(dir.inodes.map(|inodes| inodes.get().to_string()))),
        ("options", json::list(options(dir).iter().map(|option| json::text(option)))),
    ])
}

//! `jobns convert`: the settings of one node in a configuration file, as a namespace.yaml.
//!
//! serde-saphyr writes each key separately, because comments go between them. Reading the output gives the same settings:
//! `fuzz/properties.rs` checks that for every file.

use crate::cli::check;
use crate::cli::check::{ERRORS, Input, show};
use crate::cli::help::CONVERT;
use crate::cli::{answer, complain, nodes, options};
use crate::config::flavour::Flavour;
use crate::config::keys;
use crate::config::keys::Kind;
use crate::config::outcome::{Origin, Parsed};
use crate::config::pattern::fixed_part;
use crate::config::problem::{Problem, escape};
use crate::config::settings::{
    Backing, DEFAULT_DIRS, DEV_SHM, Dir, DisabledWhy, KeepPath, Node, NodeSettings, Settings,
};
use crate::node::config_file::ConfigFile;
use crate::node::finding::Findings;
use serde::{Serialize, Serializer};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

/// `jobns convert`
pub(crate) fn main(arguments: &[OsString]) -> Result<ExitCode, String> {
    let Some(options) = options::or_help(&CONVERT, check::parse(&CONVERT, arguments))? else {
        return Ok(ExitCode::SUCCESS);
    };
    let Some(input) = Input::read(&options, &mut Findings::default()) else { return Ok(ExitCode::from(ERRORS)) };
    let (name, hostname) = nodes::this(options.node.as_deref())?;
    let node = Node { name: &name, hostname: &hostname };
    let ConfigFile { path, parsed, .. } = check::parsed(&options, &input, &node, &mut Findings::default());
    complain(&parsed.problems.iter().map(Problem::render).collect::<String>());
    let Some(yaml) = yaml(&path, &parsed, &name) else {
        complain(&format!("{}: slurmd refuses this file\n", escape(&path)));
        return Ok(ExitCode::from(ERRORS));
    };
    if let Some(NodeSettings::Enabled(Settings { entire_step_in_ns: false, .. })) = parsed.settings {
        complain(&format!("jobns: warning: {ENTIRE_STEP}\n"));
    }
    answer(&yaml).map(|()| ExitCode::SUCCESS)
}

/// The setting for which namespace.yaml has no key.
const ENTIRE_STEP: &str = "EntireStepInNS=false has no counterpart in namespace.yaml: with namespace/linux each slurmstepd runs inside the job's namespaces";

/// The text of the namespace.yaml; `None` for a file with errors. `path` is the path of that file.
#[must_use]
pub fn yaml(path: &str, parsed: &Parsed, node: &str) -> Option<String> {
    let mut out = format!(
        "# {} for node {}, converted by jobns convert.\n# Keys that the file does not set are omitted.\n",
        escape(path),
        escape(node)
    );
    let origin = |key: &str| parsed.sources.iter().find(|source| source.key == key).map(|source| source.origin);
    let rows = match parsed.settings.as_ref()? {
        NodeSettings::Disabled(DisabledWhy::NotConfigured) => Vec::new(),
        NodeSettings::Disabled(DisabledWhy::SetToNone) => vec![("base_path", Value::Text("none".to_owned()))],
        NodeSettings::Enabled(settings) => {
            if !settings.entire_step_in_ns {
                let _ = writeln!(out, "# {ENTIRE_STEP}.");
            }
            rows(settings, |key| origin(key).is_some_and(|origin| origin != Origin::BuiltIn))
        }
    };
    out.push_str(if rows.is_empty() { "defaults: {}\n" } else { "defaults:\n" });
    for row in rows {
        let key = row.0;
        // The directories can be in either key, and job_container.conf has a separate line for their mode.
        let keys: &[&str] =
            if key == "dir_confs" { &["dir_confs", "dirs", "dir_mode", "dir_size", "dir_inodes"] } else { &[key] };
        let mut comments: Vec<String> = keys.iter().filter_map(|key| place(origin(key)?)).collect();
        comments.dedup();
        let comment = comments.join("; ");
        let text = serde_saphyr::to_string_with_options(&Map(&[row]), OPTIONS()).ok()?;
        match text.trim_end().split_once('\n') {
            None => {
                let _ = writeln!(out, "  {}  # {comment}", text.trim_end());
            }
            Some(_) => {
                let _ = writeln!(out, "  # {comment}");
                text.lines().for_each(|line| out.extend(["  ", line, "\n"]));
            }
        }
    }
    Some(out)
}

fn place(origin: Origin) -> Option<String> {
    match origin {
        Origin::Defaults { line } => Some(format!("line {line}, for all nodes")),
        Origin::NodeEntry { line } => Some(format!("line {line}, for this node")),
        Origin::BuiltIn => None,
    }
}

/// Options that keep every string on one line.
const OPTIONS: fn() -> serde_saphyr::SerializerOptions = || serde_saphyr::ser_options! { prefer_block_scalars: false };

/// A value in namespace.yaml.
enum Value {
    Flag(bool),
    Number(u32),
    Text(String),
    List(Vec<String>),
    /// A mapping for each entry.
    Maps(Vec<Vec<(&'static str, Value)>>),
}

type Row = (&'static str, Value);

/// Rows as a mapping.
struct Map<'a>(&'a [Row]);

impl Serialize for Map<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Flag(flag) => to.serialize_bool(*flag),
            Self::Number(number) => to.serialize_u32(*number),
            Self::Text(text) => to.serialize_str(text),
            Self::List(texts) => to.collect_seq(texts),
            Self::Maps(dirs) => to.collect_seq(dirs.iter().map(|rows| Map(rows))),
        }
    }
}

/// The keys that the file sets.
fn rows(settings: &Settings, is_set: impl Fn(&str) -> bool) -> Vec<Row> {
    let keys = keys::of(Flavour::Linux).filter(|(_, key)| is_set(key.name));
    let mut rows: Vec<Row> = keys.filter_map(|(name, key)| Some((name, value(&key.kind, settings)?))).collect();
    rows.extend(dirs(&settings.dirs));
    rows
}

fn value(kind: &Kind, settings: &Settings) -> Option<Value> {
    Some(match kind {
        Kind::Flag(field) => Value::Flag(*(field.of)(settings)),
        Kind::Seconds(field) | Kind::Percent(field) => Value::Number(*(field.of)(settings)),
        Kind::Script(field) => Value::Text((field.of)(settings).as_ref()?.path.clone()),
        Kind::Wait(field) => Value::Number((field.of)(settings).as_ref()?.wait_seconds),
        Kind::BasePath => Value::Text(settings.base_path.clone()),
        Kind::Namespaces => {
            // Each job has a mount namespace, so its flag is only needed if the list would be empty.
            let mut names: Vec<String> = settings.namespaces.names().map(str::to_owned).collect();
            if names.is_empty() {
                names.push("CLONE_NEWNS".to_owned());
            }
            Value::List(names)
        }
        Kind::HidePid => Value::Text(format!("hidepid={}", settings.hide_pid.name())),
        Kind::ProcPaths => Value::List(settings.proc_keep.clone()),
        Kind::Keep => Value::Maps(settings.keep.iter().map(keep_path).collect()),
        Kind::ProjectIds => Value::Text(settings.project_ids?.to_string()),
        Kind::Mode | Kind::Size | Kind::Inodes | Kind::Dirs | Kind::DirConfs | Kind::Nodes => return None,
    })
}

/// The directories as `dirs` if possible, otherwise as `dir_confs`; nothing for the default ones.
fn dirs(dirs: &[Dir]) -> Option<Row> {
    let is_plain = |dir: &Dir| {
        let Dir { path, backing, owned_by_root, mode, size, inodes, .. } = dir;
        let options = show::options(dir);
        let is_shm = *backing == Backing::Tmpfs(Vec::new()) && path == DEV_SHM && options == ["nosuid", "nodev"];
        mode.is_none()
            && size.is_none()
            && inodes.is_none()
            && (is_shm && *owned_by_root || *backing == Backing::BasePath && options.is_empty() && !owned_by_root)
    };
    if dirs.is_empty() || !dirs.iter().all(is_plain) || dirs.iter().any(|dir| dir.path.contains([',', ' '])) {
        let shown = dirs.iter().filter(|dir| !dir.is_cover);
        return Some(("dir_confs", Value::Maps(shown.map(|dir| dir_conf(dir, dirs)).collect())));
    }
    let paths: Vec<&str> = dirs.iter().map(|dir| dir.path.as_str()).collect();
    (!paths.iter().eq(&DEFAULT_DIRS)).then(|| ("dirs", Value::Text(paths.join(","))))
}

fn keep_path(kept: &KeepPath) -> Vec<Row> {
    let KeepPath { path, read_only, required } = kept;
    let mut rows = vec![("path", Value::Text(path.clone()))];
    rows.extend(read_only.then(|| ("mode", Value::Text("ro".to_owned()))));
    rows.extend(required.then(|| ("missing", Value::Text("refuse".to_owned()))));
    rows
}

fn dir_conf(dir: &Dir, all: &[Dir]) -> Vec<Row> {
    let mut rows = vec![("path", Value::Text(dir.path.clone()))];
    match &dir.backing {
        Backing::OtherBase(base) => rows.push(("base_path", Value::Text(base.clone()))),
        Backing::Tmpfs(_) => rows.push(("tmpfs", Value::Flag(true))),
        // A file never results in SameAs: only slurmd detects it.
        Backing::BasePath | Backing::SameAs(_) => {}
    }
    if all.iter().any(|other| other.is_cover && other.path == fixed_part(&dir.path).0) {
        rows.push(("create", Value::Flag(true)));
    }
    rows.extend(show::owner(dir).map(|owner| ("owner", Value::Text(owner.to_owned()))));
    if let Some(mode) = dir.mode {
        rows.push(("mode", Value::Text(format!("{mode:04o}"))));
    }
    if let Some(size) = &dir.size {
        rows.push(("size", Value::Text(size.to_string())));
    }
    if let Some(inodes) = &dir.inodes {
        rows.push(("inodes", Value::Text(inodes.to_string())));
    }
    let mut options = show::options(dir);
    if matches!(dir.backing, Backing::Tmpfs(_)) {
        // A tmpfs always has these.
        options.retain(|option| option != "nosuid" && option != "nodev");
    }
    if !options.is_empty() {
        rows.push(("options", Value::Text(options.join(","))));
    }
    rows
}

//! One mapping of options of namespace.yaml to a layer: `defaults`, or `options` of an entry of `node_confs`.

use crate::config::flavour::Flavour;
use crate::config::keys;
use crate::config::keys::{DIR_KEYS, KEEP_KEYS, Key, Kind};
use crate::config::layer::{DirSpec, Layer, Set, Value};
use crate::config::limits::{MAX_KEEP, MAX_PROC_KEEP, MAX_WORDS};
use crate::config::mount_options::MountOptions;
use crate::config::path::{depth, kept_in_proc, normalise};
use crate::config::pattern::{check_job_pattern, fixed_part};
use crate::config::problem::{Level, Refusal, Report, Scalar, quote};
use crate::config::settings::{DEV_SHM, KeepPath, Namespaces};
use crate::config::size::{Amount, Size};
use crate::config::values::{AMOUNT, BOOLEAN, MODE, SIZE, ScalarReader, TEXT, Wanted, is_unset};
use crate::config::yaml::{Content, Tree};
use crate::config::{mount_options, short_list, suggest, suspicious};

/// Reads one mapping. `place` is its name in messages.
pub(super) fn read(entries: &[(Scalar, Tree)], place: &str, report: &mut Report) -> Layer {
    let mut layer = Layer::default();
    for (key, tree) in entries {
        if let Some(known) = keys::find(&key.text, Flavour::Linux) {
            let Some(value) = value(known, key, tree, report) else { continue };
            let at = if matches!(value, Value::Paths(_) | Value::Dirs(_) | Value::Keep(_)) { key.at } else { tree.at };
            layer.sets.push((known, Set { value, at }));
        } else if key.text == "strict" {
            let hint = "write it at the top level of the file, next to defaults";
            report.error(key.at, format!("strict does not belong in {place}"), hint);
        } else {
            unknown_key(key, place, &keys::names(Flavour::Linux).collect::<Vec<_>>(), report);
        }
    }
    layer
}

fn value(known: &'static Key, key: &Scalar, tree: &Tree, report: &mut Report) -> Option<Value> {
    let can_be_unset = !matches!(
        known.kind,
        Kind::Flag(_) | Kind::Seconds(_) | Kind::Percent(_) | Kind::Wait(_) | Kind::DirConfs | Kind::Namespaces
    );
    if let Content::Scalar(scalar) = &tree.content
        && can_be_unset
        && is_unset(&scalar.text)
    {
        return Some(Value::Unset);
    }
    match &known.kind {
        Kind::Namespaces => flags(known.name, tree, report),
        Kind::ProcPaths => proc_keep(known.name, tree, report).map(Value::Paths),
        Kind::DirConfs => dir_confs(key, tree, report).map(Value::Dirs),
        Kind::Keep => keep(known.name, tree, report).map(Value::Keep),
        kind => {
            let scalar = scalar(known.name, tree, kind.wanted(), report)?;
            ScalarReader { format: Flavour::Linux, report }.value(known, scalar)
        }
    }
}

/// The value of a key, which must be a scalar.
pub(super) fn scalar<'t>(name: &str, tree: &'t Tree, wanted: &Wanted, report: &mut Report) -> Option<&'t Scalar> {
    if let Content::Scalar(scalar) = &tree.content {
        return Some(scalar);
    }
    report.error(tree.at, format!("{name} must be {}, but this is {}", wanted.what, tree.describe()), wanted.hint);
    None
}

/// The value of a key, which must be a boolean.
pub(super) fn boolean(name: &str, tree: &Tree, report: &mut Report) -> Option<Set<bool>> {
    let scalar = scalar(name, tree, &BOOLEAN, report)?;
    let value = ScalarReader { format: Flavour::Linux, report }.boolean(name, scalar)?;
    Some(Set { value, at: tree.at })
}

/// The items of a list, or a single scalar.
pub(super) fn list<'t>(name: &str, tree: &'t Tree, example: &str, report: &mut Report) -> Option<&'t [Tree]> {
    match &tree.content {
        Content::Scalar(_) => Some(std::slice::from_ref(tree)),
        Content::List(items) => Some(items),
        Content::Map(_) => {
            must_be(name, "a list", tree, example, report);
            None
        }
    }
}

fn must_be(name: &str, what: &str, tree: &Tree, example: &str, report: &mut Report) {
    let sentence = format!("{name} must be {what}, but this is {}", tree.describe());
    report.error(tree.at, sentence, format!("write {example}"));
}

/// The entries of a mapping. `example` is the text for the hint.
pub(super) fn entries<'t>(
    name: &str,
    tree: &'t Tree,
    example: &str,
    report: &mut Report,
) -> Option<&'t [(Scalar, Tree)]> {
    if let Content::Map(entries) = &tree.content {
        return Some(entries);
    }
    must_be(name, "a mapping", tree, example, report);
    None
}

/// The items of a list of mappings. `example` is the text for the hint.
pub(super) fn mappings<'t>(name: &str, tree: &'t Tree, example: &str, report: &mut Report) -> Option<&'t [Tree]> {
    if let Content::List(items) = &tree.content {
        return Some(items);
    }
    must_be(name, "a list", tree, example, report);
    None
}

/// Reports an unknown key.
pub(super) fn unknown_key(key: &Scalar, place: &str, known: &[&str], report: &mut Report) {
    let all = || format!("the keys here are {}", known.join(", "));
    let hint =
        suspicious::invisible_hint(&key.text).unwrap_or_else(|| suggest::hint(&key.text, known.iter().copied(), all));
    report.error(key.at, format!("unknown key {} in {place}", quote(&key.text)), hint);
}

/// This flag changes nothing: every job gets a mount namespace.
const MOUNT: &str = "CLONE_NEWNS";

/// `clone_ns_flags`: a list of flags, or flags separated by commas.
fn flags(name: &str, tree: &Tree, report: &mut Report) -> Option<Value> {
    let items = list(name, tree, "- CLONE_NEWPID", report)?;
    let scalars: Vec<&Scalar> = items.iter().filter_map(|item| scalar("a flag", item, &TEXT, report)).collect();
    if scalars.iter().all(|scalar| is_unset(&scalar.text)) {
        return Some(Value::Unset);
    }
    let mut namespaces = Namespaces::default();
    for scalar in scalars {
        let is_odd = scalar.text.trim().replace(", ", ",").contains(|c: char| c == '|' || c.is_whitespace());
        let words = scalar.text.split(|c: char| c == ',' || c == '|' || c.is_whitespace());
        for (index, word) in words.filter(|word| !word.is_empty()).enumerate() {
            let at = scalar.place_of(word);
            if index >= MAX_WORDS {
                report.error(at, format!("there are more than {MAX_WORDS} flags"), "remove most of them");
                break;
            }
            if let Err(hint) = add_flag(&mut namespaces, word) {
                report.error(at, format!("unknown flag {} in {name}", quote(word)), hint);
            }
        }
        if is_odd {
            let at = scalar.place_of(&scalar.text);
            report.warning(at, "the flags are not separated by commas", "write them as a list, one flag per line");
        }
    }
    Some(Value::Namespaces(namespaces))
}

/// Adds one word of `clone_ns_flags`, in any letter case. Returns the hint if the word is unknown.
fn add_flag(namespaces: &mut Namespaces, word: &str) -> Result<(), String> {
    let upper = word.to_ascii_uppercase();
    if let Some((_, flag)) = Namespaces::NAMES.into_iter().find(|(name, _)| *name == upper) {
        *flag(namespaces) = true;
        return Ok(());
    }
    let flags = || format!("the flags are {MOUNT}, {}", Namespaces::NAMES.map(|(name, _)| name).join(", "));
    match upper.as_str() {
        MOUNT => Ok(()),
        "CLONE_NEWCGROUP" | "CLONE_NEWNET" | "CLONE_NEWTIME" | "CLONE_NEWUTS" => {
            Err(format!("this namespace is not supported; {}", flags()))
        }
        _ => {
            // Without the prefix, the word would differ too much from every flag.
            let full = if upper.starts_with("CLONE_") { upper } else { format!("CLONE_{upper}") };
            Err(suggest::hint(&full, Namespaces::NAMES.map(|(name, _)| name).into_iter().chain([MOUNT]), flags))
        }
    }
}

/// `proc_keep`: a path or a list of paths. The result has each parent before the paths below it.
fn proc_keep(name: &str, tree: &Tree, report: &mut Report) -> Option<Vec<String>> {
    let mut paths: Vec<String> = Vec::new();
    for item in list(name, tree, "- /proc/some/file", report)? {
        let Some(scalar) = scalar("a path of proc_keep", item, &TEXT, report) else { continue };
        match kept_in_proc(&scalar.text) {
            Ok(path) if paths.contains(&path) => {
                report.error(item.at, format!("{} appears twice in {name}", quote(&scalar.text)), "remove one");
            }
            Ok(_) if paths.len() >= MAX_PROC_KEEP => {
                report.error(item.at, format!("{name} has more than {MAX_PROC_KEEP} paths"), "keep fewer mounts");
                break;
            }
            Ok(path) => paths.push(path),
            Err(refusal) => {
                report.of_value(Level::Error, item.at, &format!("the path in {name}"), &scalar.text, refusal);
            }
        }
    }
    short_list::sort_by_key(&mut paths, |path| depth(path));
    Some(paths)
}

/// `dir_confs`: a list of mappings.
fn dir_confs(key: &Scalar, tree: &Tree, report: &mut Report) -> Option<Vec<DirSpec>> {
    let items = mappings("dir_confs", tree, "- path: /tmp and so on", report)?;
    if items.is_empty() {
        report.warning(key.at, "dir_confs is empty: no directory is private", "leave it out for /tmp and /dev/shm");
    }
    let mut out = Vec::new();
    for item in items {
        if let Some(entries) = entries("an entry of dir_confs", item, "- path: and the directory", report)
            && let Some(dir) = dir_conf(item, entries, &out, report)
        {
            out.push(dir);
        }
    }
    Some(out)
}

/// One entry of `dir_confs`.
fn dir_conf(item: &Tree, entries: &[(Scalar, Tree)], before: &[DirSpec], report: &mut Report) -> Option<DirSpec> {
    let (mut path, mut other_base, mut options, mut tmpfs, mut mode) = (None, None, None, None, None);
    let (mut size, mut inodes, mut create, mut owner) = (None, None, None, None);
    for (key, tree) in entries {
        match key.text.as_str() {
            "path" => path = scalar("path", tree, &TEXT, report),
            "base_path" => other_base = scalar("base_path", tree, &TEXT, report),
            "options" => options = scalar("options", tree, &TEXT, report),
            "tmpfs" => tmpfs = boolean("tmpfs", tree, report),
            "create" => create = boolean("create", tree, report),
            "owner" => {
                let is_users = one_of("owner", tree, ["root", "user"], report);
                owner = is_users.map(|value| Set { value, at: tree.at });
            }
            "mode" => mode = dir_mode(tree, report),
            "size" => size = limit("size", tree, &SIZE, Size::parse, report),
            "inodes" => inodes = limit("inodes", tree, &AMOUNT, Amount::parse, report),
            _ => unknown_key(key, "an entry of dir_confs", &DIR_KEYS, report),
        }
    }
    if !entries.iter().any(|(key, _)| key.text == "path") {
        report.error(item.at, "an entry of dir_confs has no path", "add path: and the directory to make private");
    }
    let mut reader = ScalarReader { format: Flavour::Linux, report };
    let other_base = other_base.filter(|scalar| !scalar.text.is_empty()).and_then(|scalar| {
        let value = reader.base_pattern("base_path of a directory", scalar)?;
        Some(Set { value, at: scalar.at })
    });
    let is_shm = path.is_some_and(|path| normalise(&path.text).as_deref() == Ok(DEV_SHM));
    if let (true, Some(Set { value: false, at })) = (is_shm, &tmpfs) {
        reader.report.warning(*at, "/dev/shm is always a tmpfs", "remove tmpfs: false");
    }
    let is_tmpfs = is_shm || tmpfs.is_some_and(|tmpfs| tmpfs.value);
    let other_base = other_base.filter(|set| {
        if is_tmpfs {
            reader.report.warning(set.at, "base_path has no effect on a tmpfs", "remove it, or remove tmpfs");
        }
        !is_tmpfs
    });
    let options =
        options.map_or_else(MountOptions::default, |options| mount_options::read(options, is_tmpfs, reader.report));
    if let Some(Set { at, .. }) = &mode
        && options.params.iter().any(|param| param.key == "mode")
    {
        reader.report.error(*at, "the mode is also set in options", "keep one of the two");
    }
    for (at, name, params) in [
        (size.as_ref().map(|set| set.at), "size", mount_options::SIZES),
        (inodes.as_ref().map(|set| set.at), "number of inodes", mount_options::INODES),
        (owner.as_ref().map(|set| set.at), "owner", &["uid"]),
    ] {
        let Some(at) = at else { continue };
        if options.params.iter().any(|param| params.contains(&param.key.as_str())) {
            reader.report.error(at, format!("the {name} is also in options"), "keep one of the two");
        }
    }
    let Scalar { text, at, .. } = path?;
    let path = reader.dir("path", text, *at, before)?;
    if let Some(Set { value: true, at }) = create
        && matches!(fixed_part(&path), ("", _) | (_, ""))
    {
        let hint = "make the directory on the node, for example with tmpfiles.d(5)";
        reader.report.error(at, "create is for a path with a pattern behind a directory, as in /run/user/%U", hint);
    }
    Some(DirSpec {
        path,
        at: *at,
        other_base,
        is_tmpfs,
        options,
        create: create.is_some_and(|set| set.value),
        is_users: owner.map(|set| set.value),
        mode: mode.map(|set| set.value),
        size: size.map(|set| set.value),
        inodes: inodes.map(|set| set.value),
    })
}

/// A value that has a parser of its own.
fn limit<T>(
    name: &str,
    tree: &Tree,
    wanted: &Wanted,
    parse: impl Fn(&str) -> Result<T, Refusal>,
    report: &mut Report,
) -> Option<Set<T>> {
    let scalar = scalar(name, tree, wanted, report)?;
    let value = ScalarReader { format: Flavour::Linux, report }.limit(name, scalar, parse)?;
    Some(Set { value, at: tree.at })
}

/// `keep`: paths, each a text or a mapping.
fn keep(name: &str, tree: &Tree, report: &mut Report) -> Option<Vec<Set<KeepPath>>> {
    let mut out = Vec::new();
    for item in list(name, tree, "- /tmp/.X11-unix", report)? {
        if out.len() >= MAX_KEEP {
            report.error(item.at, format!("{name} has more than {MAX_KEEP} paths"), "keep fewer of them");
            break;
        }
        if let Some(value) = keep_path(item, report) {
            out.push(Set { value, at: item.at });
        }
    }
    Some(out)
}

/// One entry of `keep`.
fn keep_path(item: &Tree, report: &mut Report) -> Option<KeepPath> {
    let path_in = |tree: &Tree, report: &mut Report| {
        let path = scalar("the path in keep", tree, &TEXT, report)?;
        let mut reader = ScalarReader { format: Flavour::Linux, report };
        reader.path("the path in keep", &path.text, path.at, check_job_pattern)
    };
    if let Content::Scalar(_) = item.content {
        return path_in(item, report).map(|path| KeepPath { path, ..KeepPath::default() });
    }
    let (mut path, mut read_only, mut required) = (None, Some(false), Some(false));
    let entries = entries("an entry of keep", item, "- path: and the path to keep", report)?;
    for (key, tree) in entries {
        match key.text.as_str() {
            "path" => path = path_in(tree, report),
            "mode" => read_only = one_of("mode", tree, ["rw", "ro"], report),
            "missing" => required = one_of("missing", tree, ["skip", "refuse"], report),
            _ => unknown_key(key, "an entry of keep", &KEEP_KEYS, report),
        }
    }
    if !entries.iter().any(|(key, _)| key.text == "path") {
        report.error(item.at, "an entry of keep has no path", "add path: and the path to keep");
    }
    Some(KeepPath { path: path?, read_only: read_only?, required: required? })
}

/// Whether a value is the second of two words, where it is one of them.
fn one_of(name: &str, tree: &Tree, words: [&str; 2], report: &mut Report) -> Option<bool> {
    let [first, second] = words;
    let scalar = scalar(name, tree, &TEXT, report)?;
    let found = words.iter().position(|word| *word == scalar.text);
    if found.is_none() {
        let what = format!("{name} must be {first} or {second}, not {}", quote(&scalar.text));
        report.error(scalar.at, what, suggest::hint(&scalar.text, words, || format!("write {first} or {second}")));
    }
    found.map(|index| index == 1)
}

fn dir_mode(tree: &Tree, report: &mut Report) -> Option<Set<u32>> {
    let scalar = scalar("mode", tree, &MODE, report)?;
    let value = ScalarReader { format: Flavour::Linux, report }.mode("mode", scalar)?;
    Some(Set { value, at: tree.at })
}

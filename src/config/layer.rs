//! One mapping of options: `defaults`, or `options` of an entry of `node_confs`.
//!
//! Every key is checked for itself here, also in entries for other nodes: a file is right or wrong
//! as a whole. What only the merged settings show is checked in [`super::merge`].

use crate::config::convert;
use crate::config::convert::Boolean;
use crate::config::limits::{LONG_WAIT_SECONDS, MAX_BASE_PATH, MAX_WORDS};
use crate::config::pasted;
use crate::config::pasted::Remark;
use crate::config::path::normalise;
use crate::config::pattern::{check_node_pattern, has_other_percent};
use crate::config::private_dirs;
use crate::config::private_dirs::DirSpec;
use crate::config::problem::{Level, Refusal, Report, Span, quote};
use crate::config::settings::{HidePid, Namespaces};
use crate::config::yaml::{Key, Kind, Scalar, Value};
use crate::config::{proc, suggest};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Set<T> {
    pub(super) value: T,
    pub(super) at: Span,
}

/// What one mapping sets.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub(super) auto_base_path: Option<Set<bool>>,
    pub(super) base_path: Option<Set<BasePath>>,
    pub(super) hide_base_path: Option<Set<bool>>,
    pub(super) namespaces: Option<Set<Namespaces>>,
    pub(super) shared: Option<Set<bool>>,
    pub(super) disable_bpf_token: Option<Set<bool>>,
    pub(super) user_ns_limits: Option<Set<u32>>,
    pub(super) scripts: [ScriptKeys; 4],
    pub(super) scripts_may_be_missing: Option<Set<bool>>,
    pub(super) removal_timeout: Option<Set<u32>>,
    pub(super) proc_options: Option<Set<HidePid>>,
    pub(super) proc_keep: Option<Set<Vec<String>>>,
    pub(super) dirs: Option<Set<Vec<DirSpec>>>,
    pub(super) dir_confs: Option<Set<Vec<DirSpec>>>,
    /// Keys that are there with an empty value, which Slurm takes for not there.
    pub(super) empty: Vec<(&'static str, Span)>,
}

/// `base_path` as written.
#[derive(Clone, Debug)]
pub(super) enum BasePath {
    None,
    /// Normalised, `%h` and `%n` not yet replaced.
    Pattern(String),
}

/// The path of a script and its time limit, each of which a node can override alone.
#[derive(Clone, Debug, Default)]
pub(super) struct ScriptKeys {
    pub(super) path: Option<Set<String>>,
    pub(super) wait: Option<Set<u32>>,
}

/// The keys of the scripts, in the order of [`Layer::scripts`].
pub(super) const SCRIPTS: [(&str, &str); 4] = [
    ("init_script", "init_script_wait"),
    ("user_ns_script", "user_ns_script_wait"),
    ("clone_ns_script", "clone_ns_script_wait"),
    ("clone_ns_epilog", "clone_ns_epilog_wait"),
];

/// The keys of a layer.
pub(super) const KEYS: [&str; 21] = [
    "auto_base_path",
    "base_path",
    "hide_base_path",
    "clone_ns_flags",
    "shared",
    "disable_bpf_token",
    "user_ns_limits",
    "dirs",
    "dir_confs",
    "init_script",
    "init_script_wait",
    "user_ns_script",
    "user_ns_script_wait",
    "clone_ns_script",
    "clone_ns_script_wait",
    "clone_ns_epilog",
    "clone_ns_epilog_wait",
    "scripts_may_be_missing",
    "removal_timeout",
    "proc_options",
    "proc_keep",
];

/// Reads one mapping; `place` names it in messages.
pub(super) fn read(entries: &[(Key, Value)], place: &str, report: &mut Report<'_>) -> Layer {
    let mut layer = Layer::default();
    for (key, value) in entries {
        let name = key.name.as_str();
        match name {
            "auto_base_path" => layer.auto_base_path = boolean(name, value, report),
            "hide_base_path" => layer.hide_base_path = boolean(name, value, report),
            "shared" => layer.shared = boolean(name, value, report),
            "disable_bpf_token" => layer.disable_bpf_token = boolean(name, value, report),
            "scripts_may_be_missing" => layer.scripts_may_be_missing = boolean(name, value, report),
            "user_ns_limits" => layer.user_ns_limits = percent(name, value, report),
            "removal_timeout" => layer.removal_timeout = seconds(name, value, report),
            "base_path" => {
                if let Some(scalar) = filled("base_path", value, &mut layer, report) {
                    layer.base_path = base_path(scalar, value.at, report);
                }
            }
            "clone_ns_flags" => flags(value, &mut layer, report),
            "dirs" => {
                if let Some(scalar) = filled("dirs", value, &mut layer, report) {
                    let dirs = private_dirs::dirs(scalar, report);
                    layer.dirs = Some(Set { value: dirs, at: key.at });
                }
            }
            "proc_options" => {
                if let Some(scalar) = filled("proc_options", value, &mut layer, report) {
                    layer.proc_options = Some(Set { value: proc::options(scalar, report), at: value.at });
                }
            }
            "proc_keep" => match &value.kind {
                Kind::Scalar(scalar) if convert::is_unset(&scalar.text, convert::TYPED) => {
                    layer.empty.push(("proc_keep", value.at));
                }
                _ => layer.proc_keep = proc::keep(key, value, report),
            },
            "dir_confs" => {
                layer.dir_confs =
                    private_dirs::dir_confs(key, value, report).map(|dirs| Set { value: dirs, at: key.at });
            }
            "strict" => report.error(
                key.at,
                format!("strict stands in {place}"),
                "write it at the top level of the file, beside defaults",
            ),
            _ => {
                if !script_key(name, value, &mut layer, report) {
                    unknown_key(key, place, &KEYS, report);
                }
            }
        }
    }
    layer
}

/// What to do about a character in a key that nobody sees.
pub(super) fn invisible_hint(key: &str) -> Option<String> {
    let c = pasted::invisible(key)?;
    Some(format!("it has the invisible character {} in it: remove that", pasted::named(c)))
}

/// Says that nobody knows the key.
pub(super) fn unknown_key(key: &Key, place: &str, known: &[&str], report: &mut Report<'_>) {
    let hint = invisible_hint(&key.name).unwrap_or_else(|| {
        suggest::hint(&key.name, known.iter().copied(), || format!("the keys here are {}", known.join(", ")))
    });
    report.error(key.at, format!("unknown key {} in {place}", quote(&key.name)), hint);
}

/// A key of one of the four scripts, if it is one.
fn script_key(name: &str, value: &Value, layer: &mut Layer, report: &mut Report<'_>) -> bool {
    for (index, (path_key, wait_key)) in SCRIPTS.into_iter().enumerate() {
        if name == path_key {
            let Some(scalar) = filled(path_key, value, layer, report) else { return true };
            let is_odd = odd_path(path_key, &scalar.text, value.at, report);
            let path = match normalise(&scalar.text) {
                _ if is_odd => None,
                Ok(path) => Some(Set { value: path, at: value.at }),
                Err(error) => {
                    bad_path(path_key, &scalar.text, value.at, &error, report);
                    None
                }
            };
            if let Some(script) = layer.scripts.get_mut(index) {
                script.path = path;
            }
            return true;
        }
        if name == wait_key {
            let wait = wait(wait_key, value, report);
            if let Some(script) = layer.scripts.get_mut(index) {
                script.wait = wait;
            }
            return true;
        }
    }
    false
}

/// The scalar of a key that wants text.
pub(super) fn text<'v>(name: &str, value: &'v Value, report: &mut Report<'_>) -> Option<&'v Scalar> {
    if let Kind::Scalar(scalar) = &value.kind {
        return Some(scalar);
    }
    let what = format!("{name} must be text, and this is {}", value.describe());
    let hint = match name {
        "dirs" => "write the directories with commas, as in \"/tmp,/dev/shm\"".to_owned(),
        _ => format!("write {name}: and the value in one line"),
    };
    report.error(value.at, what, hint);
    None
}

/// The scalar of a key for which Slurm takes empty text for "not set".
fn filled<'v>(name: &'static str, value: &'v Value, layer: &mut Layer, report: &mut Report<'_>) -> Option<&'v Scalar> {
    let scalar = text(name, value, report)?;
    if convert::is_unset(&scalar.text, convert::TYPED) {
        layer.empty.push((name, value.at));
        return None;
    }
    Some(scalar)
}

pub(super) fn boolean(name: &str, value: &Value, report: &mut Report<'_>) -> Option<Set<bool>> {
    let Kind::Scalar(scalar) = &value.kind else {
        let what = format!("{name} must be true or false, and this is {}", value.describe());
        report.error(value.at, what, "write true or false");
        return None;
    };
    match convert::boolean(&scalar.text) {
        Boolean::Value(truth) => Some(Set { value: truth, at: value.at }),
        Boolean::Nothing => {
            report.warning(value.at, format!("{name} has no value, which is false in Slurm"), "write false");
            Some(Set { value: false, at: value.at })
        }
        Boolean::Nonsense(slurm) => {
            let hint = suggest::hint(&scalar.text, ["true", "false", "yes", "no"], || {
                format!("write true or false (Slurm takes this for {slurm})")
            });
            report.error(value.at, format!("{name} must be true or false, not {}", quote(&scalar.text)), hint);
            None
        }
    }
}

fn seconds(name: &str, value: &Value, report: &mut Report<'_>) -> Option<Set<u32>> {
    let seconds = number(value);
    if seconds.is_none() {
        let what = format!("{name} must be a number of seconds, not {}", shown(value));
        report.error(value.at, what, "write a whole number such as 10, without a unit");
    }
    seconds
}

/// A whole number from 1 to 100.
fn percent(name: &str, value: &Value, report: &mut Report<'_>) -> Option<Set<u32>> {
    let percent = number(value).filter(|set| (1..=100).contains(&set.value));
    if percent.is_none() {
        let what = format!("{name} must be a percentage from 1 to 100, not {}", shown(value));
        report.error(value.at, what, "write a whole number such as 10, without a percent sign");
    }
    percent
}

fn number(value: &Value) -> Option<Set<u32>> {
    match &value.kind {
        Kind::Scalar(scalar) => convert::number(&scalar.text).map(|number| Set { value: number, at: value.at }),
        _ => None,
    }
}

/// A value of the wrong kind, for a message.
fn shown(value: &Value) -> String {
    match &value.kind {
        Kind::Scalar(scalar) => quote(&scalar.text),
        _ => value.describe().to_owned(),
    }
}

/// Seconds that a script may take.
fn wait(name: &str, value: &Value, report: &mut Report<'_>) -> Option<Set<u32>> {
    let typed = match &value.kind {
        Kind::Scalar(scalar) => convert::wait(&scalar.text, convert::TYPED),
        _ => None,
    };
    let Set { value: seconds, at } =
        typed.map_or_else(|| seconds(name, value, report), |seconds| Some(Set { value: seconds, at: value.at }))?;
    if seconds == 0 {
        report.warning(at, format!("{name}: 0 does not mean \"no limit\""), "it means 10 seconds: write 10");
    } else if seconds > LONG_WAIT_SECONDS {
        report.warning(at, format!("{name} is more than a day"), "a script that hangs keeps the job waiting");
    }
    Some(Set { value: seconds, at })
}

fn base_path(scalar: &Scalar, at: Span, report: &mut Report<'_>) -> Option<Set<BasePath>> {
    let text = scalar.text.as_str();
    if text.eq_ignore_ascii_case("none") {
        return Some(Set { value: BasePath::None, at });
    }
    if text.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("none")) {
        report.error(
            at,
            format!("base_path {} only begins with \"none\", and Slurm would switch the plugin off", quote(text)),
            "write none, or an absolute path",
        );
        return None;
    }
    let value = base_pattern("base_path", text, at, report)?;
    Some(Set { value: BasePath::Pattern(value), at })
}

/// A base path of either kind.
pub(super) fn base_pattern(name: &str, text: &str, at: Span, report: &mut Report<'_>) -> Option<String> {
    if odd_path(name, text, at, report) {
        return None;
    }
    match check_node_pattern(text) {
        Ok(path) if path.len() > MAX_BASE_PATH => {
            report.error(at, format!("{name} has {} bytes", path.len()), format!("it can have {MAX_BASE_PATH}"));
            None
        }
        Ok(path) => {
            if has_other_percent(&path) {
                let what = format!("{name} {} holds a % that stands for nothing", quote(text));
                report.warning(at, what, "only %h (host name) and %n (node name) are replaced");
            }
            Some(path)
        }
        Err(error) => {
            bad_path(name, text, at, &error, report);
            None
        }
    }
}

/// Says what is odd about a path, and whether it is refused for that.
pub(super) fn odd_path(name: &str, text: &str, at: Span, report: &mut Report<'_>) -> bool {
    let Some(Remark { level, what, hint }) = pasted::remark(text, false) else { return false };
    let what = format!("{name} {} {what}", quote(text));
    match level {
        Level::Error => report.error(at, what, hint),
        Level::Warning => report.warning(at, what, hint),
    }
    level == Level::Error
}

pub(super) fn bad_path(name: &str, text: &str, at: Span, error: &Refusal, report: &mut Report<'_>) {
    report.error(at, format!("{name} {} {}", quote(text), error.what), error.hint.clone());
}

/// `clone_ns_flags`: a list of flags, or flags with commas between them.
fn flags(value: &Value, layer: &mut Layer, report: &mut Report<'_>) {
    let scalars: Vec<&Scalar> = match &value.kind {
        Kind::Scalar(scalar) => vec![scalar],
        Kind::List(items) => items.iter().filter_map(|item| text("a flag", item, report)).collect(),
        Kind::Map(_) => {
            report.error(value.at, "clone_ns_flags must be a list, and this is a mapping", "write - CLONE_NEWPID");
            return;
        }
    };
    if scalars.iter().all(|scalar| convert::is_unset(&scalar.text, convert::TYPED)) {
        layer.empty.push(("clone_ns_flags", value.at));
        return;
    }
    let mut namespaces = Namespaces::default();
    for scalar in scalars {
        let odd = scalar.text.trim().replace(", ", ",").contains(|c: char| c == '|' || c.is_whitespace());
        let words = scalar.text.split(|c: char| c == ',' || c == '|' || c.is_whitespace());
        for (index, word) in words.filter(|word| !word.is_empty()).enumerate() {
            if index >= MAX_WORDS {
                report.error(scalar.place_of(word), format!("there are more than {MAX_WORDS} flags"), "remove most");
                break;
            }
            if let Err(hint) = convert::add_flag(&mut namespaces, word) {
                let at = scalar.place_of(word);
                report.error(at, format!("unknown flag {} in clone_ns_flags", quote(word)), hint);
            }
        }
        if odd {
            let at = scalar.place_of(&scalar.text);
            report.warning(at, "the flags are not separated by commas", "write them as a list, one flag per line");
        }
    }
    layer.namespaces = Some(Set { value: namespaces, at: value.at });
}

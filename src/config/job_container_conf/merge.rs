//! Words to values, and the values that count to settings.

use crate::config::job_container_conf::words::{Place, Word};
use crate::config::job_container_conf::{Key, Reports, Setting, Value};
use crate::config::limits::{DEFAULT_REMOVAL_TIMEOUT, LONG_WAIT_SECONDS, MAX_BASE_PATH, MAX_DIRS, MAX_WORDS};
use crate::config::outcome::{Origin, Source};
use crate::config::pasted;
use crate::config::pasted::Remark;
use crate::config::path::{CLEANED, CLEANED_HINT, Clash, clash, is_cleaned, normalise, not_private};
use crate::config::pattern::{check_node_pattern, expand_node, has_other_percent};
use crate::config::problem::{Level, Refusal, quote};
use crate::config::settings::{
    Backing, DEFAULT_DIRS, DEFAULT_WAIT_SECONDS, DEV_SHM, Dir, DisabledWhy, HidePid, MountFlags, Namespaces, Node,
    NodeSettings, Script, Settings,
};
use crate::config::{check, wire};
use crate::config::{convert, suggest};

/// A word, checked for itself.
pub(super) fn value(key: Key, word: &Word, reports: &mut Reports<'_>) -> Option<Value> {
    match key {
        Key::NodeName => Some(Value::Nodes),
        Key::BasePath => base_path(word, reports),
        Key::AutoBasePath | Key::EntireStepInNs | Key::Shared | Key::HideBasePath | Key::ScriptsMayBeMissing => {
            flag(key, word, reports)
        }
        Key::Dirs => Some(dirs(word, reports)),
        Key::InitScript | Key::CloneNsScript | Key::CloneNsEpilog => match normalise(&word.value) {
            _ if odd_path(key.name(), &word.value, word.value_at, reports) => None,
            Ok(path) => Some(Value::Path(path)),
            Err(error) => {
                bad_path(key.name(), &word.value, word.value_at, error, reports);
                None
            }
        },
        Key::CloneNsScriptWait | Key::CloneNsEpilogWait | Key::InitScriptWait => wait(key, word, reports),
        Key::RemovalTimeout => seconds(key, word, reports).map(Value::Seconds),
        Key::DirMode => mode(word, reports),
    }
}

/// Says what is odd about a path, and whether it is refused for that.
fn odd_path(name: &str, text: &str, at: Place, reports: &mut Reports<'_>) -> bool {
    let Some(Remark { level, what, hint }) = pasted::remark(text, true) else { return false };
    let what = format!("{name} {} {what}", quote(text));
    match level {
        Level::Error => reports.error(at, what, hint),
        Level::Warning => reports.warning(at, what, hint),
    }
    level == Level::Error
}

fn bad_path(name: &str, text: &str, at: Place, error: Refusal, reports: &mut Reports<'_>) {
    reports.error(at, format!("{name} {} {}", quote(text), error.what), error.hint);
}

/// Slurm's `s_p_handle_boolean`: other words than these it refuses, too.
fn flag(key: Key, word: &Word, reports: &mut Reports<'_>) -> Option<Value> {
    match word.value.to_ascii_lowercase().as_str() {
        "yes" | "up" | "true" | "1" => Some(Value::Flag(true)),
        "no" | "down" | "false" | "0" => Some(Value::Flag(false)),
        other => {
            let hint = match other {
                "on" => "write true: Slurm takes this in namespace.yaml only".to_owned(),
                "off" => "write false: Slurm takes this in namespace.yaml only".to_owned(),
                _ => suggest::hint(other, ["true", "false", "yes", "no"], || "write true or false".to_owned()),
            };
            let what = format!("{} must be true or false, not {}", key.name(), quote(&word.value));
            reports.error(word.value_at, what, hint);
            None
        }
    }
}

/// Slurm's `s_p_handle_uint32` without its surprises: octal, `k` for 1024, `UNLIMITED`.
fn seconds(key: Key, word: &Word, reports: &mut Reports<'_>) -> Option<u32> {
    let text = word.value.as_str();
    let name = key.name();
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(digits, 16).ok(),
        None if text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0')) => {
            text.parse().ok()
        }
        _ => None,
    };
    let Some(number) = number else {
        let hint = if text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()) {
            "Slurm takes a number with a leading zero for an octal one: remove the zero"
        } else {
            "write a whole number such as 10, without a unit"
        };
        reports.error(word.value_at, format!("{name} must be a number of seconds, not {}", quote(text)), hint);
        return None;
    };
    Some(number)
}

/// Permission bits in octal.
fn mode(word: &Word, reports: &mut Reports<'_>) -> Option<Value> {
    let mode = convert::mode(&word.value);
    if mode.is_none() {
        let what = format!("DirMode must be permission bits, not {}", quote(&word.value));
        reports.error(word.value_at, what, "write them in octal, such as 0700 or 1777");
    }
    mode.map(Value::Mode)
}

/// Seconds that a script may take.
fn wait(key: Key, word: &Word, reports: &mut Reports<'_>) -> Option<Value> {
    let number = seconds(key, word, reports)?;
    let name = key.name();
    if number == 0 {
        let hint = "it has Slurm wait forever, here 136 years: write a number such as 10";
        reports.warning(word.value_at, format!("{name} is 0, and a script that hangs keeps the job waiting"), hint);
        return Some(Value::Seconds(u32::MAX));
    }
    if number > LONG_WAIT_SECONDS {
        let what = format!("{name} is more than a day");
        reports.warning(word.value_at, what, "a script that hangs keeps the job waiting");
    }
    Some(Value::Seconds(number))
}

fn base_path(word: &Word, reports: &mut Reports<'_>) -> Option<Value> {
    let text = word.value.as_str();
    if text.eq_ignore_ascii_case("none") {
        return Some(Value::NoBase);
    }
    if text.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("none")) {
        let what = format!("BasePath {} only begins with \"none\", and Slurm would switch the plugin off", quote(text));
        reports.error(word.value_at, what, "write none, or an absolute path");
        return None;
    }
    if odd_path("BasePath", text, word.value_at, reports) {
        return None;
    }
    match check_node_pattern(text) {
        Ok(path) if path.len() > MAX_BASE_PATH => {
            let what = format!("BasePath has {} bytes", path.len());
            reports.error(word.value_at, what, format!("it can have {MAX_BASE_PATH}"));
            None
        }
        Ok(path) => {
            if has_other_percent(&path) {
                let what = format!("BasePath {} holds a % that stands for nothing", quote(text));
                reports.warning(word.value_at, what, "only %h (host name) and %n (node name) are replaced");
            }
            Some(Value::Path(path))
        }
        Err(error) => {
            bad_path("BasePath", text, word.value_at, error, reports);
            None
        }
    }
}

/// `Dirs`: paths with commas between them.
fn dirs(word: &Word, reports: &mut Reports<'_>) -> Value {
    let mut out: Vec<(String, Place)> = Vec::new();
    let mut spaces = false;
    for (index, piece) in word.value.split(',').filter(|piece| !piece.trim().is_empty()).enumerate() {
        let text = piece.trim();
        let at = word.place_of(text);
        if index >= MAX_WORDS {
            reports.error(at, format!("Dirs has more than {MAX_WORDS} names"), "make fewer private");
            break;
        }
        spaces |= text.len() != piece.len();
        if odd_path("the directory in Dirs", text, at, reports) {
            continue;
        }
        let path = match normalise(text) {
            Ok(path) => path,
            Err(error) => {
                bad_path("the directory in Dirs", text, at, error, reports);
                continue;
            }
        };
        if let Some(top) = not_private(&path) {
            let what = format!("{} cannot be private, it lies in {top}", quote(text));
            reports.error(at, what, "jobs need what is there; remove this directory");
        } else if path.contains('%') {
            // Slurm makes a directory of that very name private; here a % stands for something.
            let what = format!("{} holds a %, which stands for nothing in Dirs", quote(text));
            reports.error(at, what, "name the directory; namespace.yaml has %u and %j in dir_confs");
        } else if out.iter().any(|(before, _)| *before == path) {
            reports.error(at, format!("{} is already a private directory", quote(text)), "remove one");
        } else if out.len() >= MAX_DIRS {
            reports.error(at, format!("there are more than {MAX_DIRS} private directories"), "make fewer private");
            break;
        } else {
            out.push((path, at));
        }
    }
    if spaces {
        let hint = "Slurm does not skip them: remove them";
        reports.warning(word.value_at, "there are spaces around the commas of Dirs", hint);
    }
    if out.is_empty() && word.value.is_empty() {
        reports.warning(word.value_at, "Dirs is empty: no directory is private", "leave it out for /tmp and /dev/shm");
    }
    Value::Dirs(out)
}

/// Builds the settings from the lines for this node and the single settings.
pub(super) struct Merge<'r, 't, 's> {
    pub(super) reports: &'r mut Reports<'t>,
    pub(super) node: &'s Node<'s>,
    pub(super) global: &'s [Setting],
    pub(super) ours: &'s [Setting],
    pub(super) sources: Vec<Source>,
}

impl<'s> Merge<'_, '_, 's> {
    /// The settings, their sources, and `EntireStepInNS`.
    pub(super) fn settings(mut self) -> Option<(NodeSettings, Vec<Source>, bool)> {
        let Some(base) = self.pick(Key::BasePath, "base_path") else {
            return Some((NodeSettings::Disabled(DisabledWhy::NotConfigured), self.sources, false));
        };
        let Value::Path(pattern) = &base.value else {
            return Some((NodeSettings::Disabled(DisabledWhy::SetToNone), self.sources, false));
        };
        let base_path = match expand_node(pattern, self.node) {
            Ok(path) if path.len() <= MAX_BASE_PATH => {
                if let Some(top) = is_cleaned(&path) {
                    let what = format!("BasePath {} lies in {top}, {}", quote(&path), CLEANED);
                    self.reports.warning(base.at, what, CLEANED_HINT);
                }
                path
            }
            Ok(path) => {
                let what = format!("BasePath has {} bytes with the names of this node", path.len());
                self.reports.error(base.at, what, format!("it can have {MAX_BASE_PATH}"));
                return None;
            }
            Err(error) => {
                bad_path("BasePath", pattern, base.at, error, self.reports);
                return None;
            }
        };
        let mut flag = |key, name| matches!(self.pick(key, name), Some(Setting { value: Value::Flag(true), .. }));
        let auto_base_path = flag(Key::AutoBasePath, "auto_base_path");
        let shared = flag(Key::Shared, "shared");
        let entire_step_in_ns = flag(Key::EntireStepInNs, "entire_step_in_ns");
        let scripts_may_be_missing = flag(Key::ScriptsMayBeMissing, "scripts_may_be_missing");
        let hide_base_path = flag(Key::HideBasePath, "hide_base_path");
        let init_script = self.script((Key::InitScript, "init_script"), (Key::InitScriptWait, "init_script_wait"));
        let clone_ns_script =
            self.script((Key::CloneNsScript, "clone_ns_script"), (Key::CloneNsScriptWait, "clone_ns_script_wait"));
        let clone_ns_epilog =
            self.script((Key::CloneNsEpilog, "clone_ns_epilog"), (Key::CloneNsEpilogWait, "clone_ns_epilog_wait"));
        let removal_timeout = match self.pick(Key::RemovalTimeout, "removal_timeout").map(|setting| &setting.value) {
            Some(Value::Seconds(seconds)) => *seconds,
            _ => DEFAULT_REMOVAL_TIMEOUT,
        };
        let dirs = self.dirs(&base_path, base.at);
        let settings = Settings {
            auto_base_path,
            base_path,
            hide_base_path,
            namespaces: Namespaces::default(),
            shared,
            disable_bpf_token: false,
            user_ns_limits: crate::config::settings::DEFAULT_USER_NS_LIMITS,
            entire_step_in_ns,
            init_script,
            user_ns_script: None,
            clone_ns_script,
            clone_ns_epilog,
            scripts_may_be_missing,
            removal_timeout,
            hide_pid: HidePid::Off,
            proc_keep: Vec::new(),
            dirs,
        };
        if self.reports.errors() == 0
            && let Err(sentence) = check::settings(&settings).and_then(|()| wire::fits(&settings))
        {
            self.reports.error(base.at, sentence, "please report this: the message should name another line");
        }
        Some((NodeSettings::Enabled(settings), self.sources, entire_step_in_ns))
    }

    /// The setting that counts: the last one of the lines for this node, else the single one, of
    /// those keys that Slurm looks for there.
    fn pick(&mut self, key: Key, name: &'static str) -> Option<&'s Setting> {
        let has_global = !matches!(key, Key::InitScript | Key::CloneNsScript | Key::CloneNsEpilog);
        let of_line = self.ours.iter().rev().find(|setting| setting.key == key);
        let single = self.global.iter().find(|setting| setting.key == key && has_global);
        let found = of_line.or(single);
        let origin = match found {
            None => Origin::BuiltIn,
            Some(setting) if setting.is_of_node => Origin::NodeEntry { line: self.reports.top_line_of(setting.at) },
            Some(setting) => Origin::Defaults { line: self.reports.top_line_of(setting.at) },
        };
        self.sources.push(Source { key: name, origin });
        found
    }

    fn script(&mut self, key: (Key, &'static str), wait: (Key, &'static str)) -> Option<Script> {
        let Value::Path(path) = &self.pick(key.0, key.1)?.value else { return None };
        let wait = self.pick(wait.0, wait.1).map(|setting| &setting.value);
        let wait_seconds = if let Some(Value::Seconds(seconds)) = wait { *seconds } else { DEFAULT_WAIT_SECONDS };
        Some(Script { path: path.clone(), wait_seconds })
    }

    /// The private directories, checked against the base path, in mount order.
    fn dirs(&mut self, base: &str, base_at: Place) -> Vec<Dir> {
        let list = match self.pick(Key::Dirs, "dirs").map(|setting| &setting.value) {
            Some(Value::Dirs(list)) => list.iter().map(|(path, at)| (path.as_str(), *at, "")).collect(),
            _ => DEFAULT_DIRS.map(|path| (path, base_at, ", which is private unless Dirs says otherwise")).to_vec(),
        };
        let mode = match self.pick(Key::DirMode, "dir_mode").map(|setting| &setting.value) {
            Some(Value::Mode(mode)) => Some(*mode),
            _ => None,
        };
        let mut dirs = Vec::with_capacity(list.len());
        for (path, at, why) in list {
            let (dir, base_shown) = (quote(path), quote(base));
            match clash(path, base) {
                Some(Clash::Same) => {
                    let what = format!("BasePath is the private directory {dir}{why}");
                    self.reports.error(at, what, "use another directory for one of the two");
                }
                Some(Clash::DirBelowBase) => {
                    let what = format!("the private directory {dir}{why} lies inside BasePath {base_shown}");
                    self.reports.error(at, what, "use another directory for one of the two");
                }
                Some(Clash::BaseBelowDir) if why.is_empty() => {
                    let what = format!("BasePath {base_shown} lies inside the private directory {dir}");
                    self.reports.warning(at, what, "it works, but a BasePath elsewhere is easier to look after");
                }
                None | Some(Clash::BaseBelowDir) => {}
            }
            let is_tmpfs = path == DEV_SHM;
            let backing = if is_tmpfs { Backing::Tmpfs(Vec::new()) } else { Backing::BasePath };
            let flags = MountFlags { nosuid: is_tmpfs, nodev: is_tmpfs, ..MountFlags::default() };
            // /dev/shm is for everybody in the job, as on the node.
            let mode = mode.filter(|_| !is_tmpfs);
            dirs.push(Dir { path: path.to_owned(), backing, flags, mode });
        }
        check::sort_dirs(&mut dirs);
        dirs
    }
}

//! The private directories of one mapping: `dirs` and `dir_confs`, each checked for itself.

use crate::config::convert;
use crate::config::layer::{Set, bad_path, base_pattern, boolean, odd_path, text, unknown_key};
use crate::config::limits::{MAX_DIRS, MAX_WORDS};
use crate::config::mount_options;
use crate::config::mount_options::MountOptions;
use crate::config::path::{normalise, not_private};
use crate::config::pattern::check_job_pattern;
use crate::config::problem::{Level, Refusal, Report, Span, quote};
use crate::config::settings::DEV_SHM;
use crate::config::yaml::{Key, Kind, Scalar, Value};

/// A private directory as written.
#[derive(Clone, Debug)]
pub(super) struct DirSpec {
    /// Normalised, patterns not replaced.
    pub(super) path: String,
    pub(super) at: Span,
    /// Normalised, `%h` and `%n` not yet replaced.
    pub(super) other_base: Option<Set<String>>,
    pub(super) is_tmpfs: bool,
    pub(super) options: MountOptions,
    pub(super) mode: Option<u32>,
}

const DIR_KEYS: [&str; 5] = ["path", "base_path", "options", "tmpfs", "mode"];

/// `dirs`: paths with commas between them. As in Slurm, `%j` and its like stand for the job's values here, too.
pub(super) fn dirs(scalar: &Scalar, report: &mut Report<'_>) -> Vec<DirSpec> {
    let mut out = Vec::new();
    let mut spaces = false;
    for (index, word) in scalar.text.split(',').filter(|word| !word.trim().is_empty()).enumerate() {
        let path = word.trim();
        if index >= MAX_WORDS {
            report.error(scalar.place_of(path), format!("dirs has more than {MAX_WORDS} names"), "make fewer private");
            break;
        }
        spaces |= path.len() != word.len();
        let at = scalar.place_of(path);
        if let Some(normal) = dir_path("dirs", path, at, check_job_pattern(path), &out, report) {
            let options = MountOptions::default();
            let is_tmpfs = normal == DEV_SHM;
            out.push(DirSpec { path: normal, at, other_base: None, is_tmpfs, options, mode: None });
        }
    }
    if spaces {
        let at = scalar.place_of(&scalar.text);
        report.warning(at, "there are spaces around the commas of dirs", "Slurm does not skip them: remove them");
    }
    out
}

/// A path of a private directory, as far as it can be judged alone.
fn dir_path(
    name: &str,
    text: &str,
    at: Span,
    normal: Result<String, Refusal>,
    before: &[DirSpec],
    report: &mut Report<'_>,
) -> Option<String> {
    if odd_path(&format!("the directory in {name}"), text, at, report) {
        return None;
    }
    let path = match normal {
        Ok(path) => path,
        Err(error) => {
            bad_path(&format!("the directory in {name}"), text, at, &error, report);
            return None;
        }
    };
    if let Some(top) = not_private(&path) {
        let what = format!("{} cannot be private, it lies in {top}", quote(text));
        report.error(at, what, "a PID namespace brings a /proc of its own; remove this directory");
        return None;
    }
    // A short list by now: `before` never has more than MAX_DIRS entries.
    if let Some(first) = before.iter().find(|dir| dir.path == path) {
        let line = report.line_of(first.at.start);
        report.error(at, format!("{} is already a private directory, see line {line}", quote(text)), "remove one");
        return None;
    }
    if before.len() >= MAX_DIRS {
        report.error(at, format!("there are more than {MAX_DIRS} private directories"), "make fewer private");
        return None;
    }
    Some(path)
}

/// `dir_confs`: a list of mappings.
pub(super) fn dir_confs(key: &Key, value: &Value, report: &mut Report<'_>) -> Option<Vec<DirSpec>> {
    let Kind::List(items) = &value.kind else {
        let what = format!("dir_confs must be a list, and this is {}", value.describe());
        report.error(value.at, what, "write - path: /tmp and so on");
        return None;
    };
    if items.is_empty() {
        report.warning(key.at, "dir_confs is empty: no directory is private", "leave it out for /tmp and /dev/shm");
    }
    let mut out = Vec::new();
    for item in items {
        let Kind::Map(entries) = &item.kind else {
            let what = format!("an entry of dir_confs must be a mapping, and this is {}", item.describe());
            report.error(item.at, what, "write - path: and the directory");
            continue;
        };
        if let Some(dir) = dir_conf(item, entries, &out, report) {
            out.push(dir);
        }
    }
    Some(out)
}

/// One entry of `dir_confs`.
fn dir_conf(item: &Value, entries: &[(Key, Value)], before: &[DirSpec], report: &mut Report<'_>) -> Option<DirSpec> {
    let (mut path, mut other_base, mut options, mut tmpfs, mut mode) = (None, None, None, None, None);
    for (key, value) in entries {
        match key.name.as_str() {
            "path" => path = text("path", value, report).map(|scalar| (scalar, value.at)),
            "base_path" => other_base = text("base_path", value, report).map(|scalar| (scalar, value.at)),
            "options" => options = text("options", value, report),
            "tmpfs" => tmpfs = boolean("tmpfs", value, report),
            "mode" => mode = dir_mode(value, report),
            _ => unknown_key(key, "an entry of dir_confs", &DIR_KEYS, report),
        }
    }
    if !entries.iter().any(|(key, _)| key.name == "path") {
        report.error(item.at, "an entry of dir_confs has no path", "add path: and the directory to make private");
    }
    let other_base = other_base.filter(|(scalar, _)| !scalar.text.is_empty()).and_then(|(scalar, at)| {
        let value = base_pattern("base_path of a directory", &scalar.text, at, report)?;
        Some(Set { value, at })
    });
    let is_shm = path.is_some_and(|(scalar, _)| normalise(&scalar.text).as_deref() == Ok(DEV_SHM));
    let wants_tmpfs = tmpfs.as_ref().map(|set| set.value);
    if let (true, Some(Set { value: false, at })) = (is_shm, &tmpfs) {
        report.warning(*at, "/dev/shm is always a tmpfs", "remove tmpfs: false");
    }
    let is_tmpfs = is_shm || wants_tmpfs == Some(true);
    let other_base = other_base.filter(|set| {
        if is_tmpfs {
            report.warning(set.at, "base_path has no effect on a tmpfs", "remove it, or remove tmpfs");
        }
        !is_tmpfs
    });
    let options = options.map_or_else(MountOptions::default, |scalar| mount_options(scalar, is_tmpfs, report));
    if let Some(Set { at, .. }) = &mode
        && options.params.iter().any(|param| param.key == "mode")
    {
        report.error(*at, "the mode is also in options", "keep one of the two");
    }
    let (scalar, at) = path?;
    let path = dir_path("path", &scalar.text, at, check_job_pattern(&scalar.text), before, report)?;
    let mode = mode.map(|set| set.value);
    Some(DirSpec { path, at, other_base, is_tmpfs, options, mode })
}

fn mount_options(scalar: &Scalar, is_tmpfs: bool, report: &mut Report<'_>) -> MountOptions {
    let (options, remarks) = mount_options::read(&scalar.text, is_tmpfs);
    for remark in remarks {
        let at = scalar.place_of(remark.part);
        match remark.level {
            Level::Error => report.error(at, remark.what, remark.hint),
            Level::Warning => report.warning(at, remark.what, remark.hint),
        }
    }
    options
}

fn dir_mode(value: &Value, report: &mut Report<'_>) -> Option<Set<u32>> {
    if let Kind::Scalar(scalar) = &value.kind
        && let Some(bits) = convert::mode(&scalar.text)
    {
        return Some(Set { value: bits, at: value.at });
    }
    report.error(value.at, "mode must be permission bits", "write them in octal, such as 0700 or 1777");
    None
}

//! `proc_options` and `proc_keep`: what the fresh `/proc` of a PID namespace is like. Ours, not Slurm's.

use crate::config::layer::{Set, bad_path};
use crate::config::limits::{MAX_PROC_KEEP, MAX_WORDS};
use crate::config::path::{PathError, depth, normalise};
use crate::config::problem::{Report, Span, quote};
use crate::config::settings::HidePid;
use crate::config::yaml::{Key, Kind, Scalar, Value};
use crate::config::{short, suggest};

impl HidePid {
    pub const ALL: [Self; 4] = [Self::Off, Self::NoAccess, Self::Invisible, Self::Ptraceable];

    /// The kernel's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NoAccess => "noaccess",
            Self::Invisible => "invisible",
            Self::Ptraceable => "ptraceable",
        }
    }

    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::NoAccess => 1,
            Self::Invisible => 2,
            Self::Ptraceable => 4,
        }
    }
}

const HIDE_PIDS: &str = "hidepid is off (0), noaccess (1), invisible (2) or ptraceable (4)";

/// `proc_options`: options with commas between them.
pub(super) fn options(scalar: &Scalar, report: &mut Report<'_>) -> HidePid {
    let mut found = None;
    for (index, word) in scalar.text.split(',').enumerate() {
        let word = word.trim();
        let at = scalar.place_of(word);
        if index >= MAX_WORDS {
            report.error(at, format!("proc_options has more than {MAX_WORDS} words"), "remove most of them");
            break;
        }
        if word.is_empty() {
            continue;
        }
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "hidepid" => {
                if found.is_some() {
                    report.error(at, "hidepid is in proc_options twice", "keep one of the two");
                }
                found = Some(hide_pid(word, value, at, report));
            }
            // Of the kernel's other options:
            "subset" => report.error(
                at,
                "subset is not an option of proc_options: slurmstepd (cgroup/v2) reads /proc/mounts in the job, and no step would start",
                "leave it out",
            ),
            "gid" => report.error(
                at,
                "gid is not an option of proc_options",
                "leave it out: the processes of a job are its user's and root's",
            ),
            _ => {
                let hint = suggest::hint(key, ["hidepid"], || format!("the only option is hidepid; {HIDE_PIDS}"));
                report.error(at, format!("unknown option {} in proc_options", quote(word)), hint);
            }
        }
    }
    found.unwrap_or_default()
}

fn hide_pid(word: &str, value: &str, at: Span, report: &mut Report<'_>) -> HidePid {
    let found = HidePid::ALL.into_iter().find(|known| known.name() == value || is_number(*known, value));
    found.unwrap_or_else(|| {
        let hint = suggest::hint(value, HidePid::ALL.iter().map(|known| known.name()), || HIDE_PIDS.to_owned());
        report.error(at, format!("{} in proc_options cannot be read", quote(word)), hint);
        HidePid::default()
    })
}

fn is_number(hide_pid: HidePid, text: &str) -> bool {
    text.parse() == Ok(hide_pid.number()) && text.len() == 1
}

/// `proc_keep`: a path or a list of them. A parent comes before what is below it.
pub(super) fn keep(key: &Key, value: &Value, report: &mut Report<'_>) -> Option<Set<Vec<String>>> {
    let items = match &value.kind {
        Kind::Scalar(_) => std::slice::from_ref(value),
        Kind::List(items) => items.as_slice(),
        Kind::Map(_) => {
            report.error(value.at, "proc_keep must be a list, and this is a mapping", "write - /proc/some/file");
            return None;
        }
    };
    let mut paths: Vec<String> = Vec::new();
    for item in items {
        let Kind::Scalar(scalar) = &item.kind else {
            let what = format!("a path of proc_keep must be text, and this is {}", item.describe());
            report.error(item.at, what, "write - /proc/some/file");
            continue;
        };
        match kept(&scalar.text) {
            Ok(path) if paths.contains(&path) => {
                report.error(item.at, format!("{} is in proc_keep twice", quote(&scalar.text)), "remove one");
            }
            Ok(_) if paths.len() >= MAX_PROC_KEEP => {
                report.error(item.at, format!("proc_keep has more than {MAX_PROC_KEEP} paths"), "keep fewer mounts");
                break;
            }
            Ok(path) => paths.push(path),
            Err(error) => bad_path("the path in proc_keep", &scalar.text, item.at, &error, report),
        }
    }
    short::sort_by_key(&mut paths, |path| depth(path));
    Some(Set { value: paths, at: key.at })
}

/// A path of `proc_keep`, normalised.
fn kept(path: &str) -> Result<String, PathError> {
    let refuse = |what: &str, hint: &str| Err(PathError { what: what.to_owned(), hint: hint.to_owned() });
    let path = normalise(path)?;
    let Some(below) = path.strip_prefix("/proc/") else {
        return refuse("does not lie below /proc", "only what is mounted over a part of /proc would be lost");
    };
    match below.split('/').next().unwrap_or_default() {
        // The last two are links to the first.
        "self" | "thread-self" | "net" | "mounts" => refuse("is another one for each process", "remove it"),
        name if name.bytes().all(|b| b.is_ascii_digit()) => refuse("belongs to one process", "remove it"),
        _ => Ok(path),
    }
}

/// Are these what [`options`] and [`keep`] could have made, for settings with or without a PID namespace?
///
/// # Errors
/// A sentence about the first thing that is not so.
pub(super) fn check(hide_pid: HidePid, keep: &[String], has_pid_namespace: bool) -> Result<(), String> {
    if hide_pid != HidePid::Off && !has_pid_namespace {
        return Err("there is a hidepid without CLONE_NEWPID".to_owned());
    }
    if keep.len() > MAX_PROC_KEEP {
        return Err(format!("proc_keep has more than {MAX_PROC_KEEP} paths"));
    }
    for path in keep {
        match kept(path) {
            Ok(normal) if normal == *path => {}
            Ok(_) => return Err(format!("the path {} in proc_keep is not normalised", quote(path))),
            Err(error) => return Err(format!("the path {} in proc_keep {error}", quote(path))),
        }
    }
    if !keep.is_sorted_by_key(|path| depth(path)) {
        return Err("a path of proc_keep comes before the one that it lies below".to_owned());
    }
    if !short::are_distinct(keep.iter().map(String::as_str)) {
        return Err("a path is in proc_keep twice".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_no_process_is_kept() {
        assert_eq!(kept("/proc//driver/nvidia/params/").as_deref(), Ok("/proc/driver/nvidia/params"));
        for good in ["/proc/cpuinfo", "/proc/sys/kernel", "/proc/selfish", "/proc/1x"] {
            assert_eq!(kept(good).as_deref(), Ok(good));
        }
        for bad in ["/proc", "/proc/", "/process/x", "/sys/x", "proc/x", "/proc/1/x", "/proc/self", "/proc/net/tcp"] {
            assert!(kept(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_the_kernels() {
        let numbers = ["0", "1", "2", "4"];
        for (hide_pid, number) in HidePid::ALL.into_iter().zip(numbers) {
            assert!(is_number(hide_pid, number));
            for other in ["3", "02", "+2", "", "42"] {
                assert!(!is_number(hide_pid, other), "{other}");
            }
        }
    }
}

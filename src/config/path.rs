//! Paths as text: absolute, normalised, and within the limits of the kernel.

use crate::config::limits::{MAX_COMPONENT, MAX_PATH};
use crate::config::problem::{Refusal, refuse};

/// The path with single slashes and without a slash at the end, or the reason why it is refused.
///
/// `.` and `..` are refused instead of resolved. The meaning of `..` depends on links in the file system, and two
/// spellings of one directory must not count as two directories.
///
/// # Errors
/// A sentence without the path, which the caller quotes.
pub fn normalise(path: &str) -> Result<String, Refusal> {
    if !path.starts_with('/') {
        let trimmed = path.trim();
        return Err(match path {
            _ if trimmed.starts_with('/') => Refusal::new("starts with a space", format!("write \"{trimmed}\"")),
            "~" | "null" | "Null" | "NULL" => {
                Refusal::new("is not an absolute path: Slurm reads it as a name, not as null", "leave the key out")
            }
            _ => Refusal::new("is not an absolute path", "start it with \"/\""),
        });
    }
    if let Some(c) = path.chars().find(|c| c.is_control()) {
        return refuse(format!("contains the control character U+{:04X}", u32::from(c)), "remove it");
    }
    let mut out = String::with_capacity(path.len());
    for component in path.split('/').filter(|component| !component.is_empty()) {
        if component == "." || component == ".." {
            return refuse(format!("contains a \"{component}\" component"), "write the path without \".\" and \"..\"");
        }
        if component.len() > MAX_COMPONENT {
            return refuse(
                format!("contains a name of {} bytes", component.len()),
                format!("a name can have at most {MAX_COMPONENT}"),
            );
        }
        out.push('/');
        out.push_str(component);
    }
    if out.len() > MAX_PATH {
        return refuse(format!("has {} bytes", out.len()), format!("a path can have at most {MAX_PATH}"));
    }
    if out.is_empty() {
        return refuse("is the root directory", "name a directory below it");
    }
    Ok(out)
}

/// Whether `path` is `top` or is below it. Both are normalised.
pub(crate) fn is_at_or_below(path: &str, top: &str) -> bool {
    path == top || path_below(path, top).is_some()
}

/// The number of components of a normalised path.
pub(crate) fn depth(path: &str) -> usize {
    path.bytes().filter(|&b| b == b'/').count()
}

/// The path from `dir` to `path`, which is below it. Both are normalised.
pub(crate) fn path_below<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    path.strip_prefix(dir)?.strip_prefix('/')
}

/// A conflict between a private directory and a base path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clash {
    /// They are the same directory.
    Same,
    /// The private directory is inside the base path and would cover job directories.
    DirBelowBase,
    /// The base path is inside the private directory. This works, because the sources are opened before the directory is
    /// covered, but the job cannot see the base path.
    BaseBelowDir,
}

/// The conflict between two normalised paths, if there is one.
pub(crate) fn clash(dir: &str, base: &str) -> Option<Clash> {
    if dir == base {
        Some(Clash::Same)
    } else if is_at_or_below(dir, base) {
        Some(Clash::DirBelowBase)
    } else if is_at_or_below(base, dir) {
        Some(Clash::BaseBelowDir)
    } else {
        None
    }
}

/// The directory that keeps a path from being private: the path is it, or is inside it.
pub(crate) fn not_private(path: &str) -> Option<&'static str> {
    ["/proc", "/sys"].into_iter().find(|top| is_at_or_below(path, top))
}

/// The directory around a base path that every user can write to and that systemd-tmpfiles(8) cleans by default, which
/// removes files of live jobs.
pub(crate) fn is_cleaned(base: &str) -> Option<&'static str> {
    ["/tmp", "/var/tmp"].into_iter().find(|top| base != *top && is_at_or_below(base, top))
}

/// The problem with a base path in such a directory.
pub(crate) const CLEANED: &str =
    "where old files are removed, and where any user can make it first and so keep slurmd from starting";

/// The hint for it.
pub(crate) const CLEANED_HINT: &str =
    "use a directory such as /var/spool/jobns, or exclude it from cleaning (\"x\" in tmpfiles.d(5))";

/// Whether two base paths cannot be used together, because one would be among the job directories of the other or
/// inside one of them.
pub(crate) fn bases_clash(main: &str, other: &str) -> bool {
    let below = |path: &str, top: &str| {
        path_below(path, top)
            .and_then(|rest| rest.split('/').next())
            .is_some_and(|name| name.starts_with('.') || name.bytes().all(|b| b.is_ascii_digit()))
    };
    below(main, other) || below(other, main)
}

/// Normalises a path of `proc_keep`.
///
/// # Errors
/// As [`normalise`]. Also if the path is not below `/proc`, or is different for each process.
pub(crate) fn kept_in_proc(path: &str) -> Result<String, Refusal> {
    let path = normalise(path)?;
    let Some(below) = path.strip_prefix("/proc/") else {
        return refuse("is not below /proc", "only mounts over parts of /proc need to be kept");
    };
    match below.split('/').next().unwrap_or_default() {
        // The last two are links into the first.
        "self" | "thread-self" | "net" | "mounts" => refuse("is different for each process", "remove it"),
        name if name.bytes().all(|b| b.is_ascii_digit()) => refuse("belongs to one process", "remove it"),
        _ => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_become_one() {
        for spelling in ["/tmp", "/tmp/", "//tmp", "///tmp//"] {
            assert_eq!(normalise(spelling).as_deref(), Ok("/tmp"));
        }
        assert_eq!(normalise("/var//tmp/x/").as_deref(), Ok("/var/tmp/x"));
        assert_eq!(normalise("/..a/.b/c..").as_deref(), Ok("/..a/.b/c.."));
    }

    #[test]
    fn refuses() {
        for bad in ["", "tmp", "./tmp", "/", "//", "/a/../b", "/a/.", "/..", " /tmp", "~", "/a\nb", "/a\0", "/\u{85}"] {
            assert!(normalise(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn limits() {
        let longest_name = format!("/{}", "n".repeat(255));
        assert_eq!(normalise(&longest_name).as_ref(), Ok(&longest_name));
        assert!(normalise(&format!("{longest_name}n")).is_err());
        let longest_path = "/1234567".repeat(512).split_off(1);
        let longest_path = format!("/{}", longest_path.get(..4094).unwrap_or(""));
        assert_eq!(longest_path.len(), 4095);
        assert_eq!(normalise(&longest_path).as_ref(), Ok(&longest_path));
        assert!(normalise(&format!("{longest_path}7")).is_err());
        assert!(normalise(&"/".repeat(1 << 20)).is_err());
    }

    #[test]
    fn below() {
        assert!(is_at_or_below("/a/b", "/a"));
        assert!(is_at_or_below("/a", "/a"));
        assert!(!is_at_or_below("/ab", "/a"));
        assert!(!is_at_or_below("/a", "/a/b"));
        assert_eq!(depth("/a/b"), 2);
    }

    #[test]
    fn paths_of_processes_cannot_be_kept_in_proc() {
        assert_eq!(kept_in_proc("/proc//driver/nvidia/params/").as_deref(), Ok("/proc/driver/nvidia/params"));
        for good in ["/proc/cpuinfo", "/proc/sys/kernel", "/proc/selfish", "/proc/1x"] {
            assert_eq!(kept_in_proc(good).as_deref(), Ok(good));
        }
        for bad in ["/proc", "/proc/", "/process/x", "/sys/x", "proc/x", "/proc/1/x", "/proc/self", "/proc/net/tcp"] {
            assert!(kept_in_proc(bad).is_err(), "{bad}");
        }
    }
}

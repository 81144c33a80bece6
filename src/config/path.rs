//! Paths as text: absolute, normalised, and within the kernel's limits.

use crate::config::limits::{MAX_COMPONENT, MAX_PATH};

/// Why a path is refused: what is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    pub what: String,
    pub hint: String,
}

impl PathError {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

impl std::fmt::Display for PathError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.what, self.hint)
    }
}

/// The path with single slashes and none at the end, or why it cannot be taken.
///
/// `.` and `..` are refused and not resolved: what `..` means depends on links that only the file
/// system knows, and two spellings of one directory must not pass as two directories.
///
/// # Errors
/// A sentence without the path itself, which the caller quotes.
pub fn normalise(path: &str) -> Result<String, PathError> {
    if !path.starts_with('/') {
        let trimmed = path.trim();
        return Err(match path {
            _ if trimmed.starts_with('/') => PathError::new("begins with a space", format!("write \"{trimmed}\"")),
            "~" | "null" | "Null" | "NULL" => PathError::new(
                "is not an absolute path: there is no null here, Slurm reads it as a name",
                "leave the key out",
            ),
            _ => PathError::new("is not an absolute path", "begin it with \"/\""),
        });
    }
    if let Some(c) = path.chars().find(|c| c.is_control()) {
        return Err(PathError::new(format!("holds the control character U+{:04X}", u32::from(c)), "remove it"));
    }
    let mut out = String::with_capacity(path.len());
    for component in path.split('/').filter(|component| !component.is_empty()) {
        if component == "." || component == ".." {
            return Err(PathError::new(
                format!("holds a \"{component}\" component"),
                "write the path without \".\" and \"..\"",
            ));
        }
        if component.len() > MAX_COMPONENT {
            return Err(PathError::new(
                format!("holds a name of {} bytes", component.len()),
                format!("a name can have {MAX_COMPONENT}"),
            ));
        }
        out.push('/');
        out.push_str(component);
    }
    if out.len() > MAX_PATH {
        return Err(PathError::new(format!("has {} bytes", out.len()), format!("a path can have {MAX_PATH}")));
    }
    if out.is_empty() {
        return Err(PathError::new("is the root directory", "name a directory below it"));
    }
    Ok(out)
}

/// Is `path` the same as `top`, or somewhere below it? Both normalised.
#[must_use]
pub fn is_at_or_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How many components a normalised path has.
#[must_use]
pub fn depth(path: &str) -> usize {
    path.bytes().filter(|&b| b == b'/').count()
}

/// The path from `dir` to `path`, which lies below it; both normalised.
pub(crate) fn path_below<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    path.strip_prefix(dir)?.strip_prefix('/')
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
}

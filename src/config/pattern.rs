//! Values of the node or the job inside paths: `%h %n` in base paths, `%j %S %u %U %g` in `dir_confs`.
//!
//! A path is expanded once, component by component, and the result is checked. A value can become a name or a part of a
//! name. It can never add or remove a component, or turn one into `..` or into a name that looks like an option. Values
//! are never expanded again.

use std::borrow::Cow;

use crate::config::path::normalise;
use crate::config::problem::{Refusal, quote, refuse};
use crate::config::settings::Node;

/// The values of one job.
#[derive(Clone, Copy, Debug)]
pub struct JobNames<'a> {
    /// `%j`
    pub job_id: u32,
    /// `%S`
    pub sluid: &'a str,
    /// `%u`
    pub user: &'a str,
    /// `%U`. Ours, not Slurm's.
    pub uid: u32,
    /// `%g`. Ours, not Slurm's.
    pub gid: u32,
}

/// The maximum width of zero padding, as in `%010j`. It is Slurm's limit.
const MAX_PADDING: usize = 10;

/// A piece of a path pattern.
#[derive(Clone, Copy)]
enum Piece<'a> {
    Text(&'a str),
    /// A `%` with its letter, and the number between them.
    Field {
        letter: char,
        padding: usize,
        source: &'a str,
    },
}

/// Expands one `%h` and one `%n`, and normalises the result.
///
/// # Errors
/// If a value is not valid in a path. If `%h` or `%n` appears twice: Slurm would replace only the first one.
pub fn expand_node(path: &str, node: &Node<'_>) -> Result<String, Refusal> {
    let (mut hostnames, mut names) = (0, 0);
    if path.contains("%%") {
        return refuse("contains \"%%\", which does not mean a percent sign here", "write %h or %n, or no %");
    }
    let out = expand(path, |source, _| match source {
        "%h" => {
            hostnames += 1;
            Some(("the host name", Cow::Borrowed(node.hostname)))
        }
        "%n" => {
            names += 1;
            Some(("the node name", Cow::Borrowed(node.name)))
        }
        _ => None,
    })?;
    for (count, field) in [(hostnames, "%h"), (names, "%n")] {
        if count > 1 {
            return refuse(
                format!("contains {field} {count} times, but Slurm replaces only the first one"),
                format!("use {field} once"),
            );
        }
    }
    normalise(&out)
}

/// Checks `%h` and `%n` in a path as far as possible without the values.
///
/// # Errors
/// As [`expand_node`].
pub(crate) fn check_node_pattern(path: &str) -> Result<String, Refusal> {
    expand_node(path, &Node { name: "n", hostname: "h" })?;
    normalise(path)
}

/// Whether the path contains a `%` that [`expand_node`] does not replace.
pub(crate) fn has_other_percent(path: &str) -> bool {
    pieces(path).any(|piece| match piece {
        Piece::Text(text) => text.contains('%'),
        Piece::Field { source, .. } => !matches!(source, "%h" | "%n"),
    })
}

/// Splits a path before the first component with a `%`. The second part of a path without `%` is empty.
pub(crate) fn fixed_part(path: &str) -> (&str, &str) {
    let Some(percent) = path.find('%') else { return (path, "") };
    let slash = path.get(..percent).and_then(|before| before.rfind('/')).unwrap_or(0);
    path.split_at_checked(slash).unwrap_or((path, ""))
}

/// Does the path name the user of the job (`%u`, `%U`)?
pub(super) fn names_user(path: &str) -> bool {
    pieces(path).any(|piece| matches!(piece, Piece::Field { source: "%u" | "%U", .. }))
}

/// Expands `%j`, `%S`, `%u`, `%U`, `%g` and `%%`, and normalises the result.
///
/// # Errors
/// If a value is not valid in a path, or the path contains another pattern.
pub fn expand_job(path: &str, job: &JobNames<'_>) -> Result<String, Refusal> {
    // Checks the unexpanded path as well: `%%` becomes shorter, and a path that was refused at start must not be accepted
    // at run time.
    check_job_pattern(path)?;
    let out = expand(path, |source, padding| match source {
        "%%" => Some(("the percent sign", Cow::Borrowed("%"))),
        "%S" => Some(("the SLUID", Cow::Borrowed(job.sluid))),
        "%u" => Some(("the user name", Cow::Borrowed(job.user))),
        "%U" => Some(("the uid", Cow::Owned(job.uid.to_string()))),
        "%g" => Some(("the gid", Cow::Owned(job.gid.to_string()))),
        _ if source.ends_with('j') => Some(("the job id", Cow::Owned(format!("{:0padding$}", job.job_id)))),
        _ => None,
    })?;
    normalise(&out)
}

/// Checks the `%` sequences of a path of `dir_confs`, and normalises it.
///
/// # Errors
/// As [`expand_job`], except for those about values.
pub fn check_job_pattern(path: &str) -> Result<String, Refusal> {
    if path.contains('\\') {
        return refuse("contains a backslash, at which Slurm stops replacing patterns", "write the path without it");
    }
    for piece in pieces(path) {
        match piece {
            Piece::Text(text) if text.contains('%') => {
                return refuse("contains a % without a letter", "write %% for a percent sign");
            }
            Piece::Field { letter: 'j', padding, source } if padding > MAX_PADDING => {
                return refuse(
                    format!("contains {}", quote(source)),
                    format!("a job id can be padded to at most {MAX_PADDING} digits"),
                );
            }
            Piece::Text(_)
            | Piece::Field { letter: 'j', .. }
            | Piece::Field { source: "%S" | "%u" | "%U" | "%g" | "%%", .. } => {}
            Piece::Field { source, .. } => {
                return refuse(
                    format!("contains {}, which is not a pattern here", quote(source)),
                    "the patterns are %j (job id), %S (SLUID), %u (user name), %U (uid) and %g (gid), and %% is a percent sign",
                );
            }
        }
    }
    normalise(path)
}

/// Replaces the fields for which `value` returns text. Its arguments are the field and its padding. It also returns the
/// name of the value for messages.
fn expand<'v>(
    path: &str,
    mut value: impl FnMut(&str, usize) -> Option<(&'static str, Cow<'v, str>)>,
) -> Result<String, Refusal> {
    let mut out = String::with_capacity(path.len());
    for (index, component) in path.split('/').enumerate() {
        if index > 0 {
            out.push('/');
        }
        let start = out.len();
        for piece in pieces(component) {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field { source, padding, .. } => match value(source, padding) {
                    None => out.push_str(source),
                    Some((name, text)) => {
                        check_value(name, &text)?;
                        out.push_str(&text);
                    }
                },
            }
        }
        let made = out.get(start..).unwrap_or("");
        if made.starts_with('-') && !component.starts_with('-') {
            return refuse(
                format!("becomes {}, a name that starts with \"-\"", quote(made)),
                "put a letter before the pattern",
            );
        }
    }
    Ok(out)
}

/// Checks that a value can be a name or a part of a name.
fn check_value(name: &str, text: &str) -> Result<(), Refusal> {
    let found = match text {
        "" => "is empty".to_owned(),
        "." | ".." => format!("is {}", quote(text)),
        _ if text.contains('/') => format!("({}) contains a \"/\"", quote(text)),
        _ if text.chars().any(char::is_control) => format!("({}) contains a control character", quote(text)),
        _ => return Ok(()),
    };
    refuse(format!("cannot be filled in: {name} {found}"), "use a pattern with another value")
}

/// Splits a path into fields (`%`, digits, a letter) and the text between them, which includes a lone `%`.
fn pieces(path: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(after) = rest.strip_prefix('%') {
            let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = after.split_at_checked(digits)?;
            if let Some(letter) = tail.chars().next() {
                let length = 1 + digits + letter.len_utf8();
                let (source, next) = rest.split_at_checked(length)?;
                rest = next;
                // A number that is too big for the type exceeds every limit.
                let padding = if number.is_empty() { 0 } else { number.parse().unwrap_or(usize::MAX) };
                return Some(Piece::Field { letter, padding, source });
            }
            let text = rest;
            rest = "";
            return Some(Piece::Text(text));
        }
        let (text, next) = rest.split_at_checked(rest.find('%').unwrap_or(rest.len()))?;
        rest = next;
        Some(Piece::Text(text))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests stop where they fail")]
mod tests {
    use super::*;

    const NODE: Node<'_> = Node { name: "node7", hostname: "host7" };
    const JOB: JobNames<'_> = JobNames { job_id: 42, sluid: "s7VQ6KB9NY0000", user: "alice", uid: 1000, gid: 100 };

    #[test]
    fn node_names() {
        for (pattern, path) in [
            ("/ns", "/ns"),
            ("/ns/%n", "/ns/node7"),
            ("/ns/%h/%n/", "/ns/host7/node7"),
            ("/ns-%h-%n", "/ns-host7-node7"),
            ("/ns/100%", "/ns/100%"),
            ("/ns/%j%5h", "/ns/%j%5h"),
        ] {
            assert_eq!(expand_node(pattern, &NODE).as_deref(), Ok(path));
        }
        for bad in ["ns/%n", "/ns/%n/%n", "/ns/%h%h", "/ns/%%n", "/%n/.."] {
            assert!(expand_node(bad, &NODE).is_err(), "{bad}");
        }
        assert!(has_other_percent("/100%") && has_other_percent("/%j") && has_other_percent("/%5h"));
        assert!(!has_other_percent("/%h/%n") && !has_other_percent("/a"));
    }

    #[test]
    fn a_path_is_fixed_up_to_its_first_pattern() {
        for (path, fixed, rest) in [
            ("/a/b", "/a/b", ""),
            ("/a/%u", "/a", "/%u"),
            ("/a/x%u/b", "/a", "/x%u/b"),
            ("/%u", "", "/%u"),
            ("/a/b%%/c", "/a", "/b%%/c"),
        ] {
            assert_eq!(fixed_part(path), (fixed, rest));
        }
    }

    #[test]
    fn hostile_values() {
        for value in ["", ".", "..", "a/b", "/", "a\0", "a\nb", "\u{9b}x", "-rf"] {
            let node = Node { name: value, hostname: "h" };
            assert!(expand_node("/ns/%n", &node).is_err(), "{value:?}");
            let job = JobNames { user: value, ..JOB };
            assert!(expand_job("/scratch/%u", &job).is_err(), "{value:?}");
            let job = JobNames { sluid: value, ..JOB };
            assert!(expand_job("/scratch/%S/x", &job).is_err(), "{value:?}");
        }
        // Two values that together make "..", one that is too long, one that looks like a pattern.
        let node = Node { name: ".", hostname: "." };
        assert!(expand_node("/ns/%n%h", &node).is_err());
        let long = "x".repeat(256);
        assert!(expand_job("/scratch/%u", &JobNames { user: &long, ..JOB }).is_err());
        assert_eq!(expand_job("/scratch/%u", &JobNames { user: "%j%u", ..JOB }).as_deref(), Ok("/scratch/%j%u"));
        // A dash inside a name is allowed, and so is a dash that the administrator wrote.
        assert_eq!(expand_job("/scratch/x%u", &JobNames { user: "-a", ..JOB }).as_deref(), Ok("/scratch/x-a"));
        assert_eq!(expand_job("/scratch/-%u", &JOB).as_deref(), Ok("/scratch/-alice"));
    }

    #[test]
    fn job_names() {
        for (pattern, path) in [
            ("/tmp", "/tmp"),
            ("/scratch/%u/%j", "/scratch/alice/42"),
            ("/run/user/%U", "/run/user/1000"),
            ("/g%g/%g", "/g100/100"),
            ("/scratch/%u-%S/", "/scratch/alice-s7VQ6KB9NY0000"),
            ("/scratch/%6j-%010j", "/scratch/000042-0000000042"),
            ("/100%%", "/100%"),
            ("/%%u", "/%u"),
        ] {
            assert_eq!(expand_job(pattern, &JOB).as_deref(), Ok(path));
            assert!(check_job_pattern(pattern).is_ok());
        }
        for bad in [
            "/%",
            "/100%",
            "/%x",
            "/%J",
            "/%N",
            "/%11j",
            "/%99999999999999999999999j",
            "/%5u",
            "/%5g",
            "/%é",
            "/a\\b",
            "%j",
        ] {
            assert!(expand_job(bad, &JOB).is_err(), "{bad}");
            assert!(check_job_pattern(bad).is_err(), "{bad}");
        }
    }
}

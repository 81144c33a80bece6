//! Resolves the mount points of the private directories on this node: removes links, and finds directories that are
//! named twice.

use crate::base::error::{Doing, Error};
use crate::base::trusted_path;
use crate::base::trusted_path::{Missing, TrustedDir};
use crate::config::check;
use crate::config::path::path_below;
use crate::config::pattern::fixed_part;
use crate::config::settings::{Backing, Dir};
use crate::node::finding::{About, Findings};
use rustix::io::Errno;

/// A directory that was found.
struct Seen {
    device: u64,
    inode: u64,
    /// Its place in the list.
    index: usize,
}

/// Follows administrators' links in the paths, because the job follows none. If a path contains values of the job, only
/// the directories above the first of them are resolved. A directory with two names gets one private directory.
pub(super) fn resolve_all(dirs: &mut Vec<Dir>, looking_at: fn(&str), found: &mut Findings) {
    let mut seen: Vec<Seen> = Vec::new();
    // The paths as written, and without links. In mount order, outer directories come first.
    let mut resolved: Vec<(String, String)> = Vec::new();
    let mut done: Vec<Dir> = Vec::with_capacity(dirs.len());
    for mut dir in std::mem::take(dirs) {
        let written = dir.path.clone();
        let around = resolved.iter().rev().find_map(|(outer, path)| Some((path, path_below(&written, outer)?)));
        let mut same = None;
        if let Some((outer, below)) = around {
            // It is made for each job in the outer private directory, which hides the node's own.
            dir.path = format!("{outer}/{below}");
        } else {
            looking_at(&dir.path);
            match resolve(&mut dir, found) {
                Ok(None) => {}
                Ok(Some((device, inode))) => {
                    same = seen.iter().find(|seen| (seen.device, seen.inode) == (device, inode)).map(|seen| seen.index);
                    if same.is_none() {
                        seen.push(Seen { device, inode, index: done.len() });
                    }
                }
                Err(error) => found.fatal("dirs", error),
            }
        }
        resolved.push((written.clone(), dir.path.clone()));
        let Some(other) = same.and_then(|index| done.get(index)) else {
            done.push(dir);
            continue;
        };
        let kind = |dir: &Dir| Dir { path: String::new(), ..dir.clone() };
        let is_one = kind(&dir) == kind(other);
        if !is_one || matches!(dir.backing, Backing::Tmpfs(_)) {
            let error = Error::because(
                format!("make {written} private"),
                format!("it is the same directory as {}, which is another kind of private directory", other.path),
            );
            found.fatal("dirs", error.with_hint("name it once"));
            continue;
        }
        found.warn(
            "dirs",
            format!(
                "{written} is the same directory as {} on this node: jobs get one private directory for both",
                other.path
            ),
        );
        // If one is a link to the other, there is only one mount point.
        if dir.path != other.path {
            dir.backing = Backing::SameAs(other.path.clone());
            done.push(dir);
        }
    }
    check::sort_dirs(&mut done);
    originals_first(&mut done);
    *dirs = done;
}

/// Moves the backing of a directory with several names to the first of them. Links may have changed the order.
fn originals_first(dirs: &mut [Dir]) {
    for index in 0..dirs.len() {
        let Some(Dir { path, backing: Backing::SameAs(other), .. }) = dirs.get(index) else { continue };
        let (path, other) = (path.clone(), other.clone());
        let Some(behind) = dirs.iter().skip(index).position(|dir| dir.path == other) else { continue };
        let backing =
            dirs.get_mut(index + behind).map(|dir| std::mem::replace(&mut dir.backing, Backing::SameAs(other.clone())));
        if let (Some(dir), Some(backing)) = (dirs.get_mut(index), backing) {
            dir.backing = backing;
        }
        for dir in dirs.iter_mut().filter(|dir| dir.backing == Backing::SameAs(other.clone())) {
            dir.backing = Backing::SameAs(path.clone());
        }
    }
}

/// Resolves one path. Returns the device and inode of the directory; None if the path depends on the job.
fn resolve(dir: &mut Dir, found: &mut Findings) -> Result<Option<(u64, u64)>, Error> {
    let (fixed, rest) = fixed_part(&dir.path);
    if fixed.is_empty() {
        return Ok(None);
    }
    let target = open(dir, fixed)?;
    let stat = rustix::fs::fstat(&target.fd).doing("fstat", || format!("make {} private", dir.path))?;
    if dir.is_cover {
        found.note(About::Node, format!("jobs see only their own directories in {fixed}"));
    }
    let identity = rest.is_empty().then_some((stat.st_dev, stat.st_ino));
    if target.path == fixed {
        return Ok(identity);
    }
    // The target of a link is not a pattern.
    if target.path.contains('\\') {
        return Err(Error::because(
            format!("make {} private", dir.path),
            format!("{fixed} is a symbolic link to {}, but paths cannot contain a backslash", target.path),
        ));
    }
    let real = if rest.is_empty() { target.path } else { format!("{}{rest}", target.path.replace('%', "%%")) };
    found.note(About::Node, format!("{fixed} is a symbolic link: jobs get a private {real}"));
    dir.path = real;
    Ok(identity)
}

fn open(dir: &Dir, fixed: &str) -> Result<TrustedDir, Error> {
    let path = dir.path.as_str();
    let intention = || {
        if path == fixed { format!("make {path} private") } else { format!("make {path} private: open {fixed}") }
    };
    let opened = if dir.is_cover {
        // What users have made there would be hidden, and they could make nothing.
        trusted_path::open_dir("create in", fixed, Missing::Refuse)
    } else {
        trusted_path::open_dir_of_anybody("the directory", fixed)
    };
    opened.map_err(|error| match error.errno() {
        Some(Errno::NOENT) => Error::call(intention(), "openat2", Errno::NOENT)
            .with_hint("create the directory, or remove it from the list"),
        Some(Errno::NOTDIR) => {
            Error::call(intention(), "openat2", Errno::NOTDIR).with_hint("only directories can be private")
        }
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{Backing, TmpfsParam};
    use crate::node::finding::{Finding, Severity};
    use std::os::unix::fs::symlink;

    fn dir(path: String) -> Dir {
        Dir { path, ..Dir::default() }
    }

    fn resolved(path: &str) -> Result<String, Error> {
        let mut dir = dir(path.to_owned());
        resolve(&mut dir, &mut Findings::default())?;
        Ok(dir.path)
    }

    #[test]
    #[ignore = "needs root"]
    fn links_of_roots_are_followed_before_a_pattern_and_none_behind_it() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("{}/{name}", top.path().display());
        std::fs::create_dir_all(path("real/in")).unwrap();
        std::fs::create_dir(path("50%")).unwrap();
        symlink("real", path("link")).unwrap();
        symlink("50%", path("percent")).unwrap();
        symlink("no\\where", path("bad")).unwrap();
        std::fs::create_dir(path("no\\where")).unwrap();
        assert_eq!(resolved(&path("link/in/%u")).unwrap(), path("real/in/%u"));
        assert_eq!(resolved(&path("link/x-%j/link")).unwrap(), path("real/x-%j/link"));
        assert_eq!(resolved(&path("percent/%u")).unwrap(), path("50%%/%u"));
        assert_eq!(resolved(&path("real/%u")).unwrap(), path("real/%u"));
        assert_eq!(resolved("/%u").unwrap(), "/%u");
        assert!(resolved(&path("bad/%u")).is_err());
        assert_eq!(resolved(&path("missing/%u")).unwrap_err().errno(), Some(Errno::NOENT));
        // One that a user can replace.
        symlink("real", path("theirs")).unwrap();
        std::os::unix::fs::lchown(path("theirs"), Some(65534), Some(65534)).unwrap();
        assert!(resolved(&path("theirs/%u")).unwrap_err().to_string().contains("symbolic link of uid 65534"));
    }

    /// The resolved directories, the fatal findings, and the others.
    fn all(mut dirs: Vec<Dir>) -> (Vec<(String, Backing)>, Vec<String>, Vec<String>) {
        let mut found = Findings::default();
        resolve_all(&mut dirs, |_| {}, &mut found);
        let (fatal, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|finding| finding.severity == Severity::Fatal);
        let lines = |findings: Vec<Finding>| findings.iter().map(|one| format!("{:?} {one}", one.about)).collect();
        (dirs.into_iter().map(|dir| (dir.path, dir.backing)).collect(), lines(fatal), lines(others))
    }

    #[test]
    fn one_directory_by_two_names_is_private_once() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("{}/{name}", top.path().display());
        std::fs::create_dir_all(path("tmp/below")).unwrap();
        std::fs::create_dir(path("var")).unwrap();
        symlink("../tmp", path("var/tmp")).unwrap();
        symlink("../tmp/below", path("var/below")).unwrap();
        let (dirs, errors, lines) = all(vec![dir(path("tmp")), dir(path("var/tmp"))]);
        assert_eq!((dirs, errors), (vec![(path("tmp"), Backing::BasePath)], Vec::<String>::new()));
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("Key(\"dirs\") ") && line.contains("one private directory for both"))
        );
        // The other way round, and with something in it.
        let (dirs, errors, _) = all(vec![dir(path("var/tmp")), dir(path("tmp")), dir(path("var/tmp/x"))]);
        let expected = vec![(path("tmp"), Backing::BasePath), (path("tmp/x"), Backing::BasePath)];
        assert_eq!((dirs, errors), (expected, Vec::<String>::new()));
        let (dirs, errors, lines) = all(vec![dir(path("tmp")), dir(path("var/below"))]);
        let expected = vec![(path("tmp"), Backing::BasePath), (path("tmp/below"), Backing::BasePath)];
        assert_eq!((dirs, errors), (expected, Vec::<String>::new()));
        assert!(!lines.iter().any(|line| line.contains("for both")), "{lines:?}");
        // Two kinds.
        let tmpfs = |name: &str, size: &str| {
            let size = TmpfsParam { key: "size".to_owned(), value: Some(size.to_owned()) };
            Dir { backing: Backing::Tmpfs(vec![size]), ..dir(path(name)) }
        };
        let (_, errors, _) = all(vec![dir(path("tmp")), tmpfs("var/tmp", "1g")]);
        assert!(errors[0].contains("another kind"), "{errors:?}");
    }

    #[test]
    #[ignore = "needs root"]
    fn only_a_directory_that_users_cannot_write_to_is_hidden() {
        let top = tempfile::Builder::new().tempdir_in("/run").unwrap();
        let path = |name: &str| format!("{}/{name}", top.path().display());
        let mode = |name: &str, mode| {
            std::fs::set_permissions(path(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        std::fs::create_dir_all(path("open/below")).unwrap();
        std::fs::create_dir(path("theirs")).unwrap();
        std::os::unix::fs::chown(path("theirs"), Some(1000), None).unwrap();
        symlink("open", path("link")).unwrap();
        mode(".", 0o755);
        let said = |name: &str| {
            let (dirs, errors, _) = all(vec![Dir::cover(path(name)), dir(format!("{}/%U", path(name)))]);
            if errors.is_empty() { dirs.into_iter().map(|(path, _)| path).collect() } else { errors }
        };
        let hidden = |name: &str| vec![path(name), format!("{}/%U", path(name))];
        assert_eq!(
            (said("open"), said("link"), said("open/below")),
            (hidden("open"), hidden("open"), hidden("open/below"))
        );
        for (bits, why) in [(0o1777, "every user can write to it"), (0o775, "its group can write to it")] {
            mode("open", bits);
            assert!(said("open")[0].contains(why), "{:?}", said("open"));
        }
        assert!(said("theirs")[0].contains("it belongs to uid 1000"), "{:?}", said("theirs"));
        assert!(said("none")[0].contains("create the directory, or remove it"), "{:?}", said("none"));
        // A directory with options is no such one.
        assert_eq!(all(vec![dir(path("open"))]).1, Vec::<String>::new());
    }

    #[test]
    fn of_several_names_the_first_has_the_directory() {
        let same = |path: &str, other: &str| Dir { backing: Backing::SameAs(other.to_owned()), ..dir(path.to_owned()) };
        let mut dirs = [same("/a", "/b/c"), dir("/x".to_owned()), dir("/b/c".to_owned()), same("/d/e", "/b/c")];
        originals_first(&mut dirs);
        let found = dirs.map(|dir| dir.backing);
        let same = Backing::SameAs("/a".to_owned());
        assert_eq!(found, [Backing::BasePath, Backing::BasePath, same.clone(), same]);
    }
}

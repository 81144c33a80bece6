//! Where the private directories go on this node: without links, each directory once.

#![forbid(unsafe_code)]

use crate::config::Dir;
use crate::job::error::{Doing, Error};
use crate::job::trusted::{self, TrustedDir};
use crate::job::{Level, Log};
use rustix::io::Errno;

/// Follows an administrator's links in the path, now: in the job none is followed. Where values of the job are in the
/// path, that is done to the directories above the first of them.
pub fn resolve(host: &dyn Log, dir: &mut Dir, seen: &mut Vec<(u64, u64, String)>) -> Result<(), Error> {
    let (fixed, rest) = fixed_part(&dir.path);
    if fixed.is_empty() {
        return Ok(());
    }
    let target = open(&dir.path, fixed)?;
    if rest.is_empty() {
        let intention = || format!("make {} private", dir.path);
        let stat = rustix::fs::fstat(&target.fd).doing("fstat", intention)?;
        if let Some((_, _, other)) = seen.iter().find(|(dev, ino, _)| (*dev, *ino) == (stat.st_dev, stat.st_ino)) {
            return Err(
                Error::because(intention(), format!("it is the same directory as {other}")).with_hint("name it once")
            );
        }
        seen.push((stat.st_dev, stat.st_ino, dir.path.clone()));
    }
    if target.path == fixed {
        return Ok(());
    }
    // What a link leads to is no pattern.
    if target.path.contains('\\') {
        return Err(Error::because(
            format!("make {} private", dir.path),
            format!("{fixed} is a symbolic link to {}, and no path can have a backslash", target.path),
        ));
    }
    let real = if rest.is_empty() { target.path } else { format!("{}{rest}", target.path.replace('%', "%%")) };
    host.log(Level::Info, format_args!("{fixed} is a symbolic link: jobs get a private {real}"));
    dir.path = real;
    Ok(())
}

/// The path up to the name with the first `%` in it, and what is behind. All of it, where there is none.
fn fixed_part(path: &str) -> (&str, &str) {
    let Some(percent) = path.find('%') else { return (path, "") };
    let slash = path.get(..percent).and_then(|before| before.rfind('/')).unwrap_or(0);
    path.split_at_checked(slash).unwrap_or((path, ""))
}

fn open(path: &str, fixed: &str) -> Result<TrustedDir, Error> {
    let intention = || {
        if path == fixed { format!("make {path} private") } else { format!("make {path} private: open {fixed}") }
    };
    trusted::open_dir_of_anybody("the directory", fixed).map_err(|error| match error.errno() {
        Some(Errno::NOENT) => {
            Error::call(intention(), "openat2", Errno::NOENT).with_hint("make the directory, or take it from the list")
        }
        Some(Errno::NOTDIR) => {
            Error::call(intention(), "openat2", Errno::NOTDIR).with_hint("only directories can be private")
        }
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backing, MountFlags};
    use std::os::unix::fs::symlink;

    struct Silent;

    impl Log for Silent {
        fn log(&self, _: Level, _: core::fmt::Arguments<'_>) {}
    }

    fn resolved(path: &str) -> Result<String, Error> {
        let mut dir =
            Dir { path: path.to_owned(), backing: Backing::BasePath, flags: MountFlags::default(), mode: None };
        resolve(&Silent, &mut dir, &mut Vec::new())?;
        Ok(dir.path)
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
        // One that a user can exchange.
        symlink("real", path("theirs")).unwrap();
        std::os::unix::fs::lchown(path("theirs"), Some(65534), Some(65534)).unwrap();
        assert!(resolved(&path("theirs/%u")).unwrap_err().to_string().contains("symbolic link of uid 65534"));
    }
}

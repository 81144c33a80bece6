//! Directories and scripts that only root (or, for `jobns run` as an ordinary user, that user) can
//! change. `SlurmUser` counts as root: it has the keys with which credentials are signed, and slurmd
//! runs as root what a valid credential asks for.
//!
//! A path is trusted if every component of it belongs to a trusted owner and no other user may
//! write to it. Then the path means the same thing at every later use, and only then may root open
//! it again by name. A sticky directory such as /tmp is allowed as a parent: the next component must
//! again belong to a trusted owner, and the sticky bit keeps others from renaming it.

use crate::base::error::{Doing, Error};
use crate::config::spelling::setting;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU32, Ordering};

/// The most symbolic links that are followed in one path. Root made them; `/var/spool` may be one.
const MAX_LINKS: usize = 8;

/// For a path without any link, not even one of /proc.
pub const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

/// For a name directly below an open directory: the path stays below it and on the same mount.
pub const BENEATH: ResolveFlags = NO_LINKS.union(ResolveFlags::BENEATH).union(ResolveFlags::NO_XDEV);

/// A trusted directory that is open, and its path without links.
#[derive(Debug)]
pub struct TrustedDir {
    pub fd: OwnedFd,
    pub path: String,
    /// The first component that belongs to `SlurmUser`.
    pub of_slurm_user: Option<String>,
}

/// The uid of `SlurmUser`; 0 if it is root or unknown.
static SLURM_USER: AtomicU32 = AtomicU32::new(0);

/// From now on `SlurmUser` counts as root for administrators' files. What the plugin makes belongs to root in any case.
pub fn trust_slurm_user(uid: u32) {
    SLURM_USER.store(uid, Ordering::Relaxed);
}

/// `SlurmUser`, unless it is root.
#[must_use]
pub fn slurm_user() -> Option<u32> {
    Some(SLURM_USER.load(Ordering::Relaxed)).filter(|&uid| uid != 0)
}

/// Does this user decide what root does on this node?
#[must_use]
pub fn is_administrator(uid: u32) -> bool {
    is_trusted_owner(uid) || slurm_user() == Some(uid)
}

/// A path as C string. A NUL inside is an error.
pub fn c_path(path: &str) -> Result<CString, Error> {
    CString::new(path).map_err(|_| Error::because(format!("use the path {path:?}"), "it contains a NUL byte"))
}

/// `openat2(2)`, tried again when a rename elsewhere made it give up (EAGAIN).
pub fn open_beneath(dir: BorrowedFd<'_>, name: &CStr, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    for _ in 0..64 {
        match rustix::fs::openat2(dir, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// How a walk treats components that do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Refuse,
    /// Makes them: the directory itself with mode 0711, since the names in it are job ids, those above it with 0755.
    Make,
    /// Makes them, all with mode 0755.
    MakeForAll,
}

/// Opens the directory at `path`, follows links that a trusted owner made, and checks every
/// component. `what` names the path in errors, such as "`base_path`".
///
/// # Errors
///
/// A component is writable by others, belongs to someone else, is not a directory, or is missing and
/// not to be made.
pub fn open_dir(what: &str, path: &str, missing: Missing) -> Result<TrustedDir, Error> {
    follow_links(what, path, missing, Others::Refuse)
}

/// Opens the directory at `path`, which others may be able to change, such as /tmp. It follows only
/// links of administrators. The `path` of the result contains no link.
///
/// # Errors
///
/// As [`open_dir`], except that components may be writable by others.
pub fn open_dir_of_anybody(what: &str, path: &str) -> Result<TrustedDir, Error> {
    follow_links(what, path, Missing::Refuse, Others::NoLinks)
}

fn follow_links(what: &str, path: &str, missing: Missing, others: Others) -> Result<TrustedDir, Error> {
    let mut wanted = path.to_owned();
    let mut of_slurm_user = None;
    for _ in 0..MAX_LINKS {
        match walk(what, &wanted, missing, others, &mut of_slurm_user)? {
            Walk::Found(fd) => return Ok(TrustedDir { fd, path: wanted, of_slurm_user }),
            Walk::Link(to) => wanted = to,
        }
    }
    Err(Error::because(format!("open {what} {path}"), "too many symbolic links"))
}

/// How a walk treats components that others can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Refuse,
    /// Follows no link below them.
    NoLinks,
}

enum Walk {
    Found(OwnedFd),
    /// A component was a link. This is the whole path with the link replaced by its target.
    Link(String),
}

fn walk(
    what: &str,
    path: &str,
    missing: Missing,
    others: Others,
    of_slurm_user: &mut Option<String>,
) -> Result<Walk, Error> {
    const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
    let intention = || format!("use {what} {path}");
    let mut here = open_beneath(CWD, &c_path("/")?, DIRECTORY, NO_LINKS).doing("openat2", intention)?;
    let mut seen = String::new();
    // Why others can change the components below.
    let mut exposed = None;
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    for (index, name) in names.iter().enumerate() {
        let rest = names.get(index + 1..).unwrap_or_default();
        let name_c = c_path(name)?;
        let mut is_made = false;
        let next = match open_beneath(here.as_fd(), &name_c, DIRECTORY, NO_LINKS) {
            Err(Errno::NOENT) if missing != Missing::Refuse => {
                let mode = if rest.is_empty() && missing == Missing::Make { 0o711 } else { 0o755 };
                match rustix::fs::mkdirat(&here, name_c.as_c_str(), Mode::from_raw_mode(mode)) {
                    Ok(()) => is_made = true,
                    // A directory that another process made first is checked below like any other.
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(Error::call(format!("make {what} {seen}/{name}"), "mkdirat", errno)),
                }
                open_beneath(here.as_fd(), &name_c, DIRECTORY, NO_LINKS)
            }
            // The component is a link, which NO_SYMLINKS does not follow, or not a directory.
            Err(Errno::LOOP | Errno::NOTDIR) => match read_link(here.as_fd(), &name_c) {
                Ok(link) => {
                    let refuse = |why: &str| Err(refuse_link(what, &seen, name, why));
                    note_slurm_user(of_slurm_user, link.owner, || format!("{seen}/{name}"));
                    return match (exposed, is_administrator(link.owner)) {
                        (Some(why), _) => refuse(&format!("that others could replace: {why}")),
                        (None, false) => refuse(&format!("of uid {}", link.owner)),
                        (None, true) => follow(what, &seen, name, &link.target, rest).map(Walk::Link),
                    };
                }
                Err(_) => Err(Errno::NOTDIR),
            },
            other => other,
        };
        let next = next.map_err(|errno| {
            let error = Error::call(intention(), "openat2", errno);
            match errno {
                Errno::NOENT => error.with_hint(format!(
                    "{seen}/{name} does not exist; make it, or set {} if that applies",
                    setting("auto_base_path", "true")
                )),
                Errno::NOTDIR => error.with_hint(format!("{seen}/{name} is not a directory")),
                _ => error,
            }
        })?;
        seen = format!("{seen}/{name}");
        let stat = rustix::fs::fstat(&next).doing("fstat", intention)?;
        if is_made && !is_trusted_owner(stat.st_uid) {
            let _ = rustix::fs::unlinkat(&here, name_c.as_c_str(), AtFlags::REMOVEDIR);
            return Err(Error::because(
                format!("make {what} {seen}"),
                format!("what root makes there belongs to {}", user(stat.st_uid)),
            )
            .with_hint("the file server maps root to another user: with NFS, export it with no_root_squash, or choose a local file system"));
        }
        note_slurm_user(of_slurm_user, stat.st_uid, || seen.clone());
        let last = index + 1 == names.len();
        match check_owner(what, path, &seen, &stat, last && others == Others::Refuse) {
            Err(error) if others == Others::Refuse => return Err(error),
            Err(error) => exposed = exposed.or(Some(error)),
            Ok(()) => {}
        }
        here = next;
    }
    Ok(Walk::Found(here))
}

/// Remembers the first component that belongs to `SlurmUser`.
fn note_slurm_user(first: &mut Option<String>, owner: u32, what: impl FnOnce() -> String) {
    if !is_trusted_owner(owner) && is_administrator(owner) && first.is_none() {
        *first = Some(what());
    }
}

struct Link {
    target: CString,
    owner: u32,
}

/// Reads target and owner of the same link, whatever `name` means a moment later.
fn read_link(dir: BorrowedFd<'_>, name: &CStr) -> Result<Link, Errno> {
    let link = open_beneath(dir, name, OFlags::PATH | OFlags::NOFOLLOW, NO_LINKS)?;
    let target = rustix::fs::readlinkat(&link, c"", Vec::new())?;
    Ok(Link { target, owner: rustix::fs::fstat(&link)?.st_uid })
}

fn refuse_link(what: &str, seen: &str, name: &str, why: &str) -> Error {
    Error::because(format!("use {what} {seen}/{name}"), format!("it is a symbolic link {why}"))
        .with_hint("write the path without the link instead")
}

/// The path with the link `seen/name` replaced by its target. No component of `seen` is a link.
fn follow(what: &str, seen: &str, name: &str, target: &CStr, rest: &[&str]) -> Result<String, Error> {
    let refuse = |why: &str| refuse_link(what, seen, name, why);
    let mut target = target.to_str().map_err(|_| refuse("to a name that is not UTF-8"))?;
    let mut from = if target.starts_with('/') { "" } else { seen };
    target = target.trim_start_matches('/');
    while let Some(behind) = target.strip_prefix("../") {
        from = from.rsplit_once('/').map_or("", |(above, _)| above);
        target = behind.trim_start_matches('/');
    }
    // The component before the ".." could be a link.
    if target.split('/').any(|part| part == "..") {
        return Err(refuse("with \"..\" inside or at the end of its target"));
    }
    let names = target.split('/').chain(rest.iter().copied()).filter(|name| !matches!(*name, "" | "."));
    let path = names.fold(from.to_owned(), |path, name| path + "/" + name);
    Ok(if path.is_empty() { "/".to_owned() } else { path })
}

/// Permission bits without set-group-ID, which a directory inherits from its parent.
#[must_use]
pub const fn mode_of(stat: &Stat) -> u32 {
    stat.st_mode & 0o5777
}

/// Is this root, or the user that this process runs as?
#[must_use]
pub fn is_trusted_owner(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Is this a regular file of root, and has nobody else these permissions (mode bits)?
#[must_use]
pub fn is_roots_file(stat: &Stat, permissions: u32) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && is_trusted_owner(stat.st_uid)
        && stat.st_mode & permissions == 0
}

/// Why others could change what `stat` describes; None if they cannot.
fn writable_by_others(stat: &Stat) -> Option<&'static str> {
    if stat.st_mode & 0o002 != 0 {
        Some("every user can write to it")
    } else if stat.st_mode & 0o020 != 0 {
        // With an access control list, these bits are the most that any entry in it can grant.
        Some("its group can write to it")
    } else {
        None
    }
}

fn check_owner(what: &str, path: &str, component: &str, stat: &Stat, last: bool) -> Result<(), Error> {
    let refuse = |why: String, hint: &str| {
        Err(Error::because(format!("use {what} {path}"), format!("{component}: {why}")).with_hint(hint.to_owned()))
    };
    if !is_administrator(stat.st_uid) {
        return refuse(
            format!("it belongs to {}, who could replace its content", user(stat.st_uid)),
            "it and every directory above it must belong to root or SlurmUser",
        );
    }
    let sticky = stat.st_mode & 0o1000 != 0;
    match writable_by_others(stat) {
        Some(why) if last || !sticky => refuse(
            format!("{why} (mode {:04o})", stat.st_mode & 0o7777),
            "remove the write permission of group and others, or choose another directory",
        ),
        _ => Ok(()),
    }
}

/// A uid with its name, if /etc/passwd has it.
fn user(uid: u32) -> String {
    let text = std::fs::read("/etc/passwd").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let wanted = uid.to_string();
    let name = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == wanted).then_some(name)
    });
    match name {
        Some(name) => format!("uid {uid} ({name})"),
        None => format!("uid {uid}"),
    }
}

/// Checks that the program at `path` is an executable file that only root can change.
pub fn check_program(name: &str, path: &str) -> Result<(), Error> {
    match check_script(name, path)? {
        None => Ok(()),
        Some(component) => {
            Err(Error::because(format!("use {name} {path}"), format!("{component} belongs to SlurmUser, not to root")))
        }
    }
}

/// Checks that the script at `path` is an executable file that only administrators can change.
/// Returns the first component of the path that belongs to `SlurmUser`.
///
/// # Errors
///
/// `Error::errno` is ENOENT if the script does not exist.
pub fn check_script(key: &str, path: &str) -> Result<Option<String>, Error> {
    let mut of_slurm_user = None;
    let mut wanted = path.to_owned();
    for _ in 0..MAX_LINKS {
        match check_script_at(key, &wanted, &mut of_slurm_user)? {
            None => return Ok(of_slurm_user),
            Some(to) => wanted = to,
        }
    }
    Err(Error::because(format!("use {key} {path}"), "too many symbolic links"))
}

/// As [`check_script`]. If `path` is a link, returns where it leads.
fn check_script_at(key: &str, path: &str, of_slurm_user: &mut Option<String>) -> Result<Option<String>, Error> {
    let intention = || format!("use {key} {path}");
    let (dir, name) = path.rsplit_once('/').unwrap_or_default();
    // A directory that others can write to is refused, so no link in one is followed.
    let dir = open_dir(key, if dir.is_empty() { "/" } else { dir }, Missing::Refuse).map_err(|error| {
        // The error is the same whichever part of the path is missing.
        if error.errno() == Some(Errno::NOENT) { Error::call(intention(), "openat2", Errno::NOENT) } else { error }
    })?;
    if of_slurm_user.is_none() {
        of_slurm_user.clone_from(&dir.of_slurm_user);
    }
    let name_c = c_path(name)?;
    let stat = rustix::fs::statat(&dir.fd, name_c.as_c_str(), AtFlags::SYMLINK_NOFOLLOW).doing("fstatat", intention)?;
    note_slurm_user(of_slurm_user, stat.st_uid, || path.to_owned());
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Symlink => {
            let link = read_link(dir.fd.as_fd(), &name_c).doing("readlinkat", intention)?;
            if !is_administrator(link.owner) {
                return Err(refuse_link(key, &dir.path, name, &format!("of {}", user(link.owner))));
            }
            let above = if dir.path == "/" { "" } else { &dir.path };
            return follow(key, above, name, &link.target, &[]).map(Some);
        }
        _ => return Err(Error::because(intention(), "it is not a regular file")),
    }
    if !is_administrator(stat.st_uid) {
        return Err(Error::because(intention(), format!("it belongs to {}, but root would run it", user(stat.st_uid))));
    }
    if let Some(why) = writable_by_others(&stat) {
        return Err(Error::because(intention(), format!("{why}, and root would run it")).with_hint("chmod go-w"));
    }
    if stat.st_mode & 0o100 == 0 {
        return Err(Error::because(intention(), "it is not executable by its owner").with_hint("chmod u+x"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn chmod(path: &std::path::Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_of_ours_below_sticky_tmp_is_trusted_and_made_on_request() {
        let top = tempfile::tempdir().unwrap();
        let base = format!("{}/a/b", top.path().display());
        assert_eq!(open_dir("base_path", &base, Missing::Refuse).unwrap_err().errno(), Some(Errno::NOENT));
        assert_eq!(open_dir("base_path", &base, Missing::Make).unwrap().path, base);
        let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&base), mode(base.strip_suffix("/b").unwrap())), (0o711, 0o755));
        // An existing one is left as it is.
        chmod(base.as_ref(), 0o755);
        open_dir("base_path", &base, Missing::Make).unwrap();
        assert_eq!(mode(&base), 0o755);
    }

    #[test]
    fn what_others_can_write_to_is_refused_wherever_it_is_in_the_path() {
        let top = tempfile::tempdir().unwrap();
        let base = top.path().join("open/base");
        std::fs::create_dir_all(&base).unwrap();
        chmod(&top.path().join("open"), 0o777);
        let text = open_dir("base_path", base.to_str().unwrap(), Missing::Refuse).unwrap_err().to_string();
        assert!(text.contains("open: every user can write to it"), "{text}");
        chmod(&top.path().join("open"), 0o755);
        chmod(&base, 0o1777);
        let text = open_dir("base_path", base.to_str().unwrap(), Missing::Refuse).unwrap_err().to_string();
        assert!(text.contains("base: every user can write to it (mode 1777)"), "{text}");
    }

    #[test]
    fn links_of_ours_are_followed_to_the_real_path() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("real/base")).unwrap();
        symlink("real", top.path().join("relative")).unwrap();
        symlink(top.path().join("relative"), top.path().join("absolute")).unwrap();
        let base = format!("{}/absolute/base", top.path().display());
        let found = open_dir("base_path", &base, Missing::Refuse).unwrap();
        assert_eq!(found.path, format!("{}/real/base", top.path().display()));
        std::fs::create_dir(top.path().join("deep")).unwrap();
        symlink("../real/./base", top.path().join("deep/up")).unwrap();
        let up = open_dir("base_path", &format!("{}/deep/up", top.path().display()), Missing::Refuse).unwrap();
        assert_eq!(up.path, found.path);
        symlink("real/../real", top.path().join("inside")).unwrap();
        let inside = format!("{}/inside/base", top.path().display());
        assert!(open_dir("base_path", &inside, Missing::Refuse).unwrap_err().to_string().contains("\"..\""));
    }

    #[test]
    #[ignore = "needs root"]
    fn links_of_others_are_not_followed() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("{}/{name}", top.path().display());
        std::fs::create_dir_all(path("real")).unwrap();
        std::fs::create_dir(path("sticky")).unwrap();
        std::fs::create_dir(path("theirs")).unwrap();
        for link in ["sticky/root", "sticky/user", "theirs/link"] {
            symlink(path("real"), path(link)).unwrap();
        }
        chmod(&top.path().join("sticky"), 0o1777);
        std::os::unix::fs::lchown(path("sticky/user"), Some(65534), Some(65534)).unwrap();
        std::os::unix::fs::chown(path("theirs"), Some(65534), Some(65534)).unwrap();
        for open in [|path: &str| open_dir("it", path, Missing::Refuse), |path: &str| open_dir_of_anybody("it", path)] {
            assert_eq!(open(&path("sticky/root")).unwrap().path, path("real"));
            let text = open(&path("sticky/user")).unwrap_err().to_string();
            assert!(text.contains("a symbolic link of uid 65534"), "{text}");
            assert!(open(&path("theirs/link")).is_err());
        }
        // As a mount point it is allowed.
        assert_eq!(open_dir_of_anybody("it", &path("theirs")).unwrap().path, path("theirs"));
        assert_eq!(open_dir_of_anybody("it", &path("sticky")).unwrap().path, path("sticky"));
    }

    #[test]
    fn scripts_must_be_plain_executable_and_ours() {
        let top = tempfile::tempdir().unwrap();
        let script = top.path().join("s");
        let path = script.to_str().unwrap();
        assert_eq!(check_script("init_script", path).unwrap_err().errno(), Some(Errno::NOENT));
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        chmod(&script, 0o644);
        assert!(check_script("init_script", path).unwrap_err().to_string().contains("not executable"));
        chmod(&script, 0o775);
        // Also if the group is root's: an access control list can grant anyone what the group bits allow.
        assert!(check_script("init_script", path).unwrap_err().to_string().contains("its group can write"));
        chmod(&script, 0o702);
        assert!(check_script("init_script", path).unwrap_err().to_string().contains("every user can write"));
        chmod(&script, 0o700);
        check_script("init_script", path).unwrap();
    }

    #[test]
    #[ignore = "needs root"]
    fn links_of_roots_lead_to_a_script_and_those_of_others_do_not() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("{}/{name}", top.path().display());
        for dir in ["v1", "open", "theirs"] {
            std::fs::create_dir(path(dir)).unwrap();
        }
        std::fs::write(path("v1/script"), "#!/bin/sh\n").unwrap();
        chmod(path("v1/script").as_ref(), 0o755);
        symlink("v1", path("current")).unwrap();
        symlink("current/script", path("script")).unwrap();
        symlink(path("script"), path("again")).unwrap();
        for name in ["current/script", "script", "again"] {
            assert_eq!(check_script("init_script", &path(name)).unwrap(), None, "{name}");
        }
        let refused = |name: &str| check_script("init_script", &path(name)).unwrap_err().to_string();
        // The link belongs to a user, is where a user can replace it, or leads to where a user can replace the script.
        symlink("v1/script", path("user")).unwrap();
        std::os::unix::fs::lchown(path("user"), Some(65534), Some(65534)).unwrap();
        assert!(refused("user").contains("symbolic link of uid 65534"), "{}", refused("user"));
        symlink(path("script"), path("open/link")).unwrap();
        for mode in [0o777, 0o1777, 0o775] {
            chmod(path("open").as_ref(), mode);
            assert!(refused("open/link").contains("can write to it"), "{mode:o}: {}", refused("open/link"));
        }
        std::fs::copy(path("v1/script"), path("theirs/script")).unwrap();
        std::os::unix::fs::chown(path("theirs"), Some(65534), None).unwrap();
        symlink("theirs/script", path("to-theirs")).unwrap();
        assert!(refused("to-theirs").contains("belongs to uid 65534"), "{}", refused("to-theirs"));
        symlink("loop", path("loop")).unwrap();
        assert!(refused("loop").contains("too many symbolic links"));
        symlink("nowhere", path("dangling")).unwrap();
        assert_eq!(check_script("init_script", &path("dangling")).unwrap_err().errno(), Some(Errno::NOENT));
    }

    #[test]
    #[ignore = "needs root"]
    fn what_slurm_user_owns_counts_as_roots_and_is_told() {
        // No other test has files of this uid.
        const SLURM: u32 = 64_030;
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("{}/{name}", top.path().display());
        std::fs::create_dir_all(path("etc/base")).unwrap();
        std::fs::write(path("etc/script"), "#!/bin/sh\n").unwrap();
        chmod(path("etc/script").as_ref(), 0o755);
        symlink("etc/script", path("link")).unwrap();
        std::os::unix::fs::lchown(path("link"), Some(SLURM), Some(SLURM)).unwrap();
        for name in ["etc", "etc/base", "etc/script"] {
            std::os::unix::fs::chown(path(name), Some(SLURM), Some(SLURM)).unwrap();
        }
        assert!(open_dir("base_path", &path("etc/base"), Missing::Refuse).is_err());
        for name in ["link", "etc/script"] {
            assert!(check_script("init_script", &path(name)).is_err());
        }
        trust_slurm_user(SLURM);
        let base = open_dir("base_path", &path("etc/base"), Missing::Refuse).unwrap();
        assert_eq!(base.of_slurm_user, Some(path("etc")));
        assert_eq!(check_script("init_script", &path("etc/script")).unwrap(), Some(path("etc")));
        assert_eq!(check_script("init_script", &path("link")).unwrap(), Some(path("link")));
        assert!(check_program("jobns-remover", &path("etc/script")).is_err());
        // Other users that can write there are refused as before, and what the plugin makes is root's.
        chmod(path("etc").as_ref(), 0o775);
        assert!(
            open_dir("base_path", &path("etc/base"), Missing::Refuse).unwrap_err().to_string().contains("its group")
        );
        assert!(!is_trusted_owner(SLURM));
        trust_slurm_user(0);
    }
}

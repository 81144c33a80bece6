//! The directory for the files of `jobns run` without a configuration.
//!
//! Root uses /var/lib/jobns. An ordinary user uses /tmp/jobns-UID, because /tmp is on this machine and has space. A home
//! directory may be on a server, and `XDG_RUNTIME_DIR` is a small tmpfs. But any user can make that directory first, and
//! then the next directory is used. The order is fixed, so a later run finds what a killed run has left.

use crate::base::base_dir::open_base;
use crate::base::error::{Doing, Error, Words};
use crate::base::log::{Level, Log};
use crate::cli::TerminalHost;
use crate::config::settings::Settings;
use crate::job::remove::dead_jobs;
use crate::node::finding::Findings;
use crate::node::paths;
use crate::node::paths::Manner;
use crate::sys::exec::Inherited;
use rustix::fd::OwnedFd;
use rustix::fs::{Access, AtFlags, CWD, FileType, FlockOperation, Mode};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::hash::{BuildHasher as _, Hasher as _};
use std::os::unix::ffi::OsStrExt as _;

const ROOT_BASE: &str = "/var/lib/jobns";

/// The user who runs `jobns run`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Root only inside a user namespace, such as that of `unshare -r`, without the right to mount.
    pub(super) is_contained: bool,
    /// False if that user namespace does not map root: directories of root then cannot be told from those of others.
    knows_root: bool,
    /// The user id outside that user namespace; otherwise `uid`.
    outer: u32,
}

impl Caller {
    pub(super) fn current() -> Self {
        let uid = rustix::process::getuid().as_raw();
        let knows_root = uid != 0 || rustix::fs::stat("/").is_ok_and(|stat| stat.st_uid == 0);
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let is_contained = uid == 0 && (!knows_root || open_tree(CWD, "/", flags).err() == Some(Errno::PERM));
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let outer = if is_contained { outer_id(&map).unwrap_or(uid) } else { uid };
        Self { uid, gid: rustix::process::getgid().as_raw(), is_contained, knows_root, outer }
    }

    /// Whether the caller can make namespaces without a user namespace.
    pub(super) fn is_root(&self) -> bool {
        self.uid == 0 && !self.is_contained
    }
}

/// The user id outside that `/proc/self/uid_map` maps to 0.
fn outer_id(map: &str) -> Option<u32> {
    map.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["0", outer, _] => outer.parse().ok(),
        _ => None,
    })
}

/// The directories that a caller can use, the preferred one first.
fn places(caller: &Caller, variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<String> {
    let below = |name: &str, more: &str| {
        let directory = variable(name)?.into_string().ok()?;
        let directory = directory.trim_end_matches('/');
        (directory.starts_with('/') && !directory.contains('%')).then(|| format!("{directory}{more}/jobns"))
    };
    let in_tmp = format!("/tmp/jobns-{}", caller.outer);
    if caller.is_root() {
        return vec![ROOT_BASE.to_owned(), in_tmp];
    }
    let cache = below("XDG_CACHE_HOME", "").or_else(|| below("HOME", "/.cache"));
    [Some(in_tmp), cache, below("XDG_RUNTIME_DIR", "")].into_iter().flatten().collect()
}

/// Checks that a directory, if it exists, belongs to the caller. The error is the reason.
fn check_owner(path: &str, caller: &Caller) -> Result<(), String> {
    let stat = match rustix::fs::lstat(path) {
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(format!("{path}: {}", Words(errno))),
        Ok(stat) => stat,
    };
    if stat.st_uid != caller.uid {
        return Err(format!("{path} belongs to another user (uid {})", stat.st_uid));
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(format!("{path} is not a directory"));
    }
    rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::empty())
        .map_err(|errno| format!("{path} cannot be written to: {}", Words(errno)))
}

/// A base path with a lock that every run shares until it ends. A run that has the lock alone can clean up, because no
/// other run is making or removing files there.
#[derive(Debug)]
pub(super) struct Base {
    lock: OwnedFd,
    is_alone: bool,
    path: String,
    /// Other directories in which an earlier run may have left files.
    others: Vec<String>,
}

/// Removes the files that killed runs have left under a base path.
type Clean<'a> = dyn Fn(&String) -> Result<(), String> + 'a;

impl Base {
    /// Takes the first directory that can be used, and makes it the base path of `settings`.
    pub(super) fn take(host: &TerminalHost, caller: &Caller, settings: &mut Settings) -> Result<Self, String> {
        let mut refused = Vec::new();
        let mut places = places(caller, &|name| std::env::var_os(name));
        if !caller.is_root() {
            places.extend(with_random_names(caller));
        }
        for place in &places {
            place.clone_into(&mut settings.base_path);
            match check_owner(place, caller).and_then(|()| lock(host, caller, settings)) {
                Ok(lock) => return Ok(Self::taken(lock, caller, settings, &places)),
                Err(why) => {
                    host.log(Level::Info, format_args!("{why}; trying another directory"));
                    refused.push(why);
                }
            }
        }
        // Nobody else can have made this directory first.
        if !caller.is_root() {
            let made = make_random(caller.outer).and_then(|path| {
                settings.base_path = path;
                lock(host, caller, settings)
            });
            match made {
                Ok(lock) => return Ok(Self::taken(lock, caller, settings, &places)),
                Err(why) => refused.push(why),
            }
        }
        Err(format!("no directory can be used for the files of the job:\n{}", refused.join("\n")))
    }

    fn taken((lock, is_alone): (OwnedFd, bool), caller: &Caller, settings: &Settings, places: &[String]) -> Self {
        let path = settings.base_path.clone();
        let may_have_files = |place: &&String| {
            **place != path && rustix::fs::lstat(place.as_str()).is_ok() && check_owner(place, caller).is_ok()
        };
        let others = places.iter().filter(may_have_files).cloned().collect();
        Self { lock, is_alone, path, others }
    }

    /// Removes the files that killed runs have left. If other runs are active, the last of them does this.
    pub(super) fn clean(&self, clean: &Clean<'_>) -> Result<(), String> {
        for path in &self.others {
            if let Ok(lock) = open_base(path)
                && is_alone(&lock)
            {
                clean(path)?;
                let _ = dead_jobs::remove_if_empty(path);
            }
        }
        if self.is_alone { clean(&self.path) } else { Ok(()) }
    }

    /// The lock for a child, which inherits it.
    pub(super) fn inherited(&self) -> Inherited {
        Inherited::new(&self.lock)
    }

    /// Lets other runs use the directory. flock(2) releases the lock for a moment. The directory contains a job now, so
    /// nobody removes it in that moment.
    pub(super) fn share(&self) {
        let _ = rustix::fs::flock(&self.lock, FlockOperation::LockShared);
    }

    /// Removes the directory if no other run uses it.
    pub(super) fn give_up(self, clean: &Clean<'_>) {
        if is_alone(&self.lock) && matches!(dead_jobs::remove_if_empty(&self.path), Ok(false)) && !self.is_alone {
            let _ = clean(&self.path);
            let _ = dead_jobs::remove_if_empty(&self.path);
        }
    }
}

fn is_alone(lock: &OwnedFd) -> bool {
    rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Makes the base path and locks it, exclusively if possible and otherwise shared, so that no other run removes it.
///
/// Another run can remove the directory before it is locked. It is then made again.
fn lock(host: &TerminalHost, caller: &Caller, settings: &mut Settings) -> Result<(OwnedFd, bool), String> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut found = Findings::default();
        if caller.knows_root {
            paths::follow(settings, &Manner::START, &mut found);
        } else {
            // The owner of the directories above is not known.
            match rustix::fs::mkdir(settings.base_path.as_str(), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => {
                    found.fatal("base_path", Error::call(format!("make {}", settings.base_path), "mkdir", errno));
                }
            }
        }
        found.log(host, ToString::to_string).map_err(|errors| errors.join("\n"))?;
        let lock = || -> Result<(OwnedFd, bool), Error> {
            let intention = || format!("lock {}", settings.base_path);
            let base = open_base(&settings.base_path)?;
            let is_alone = is_alone(&base);
            if !is_alone {
                rustix::fs::flock(&base, FlockOperation::LockShared).doing("flock", intention)?;
            }
            let there = rustix::fs::stat(settings.base_path.as_str()).doing("stat", intention)?;
            let ours = rustix::fs::fstat(&base).doing("fstat", intention)?;
            let same = (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino);
            if same { Ok((base, is_alone)) } else { Err(Error::call(intention(), "flock", Errno::NOENT)) }
        };
        match lock() {
            Err(error) if error.errno() == Some(Errno::NOENT) && tries < 100 => {}
            result => return result.map_err(|error| error.to_string()),
        }
    }
}

/// The existing directories of [`make_random`].
fn with_random_names(caller: &Caller) -> Vec<String> {
    let begin = format!("jobns-{}.", caller.outer);
    let names = std::fs::read_dir("/tmp").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut found: Vec<String> = names
        .filter(|name| name.as_bytes().starts_with(begin.as_bytes()))
        .filter_map(|name| Some(format!("/tmp/{}", name.to_str()?)))
        .filter(|path| check_owner(path, caller).is_ok())
        .collect();
    found.sort();
    found
}

/// Makes a directory with an unused name, as mkdtemp(3) does.
fn make_random(uid: u32) -> Result<String, String> {
    let mut last = Errno::EXIST;
    for _ in 0..100 {
        let random = RandomState::new().build_hasher().finish().to_ne_bytes();
        let letters: String = random.iter().take(6).map(|byte| char::from(b'a' + byte % 26)).collect();
        let path = format!("/tmp/jobns-{uid}.{letters}");
        match rustix::fs::mkdir(path.as_str(), Mode::RWXU) {
            Ok(()) => return Ok(path),
            Err(errno) => last = errno,
        }
    }
    Err(Error::call("make a directory in /tmp", "mkdir", last).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_a_fixed_order_and_depend_on_the_environment() {
        let caller = |uid, is_contained| Caller {
            uid,
            gid: 0,
            is_contained,
            knows_root: true,
            outer: if uid == 0 { 7 } else { uid },
        };
        let full = |name: &str| {
            let found = match name {
                "XDG_CACHE_HOME" => "/c/",
                "XDG_RUNTIME_DIR" => "/run/user/5",
                "HOME" => "/home/a",
                _ => return None,
            };
            Some(OsString::from(found))
        };
        assert_eq!(places(&caller(5, false), &full), ["/tmp/jobns-5", "/c/jobns", "/run/user/5/jobns"]);
        let home = |name: &str| (name == "HOME").then(|| "/home/a".into());
        assert_eq!(places(&caller(5, false), &home), ["/tmp/jobns-5", "/home/a/.cache/jobns"]);
        assert_eq!(places(&caller(0, true), &home), ["/tmp/jobns-7", "/home/a/.cache/jobns"]);
        assert_eq!(places(&caller(0, false), &home), [ROOT_BASE, "/tmp/jobns-7"]);
        let odd = |name: &str| (name == "HOME").then(|| "a/%b".into());
        assert_eq!(places(&caller(5, false), &odd), ["/tmp/jobns-5"]);
    }

    #[test]
    fn the_outer_id_is_that_of_zero() {
        assert_eq!(outer_id("         0       1002          1\n"), Some(1002));
        assert_eq!(outer_id("1000 0 1\n0 1 999\n"), Some(1));
        assert_eq!(outer_id(""), None);
    }
}

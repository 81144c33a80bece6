//! The promises of [`Settings`], checked as a whole, wherever the settings come from.

use std::collections::BTreeSet;

use crate::config::limits::{MAX_BASE_PATH, MAX_DIRS, MAX_TMPFS_PARAMS};
use crate::config::mount_options::is_valid_param;
use crate::config::path::{depth, is_at_or_below, normalise};
use crate::config::pattern::{JobNames, check_job_pattern, expand_job};
use crate::config::problem::quote;
use crate::config::settings::{Backing, DEV_SHM, Dir, Script, Settings};
use crate::config::{proc, short, wire};

/// How a private directory and a base path get in each other's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    /// They are the same directory.
    Same,
    /// The private directory lies in the base path: it would cover job directories.
    DirBelowBase,
    /// The base path lies in the private directory: it works, as sources are opened before the
    /// directory is covered, but the job cannot see the place.
    BaseBelowDir,
}

/// Both paths normalised and expanded as far as they can be.
#[must_use]
pub fn clash(dir: &str, base: &str) -> Option<Clash> {
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

/// Why a path cannot be a private directory, wherever it comes from.
#[must_use]
pub fn not_private(path: &str) -> Option<&'static str> {
    ["/proc", "/sys"].into_iter().find(|top| is_at_or_below(path, top))
}

/// The directory around a base path that everybody can write to, and that systemd-tmpfiles(8) empties by default,
/// also of the files of live jobs.
#[must_use]
pub fn is_cleaned(base: &str) -> Option<&'static str> {
    ["/tmp", "/var/tmp"].into_iter().find(|top| base != *top && is_at_or_below(base, top))
}

/// What is wrong with it.
pub const CLEANED: &str =
    "where old files are removed, and where any user can make it first, which keeps slurmd from starting";

/// What to do about it.
pub const CLEANED_HINT: &str =
    "use a place such as /var/spool/jobns, or have nothing clean it (\"x\" in tmpfiles.d(5))";

/// Why two base paths cannot be used together: the job directories of the one would be among those
/// of the other, or in the place of one.
#[must_use]
pub fn bases_clash(main: &str, other: &str) -> bool {
    let below = |path: &str, top: &str| {
        path.strip_prefix(top)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.split('/').next())
            .is_some_and(|name| name.starts_with('.') || name.bytes().all(|b| b.is_ascii_digit()))
    };
    below(main, other) || below(other, main)
}

/// Parents before what is nested in them; otherwise in the order of the file.
pub fn sort_dirs(dirs: &mut [Dir]) {
    short::sort_by_key(dirs, |dir| depth(&dir.path));
}

/// Do the settings hold all that [`Settings`] promises?
///
/// # Errors
/// A sentence about the first thing that does not hold.
pub fn settings(settings: &Settings) -> Result<(), String> {
    is_normal("base_path", &settings.base_path)?;
    if settings.base_path.len() > MAX_BASE_PATH {
        return Err(format!("base_path has more than {MAX_BASE_PATH} bytes"));
    }
    for (name, script) in [
        ("init_script", &settings.init_script),
        ("user_ns_script", &settings.user_ns_script),
        ("clone_ns_script", &settings.clone_ns_script),
        ("clone_ns_epilog", &settings.clone_ns_epilog),
    ] {
        if let Some(Script { path, wait_seconds }) = script {
            is_normal(name, path)?;
            if *wait_seconds == 0 {
                return Err(format!("{name} has no time to run"));
            }
        }
    }
    if !(1..=100).contains(&settings.user_ns_limits) {
        return Err(format!("user_ns_limits is {}, not a percentage from 1 to 100", settings.user_ns_limits));
    }
    proc::check(settings.hide_pid, &settings.proc_keep, settings.namespaces.pid)?;
    for dir in &settings.dirs {
        one_dir(dir, settings)?;
    }
    all_dirs(&settings.dirs, settings)?;
    wire::fits(settings)
}

/// The private directories of one job: `%j`, `%S` and `%u` are filled in, and what they came to is
/// checked against each other and against the base paths once more.
///
/// # Errors
/// A sentence that names the directory.
pub fn dirs_for_job(settings: &Settings, job: &JobNames<'_>) -> Result<Vec<Dir>, String> {
    let mut dirs = settings.dirs.clone();
    for dir in &mut dirs {
        let path = expand_job(&dir.path, job).map_err(|error| format!("the directory {} {error}", quote(&dir.path)))?;
        dir.path = path;
        // A name that turned out to be /dev/shm gets what /dev/shm always gets.
        if dir.path == DEV_SHM && !matches!(dir.backing, Backing::Tmpfs(_)) {
            dir.backing = Backing::Tmpfs(Vec::new());
            dir.flags.nosuid = true;
            dir.flags.nodev = true;
        }
        if let Some(top) = not_private(&dir.path) {
            return Err(format!("the directory {} lies in {top}", quote(&dir.path)));
        }
    }
    sort_dirs(&mut dirs);
    all_dirs(&dirs, settings)?;
    Ok(dirs)
}

fn one_dir(dir: &Dir, settings: &Settings) -> Result<(), String> {
    let name = quote(&dir.path);
    match check_job_pattern(&dir.path) {
        Ok(normal) if normal == dir.path => {}
        Ok(_) => return Err(format!("the directory {name} is not normalised")),
        Err(error) => return Err(format!("the directory {name} {error}")),
    }
    if let Some(top) = not_private(&dir.path) {
        return Err(format!("the directory {name} lies in {top}"));
    }
    if dir.mode.is_some_and(|mode| mode > 0o7777) {
        return Err(format!("the mode of the directory {name} has bits that no mode has"));
    }
    match &dir.backing {
        Backing::BasePath | Backing::OtherBase(_) | Backing::SameAs(_) if dir.path == DEV_SHM => {
            Err(format!("{DEV_SHM} is not a tmpfs"))
        }
        Backing::BasePath => Ok(()),
        Backing::SameAs(other) => is_normal("the private directory that is another", other),
        Backing::OtherBase(base) => {
            is_normal("the base_path of a directory", base)?;
            if base.len() > MAX_BASE_PATH {
                return Err(format!("the base_path of the directory {name} has more than {MAX_BASE_PATH} bytes"));
            }
            if *base == settings.base_path || bases_clash(&settings.base_path, base) {
                return Err(format!("the base_path of the directory {name} and the main one are one another's"));
            }
            Ok(())
        }
        Backing::Tmpfs(params) => {
            if !(dir.flags.nosuid && dir.flags.nodev) {
                return Err(format!("the tmpfs {name} lacks nosuid or nodev"));
            }
            if params.len() > MAX_TMPFS_PARAMS || !params.iter().all(is_valid_param) {
                return Err(format!("the tmpfs {name} has a parameter that nobody knows"));
            }
            let keys = || params.iter().map(|param| param.key.as_str());
            if !short::are_distinct(keys()) {
                return Err(format!("the tmpfs {name} has a parameter twice"));
            }
            if dir.mode.is_some() && keys().any(|key| key == "mode") {
                return Err(format!("the tmpfs {name} has two modes"));
            }
            Ok(())
        }
    }
}

/// What the directories must be to each other and to the base paths.
fn all_dirs(dirs: &[Dir], settings: &Settings) -> Result<(), String> {
    if dirs.len() > MAX_DIRS {
        return Err(format!("there are more than {MAX_DIRS} private directories"));
    }
    let mut seen = BTreeSet::new();
    for dir in dirs {
        if let Backing::SameAs(other) = &dir.backing
            && !seen.contains(other.as_str())
        {
            return Err(format!(
                "the directory {} is {}, which does not come before it",
                quote(&dir.path),
                quote(other)
            ));
        }
        if !seen.insert(dir.path.as_str()) {
            return Err(format!("the directory {} is there twice", quote(&dir.path)));
        }
    }
    if !dirs.is_sorted_by_key(|dir| depth(&dir.path)) {
        return Err("a private directory comes before the one it is nested in".to_owned());
    }
    let others = dirs.iter().filter_map(|dir| match &dir.backing {
        Backing::OtherBase(base) => Some(base.as_str()),
        _ => None,
    });
    let mut bases = BTreeSet::new();
    bases.extend(others.chain([settings.base_path.as_str()]));
    for dir in dirs {
        for base in &bases {
            if let Some(Clash::Same | Clash::DirBelowBase) = clash(&dir.path, base) {
                return Err(format!("the directory {} lies in the base path {}", quote(&dir.path), quote(base)));
            }
        }
    }
    Ok(())
}

fn is_normal(name: &str, path: &str) -> Result<(), String> {
    match normalise(path) {
        Ok(normal) if normal == path => Ok(()),
        Ok(_) => Err(format!("{name} {} is not normalised", quote(path))),
        Err(error) => Err(format!("{name} {} {error}", quote(path))),
    }
}

//! Checks the promises of [`Settings`] as a whole, no matter where the settings come from.

use std::collections::BTreeSet;

use crate::config::keys;
use crate::config::limits::{MAX_BASE_PATH, MAX_DIRS, MAX_KEEP, MAX_PROC_KEEP, MAX_TMPFS_PARAMS};
use crate::config::mount_options::{INODES, SIZES, is_valid_param};
use crate::config::path::{Clash, bases_clash, clash, depth, is_at_or_below, kept_in_proc, normalise, not_private};
use crate::config::pattern::{JobNames, check_job_pattern, expand_job, names_user};
use crate::config::problem::{Refusal, quote, refuse};
use crate::config::settings::{Backing, DEV_SHM, Dir, HidePid, KeepPath, Script, Settings, other_bases};
use crate::config::short_list;

/// Puts each parent before what is nested in it, and otherwise keeps the order of the file.
pub(crate) fn sort_dirs(dirs: &mut [Dir]) {
    short_list::sort_by_key(dirs, |dir| depth(&dir.path));
}

/// Checks every promise of [`Settings`].
///
/// # Errors
/// A sentence about the first promise that is broken.
pub(crate) fn settings(settings: &Settings) -> Result<(), String> {
    base("base_path", &settings.base_path)?;
    for (name, Script { path, wait_seconds }) in keys::scripts(settings) {
        unchanged(name, path, normalise)?;
        ensure(*wait_seconds > 0, || format!("{name} has a time limit of 0"))?;
    }
    let limits = settings.user_ns_limits;
    ensure((1..=100).contains(&limits), || format!("user_ns_limits is {limits}, not a percentage from 1 to 100"))?;
    proc(settings)?;
    for dir in &settings.dirs {
        one_dir(dir, settings)?;
        let is_like = |other: &Dir| {
            let has = |dir: &Dir| (dir.size.is_some(), dir.inodes.is_some());
            matches!(dir.backing, Backing::Tmpfs(_)) || dir.backing != other.backing || has(dir) == has(other)
        };
        let is_so = settings.dirs.iter().all(is_like);
        ensure(is_so, || {
            format!("the directory {} has a size, and another in the same base has none", quote(&dir.path))
        })?;
    }
    all_dirs(&settings.dirs, settings)?;
    for kept in &settings.keep {
        unchanged("the path in keep", &kept.path, check_job_pattern)?;
    }
    all_kept(settings)
}

fn ensure(is_true: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if is_true { Ok(()) } else { Err(otherwise()) }
}

/// `normalise` must accept the path and return it unchanged.
fn unchanged(name: &str, path: &str, normalise: impl Fn(&str) -> Result<String, Refusal>) -> Result<(), String> {
    let normal = normalise(path).map_err(|refusal| format!("{name} {} {refusal}", quote(path)))?;
    ensure(normal == path, || format!("{name} {} is not normalised", quote(path)))
}

fn base(name: &str, path: &str) -> Result<(), String> {
    unchanged(name, path, normalise)?;
    ensure(path.len() <= MAX_BASE_PATH, || format!("{name} has more than {MAX_BASE_PATH} bytes"))
}

/// `proc_options` and `proc_keep`.
fn proc(settings: &Settings) -> Result<(), String> {
    let keep = &settings.proc_keep;
    let can_hide = settings.namespaces.pid || settings.hide_pid == HidePid::Off;
    ensure(can_hide, || "hidepid is set without CLONE_NEWPID".to_owned())?;
    ensure(keep.len() <= MAX_PROC_KEEP, || format!("proc_keep has more than {MAX_PROC_KEEP} paths"))?;
    for path in keep {
        unchanged("the path in proc_keep", path, kept_in_proc)?;
    }
    let is_sorted = keep.is_sorted_by_key(|path| depth(path));
    ensure(is_sorted, || "a path in proc_keep comes before its parent".to_owned())?;
    let is_distinct = short_list::are_distinct(keep.iter().map(String::as_str));
    ensure(is_distinct, || "a path appears twice in proc_keep".to_owned())
}

fn all_kept(settings: &Settings) -> Result<(), String> {
    ensure(settings.keep.len() <= MAX_KEEP, || format!("keep has more than {MAX_KEEP} paths"))?;
    for (index, kept) in settings.keep.iter().enumerate() {
        keep(kept, settings.keep.get(..index), settings)
            .map_err(|refusal| format!("the path {} in keep {refusal}", quote(&kept.path)))?;
    }
    Ok(())
}

/// What a path of `keep` must be to the private directories, the base paths and the paths of `keep` before it.
///
/// # Errors
/// What follows the path in a sentence.
pub(super) fn keep(kept: &KeepPath, before: Option<&[KeepPath]>, settings: &Settings) -> Result<(), Refusal> {
    let path = kept.path.as_str();
    let relation = |other: &str| match clash(path, other)? {
        Clash::Same => Some("is"),
        Clash::DirBelowBase => Some("is in"),
        Clash::BaseBelowDir => Some("contains"),
    };
    let hint = "remove it from keep";
    for dir in &settings.dirs {
        if let Some(relation @ ("is" | "contains")) = relation(&dir.path) {
            return refuse(format!("{relation} the private directory {}", quote(&dir.path)), hint);
        }
    }
    // Where a directory with a pattern is, the job says.
    if !settings.dirs.iter().any(|dir| dir.path.contains('%') || relation(&dir.path).is_some()) {
        return refuse("is not in a private directory: jobs see what the node has there", hint);
    }
    for base in std::iter::once(settings.base_path.as_str()).chain(other_bases(&settings.dirs)) {
        if let Some(relation) = relation(base) {
            return refuse(format!("{relation} the base path {}, which has the files of all jobs", quote(base)), hint);
        }
    }
    for other in before.unwrap_or_default() {
        if let Some(relation) = relation(&other.path) {
            return refuse(format!("{relation} {}, which is also in keep", quote(&other.path)), hint);
        }
    }
    Ok(())
}

/// The paths of `keep` of one job, as [`dirs_for_job`], each with whether it may belong to the job's user: its pattern
/// names the user. `dirs` are those of the job.
///
/// # Errors
/// A sentence that names the path.
pub fn keep_for_job(settings: &Settings, dirs: &[Dir], job: &JobNames<'_>) -> Result<Vec<(KeepPath, bool)>, String> {
    let mut are_users = Vec::new();
    let mut of_job = Settings { dirs: dirs.to_vec(), ..Settings::new(settings.base_path.clone()) };
    for kept in &settings.keep {
        let path =
            expand_job(&kept.path, job).map_err(|error| format!("the path {} in keep {error}", quote(&kept.path)))?;
        // Elsewhere the job sees what the node has.
        if dirs.iter().any(|dir| is_at_or_below(&path, &dir.path)) {
            of_job.keep.push(KeepPath { path, ..kept.clone() });
            are_users.push(names_user(&kept.path));
        }
    }
    all_kept(&of_job)?;
    Ok(of_job.keep.into_iter().zip(are_users).collect())
}

/// The private directories of one job. Fills in its values, and checks the resulting paths once more, against each other
/// and against the base paths.
///
/// # Errors
/// A sentence that names the directory.
pub fn dirs_for_job(settings: &Settings, job: &JobNames<'_>) -> Result<Vec<Dir>, String> {
    let mut dirs = settings.dirs.clone();
    for dir in &mut dirs {
        let path = expand_job(&dir.path, job).map_err(|error| format!("the directory {} {error}", quote(&dir.path)))?;
        dir.path = path;
        // A path that became /dev/shm gets a tmpfs, as /dev/shm always does.
        if dir.path == DEV_SHM && !matches!(dir.backing, Backing::Tmpfs(_)) {
            dir.make_tmpfs(Vec::new());
        }
        is_allowed(dir)?;
    }
    sort_dirs(&mut dirs);
    all_dirs(&dirs, settings)?;
    Ok(dirs)
}

fn is_allowed(dir: &Dir) -> Result<(), String> {
    let top = not_private(&dir.path);
    ensure(top.is_none(), || format!("the directory {} is in {}", quote(&dir.path), top.unwrap_or_default()))
}

fn one_dir(dir: &Dir, settings: &Settings) -> Result<(), String> {
    let name = quote(&dir.path);
    unchanged("the directory", &dir.path, check_job_pattern)?;
    is_allowed(dir)?;
    ensure(!dir.is_cover || *dir == Dir::cover(dir.path.clone()), || {
        format!("the directory {name} hides another, and has options of its own")
    })?;
    let is_mode = dir.mode.is_none_or(|mode| mode <= 0o7777);
    ensure(is_mode, || format!("the mode of the directory {name} is more than 7777"))?;
    let has_ids = settings.project_ids.is_some() || !dir.is_limited() || matches!(dir.backing, Backing::Tmpfs(_));
    ensure(has_ids, || format!("the directory {name} has a size, and there are no project_ids"))?;
    match &dir.backing {
        Backing::BasePath | Backing::OtherBase(_) | Backing::SameAs(_) if dir.path == DEV_SHM => {
            Err(format!("{DEV_SHM} is not a tmpfs"))
        }
        Backing::BasePath => Ok(()),
        Backing::SameAs(other) => unchanged("the target of a private directory", other, normalise),
        Backing::OtherBase(other) => {
            base("the base_path of a directory", other)?;
            let is_apart = *other != settings.base_path && !bases_clash(&settings.base_path, other);
            ensure(is_apart, || format!("the base_path of the directory {name} conflicts with that of the node"))
        }
        Backing::Tmpfs(params) => {
            let has_flags = dir.flags.nosuid && dir.flags.nodev;
            ensure(has_flags, || format!("the tmpfs {name} lacks nosuid or nodev"))?;
            let is_known = params.len() <= MAX_TMPFS_PARAMS && params.iter().all(is_valid_param);
            ensure(is_known, || format!("the tmpfs {name} has an invalid parameter"))?;
            let keys = || params.iter().map(|param| param.key.as_str());
            ensure(short_list::are_distinct(keys()), || format!("the tmpfs {name} has the same parameter twice"))?;
            let is_once = |is_set: bool, params: &[&str]| !is_set || keys().all(|key| !params.contains(&key));
            ensure(is_once(dir.mode.is_some(), &["mode"]), || format!("the tmpfs {name} has two modes"))?;
            ensure(is_once(!dir.owned_by_root, &["uid"]), || format!("the tmpfs {name} has two owners"))?;
            let has_one = is_once(dir.size.is_some(), SIZES);
            ensure(has_one, || format!("the tmpfs {name} has two sizes"))?;
            let has_one = is_once(dir.inodes.is_some(), INODES);
            ensure(has_one, || format!("the tmpfs {name} has two numbers of inodes"))
        }
    }
}

/// Checks the directories against each other and against the base paths.
fn all_dirs(dirs: &[Dir], settings: &Settings) -> Result<(), String> {
    ensure(dirs.len() <= MAX_DIRS, || format!("there are more than {MAX_DIRS} private directories"))?;
    let mut seen = BTreeSet::new();
    for dir in dirs {
        let name = quote(&dir.path);
        if let Backing::SameAs(other) = &dir.backing {
            let is_seen = seen.contains(other.as_str());
            ensure(is_seen, || {
                format!("the directory {name} is the same as {}, which does not come before it", quote(other))
            })?;
        }
        ensure(seen.insert(dir.path.as_str()), || format!("the directory {name} appears twice"))?;
    }
    let is_sorted = dirs.is_sorted_by_key(|dir| depth(&dir.path));
    ensure(is_sorted, || "a private directory comes before its parent".to_owned())?;
    let mut bases = BTreeSet::new();
    bases.extend(other_bases(dirs).chain([settings.base_path.as_str()]));
    for dir in dirs {
        for base in &bases {
            let is_inside = matches!(clash(&dir.path, base), Some(Clash::Same | Clash::DirBelowBase));
            ensure(!is_inside, || format!("the directory {} is in the base path {}", quote(&dir.path), quote(base)))?;
        }
    }
    Ok(())
}

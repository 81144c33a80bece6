//! Examines the paths in the settings on this node: base paths, private directories, scripts.

use crate::base::base_dir::{open_base, try_to_write};
use crate::base::errno_hints;
use crate::base::error::Error;
use crate::base::listing::{job_id, visit};
use crate::base::trusted_path;
use crate::base::trusted_path::{Missing, TrustedDir, check_script};
use crate::config::settings::{Backing, Settings};
use crate::config::spelling::key;
use crate::config::{check, keys, wire};
use crate::job::record::state::MAX_SIZE;
use crate::job::remove::dead_jobs;
use crate::node::finding::{About, Findings};
use crate::node::{quotas, targets};
use rustix::fd::AsFd;
use rustix::fs::Access;
use rustix::io::Errno;

/// How an examination is made.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Make missing base paths, if the settings say so. Otherwise only check whether they could be made.
    pub makes_bases: bool,
    /// Run as root. Only root can try out what jobs get.
    pub as_root: bool,
    /// Called with the name of what is examined next, which may take forever.
    pub looking_at: fn(&str),
}

impl Manner {
    /// For the start of slurmd, and for `jobns run`.
    pub const START: Self = Self { makes_bases: true, as_root: true, looking_at: |_| {} };
}

/// Makes the base directories, follows root's links in the paths, and checks the scripts.
pub fn follow(settings: &mut Settings, manner: &Manner, found: &mut Findings) {
    let mut of_slurm_user = Vec::new();
    let may_make = settings.auto_base_path;
    let others = settings.dirs.iter_mut().filter_map(|dir| match &mut dir.backing {
        Backing::OtherBase(base) => Some(("dirs", "base_path of dir_confs", base)),
        Backing::BasePath | Backing::SameAs(_) | Backing::Tmpfs(_) => None,
    });
    for (about, what, base) in [("base_path", key("base_path"), &mut settings.base_path)].into_iter().chain(others) {
        (manner.looking_at)(base);
        match open_or_make(what, base, may_make, manner) {
            Ok(Some(dir)) => {
                *base = dir.path;
                of_slurm_user.extend(dir.of_slurm_user);
            }
            Ok(None) => {
                found.note(About::Node, format!("{what} {base} does not exist; slurmd makes it when it starts"));
            }
            Err(error) => found.fatal(about, error),
        }
    }
    targets::resolve_all(&mut settings.dirs, manner.looking_at, found);
    for (name, script) in keys::scripts(settings) {
        (manner.looking_at)(&script.path);
        match check_script(key(name), &script.path) {
            Ok(component) => of_slurm_user.extend(component),
            // It may be on a file system that is mounted later. Until then jobs fail with an error.
            Err(error) if error.errno() == Some(Errno::NOENT) && settings.scripts_may_be_missing => {
                found.error(name, format!("{error}; every job on this node fails until it exists"));
            }
            Err(error) if error.errno() == Some(Errno::NOENT) => found.fatal(
                name,
                error.with_hint("install it; if its file system is mounted later, set scripts_may_be_missing: true (ScriptsMayBeMissing=true in job_container.conf)"),
            ),
            Err(error) => found.fatal(name, error),
        }
    }
    warn_of_slurm_user(of_slurm_user, found);
    // Without links, two bases may be the same directory, or a base may be a private directory.
    if !found.has_fatal()
        && let Err(why) = check::settings(settings).and_then(|()| wire::fits(settings))
    {
        found.fatal("base_path", Error::because("use the paths without their symbolic links", why));
    }
}

/// Opens the base path, and may make it. None: slurmd will make it. The directories above a missing one must be safe
/// now.
fn open_or_make(what: &str, base: &str, may_make: bool, manner: &Manner) -> Result<Option<TrustedDir>, Error> {
    let missing = if may_make && manner.makes_bases { Missing::Make } else { Missing::Refuse };
    match trusted_path::open_dir(what, base, missing) {
        Err(error) if error.errno() == Some(Errno::NOENT) && may_make && !manner.makes_bases => {
            let parent = nearest_existing(base);
            // The root directory is always safe.
            let is_safe = parent == "/" || trusted_path::open_dir(what, parent, Missing::Refuse).is_ok();
            if is_safe { Ok(None) } else { Err(error) }
        }
        result => result.map(Some),
    }
}

/// The path, or the nearest directory above it that exists.
pub(super) fn nearest_existing(path: &str) -> &str {
    let mut path = path;
    while rustix::fs::stat(path).is_err() {
        match path.rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => path = parent,
            _ => return "/",
        }
    }
    path
}

/// Warns of paths that `SlurmUser` can change. This is not a security boundary: SlurmUser signs credentials and can
/// therefore decide what root does on this node anyway.
fn warn_of_slurm_user(mut paths: Vec<String>, found: &mut Findings) {
    paths.sort_unstable();
    paths.dedup();
    if let Some(uid) = trusted_path::slurm_user().filter(|_| !paths.is_empty()) {
        found.warn(
            About::File,
            format!(
                "{} belongs to SlurmUser (uid {uid}), who can therefore change what root does on this node; hint: chown root",
                paths.join(", ")
            ),
        );
    }
}

/// All base paths, the main one first, each with the key that sets it.
pub(super) fn bases(settings: &Settings) -> Vec<(&'static str, &str)> {
    let mut bases = vec![("base_path", settings.base_path.as_str())];
    for base in dead_jobs::other_bases(settings) {
        if !bases.iter().any(|(_, known)| *known == base) {
            bases.push(("dirs", base));
        }
    }
    bases
}

/// Makes and removes in every base path what each job makes. This must be tried: a file system may be read-only, full,
/// out of inodes, over root's quota or broken. If a base path does not exist yet, its parent must be writable.
///
/// slurmd still starts on a full file system that contains jobs or their remains: their steps need slurmd, and slurmd
/// removes what is left of them.
pub fn write(settings: &Settings, manner: &Manner, found: &mut Findings) {
    for (key, base) in bases(settings) {
        (manner.looking_at)(base);
        let there = nearest_existing(base);
        if there != base {
            if let Err(errno) = rustix::fs::access(there, Access::WRITE_OK) {
                found.fatal(key, Error::call(format!("make {base}"), "access", errno));
            }
        } else if let Err(error) = try_to_write(base, MAX_SIZE) {
            cannot_write(key, base, error, found);
        } else if quotas::limited(settings).contains(&base) {
            quotas::examine(settings, base, found);
        }
    }
}

/// Something failed that each job does in this base path.
pub(super) fn cannot_write(key: &'static str, base: &str, error: Error, found: &mut Findings) {
    if matches!(error.errno(), Some(Errno::NOSPC | Errno::DQUOT)) && has_something_of_jobs(base) {
        found.error(key, format!("{}; new jobs fail until there is space", errno_hints::of_call(error)));
    } else {
        found.fatal(key, error);
    }
}

fn has_something_of_jobs(base: &str) -> bool {
    let has_jobs = || -> Result<bool, Error> {
        let mut found = false;
        visit(open_base(base)?.as_fd(), base, |name| {
            found = job_id(name).is_some();
            !found
        })?;
        Ok(found)
    };
    has_jobs().unwrap_or(false) || dead_jobs::has_trash(base).unwrap_or(false)
}

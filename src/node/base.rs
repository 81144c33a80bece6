//! Can jobs be made under a base path? Only trying tells: a file system may be read-only, full, out of
//! inodes, over root's quota or broken.

use crate::base::base_dir::{open_base, try_to_write};
use crate::base::errno_hints;
use crate::base::error::Error;
use crate::base::listing::{is_job_id, visit};
use crate::base::log::{Level, Log};
use crate::config::settings::{Backing, Settings};
use crate::job::record::state::MAX_SIZE;
use crate::job::remove::dead_jobs;
use rustix::fd::AsFd;
use rustix::io::Errno;

/// Makes and removes what each job makes, in every base path. As [`super::paths`], which comes first.
///
/// A file system that is full is no reason to refuse while it has something of jobs: their steps need
/// slurmd, and slurmd is what removes what is left of them.
pub fn write(host: &dyn Log, settings: &Settings, place: &dyn Fn(&str) -> String) -> Vec<String> {
    bases(settings, place).filter_map(|(key, base)| write_one(host, &key, base)).collect()
}

/// The same in one base path, which `key` says the place of.
pub fn write_one(host: &dyn Log, key: &str, base: &str) -> Option<String> {
    let error = try_to_write(base, MAX_SIZE).err()?;
    let is_full = matches!(error.errno(), Some(Errno::NOSPC | Errno::DQUOT));
    let error = errno_hints::of_call(error);
    if is_full && has_something_of_jobs(base) {
        host.log(Level::Error, format_args!("{key}{error}; new jobs fail until there is space"));
        return None;
    }
    Some(format!("{key}{error}"))
}

/// Each base path, with the place in the file that it comes from.
pub fn bases<'s>(
    settings: &'s Settings,
    place: &dyn Fn(&str) -> String,
) -> impl Iterator<Item = (String, &'s String)> + use<'s> {
    let of_dirs = super::place_of_dirs(place);
    let others = settings.dirs.iter().filter_map(move |dir| match &dir.backing {
        Backing::OtherBase(base) => Some((of_dirs.clone(), base)),
        Backing::BasePath | Backing::SameAs(_) | Backing::Tmpfs(_) => None,
    });
    let mut seen: Vec<&String> = Vec::new();
    [(place("base_path"), &settings.base_path)].into_iter().chain(others).filter(move |(_, base)| {
        let is_new = !seen.contains(base);
        seen.push(base);
        is_new
    })
}

fn has_something_of_jobs(base: &str) -> bool {
    let has_jobs = || -> Result<bool, Error> {
        let mut found = false;
        visit(open_base(base)?.as_fd(), base, |name| {
            found = is_job_id(name);
            !found
        })?;
        Ok(found)
    };
    has_jobs().unwrap_or(false) || dead_jobs::has_trash(base).unwrap_or(false)
}

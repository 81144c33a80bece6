//! `--here`: the checks of slurmd's start on this machine, as far as the caller's rights go, and what can
//! have gone wrong since. Nothing that stays is made: not the base path, and in one that is there a directory
//! for a moment, as when slurmd starts.

use crate::base::errno_hints;
use crate::base::error::Error;
use crate::base::log::{Level, Lines};
use crate::base::trusted_path;
use crate::base::trusted_path::Missing;
use crate::cli::check::bounded::looking_at;
use crate::cli::check::loaded;
use crate::cli::check::show::Checked;
use crate::cli::jobs::trust_slurm_user;
use crate::config::outcome::Origin;
use crate::config::settings::{NodeSettings, Settings};
use crate::config::spelling::key;
use crate::node;
use crate::node::surroundings;
use crate::node::surroundings::Slurm;
use rustix::fs::Access;
use rustix::io::Errno;

/// What was found, in sentences.
#[derive(Debug, Default)]
pub(super) struct Here {
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// Worth knowing, and not wrong.
    pub(super) notes: Vec<String>,
    /// What the caller's rights did not allow.
    pub(super) unchecked: Vec<String>,
}

impl Here {
    /// Looks at the file, at `path` unless it came through a pipe, and at what it asks for.
    pub(super) fn look(checked: &Checked<'_>, path: Option<&str>) -> Self {
        let listener = Lines::default();
        let mut errors = Vec::new();
        if let Some(path) = path
            && let Err(error) = node::read_config(&listener, path)
        {
            errors.push(error.to_string());
        }
        let mut here = Self::default();
        if let Some(NodeSettings::Enabled(settings)) = &checked.parsed.settings {
            let place = |key: &str| match checked.origin(key) {
                Some(Origin::Defaults { line } | Origin::NodeEntry { line }) => format!("{}:{line}: ", checked.file),
                _ => format!("{}: ", checked.file),
            };
            for path in paths_of(settings) {
                looking_at(path);
                let _ = rustix::fs::stat(path);
            }
            let directory = path.map(node::config_directory);
            // A file can be checked before it is where slurmd will read it.
            let is_beside = |directory: &&str| rustix::fs::stat(format!("{directory}/slurm.conf")).is_ok();
            let directory = directory.filter(is_beside).unwrap_or("/etc/slurm");
            trust_slurm_user(&format!("{directory}/slurm.conf"));
            let (settings, made_later) = existing(settings.clone(), &mut here.notes);
            let mut settings = settings;
            let found = node::paths(&listener, &mut settings, &place);
            let text = std::fs::read(format!("{directory}/slurm.conf")).unwrap_or_default();
            let slurm = Slurm::new(&text, directory, None, &checked.node);
            let places: (&dyn Fn(&str) -> String, &str) = (&place, &node::place_of_dirs(&place));
            errors.extend(surroundings::look(&listener, &settings, &slurm, &checked.node, places));
            // What slurmd will make is missing now, which is told in a note and is no error.
            errors.extend(found.into_iter().filter(|line| !made_later.iter().any(|error| line.ends_with(error))));
            let is_root = rustix::process::geteuid().is_root();
            if is_root {
                looking_at("the slurmd that runs");
                let loaded = loaded::look(checked.plugin());
                here.errors.extend(loaded.errors);
                here.warnings.extend(loaded.warnings);
                here.notes.extend(loaded.notes);
                here.notes.extend(surroundings::advice(&settings, &slurm, checked.node.name));
                if errors.is_empty() {
                    errors.extend(write(&listener, &settings, &place));
                }
            }
            if !is_root {
                here.unchecked.push("what the kernel takes, and what belongs to root: only root can tell".to_owned());
            } else if errors.is_empty() {
                looking_at("the kernel");
                let mut settings = settings;
                settings.base_path = nearest_existing(&settings.base_path);
                errors.extend(node::kernel(&listener, &settings, &place));
                if errors.is_empty() {
                    errors = node::trials(&listener, &settings, &place);
                }
                node::tell_of_devices(&listener, &settings, &place);
                node::tell_of_other_procs(&listener, &settings, &place);
            } else {
                here.unchecked.push("what the kernel takes: mend the paths first".to_owned());
            }
        }
        for error in errors {
            // An ordinary user cannot look everywhere; root can, and slurmd is root.
            if !rustix::process::geteuid().is_root() && error.contains("(EACCES)") {
                here.unchecked.push(error);
            } else {
                here.errors.push(error);
            }
        }
        for (level, line) in listener.into_inner() {
            match level {
                Level::Error => here.errors.push(line),
                Level::Warning => here.warnings.push(line),
                Level::Info => here.notes.push(line),
                Level::Debug | Level::Script | Level::ScriptEnd => {}
            }
        }
        here
    }
}

/// The paths on the node that the settings name.
fn paths_of(settings: &Settings) -> Vec<&str> {
    let scripts =
        [&settings.init_script, &settings.user_ns_script, &settings.clone_ns_script, &settings.clone_ns_epilog];
    let mut paths = vec![settings.base_path.as_str()];
    for dir in &settings.dirs {
        if let crate::config::settings::Backing::OtherBase(base) = &dir.backing {
            paths.push(base);
        }
        paths.push(&dir.path);
    }
    paths.extend(scripts.into_iter().flatten().map(|script| script.path.as_str()));
    paths.retain(|path| !path.contains('%'));
    paths
}

/// Can jobs be made in the base paths? Where one is not there yet, what it would be made in is asked.
fn write(listener: &Lines, settings: &Settings, place: &dyn Fn(&str) -> String) -> Vec<String> {
    let mut errors = Vec::new();
    for (key, base) in node::base::bases(settings, place) {
        looking_at(base);
        let there = nearest_existing(base);
        if there == *base {
            errors.extend(node::base::write_one(listener, &key, base));
        } else if let Err(errno) = rustix::fs::access(there.as_str(), Access::WRITE_OK) {
            let error = errno_hints::of_call(Error::call(format!("make {base}"), "access", errno));
            errors.push(format!("{key}{error}"));
        }
    }
    errors
}

/// Settings under which [`node::paths`] makes nothing, and what it will say of base paths that do
/// not exist yet but that slurmd makes. What exists of the way to those must be safe now.
fn existing(mut settings: Settings, notes: &mut Vec<String>) -> (Settings, Vec<String>) {
    let mut made_later = Vec::new();
    if std::mem::take(&mut settings.auto_base_path) {
        let others = settings.dirs.iter().filter_map(|dir| match &dir.backing {
            crate::config::settings::Backing::OtherBase(base) => Some(("base_path of dir_confs", base)),
            _ => None,
        });
        for (what, base) in [(key("base_path"), &settings.base_path)].into_iter().chain(others) {
            let Err(error) = trusted_path::open_dir(what, base, Missing::Refuse) else { continue };
            if error.errno() != Some(Errno::NOENT) {
                continue;
            }
            let parent = nearest_existing(base);
            // A base below the root directory itself has no parent to be looked at.
            if parent == "/" || trusted_path::open_dir(what, &parent, Missing::Refuse).is_ok() {
                notes.push(format!("{what} {base} does not exist; slurmd makes it when it starts"));
                made_later.push(error.to_string());
            }
        }
    }
    (settings, made_later)
}

/// The path, or the directory above it that exists.
fn nearest_existing(path: &str) -> String {
    let mut path = path;
    while rustix::fs::stat(path).is_err() {
        match path.rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => path = parent,
            _ => return "/".to_owned(),
        }
    }
    path.to_owned()
}

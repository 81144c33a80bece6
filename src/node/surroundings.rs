//! What else is in and below a base path.

#![forbid(unsafe_code)]

use crate::config::{Backing, Settings};
use crate::job::spelling;

/// What `check --here` advises: a base path that only holds jobs can be hidden at no price.
pub fn advice(settings: &Settings, node: &str) -> Option<String> {
    let empty = |base: &&str| others(base, node).is_some_and(|others| others.is_empty());
    let all = bases(settings);
    (!settings.hide_base_path && all.iter().all(empty)).then(|| {
        format!(
            "{} has nothing in it but directories of jobs; {} keeps the ids of other jobs out of sight",
            all.join(", "),
            spelling::setting("hide_base_path", "true")
        )
    })
}

/// All base paths, the main one first.
fn bases(settings: &Settings) -> Vec<&str> {
    let mut all = vec![settings.base_path.as_str()];
    for dir in &settings.dirs {
        if let Backing::OtherBase(base) = &dir.backing
            && !all.contains(&base.as_str())
        {
            all.push(base);
        }
    }
    all
}

/// The entries of a base path that neither this plugin nor Slurm's has made. Empty where there is no such directory
/// yet; None where it cannot be read.
fn others(base: &str, node: &str) -> Option<Vec<String>> {
    let is_of_jobs = |name: &str| {
        let id = name.strip_prefix(".new.").unwrap_or(name);
        // Debian's build of Slurm's plugin puts the node's name above the jobs.
        (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())) || name == ".trash" || name == node
    };
    match std::fs::read_dir(base) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(Vec::new()),
        Err(_) => None,
        Ok(entries) => {
            let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
            let mut found: Vec<String> = names.filter(|name| !is_of_jobs(name)).collect();
            found.sort_unstable();
            Some(found)
        }
    }
}

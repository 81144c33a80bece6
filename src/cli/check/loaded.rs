//! Which plugin the slurmd that runs on this machine has loaded. Where the one that was built for it
//! does not fit, Slurm takes the next of that name in PluginDir without a word, and that is its own.

#![forbid(unsafe_code)]

use crate::cli::stamp;
use std::fs;

/// What is to be said of each slurmd that runs here.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) warnings: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Looks for `plugin`, such as `namespace_linux.so`, in the memory of every slurmd of this PID namespace: one in
/// a container of its own has files of its own. Root is needed.
pub(super) fn look(plugin: &str) -> Said {
    let mut said = Said::default();
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<u32>().ok()
    });
    let pid_namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let ours = pid_namespace("self");
    for pid in processes {
        // A child of one (before its exec, or what starts its scripts) is no daemon.
        if !is_slurmd(pid) || parent(pid).is_some_and(is_slurmd) || pid_namespace(&pid.to_string()) != ours {
            continue;
        }
        let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else { continue };
        let Some(Mapped { range, path, deleted }) = mapped(&maps, plugin) else {
            said.warnings.push(format!(
                "slurmd (process {pid}) has not loaded {plugin}: NamespaceType in slurm.conf does not name it, or did not when slurmd started"
            ));
            continue;
        };
        // The very file that is mapped, whatever has its name now.
        let version =
            fs::read(format!("/proc/{pid}/map_files/{range}")).ok().map(|content| stamp::version_of(&content));
        match version {
            Some(Some(version)) if deleted => said.warnings.push(format!(
                "slurmd (process {pid}) has loaded {path}, for Slurm {version}, which was replaced since; restart slurmd"
            )),
            Some(Some(version)) => {
                said.notes.push(format!("slurmd (process {pid}) has loaded {path}, for Slurm {version}"));
            }
            Some(None) => said.warnings.push(format!(
                "slurmd (process {pid}) has loaded {path}, which is not of slurm-jobns; hint: its directory must come first in PluginDir, and jobns stamp must say for it what slurmd -V says"
            )),
            // It was unloaded, or slurmd has ended.
            None => {}
        }
    }
    said
}

/// What has ended meanwhile is none.
fn is_slurmd(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "slurmd")
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

#[derive(Debug, PartialEq, Eq)]
struct Mapped<'a> {
    range: &'a str,
    path: &'a str,
    deleted: bool,
}

/// The first mapping of a file of that name (proc_pid_maps(5)).
fn mapped<'a>(maps: &'a str, name: &str) -> Option<Mapped<'a>> {
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let path = rest.get(rest.find('/')?..)?;
        let (path, deleted) = path.strip_suffix(" (deleted)").map_or((path, false), |path| (path, true));
        (path.rsplit('/').next() == Some(name)).then_some(Mapped { range, path, deleted })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_its_name_alone() {
        let maps = "00400000-00452000 r-xp 00000000 08:02 173521      /usr/sbin/slurmd\n\
            7f2c1000-7f2c9000 r--p 00000000 00:00 0\n\
            7f2d1000-7f2d9000 r--p 00000000 08:02 135522      /opt/a b/namespace_linux.so.old\n\
            7f2e1000-7f2e9000 r--p 00000000 08:02 135523      /opt/a b/namespace_linux.so (deleted)\n\
            7f2f1000-7f2f9000 r-xp 00008000 08:02 135523      /opt/a b/namespace_linux.so (deleted)\n";
        let found = mapped(maps, "namespace_linux.so").unwrap();
        assert_eq!(found, Mapped { range: "7f2e1000-7f2e9000", path: "/opt/a b/namespace_linux.so", deleted: true });
        assert_eq!(mapped(maps, "namespace_tmpfs.so"), None);
        assert!(mapped(maps, "slurmd").is_some_and(|found| !found.deleted));
    }
}

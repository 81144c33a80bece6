//! The plugin that the running slurmd has loaded. If this plugin does not fit slurmd, Slurm silently loads the next plugin
//! of that name in PluginDir, which is its own.

use crate::base::trusted_path::check_script;
use crate::cli::stamp;
use crate::remover::PROGRAM;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// The maximum size of a plugin. This plugin has one megabyte, or ten with debug information.
const MAX_PLUGIN: u64 = 64 << 20;

/// The results for all running slurmds.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Reasons why new jobs fail or do not remove their files.
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Looks for `plugin`, such as `namespace_linux.so`, in the mappings of every slurmd in this PID namespace. A slurmd in a
/// container is skipped, because it has other files. Needs root.
///
/// Any user can call a program slurmd and let it map any file. So a process counts only if it runs as root, and if only
/// root can write to its program.
pub(super) fn check(plugin: &str) -> Loaded {
    let mut out = Loaded::default();
    let pid_namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let ours = pid_namespace("self");
    for pid in processes() {
        // A child of slurmd, such as one before its exec, is not a daemon.
        if !is_slurmd(pid)
            || !is_roots(pid)
            || parent(pid).is_some_and(is_slurmd)
            || pid_namespace(&pid.to_string()) != ours
        {
            continue;
        }
        let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else { continue };
        let Some(Mapping { range, path, deleted }) = mapping(&maps, plugin) else {
            out.warnings.push(format!(
                "slurmd (process {pid}) has not loaded {plugin}: NamespaceType in slurm.conf does not name it, or did not when slurmd started"
            ));
            continue;
        };
        // The file that is mapped, even if another file has its name now.
        let content = match read_plugin(&format!("/proc/{pid}/map_files/{range}")) {
            Ok(content) => content,
            Err(why) => {
                out.warnings.push(format!("slurmd (process {pid}) has loaded {path}, which {why}"));
                continue;
            }
        };
        match content.map(|content| stamp::version_of(&content)) {
            Some(Some(version)) => {
                let loaded = format!("slurmd (process {pid}) has loaded {path}, for Slurm {version}");
                if !deleted {
                    out.notes.push(loaded);
                } else if let Some(why) = misfit(path, &version.to_string()) {
                    out.errors.push(format!("{loaded}, and {why}: new steps fail; install the plugin and restart slurmd"));
                } else {
                    out.warnings.push(format!("{loaded}, which has been replaced since; restart slurmd"));
                }
                out.errors.extend(without_remover(pid, path));
            }
            Some(None) => out.warnings.push(format!(
                "slurmd (process {pid}) has loaded {path}, which is not from slurm-jobns; hint: the directory of slurm-jobns must come first in PluginDir, and jobns stamp must print the version of slurmd -V"
            )),
            // The plugin was unloaded, or slurmd has ended.
            None => {}
        }
    }
    out
}

/// The reason why the plugin that a new slurmstepd loads does not fit the one that slurmd has loaded, judged by their
/// versions.
fn misfit(path: &str, version: &str) -> Option<String> {
    match read_plugin(path) {
        Ok(Some(content)) => match stamp::version_of(&content) {
            Some(now) if now.to_string() == version => None,
            Some(now) => Some(format!("that file is now for Slurm {now}")),
            None => Some("that file is no longer from slurm-jobns".to_owned()),
        },
        Ok(None) => Some("that file is gone".to_owned()),
        Err(why) => Some(format!("that file {why}")),
    }
}

/// The reason why nothing removes the files of ended jobs, if so.
fn without_remover(slurmd: u32, plugin: &str) -> Option<String> {
    let path = Path::new(plugin).with_file_name(PROGRAM);
    if let Err(error) = check_script(PROGRAM, &path.to_string_lossy()) {
        return Some(error.with_hint("it is installed beside the plugin, from the same build").to_string());
    }
    // slurmd may be starting it at this moment.
    let mut before = None;
    for _ in 0..8 {
        let now = remover_of(slurmd);
        // A program that keeps ending exists only for moments.
        if now.is_some() && now == before {
            return None;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(300));
    }
    // slurmd may have ended meanwhile.
    is_slurmd(slurmd).then(|| {
        format!("slurmd (process {slurmd}) has no {PROGRAM} running, so the files of ended jobs stay; see slurmd's log")
    })
}

fn remover_of(slurmd: u32) -> Option<u32> {
    processes().into_iter().find(|&pid| is_called(pid, PROGRAM) && parent(pid) == Some(slurmd))
}

fn processes() -> Vec<u32> {
    let names = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

fn is_called(pid: u32, wanted: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == wanted)
}

/// False for a process that has ended meanwhile.
fn is_slurmd(pid: u32) -> bool {
    is_called(pid, "slurmd")
}

/// Whether the real and effective user are root, root owns the program, and nobody else can write to it.
fn is_roots(pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let Some(uids) = status.lines().find_map(|line| line.strip_prefix("Uid:")) else { return false };
    let is_root = uids.split_whitespace().take(2).eq(["0", "0"]);
    is_root
        && fs::metadata(format!("/proc/{pid}/exe")).is_ok_and(|program| {
            let by_group = program.mode() & 0o020 != 0 && program.gid() != 0;
            program.is_file() && program.uid() == 0 && program.mode() & 0o002 == 0 && !by_group
        })
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// Reads a plugin. `None` if it cannot be read, because it was unloaded or its process has ended.
///
/// # Errors
///
/// The reason why the file cannot be a plugin.
fn read_plugin(path: &str) -> Result<Option<Vec<u8>>, String> {
    // NONBLOCK: opening a FIFO must not wait.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let Ok(file) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else { return Ok(None) };
    let Ok(stat) = rustix::fs::fstat(&file) else { return Ok(None) };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("is not a regular file".to_owned());
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size > MAX_PLUGIN {
        return Err(format!("is not a plugin: it has {size} bytes"));
    }
    let mut content = Vec::new();
    Ok(File::from(file).take(MAX_PLUGIN).read_to_end(&mut content).ok().map(|_| content))
}

#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    range: &'a str,
    path: &'a str,
    deleted: bool,
}

/// The first mapping of a file with this name (proc_pid_maps(5)).
fn mapping<'a>(maps: &'a str, name: &str) -> Option<Mapping<'a>> {
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let path = rest.get(rest.find('/')?..)?;
        let (path, deleted) = path.strip_suffix(" (deleted)").map_or((path, false), |path| (path, true));
        (path.rsplit('/').next() == Some(name)).then_some(Mapping { range, path, deleted })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_of_the_size_of_a_plugin_is_read() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("plugin"), "x").unwrap();
        assert_eq!(read_plugin(&path("plugin")), Ok(Some(b"x".to_vec())));
        File::create(path("large")).unwrap().set_len(6 << 30).unwrap();
        assert_eq!(read_plugin(&path("large")), Err("is not a plugin: it has 6442450944 bytes".to_owned()));
        assert_eq!(read_plugin("/dev/zero"), Err("is not a regular file".to_owned()));
        assert_eq!(read_plugin(&path("none")), Ok(None));
    }

    #[test]
    fn a_file_is_found_by_its_name_alone() {
        let maps = "00400000-00452000 r-xp 00000000 08:02 173521      /usr/sbin/slurmd\n\
            7f2c1000-7f2c9000 r--p 00000000 00:00 0\n\
            7f2d1000-7f2d9000 r--p 00000000 08:02 135522      /opt/a b/namespace_linux.so.old\n\
            7f2e1000-7f2e9000 r--p 00000000 08:02 135523      /opt/a b/namespace_linux.so (deleted)\n\
            7f2f1000-7f2f9000 r-xp 00008000 08:02 135523      /opt/a b/namespace_linux.so (deleted)\n";
        let found = mapping(maps, "namespace_linux.so").unwrap();
        assert_eq!(found, Mapping { range: "7f2e1000-7f2e9000", path: "/opt/a b/namespace_linux.so", deleted: true });
        assert_eq!(mapping(maps, "namespace_tmpfs.so"), None);
        assert!(mapping(maps, "slurmd").is_some_and(|found| !found.deleted));
    }
}

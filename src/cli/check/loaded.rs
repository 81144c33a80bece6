//! Which plugin the slurmd that runs on this machine has loaded. Where the one that was built for it
//! does not fit, Slurm takes the next of that name in PluginDir without a word, and that is its own.

use crate::base::trusted_path::check_script;
use crate::cli::stamp;
use crate::remover::PROGRAM;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// More than a plugin can have: ours has one megabyte, with what it needs to be debugged ten.
const MAX_PLUGIN: u64 = 64 << 20;

/// What is to be said of each slurmd that runs here.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Why new jobs fail, or leave their files.
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Looks for `plugin`, such as `namespace_linux.so`, in the memory of every slurmd of this PID namespace: one in
/// a container of its own has files of its own. Root is needed. A process of that name counts only if it is
/// root's and runs a program that nobody else can have written: any user can call a program slurmd, and give it
/// a file to map.
pub(super) fn look(plugin: &str) -> Said {
    let mut said = Said::default();
    let pid_namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let ours = pid_namespace("self");
    for pid in processes() {
        // A child of one (before its exec, or what starts its scripts) is no daemon.
        if !is_slurmd(pid)
            || !is_roots(pid)
            || parent(pid).is_some_and(is_slurmd)
            || pid_namespace(&pid.to_string()) != ours
        {
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
        let content = match read_plugin(&format!("/proc/{pid}/map_files/{range}")) {
            Ok(content) => content,
            Err(why) => {
                said.warnings.push(format!("slurmd (process {pid}) has loaded {path}, which {why}"));
                continue;
            }
        };
        match content.map(|content| stamp::version_of(&content)) {
            Some(Some(version)) => {
                let loaded = format!("slurmd (process {pid}) has loaded {path}, for Slurm {version}");
                if !deleted {
                    said.notes.push(loaded);
                } else if let Some(why) = unlike(path, &version.to_string()) {
                    said.errors.push(format!("{loaded}, and {why}: new steps fail; install the plugin and restart slurmd"));
                } else {
                    said.warnings.push(format!("{loaded}, which was replaced since; restart slurmd"));
                }
                said.errors.extend(without_remover(pid, path));
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

/// Why what a new slurmstepd loads now does not go together with what slurmd has loaded, as far as its version
/// tells.
fn unlike(path: &str, version: &str) -> Option<String> {
    match read_plugin(path) {
        Ok(Some(content)) => match stamp::version_of(&content) {
            Some(now) if now.to_string() == version => None,
            Some(now) => Some(format!("that file is now one for Slurm {now}")),
            None => Some("that file is now not of slurm-jobns".to_owned()),
        },
        Ok(None) => Some("that file is gone".to_owned()),
        Err(why) => Some(format!("that file {why}")),
    }
}

/// Why nothing removes the files of ended jobs.
fn without_remover(slurmd: u32, plugin: &str) -> Option<String> {
    let path = Path::new(plugin).with_file_name(PROGRAM);
    if let Err(error) = check_script(PROGRAM, &path.to_string_lossy()) {
        return Some(error.with_hint("it is installed beside the plugin, from the same build").to_string());
    }
    // slurmd may have started at this moment, or start it again.
    let mut before = None;
    for _ in 0..8 {
        let now = remover_of(slurmd);
        // One that ends again and again is there for moments.
        if now.is_some() && now == before {
            return None;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(300));
    }
    // It may have ended meanwhile.
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

/// A process that has ended meanwhile does not count.
fn is_slurmd(pid: u32) -> bool {
    is_called(pid, "slurmd")
}

/// Real and effective user are root, and so is the owner of the program, which nobody else can write to.
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

/// A file that can be a plugin; None when it cannot be read, since it was unloaded or its process has ended.
///
/// # Errors
///
/// What keeps it from being one.
fn read_plugin(path: &str) -> Result<Option<Vec<u8>>, String> {
    // NONBLOCK: what is no regular file must not be waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let Ok(file) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else { return Ok(None) };
    let Ok(stat) = rustix::fs::fstat(&file) else { return Ok(None) };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("is not a regular file".to_owned());
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size > MAX_PLUGIN {
        return Err(format!("is no plugin: it has {size} bytes"));
    }
    let mut content = Vec::new();
    Ok(File::from(file).take(MAX_PLUGIN).read_to_end(&mut content).ok().map(|_| content))
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
    fn only_a_regular_file_of_the_size_of_a_plugin_is_read() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("plugin"), "x").unwrap();
        assert_eq!(read_plugin(&path("plugin")), Ok(Some(b"x".to_vec())));
        File::create(path("large")).unwrap().set_len(6 << 30).unwrap();
        assert_eq!(read_plugin(&path("large")), Err("is no plugin: it has 6442450944 bytes".to_owned()));
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
        let found = mapped(maps, "namespace_linux.so").unwrap();
        assert_eq!(found, Mapped { range: "7f2e1000-7f2e9000", path: "/opt/a b/namespace_linux.so", deleted: true });
        assert_eq!(mapped(maps, "namespace_tmpfs.so"), None);
        assert!(mapped(maps, "slurmd").is_some_and(|found| !found.deleted));
    }
}

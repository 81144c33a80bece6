//! What slurmd makes sure of before the first job: that the file is read as its author meant it, and
//! that this node can do what it asks for. What cannot be done is said now, all of it at once.

#![forbid(unsafe_code)]

pub mod base;

use crate::base::errno_hints;
use crate::base::errno_hints::clone_error;
use crate::base::error::{Doing, Error, Words};
use crate::base::log::{Level, Log};
use crate::base::mountinfo::{Mount, mounts, table_of};
use crate::base::trusted_path;
use crate::base::trusted_path::{Missing, is_trusted_owner};
use crate::config;
use crate::config::cluster;
use crate::config::outcome::{Origin, Parsed, Source};
use crate::config::path::path_below;
use crate::config::settings::{Backing, NodeSettings, Settings};
use crate::config::spelling::key;
use crate::job::make::child::{HolderTrial, LimitsTrial, ProcParameters, try_fresh_proc, try_holder, try_limits};
use crate::job::make::handshake::proc_error;
use crate::job::make::holder;
use crate::job::make::ns_limits;
use crate::job::make::ns_limits::{JobLimits, NodeLimits};
use crate::job::make::plan;
use crate::job::make::plan::PlannedDir;
use crate::job::make::private_dirs::make_tmpfs;
use crate::job::make::proc_keep;
use crate::job::make::proc_keep::Kept;
use crate::job::record::namespaces::describe;
use crate::sys::clone::{ExitSignal, NamespaceFlags, SignalsBlocked, spawn};
use crate::sys::exec::{CStringArray, exit_group};
use crate::sys::mount::make_private;
use crate::sys::process::{Ended, has_bpf_tokens, reap, timespec};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::pipe::PipeFlags;
use rustix::process::Signal;
use surroundings::Slurm;

pub mod surroundings;
mod targets;

/// A file beside slurm.conf. A constant of functions and not an enumeration, so that a plugin holds the
/// parser of its own file only.
#[derive(Clone, Copy, Debug)]
pub struct File {
    pub name: &'static str,
    /// A line or two that do, for who has none.
    example: &'static str,
    parse: fn(&Place<'_>, &[u8]) -> Parsed,
    /// That nothing in it is for this node alone.
    pub(crate) left_out: fn(&str) -> String,
}

/// What a file is read for: the node, and where the file lies.
struct Place<'a> {
    host: &'a dyn Log,
    directory: &'a str,
    path: &'a str,
    node: &'a config::settings::Node<'a>,
}

/// Of namespace/linux.
pub const NAMESPACE_YAML: File = File {
    name: "namespace.yaml",
    example: "write one beside slurm.conf; two lines do: \"defaults:\" and \"  base_path: /some/dir\"",
    parse: |place, text| config::namespace_yaml::parse_namespace_yaml(place.path, text, place.node),
    left_out: |node| format!("no entry of node_confs names node {node}"),
};

/// Of namespace/tmpfs.
pub const JOB_CONTAINER_CONF: File = File {
    name: "job_container.conf",
    example: "write one beside slurm.conf; one line does: \"BasePath=/some/dir\"",
    parse: |place, text| {
        // Beside slurm.conf, as parse_config.c looks for it, unless it is a path.
        let mut include = |name: &str| {
            let path = if name.starts_with('/') { name.to_owned() } else { format!("{}/{name}", place.directory) };
            read_config(place.host, &path).map_err(|error| error.to_string())
        };
        config::job_container_conf::parse_job_container_conf(place.path, text, place.node, &mut include).parsed
    },
    left_out: |node| format!("no line with NodeName names node {node}"),
};

impl File {
    /// Reads `<directory>/<name>` for a node.
    pub(crate) fn read(
        self,
        host: &dyn Log,
        directory: &str,
        node: &config::settings::Node<'_>,
    ) -> Result<(String, Parsed), Error> {
        let path = format!("{directory}/{}", self.name);
        let text = read_config(host, &path).map_err(|error| match error.errno() {
            Some(Errno::NOENT) => error.with_hint(self.example),
            _ => error,
        })?;
        let parsed = (self.parse)(&Place { host, directory, path: &path, node }, &text);
        Ok((path, parsed))
    }
}

/// Reads the file in `directory` and prepares the node for it. Warnings are logged.
///
/// # Errors
///
/// Every reason why the node cannot be used as configured, one line each.
pub fn prepare(
    host: &dyn Log,
    file: File,
    directory: &str,
    node: &config::settings::Node<'_>,
    slurm: &Slurm,
) -> Result<NodeSettings, Vec<String>> {
    let (path, parsed) = file.read(host, directory, node).map_err(|error| vec![error.to_string()])?;
    let Parsed { settings, problems, sources, nodes } = parsed;
    for (line, what) in cluster::strangers(&nodes, &slurm.nodes, node.name) {
        host.log(Level::Warning, format_args!("{path}:{line}: {what}"));
    }
    let left_out = cluster::leaves_out(&nodes).then(|| (file.left_out)(node.name));
    let mut errors = Vec::new();
    for problem in &problems {
        match problem.level {
            config::problem::Level::Error => errors.push(problem.log_line()),
            config::problem::Level::Warning => host.log(Level::Warning, format_args!("{}", problem.log_line())),
        }
    }
    let settings = match settings {
        Some(NodeSettings::Enabled(settings)) if errors.is_empty() => settings,
        Some(NodeSettings::Disabled(why)) if errors.is_empty() => {
            host.log(
                Level::Info,
                format_args!(
                    "jobs on this node get no private directories or namespaces: {}",
                    surroundings::off(&path, node.name, why, left_out)
                ),
            );
            return Ok(NodeSettings::Disabled(why));
        }
        _ => {
            if errors.is_empty() {
                errors.push(format!("{path}: it cannot be read"));
            }
            return Err(errors);
        }
    };
    if let Some(left_out) = left_out {
        host.log(Level::Info, format_args!("{path}: {left_out}: it gets what is for all nodes"));
    }
    let place = |key: &str| match line_of(&sources, key) {
        Some(line) => format!("{path}:{line}: "),
        None => format!("{path}: "),
    };
    let mut settings = settings;
    errors.extend(paths(host, &mut settings, &place));
    if errors.is_empty() {
        errors.extend(base::write(host, &settings, &place));
    }
    errors.extend(surroundings::look(host, &settings, slurm, node, (&place, &place_of_dirs(&place))));
    errors.extend(kernel(host, &settings, &place));
    if errors.is_empty() {
        errors = trials(host, &settings, &place);
    }
    tell_of_devices(host, &settings, &place);
    tell_of_other_procs(host, &settings, &place);
    if errors.is_empty() { Ok(NodeSettings::Enabled(settings)) } else { Err(errors) }
}

fn line_of(sources: &[Source], key: &str) -> Option<usize> {
    sources.iter().find(|source| source.key == key).and_then(|source| match source.origin {
        Origin::BuiltIn => None,
        Origin::Defaults { line } | Origin::NodeEntry { line } => Some(line),
    })
}

/// Reads the file through one descriptor, so that what was checked is what is read.
pub(crate) fn read_config(host: &dyn Log, path: &str) -> Result<Vec<u8>, Error> {
    let intention = || format!("read {path}");
    let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
        .doing("openat", intention)?;
    let stat = rustix::fs::fstat(&file).doing("fstat", intention)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::because(intention(), "it is not a regular file"));
    }
    if stat.st_mode & 0o002 != 0 {
        return Err(Error::because(intention(), "every user can write to it, and it decides what root does")
            .with_hint("chmod o-w"));
    }
    if !is_trusted_owner(stat.st_uid) || (stat.st_mode & 0o020 != 0 && stat.st_gid != 0) {
        host.log(
            Level::Warning,
            format_args!(
                "{path}: uid {} (mode {:04o}) can change what root does on this node",
                stat.st_uid,
                stat.st_mode & 0o7777
            ),
        );
    }
    // One byte more than the parser takes, so that it and not we say that it is too long.
    let mut text = Vec::new();
    let mut chunk = vec![0_u8; 64 * 1024];
    while text.len() <= config::limits::MAX_TEXT {
        match rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut chunk[..])).doing("read", intention)? {
            0 => break,
            n => text.extend_from_slice(chunk.get(..n).unwrap_or_default()),
        }
    }
    Ok(text)
}

/// Makes the base directories, follows links of root's in paths, and looks at the scripts. `place`
/// says where in the file a key stands. Returns every reason why a job could not use the settings,
/// one line each.
pub fn paths(host: &dyn Log, settings: &mut Settings, place: &dyn Fn(&str) -> String) -> Vec<String> {
    let mut errors = Vec::new();
    let mut of_slurm_user = Vec::new();
    let missing = if settings.auto_base_path { Missing::Make } else { Missing::Refuse };
    match trusted_path::open_dir(key("base_path"), &settings.base_path, missing) {
        Ok(dir) => {
            settings.base_path = dir.path;
            of_slurm_user.extend(dir.of_slurm_user);
        }
        Err(error) => errors.push(format!("{}{}", place("base_path"), errno_hints::of_call(error))),
    }
    let dirs_place = place_of_dirs(place);
    for dir in &mut settings.dirs {
        if let Backing::OtherBase(base) = &mut dir.backing {
            match trusted_path::open_dir("base_path of dir_confs", base, missing) {
                Ok(found) => {
                    *base = found.path;
                    of_slurm_user.extend(found.of_slurm_user);
                }
                Err(error) => errors.push(format!("{dirs_place}{}", errno_hints::of_call(error))),
            }
        }
    }
    errors.extend(targets::resolve_all(host, &mut settings.dirs, &dirs_place));
    for (name, script) in [
        ("init_script", &settings.init_script),
        ("user_ns_script", &settings.user_ns_script),
        ("clone_ns_script", &settings.clone_ns_script),
        ("clone_ns_epilog", &settings.clone_ns_epilog),
    ] {
        let Some(script) = script else { continue };
        match trusted_path::check_script(key(name), &script.path) {
            Ok(component) => of_slurm_user.extend(component),
            // It may be on a file system that is mounted later. Until then jobs fail, and say so.
            Err(error) if error.errno() == Some(Errno::NOENT) && settings.scripts_may_be_missing => {
                host.log(Level::Error, format_args!("{}{error}; every job on this node fails until it exists", place(name)));
            }
            Err(error) if error.errno() == Some(Errno::NOENT) => errors.push(format!(
                "{}{}",
                place(name),
                error.with_hint("put it there; if its file system is mounted later: scripts_may_be_missing: true (ScriptsMayBeMissing=true in job_container.conf)")
            )),
            Err(error) => errors.push(format!("{}{error}", place(name))),
        }
    }
    surroundings::tell_of_slurm_user(host, of_slurm_user, &place(""));
    // After the links are followed, two bases may have become one, or one a private directory.
    if errors.is_empty()
        && let Err(why) = config::check::settings(settings)
    {
        errors.push(format!("{}{why}", place("base_path")));
    }
    errors
}

/// Tries out what the settings ask of the kernel. As [`paths`].
pub fn kernel(host: &dyn Log, settings: &Settings, place: &dyn Fn(&str) -> String) -> Vec<String> {
    let mut errors = probe(&settings.base_path);
    if let Err(error) = try_namespaces(plan::namespaces(settings), plan::proc_parameters(settings)) {
        errors.push(format!("{}{error}", place("clone_ns_flags")));
    }
    if settings.namespaces.pid {
        match proc_keep::keep(&settings.proc_keep) {
            Ok(found) => tell_of_kept(host, &settings.proc_keep, &found, &place("proc_keep")),
            Err(error) => errors.push(format!("{}{}", place("proc_keep"), errno_hints::of_call(error))),
        }
    }
    let dirs_place = place_of_dirs(place);
    for dir in &settings.dirs {
        if matches!(dir.backing, Backing::Tmpfs(_))
            && let Err(error) = make_tmpfs(&PlannedDir::from_config(dir))
        {
            errors.push(format!("{dirs_place}{}", errno_hints::of_call(error)));
        }
    }
    errors
}

/// Tries what [`kernel`] does not, since the first job finds it out at once: that a user namespace can
/// have limits of its own, and that nothing forbids to execute the holder. As [`paths`].
pub fn trials(host: &dyn Log, settings: &Settings, place: &dyn Fn(&str) -> String) -> Vec<String> {
    let mut errors = Vec::new();
    match NodeLimits::read(settings) {
        Ok(None) => {}
        Ok(Some(node)) => match try_user_limits(&JobLimits::new(&node, settings.user_ns_limits)) {
            Ok(()) => {
                for line in ns_limits::too_small(&node, settings.user_ns_limits) {
                    host.log(Level::Warning, format_args!("{}{line}", place("user_ns_limits")));
                }
            }
            Err(error) => errors.push(format!("{}{error}", place("user_ns_limits"))),
        },
        Err(error) => errors.push(format!("{}{error}", place("user_ns_limits"))),
    }
    errors.extend(try_to_hold(plan::namespaces(settings)).err().map(|error| error.to_string()));
    errors
}

/// Writes the limits of a job in a user namespace that is gone with the child.
fn try_user_limits(limits: &JobLimits) -> Result<(), Error> {
    let intention = || format!("limit a new user namespace: write to {}", ns_limits::DIRECTORY);
    let trial = LimitsTrial(limits.lay_out()?);
    let try_them = || {
        let _blocked = SignalsBlocked::new()?;
        let child = spawn(NamespaceFlags::USER, ExitSignal::Silent, &trial, try_limits)?;
        reap(child.pidfd.as_fd())
    };
    match try_them().map_err(|errno| clone_error(intention(), errno))? {
        Ended::Exited(0) => Ok(()),
        Ended::Exited(errno) => Err(Error::call(intention(), "write", Errno::from_raw_os_error(errno))),
        Ended::Killed(signal) => {
            Err(Error::because(intention(), format!("the process that tried was killed by signal {signal}")))
        }
    }
    .map_err(|error| error.with_hint(ns_limits::WITHOUT))
}

/// How long the holder's exec may take: a policy's daemon may be asked.
const EXEC_TIMEOUT_MS: u32 = 30_000;

/// Executes the holder as a job's, in namespaces that are gone with it.
fn try_to_hold(namespaces: NamespaceFlags) -> Result<(), Error> {
    let intention = || "start the program that holds a job's namespaces, from memory (memfd:jobns-holder)".to_owned();
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing("pipe2", intention)?;
    let trial = HolderTrial {
        result: writer,
        holder: holder::program("jobns")?,
        argv: CStringArray::new(vec![c"jobns: [trial]".to_owned()]),
        envp: CStringArray::new(Vec::new()),
    };
    let child = {
        let _blocked = SignalsBlocked::new().doing("rt_sigprocmask", intention)?;
        spawn(namespaces, ExitSignal::Silent, &trial, try_holder).map_err(|errno| clone_error(intention(), errno))?
    };
    // The child's copy is the only one now, and is closed by its exec.
    drop(trial);
    let said = hear(&reader);
    // It ends by nothing else. What has ended before has not started as it should.
    let _ = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
    let ended = reap(child.pidfd.as_fd()).doing("waitid", intention)?;
    let refused = |error: Error| {
        error.with_hint(
            "a policy of this node forbids it. fapolicyd: before the rules that deny, allow perm=execute uid=0 : path=/memfd:jobns-holder. IMA appraisal: dont_appraise func=BPRM_CHECK fsmagic=0x01021994. SELinux, AppArmor: see the kernel's audit log. None of these was tested with this plugin",
        )
    };
    match (said.doing("read", intention)?, ended) {
        (Some(0), Ended::Killed(signal)) if signal == Signal::KILL.as_raw() => Ok(()),
        (Some(0), Ended::Killed(signal)) => {
            Err(refused(Error::because(intention(), format!("it was killed by signal {signal}"))))
        }
        (Some(0), Ended::Exited(status)) => Err(Error::because(intention(), format!("it ended with status {status}"))),
        (Some(errno), _) => Err(refused(Error::call(intention(), "execveat", Errno::from_raw_os_error(errno)))),
        (None, _) => {
            Err(refused(Error::because(intention(), format!("no answer for {} seconds", EXEC_TIMEOUT_MS / 1000))))
        }
    }
}

/// An errno from the pipe, 0 when it was closed without, None when nothing comes.
fn hear(reader: &OwnedFd) -> Result<Option<i32>, Errno> {
    let mut fds = [PollFd::new(reader, PollFlags::IN)];
    if rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timespec(EXEC_TIMEOUT_MS))))? == 0 {
        return Ok(None);
    }
    let mut errno = [0_u8; 4];
    rustix::io::retry_on_intr(|| rustix::io::read(reader, &mut errno[..]))?;
    Ok(Some(i32::from_ne_bytes(errno)))
}

/// Logs where else than at /proc a job finds the processes of the node, against which `CLONE_NEWPID` is
/// there: below `PID/root` are the private directories of other jobs of the same user.
pub fn tell_of_other_procs(host: &dyn Log, settings: &Settings, place: &dyn Fn(&str) -> String) {
    if !settings.namespaces.pid {
        return;
    }
    let Ok(table) = table_of("self") else { return };
    let covered = |point: &str| {
        let mut tops = settings.dirs.iter().map(|dir| dir.path.as_str()).collect::<Vec<_>>();
        if settings.hide_base_path {
            tops.push(&settings.base_path);
        }
        tops.iter().any(|top| point == *top || path_below(point, top).is_some())
    };
    let found: Vec<String> =
        other_procs(&table).into_iter().filter(|point| !covered(point) && others_get_to(point)).collect();
    if !found.is_empty() {
        host.log(
            Level::Warning,
            format_args!(
                "{}CLONE_NEWPID: the node has its processes also at {}, where jobs see them and, below PID/root, the private directories of other jobs of their user; hint: unmount that, or chmod 700 a directory above it",
                place("clone_ns_flags"),
                found.join(", ")
            ),
        );
    }
}

/// The mount points of a procfs in a mountinfo(5) that are not /proc and show processes.
fn other_procs(table: &str) -> Vec<String> {
    let mut found: Vec<String> = mounts(table)
        .filter(|Mount { root, point, kind, .. }| {
            // A file such as /proc/sys/kernel, bound somewhere, shows no process.
            let first = root.trim_start_matches('/').split('/').next().unwrap_or_default();
            let is_of_processes = root == "/" || first.bytes().all(|byte| byte.is_ascii_digit());
            *kind == "proc" && point != "/proc" && is_of_processes
        })
        .map(|mount| mount.point.into_owned())
        .collect();
    found.dedup();
    found
}

/// No directory above it is root's alone.
fn others_get_to(path: &str) -> bool {
    let above = std::iter::successors(path.rsplit_once('/'), |(path, _)| path.rsplit_once('/'));
    !above
        .map(|(above, _)| above)
        .filter(|above| !above.is_empty())
        .any(|above| rustix::fs::stat(above).is_ok_and(|stat| stat.st_mode & 0o011 == 0 && stat.st_uid == 0))
}

/// Logs what of `proc_keep` is not there to be kept, now: it may come before the first job.
fn tell_of_kept(host: &dyn Log, paths: &[String], found: &[Kept], place: &str) {
    for (path, kept) in paths.iter().zip(found) {
        let why = match kept {
            Kept::Mount(..) | Kept::WithAnother => continue,
            Kept::NotMounted => "nothing is mounted there",
            Kept::Missing => "it does not exist",
        };
        host.log(
            Level::Warning,
            format_args!("{place}proc_keep {path}: {why}; jobs see there what the kernel has, until that changes"),
        );
    }
}

/// Logs what `ConstrainDevices` of cgroup.conf loses on this node. Slurm constrains devices by BPF
/// programs, and a slurmstepd in a user namespace may load one with a token only (Slurm's
/// documentation of namespace/linux; Linux 6.9). Whether devices are constrained, the plugin cannot tell.
pub fn tell_of_devices(host: &dyn Log, settings: &Settings, place: &dyn Fn(&str) -> String) {
    if !settings.namespaces.user {
        return;
    }
    if settings.disable_bpf_token {
        host.log(
            Level::Info,
            format_args!(
                "{}disable_bpf_token: with ConstrainDevices=yes in cgroup.conf a step can use all devices of its job",
                place("disable_bpf_token")
            ),
        );
    } else if !has_bpf_tokens() {
        host.log(
            Level::Warning,
            format_args!(
                "{}CLONE_NEWUSER: this kernel has no BPF tokens (Linux 6.9), so with ConstrainDevices=yes in cgroup.conf jobs will fail; hint: disable_bpf_token: true leaves devices constrained by job, not by step",
                place("clone_ns_flags")
            ),
        );
    }
}

/// Where the list of directories stands: either key may have it.
pub(crate) fn place_of_dirs(place: &dyn Fn(&str) -> String) -> String {
    let dir_confs = place("dir_confs");
    if dir_confs == place("") { place("dirs") } else { dir_confs }
}

extern "C" fn exit_at_once((): &()) -> ! {
    exit_group(0)
}

/// Makes the namespaces for a moment and, in a PID namespace, a fresh /proc there, which the kernel can
/// refuse where a user namespace is new as well.
fn try_namespaces(namespaces: NamespaceFlags, proc: Option<ProcParameters>) -> Result<(), Error> {
    let try_them = || {
        let _blocked = SignalsBlocked::new()?;
        let child = match &proc {
            Some(parameters) => spawn(namespaces, ExitSignal::Silent, parameters, try_fresh_proc),
            None => spawn(namespaces, ExitSignal::Silent, &(), exit_at_once),
        }?;
        reap(child.pidfd.as_fd())
    };
    let ended = try_them()
        .map_err(|errno| clone_error(format!("make new namespaces ({})", describe(namespaces, ", ")), errno))?;
    match ended {
        Ended::Exited(0) => Ok(()),
        Ended::Exited(errno) => Err(proc_error(proc, "fsmount", Errno::from_raw_os_error(errno))),
        Ended::Killed(signal) => Err(Error::because(
            format!("make new namespaces ({})", describe(namespaces, ", ")),
            format!("the process that tried was killed by signal {signal}"),
        )),
    }
}

/// Tries out every system call that create, join and delete need, in their cheapest form.
fn probe(base_path: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let mut no_space = None;
    let mut check = |call: &str, since: &str, result: Result<(), Errno>| {
        if let Err(errno) = result {
            errors.push(format!(
                "this node's kernel does not let the plugin use {call} (Linux {since}): {}; hint: an older kernel, a system call filter of slurmd's service (RestrictSUIDSGID=yes blocks openat2), or a missing capability",
                Words(errno)
            ));
        }
    };
    let root = trusted_path::open_beneath(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY, trusted_path::NO_LINKS);
    check("openat2", "5.6", root.as_ref().map(|_| ()).map_err(|errno| *errno));
    // Where it will be needed: what has locked mounts below it may not be cloned.
    let tree =
        rustix::mount::open_tree(CWD, base_path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
    match &tree {
        Ok(tree) => check("mount_setattr", "5.12", make_private(tree.as_fd())),
        // `paths` has said that it is missing.
        Err(Errno::NOENT) => {}
        Err(errno @ Errno::NOSPC) => {
            let intention = format!("clone the mount of {base_path}");
            no_space = Some(errno_hints::of_call(Error::call(intention, "open_tree", *errno)));
        }
        Err(errno) => check("open_tree", "5.2", Err(*errno)),
    }
    let pidfd = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
    check("pidfd_open", "5.3", pidfd.map(|_| ()));
    errors.extend(no_space.map(|error| error.to_string()));
    // Jobs would fail for want of it, each for itself.
    errors.extend(holder::program("jobns").err().map(|error| error.to_string()));
    errors
}

/// The directory of the configuration files, from the path of slurm.conf.
#[must_use]
pub fn config_directory(slurm_conf: &str) -> &str {
    match slurm_conf.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((directory, _)) => directory,
        None => ".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_procfs_is_found_by_type_root_and_place() {
        let table = "\
22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:21 /sys /proc/sys ro - proc proc rw
30 1 0:45 / /srv/debian\\040root/proc rw shared:9 - proc proc rw
31 1 0:21 /1234/ns /run/ns rw - proc proc rw
32 1 0:21 /sys/kernel /mnt/kernel rw - proc proc rw
33 1 0:46 / /mnt/disk rw - ext4 /dev/proc rw
34 1 0:47 / /mnt/late rw - proc proc rw,hidepid=invisible
";
        assert_eq!(other_procs(table), ["/srv/debian root/proc", "/run/ns", "/mnt/late"]);
        assert!(other_procs("").is_empty());
    }

    #[test]
    #[ignore = "needs root"]
    fn the_holder_starts() {
        try_to_hold(NamespaceFlags::empty()).unwrap();
    }
}

//! Tries out what jobs ask of the kernel on this node, and of the policies that it enforces.

use crate::base::errno_hints::clone_error;
use crate::base::error::{Doing, Error};
use crate::base::mountinfo::{Mount, mounts, table_of};
use crate::config::path::is_at_or_below;
use crate::config::settings::{Backing, Settings};
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
use crate::node::finding::{About, Findings};
use crate::node::paths::nearest_existing;
use crate::sys::clone::{NamespaceFlags, SignalsBlocked, spawn};
use crate::sys::exec::{CStringArray, exit_group};
use crate::sys::mount::make_private;
use crate::sys::process::{Ended, has_bpf_tokens, reap, timespec};
use crate::sys::syscall::CALLS;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::pipe::PipeFlags;
use rustix::process::Signal;

/// Tries out what every job asks of the kernel, and warns of what jobs might not expect.
pub(super) fn examine(settings: &Settings, found: &mut Findings) {
    try_out(settings, found);
    if !found.has_fatal() {
        try_limits_and_holder(settings, found);
    }
    warn_of_devices(settings, found);
    warn_of_other_procs(settings, found);
}

/// Tries out what the settings ask of the kernel.
pub(crate) fn try_out(settings: &Settings, found: &mut Findings) {
    if !look_for_calls(found) {
        return;
    }
    probe(nearest_existing(&settings.base_path), found);
    found.check("clone_ns_flags", try_namespaces(plan::namespaces(settings), plan::proc_parameters(settings)));
    if settings.namespaces.pid {
        match proc_keep::keep(&settings.proc_keep) {
            Ok(kept) => warn_of_missing(&settings.proc_keep, &kept, found),
            Err(error) => found.fatal("proc_keep", error),
        }
    }
    for dir in settings.dirs.iter().filter(|dir| matches!(dir.backing, Backing::Tmpfs(_))) {
        found.check("dirs", make_tmpfs(&PlannedDir::from_config(dir)).map(|_| ()));
    }
}

/// Checks that the limits of a user namespace can be set, and that the holder can be executed.
pub fn try_limits_and_holder(settings: &Settings, found: &mut Findings) {
    let limits = NodeLimits::read(settings).and_then(|node| {
        let Some(node) = node else { return Ok(Vec::new()) };
        try_user_limits(&JobLimits::new(&node, settings.user_ns_limits))?;
        Ok(ns_limits::too_small(&node, settings.user_ns_limits))
    });
    match limits {
        Ok(lines) => lines.into_iter().for_each(|line| found.warn("user_ns_limits", line)),
        Err(error) => found.fatal("user_ns_limits", error),
    }
    found.check(About::Node, try_to_hold(plan::namespaces(settings)));
}

/// Writes the limits of a job in a user namespace that ends with the child.
fn try_user_limits(limits: &JobLimits) -> Result<(), Error> {
    let intention = || format!("limit a new user namespace: write to {}", ns_limits::DIRECTORY);
    let trial = LimitsTrial(limits.lay_out()?);
    let try_them = || {
        let _blocked = SignalsBlocked::new()?;
        let child = spawn(NamespaceFlags::USER, &trial, try_limits)?;
        reap(child.pidfd.as_fd())
    };
    match try_them().map_err(|errno| clone_error(intention(), errno))? {
        Ended::Exited(0) => Ok(()),
        Ended::Exited(errno) => Err(Error::call(intention(), "write", Errno::from_raw_os_error(errno))),
        Ended::Killed(signal) => {
            Err(Error::because(intention(), format!("the test process was killed by signal {signal}")))
        }
    }
    .map_err(|error| error.with_hint(ns_limits::WITHOUT))
}

/// How long the exec of the holder may take. The kernel may ask the daemon of a policy.
const EXEC_TIMEOUT_MS: u32 = 30_000;

/// Executes the holder as for a job, in namespaces that end with it.
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
        spawn(namespaces, &trial, try_holder).map_err(|errno| clone_error(intention(), errno))?
    };
    // Now only the child has the writing end, and its exec closes it.
    drop(trial);
    let said = hear(&reader);
    // Nothing else ends the holder. If it has ended already, it did not start correctly.
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

/// The errno from the pipe; 0 if it was closed without one, None after the time limit.
fn hear(reader: &OwnedFd) -> Result<Option<i32>, Errno> {
    let mut fds = [PollFd::new(reader, PollFlags::IN)];
    if rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timespec(EXEC_TIMEOUT_MS))))? == 0 {
        return Ok(None);
    }
    let mut errno = [0_u8; 4];
    rustix::io::retry_on_intr(|| rustix::io::read(reader, &mut errno[..]))?;
    Ok(Some(i32::from_ne_bytes(errno)))
}

/// Warns of a procfs outside /proc. `CLONE_NEWPID` is to hide the node's processes, but there a job sees them,
/// and below `PID/root` the private directories of other jobs of the same user.
fn warn_of_other_procs(settings: &Settings, found: &mut Findings) {
    let Ok(table) = table_of("self") else { return };
    let mut covers: Vec<&str> = settings.dirs.iter().map(|dir| dir.path.as_str()).collect();
    covers.extend(settings.hide_base_path.then_some(settings.base_path.as_str()));
    let mut procs = other_procs(&table);
    procs.retain(|point| !covers.iter().any(|top| is_at_or_below(point, top)) && others_get_to(point));
    if settings.namespaces.pid && !procs.is_empty() {
        found.warn(
            "clone_ns_flags",
            format!(
                "CLONE_NEWPID: there is another procfs at {}, where jobs see all processes and, below PID/root, the private directories of other jobs of the same user; hint: unmount it, or chmod 700 a directory above it",
                procs.join(", ")
            ),
        );
    }
}

/// The mount points in this mount table, other than /proc, of a procfs that shows processes.
fn other_procs(table: &str) -> Vec<String> {
    let mut found: Vec<String> = mounts(table)
        .filter(|Mount { root, point, kind, .. }| {
            // A bind mount of, for example, /proc/sys/kernel shows no process.
            let first = root.trim_start_matches('/').split('/').next().unwrap_or_default();
            let is_of_processes = root == "/" || first.bytes().all(|byte| byte.is_ascii_digit());
            *kind == "proc" && point != "/proc" && is_of_processes
        })
        .map(|mount| mount.point.into_owned())
        .collect();
    found.dedup();
    found
}

/// Can users reach this path? Not if a directory above it is accessible to root only.
fn others_get_to(path: &str) -> bool {
    let above = std::iter::successors(path.rsplit_once('/'), |(path, _)| path.rsplit_once('/'));
    !above
        .map(|(above, _)| above)
        .filter(|above| !above.is_empty())
        .any(|above| rustix::fs::stat(above).is_ok_and(|stat| stat.st_mode & 0o011 == 0 && stat.st_uid == 0))
}

/// Warns of paths of `proc_keep` without anything to keep now. It may be mounted before the first job.
fn warn_of_missing(paths: &[String], kept: &[Kept], found: &mut Findings) {
    for (path, kept) in paths.iter().zip(kept) {
        let why = match kept {
            Kept::Mount(..) | Kept::WithAnother => continue,
            Kept::NotMounted => "nothing is mounted there",
            Kept::Missing => "it does not exist",
        };
        found.warn(
            "proc_keep",
            format!("proc_keep {path}: {why}; until that changes, jobs see the kernel's own file there"),
        );
    }
}

/// Reports the effect on `ConstrainDevices` of cgroup.conf. Slurm constrains devices with BPF programs, and a
/// slurmstepd in a user namespace can load one only with a token (Linux 6.9; Slurm's documentation of
/// namespace/linux). The plugin does not know whether devices are constrained.
fn warn_of_devices(settings: &Settings, found: &mut Findings) {
    if !settings.namespaces.user {
        return;
    }
    if settings.disable_bpf_token {
        found.note(
            "disable_bpf_token",
            "disable_bpf_token: with ConstrainDevices=yes in cgroup.conf a step can use all devices of its job"
                .to_owned(),
        );
    } else if !has_bpf_tokens() {
        found.warn(
            "clone_ns_flags",
            "CLONE_NEWUSER: this kernel has no BPF tokens (Linux 6.9), so with ConstrainDevices=yes in cgroup.conf jobs will fail; hint: set disable_bpf_token: true (devices are then constrained for each job, not for each step)".to_owned(),
        );
    }
}

extern "C" fn exit_at_once((): &()) -> ! {
    exit_group(0)
}

/// Makes the namespaces for a moment. In a PID namespace it also makes a fresh /proc, which the kernel can
/// refuse if there is also a new user namespace.
fn try_namespaces(namespaces: NamespaceFlags, proc: Option<ProcParameters>) -> Result<(), Error> {
    let try_them = || {
        let _blocked = SignalsBlocked::new()?;
        let child = match &proc {
            Some(parameters) => spawn(namespaces, parameters, try_fresh_proc),
            None => spawn(namespaces, &(), exit_at_once),
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
            format!("the test process was killed by signal {signal}"),
        )),
    }
}

/// Does this node have the system calls that create, join and delete need? Each that is missing is one finding.
pub(crate) fn look_for_calls(found: &mut Findings) -> bool {
    let mut all = true;
    for call in CALLS {
        if let Err(errno) = call.try_out() {
            all = false;
            found.fatal(About::Node, lacks(call.name, call.since, errno));
        }
    }
    all
}

fn lacks(call: &'static str, since: &str, errno: Errno) -> Error {
    Error::call(format!("use {call} (Linux {since}) on this node"), call, errno).with_hint(
        "use Linux 5.14 or newer; slurmd's service must not filter system calls (RestrictSUIDSGID=yes blocks openat2) or drop capabilities",
    )
}

/// Tries out the calls that clone mounts on `base_path`, which exists, and makes the holder's program.
fn probe(base_path: &str, found: &mut Findings) {
    // On the base path itself: a mount with locked mounts below it cannot be cloned.
    let tree =
        rustix::mount::open_tree(CWD, base_path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
    match tree {
        Ok(tree) => {
            if let Err(errno) = make_private(tree.as_fd()) {
                found.fatal(About::Node, lacks("mount_setattr", "5.12", errno));
            }
        }
        Err(Errno::NOSPC) => {
            let intention = format!("clone the mount of {base_path}");
            found.fatal(About::Node, Error::call(intention, "open_tree", Errno::NOSPC));
        }
        Err(errno) => found.fatal(About::Node, lacks("open_tree", "5.2", errno)),
    }
    // Without it every job would fail.
    found.check(About::Node, holder::program("jobns").map(|_| ()));
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

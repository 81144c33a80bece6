//! `jobns run`: a command in the namespaces that a configuration asks for, without Slurm.
//!
//! It does what slurmd and slurmstepd do, in one process: create, join and exec in a child, wait,
//! delete. An ordinary user first gets a user namespace in which the rest is allowed.

use super::TerminalHost;
use super::command::{die_of, start, wait};
use crate::config::{self, NodeSettings, Settings};
use crate::job::create::{Created, create};
use crate::job::error::{Doing, Error};
use crate::job::identity::BootId;
use crate::job::record::Record;
use crate::job::sources::open_base;
use crate::job::{Job, Level, LiveJobs, Log, delete, restore};
use crate::node;
use crate::sys::process::{Ended, unshare_user_and_mounts};
use crate::sys::signals::EndSignals;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What jobs get when no file says otherwise. `@BASE@` is one of the two below.
const DEFAULT_CONFIG: &str = "\
defaults:
  auto_base_path: true
  base_path: @BASE@
  clone_ns_flags: CLONE_NEWPID
";

/// Where root's and an ordinary user's job directories are made by default.
const ROOT_BASE: &str = "/var/lib/jobns";
const USER_BASE: &str = "/tmp/jobns-";

#[derive(Debug, Default)]
struct Options {
    config: Option<OsString>,
    node: Option<String>,
    job: Option<u32>,
    verbose: bool,
    command: Vec<OsString>,
}

fn parse(arguments: &[OsString]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = |name: &str| rest.next().ok_or(format!("{name} needs a value"));
        match argument.to_str() {
            Some("--config") => options.config = Some(value("--config")?.clone()),
            Some("--node") => options.node = Some(value("--node")?.to_string_lossy().into_owned()),
            Some("--job") => {
                let number = value("--job")?;
                let parsed = number.to_str().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
                options.job = Some(parsed.ok_or(format!("--job {} is no job id", number.display()))?);
            }
            Some("--verbose") => options.verbose = true,
            Some("--") => break,
            Some(other) if other.starts_with('-') => {
                return Err(format!("run has no option {other}; see jobns --help"));
            }
            _ => {
                options.command.push(argument.clone());
                break;
            }
        }
    }
    options.command.extend(rest.cloned());
    if options.command.is_empty() {
        return Err("run needs a command; see jobns --help".to_owned());
    }
    Ok(options)
}

/// # Errors
///
/// What went wrong before, around or after the command, one or more lines.
pub fn main(arguments: &[OsString]) -> Result<ExitCode, String> {
    let options = parse(arguments)?;
    let host = TerminalHost { verbose: options.verbose };
    let (node, hostname) = match &options.config {
        Some(_) => super::this_node(),
        // One name, whoever calls: by it a later run knows what this one may leave.
        None => (super::host_name(), super::host_name()),
    };
    let node = options.node.clone().unwrap_or(node);
    let ended = run(&host, &options, &config::Node { name: &node, hostname: &hostname })?;
    Ok(match ended {
        Ended::Exited(status) => ExitCode::from(u8::try_from(status).unwrap_or(super::OWN_FAILURE)),
        Ended::Killed(signal) => die_of(signal),
    })
}

fn run(host: &TerminalHost, options: &Options, node: &config::Node<'_>) -> Result<Ended, String> {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let mut settings = settings(host, options, node, uid)?;
    // Before there is a user namespace: trusted paths are told by their owners, whom it does not show.
    if options.config.is_some() {
        let errors = node::paths(host, &mut settings, &|_| String::new());
        if !errors.is_empty() {
            return Err(errors.join("\n"));
        }
        return run_with(host, options, node, &settings, (uid, gid));
    }
    let base = share_base(host, &mut settings)?;
    let ended = run_with(host, options, node, &settings, (uid, gid));
    give_up_base(&settings.base_path, &base);
    ended
}

/// Makes the base path of the embedded configuration and shares its lock, so that no other run removes it.
///
/// Another run may remove it between two steps here, so a base that is not there is made again.
fn share_base(host: &TerminalHost, settings: &mut Settings) -> Result<OwnedFd, String> {
    let mut tries = 0;
    loop {
        tries += 1;
        let errors = node::paths(host, settings, &|_| String::new());
        let lock = || -> Result<OwnedFd, Error> {
            let intention = || format!("lock {}", settings.base_path);
            let base = open_base(&settings.base_path)?;
            rustix::fs::flock(&base, FlockOperation::LockShared).doing("flock", intention)?;
            let there = rustix::fs::stat(settings.base_path.as_str()).doing("stat", intention)?;
            let ours = rustix::fs::fstat(&base).doing("fstat", intention)?;
            let same = (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino);
            if same { Ok(base) } else { Err(Error::call(intention(), "flock", Errno::NOENT)) }
        };
        match lock() {
            Err(error) if error.errno() == Some(Errno::NOENT) && tries < 100 => {}
            _ if !errors.is_empty() => return Err(errors.join("\n")),
            result => return result.map_err(|error| error.to_string()),
        }
    }
}

/// Removes the base path of the embedded configuration, if this is the last run that has it.
fn give_up_base(base_path: &str, base: &OwnedFd) {
    if rustix::fs::flock(base, FlockOperation::NonBlockingLockExclusive).is_ok() {
        let _ = restore::remove_if_empty(base_path);
    }
}

fn run_with(
    host: &TerminalHost,
    options: &Options,
    node: &config::Node<'_>,
    settings: &Settings,
    (uid, gid): (u32, u32),
) -> Result<Ended, String> {
    if uid != 0 {
        enter_own_user_namespace(uid, gid).map_err(|error| error.to_string())?;
    }
    let errors = node::kernel(host, settings, &|_| String::new());
    if !errors.is_empty() {
        return Err(errors.join("\n"));
    }
    if options.config.is_none() {
        // What a killed run has left. A base of Slurm's is left to slurmd.
        let former = restore::Node {
            name: node.name,
            bases: std::slice::from_ref(&settings.base_path),
            other_bases: Vec::new(),
            epilog: None,
            environment: &[],
            removal: delete::Removal::HERE,
        };
        restore::clean(host, &former, Ok(LiveJobs::default())).map_err(|error| error.to_string())?;
    }
    let job = Job {
        id: options.job.unwrap_or(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()),
        sluid: 0,
        sluid_text: String::new(),
        uid,
        gid,
        user: std::env::var("USER").unwrap_or_else(|_| uid.to_string()),
        node: node.name.to_owned(),
        environment: Vec::new(),
        boot: BootId::current().map_err(|errno| Error::call("read the boot id", "read", errno).to_string())?,
    };
    let job = Job {
        environment: vec![
            ("SLURM_JOB_ID", job.id.to_string().into_bytes()),
            ("SLURMD_NODENAME", job.node.clone().into_bytes()),
            ("SLURM_JOB_UID", uid.to_string().into_bytes()),
            ("SLURM_JOB_GID", gid.to_string().into_bytes()),
            ("SLURM_JOB_USER", job.user.clone().into_bytes()),
        ],
        ..job
    };
    // From here on Ctrl-C ends the command, not us.
    let signals =
        EndSignals::block().map_err(|errno| Error::call("wait for signals", "signalfd4", errno).to_string())?;
    let created = create(host, settings, &job, delete::Removal::HERE).map_err(|error| error.to_string())?;
    let ended = start_in(&created, &options.command, signals.mask_before).and_then(|child| wait(&child, &signals));
    let Created { record, pins } = created;
    if ended.is_err() {
        end_children(&record);
    }
    let left = delete::delete(
        host,
        &record,
        settings.clone_ns_epilog.as_ref(),
        &job.environment,
        Some(pins),
        delete::Removal::HERE,
    );
    if !left.is_gone() {
        host.log(Level::Error, format_args!("something is left under {}", settings.base_path));
    }
    ended.map_err(|error| error.to_string())
}

fn settings(host: &TerminalHost, options: &Options, node: &config::Node<'_>, uid: u32) -> Result<Settings, String> {
    let (name, text) = match &options.config {
        Some(path) => {
            let name = path.to_string_lossy().into_owned();
            let text = node::read_config(host, &name).map_err(|error| error.to_string())?;
            (name, text)
        }
        None => {
            let base = if uid == 0 { ROOT_BASE.to_owned() } else { format!("{USER_BASE}{uid}") };
            ("the embedded configuration".to_owned(), DEFAULT_CONFIG.replace("@BASE@", &base).into_bytes())
        }
    };
    let parsed = config::parse_namespace_yaml(&name, &text, node);
    let rendered: Vec<String> =
        parsed.problems.iter().filter(|p| p.level == config::Level::Error).map(config::Problem::render).collect();
    // The user's directory of the embedded one lies in /tmp: one that is emptied in the meantime does no harm.
    let shown = if options.config.is_some() { parsed.problems.as_slice() } else { &[] };
    for warning in shown.iter().filter(|p| p.level == config::Level::Warning) {
        host.log(Level::Warning, format_args!("{}", warning.log_line()));
    }
    match parsed.settings {
        Some(NodeSettings::Enabled(settings)) => Ok(settings),
        Some(NodeSettings::Disabled(_)) => {
            Err(format!("{name} gives node {} no namespaces (no base_path, or none)", node.name))
        }
        None => Err(rendered.join("\n")),
    }
}

/// An ordinary user may make namespaces in a user namespace of their own. Everybody keeps their ids.
fn enter_own_user_namespace(uid: u32, gid: u32) -> Result<(), Error> {
    let intention = || "make a user namespace".to_owned();
    unshare_user_and_mounts().map_err(|errno| {
        Error::call(intention(), "unshare", errno).with_hint(
            "this machine does not let ordinary users have them: see user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns (sysctl), or be root",
        )
    })?;
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{uid} {uid} 1\n")),
        ("gid_map", format!("{gid} {gid} 1\n")),
    ] {
        let path = format!("/proc/self/{file}");
        let fd = rustix::fs::openat(CWD, path.as_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .doing("openat", intention)?;
        rustix::io::write(&fd, text.as_bytes()).doing("write", || format!("write {path}"))?;
    }
    Ok(())
}

fn start_in(created: &Created, command: &[OsString], signal_mask: u64) -> Result<OwnedFd, Error> {
    let intention = || "enter the namespaces".to_owned();
    let holder = created.record.holder.ok_or_else(|| Error::because(intention(), "the holder is not known"))?;
    let holder = holder.open().doing("pidfd_open", intention)?;
    start(holder.as_fd(), created.record.namespaces, command, signal_mask)
}

/// Ends and reaps the children that a failure has left: one that nobody reaps keeps its PID namespace,
/// for whose end `delete` waits, from ending (pid_namespaces(7)).
fn end_children(record: &Record) {
    if let Some(Ok(holder)) = record.holder.map(|holder| holder.open()) {
        let _ = rustix::process::pidfd_send_signal(&holder, Signal::KILL);
    }
    let end = Instant::now() + Duration::from_millis(delete::HOLDER_TIMEOUT_MS.into());
    while Instant::now() < end {
        match rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<Options, String> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_end_at_the_command() {
        let found = options(&["--job", "7", "--verbose", "ls", "--job", "x"]).unwrap();
        assert_eq!((found.job, found.verbose, found.command.len()), (Some(7), true, 3));
        assert_eq!(options(&["--", "--verbose"]).unwrap().command, ["--verbose"]);
        for bad in [&["--job", "0", "x"][..], &["--job"], &["--nod", "n", "x"], &[], &["--"]] {
            assert!(options(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_embedded_configuration_has_no_problem() {
        let text = DEFAULT_CONFIG.replace("@BASE@", ROOT_BASE);
        let parsed = config::parse_namespace_yaml("x", text.as_bytes(), &config::Node { name: "n", hostname: "n" });
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    }
}

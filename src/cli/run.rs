//! `jobns run`: a command in the namespaces that a configuration asks for, without Slurm.
//!
//! It does what slurmd and slurmstepd do, in one process: create, join and exec in a child, wait,
//! delete. An ordinary user first gets a user namespace in which the rest is allowed.

use crate::base::error::{Doing, Error};
use crate::base::log::{Level, Log};
use crate::cli::TerminalHost;
use crate::cli::base::{Base, Caller};
use crate::cli::command::{die_of, start, wait};
use crate::cli::help::RUN;
use crate::cli::options;
use crate::cli::options::{Reader, Stop, Word};
use crate::cli::progress;
use crate::config;
use crate::config::settings::{NodeSettings, Settings};
use crate::job::make::create::{Created, create};
use crate::job::record::job::Record;
use crate::job::record::process::BootId;
use crate::job::remove::delete::Epilog;
use crate::job::remove::{dead_jobs, delete};
use crate::job::script::Environment;
use crate::job::{Job, LiveJobs};
use crate::node;
use crate::sys::process::{Ended, unshare_user_and_mounts};
use crate::sys::signals::EndSignals;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What jobs get when no file says otherwise. Its base path is replaced by one of [`super::base`].
const DEFAULT_CONFIG: &str = "\
defaults:
  auto_base_path: true
  base_path: /var/lib/jobns
  clone_ns_flags: CLONE_NEWPID
";

#[derive(Debug, Default)]
struct Options {
    config: Option<OsString>,
    node: Option<String>,
    job: Option<u32>,
    verbose: bool,
    command: Vec<OsString>,
}

fn parse(arguments: &[OsString]) -> Result<Options, Stop> {
    let mut options = Options::default();
    let mut reader = Reader::new(&RUN, arguments);
    while let Some(word) = reader.next()? {
        match word {
            Word::Option("--config", file) => options.config = Some(file),
            Word::Option("--node", name) => options.node = Some(options::node(name)?),
            Word::Option(_, number) => {
                let parsed = number.to_str().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
                options.job = Some(parsed.ok_or(format!("--job {} is no job id", number.display()))?);
            }
            Word::Flag(_) => options.verbose = true,
            Word::Dashes => break,
            Word::Operand(command) => {
                options.command.push(command);
                break;
            }
        }
    }
    options.command.extend(reader.rest());
    if options.command.is_empty() {
        options.command = super::command::shell();
    }
    Ok(options)
}

/// # Errors
///
/// What went wrong before, around or after the command, one or more lines.
pub fn main(arguments: &[OsString]) -> Result<ExitCode, String> {
    let Some(options) = options::or_help(&RUN, parse(arguments))? else { return Ok(ExitCode::SUCCESS) };
    let host = TerminalHost { verbose: options.verbose };
    let (node, hostname) = match &options.config {
        Some(_) => super::nodes::this(options.node.as_deref())?,
        // One name, whoever calls: by it a later run knows what this one may leave.
        None => (super::host_name(), super::host_name()),
    };
    let node = options.node.clone().unwrap_or(node);
    let ended = run(&host, &options, &config::settings::Node { name: &node, hostname: &hostname })?;
    Ok(match ended {
        Ended::Exited(status) => ExitCode::from(u8::try_from(status).unwrap_or(super::OWN_FAILURE)),
        Ended::Killed(signal) => die_of(signal),
    })
}

fn run(host: &TerminalHost, options: &Options, node: &config::settings::Node<'_>) -> Result<Ended, String> {
    let caller = Caller::look();
    let mut settings = settings(host, options, node)?;
    // Before there is a user namespace: trusted paths are told by their owners, whom it does not show.
    if options.config.is_some() {
        let errors = node::paths(host, &mut settings, &|_| String::new());
        if !errors.is_empty() {
            return Err(errors.join("\n"));
        }
        return run_with(host, options, node, &settings, &caller, None);
    }
    let base = Base::take(host, &caller, &mut settings)?;
    let ended = run_with(host, options, node, &settings, &caller, Some(&base));
    base.give_up(&|path| clean(host, node, path));
    ended
}

/// What a killed run has left.
fn clean(host: &TerminalHost, node: &config::settings::Node<'_>, base: &String) -> Result<(), String> {
    let former = dead_jobs::Node {
        name: node.name,
        bases: std::slice::from_ref(base),
        other_bases: Vec::new(),
        epilog: None,
        removal: progress::SHOWN,
    };
    dead_jobs::clean(host, &former, Ok(LiveJobs::default())).map_err(|error| error.to_string())
}

fn run_with(
    host: &TerminalHost,
    options: &Options,
    node: &config::settings::Node<'_>,
    settings: &Settings,
    caller: &Caller,
    base: Option<&Base>,
) -> Result<Ended, String> {
    let Caller { uid, gid, .. } = *caller;
    let directory = std::env::current_dir();
    if !caller.is_root() {
        enter_own_user_namespace(uid, gid).map_err(|error| error.to_string())?;
    }
    let errors = node::kernel(host, settings, &|_| String::new());
    if !errors.is_empty() {
        return Err(errors.join("\n"));
    }
    // A base of Slurm's is left to slurmd.
    if let Some(base) = base {
        base.clean(&|path| clean(host, node, path))?;
    }
    let id = options.job.unwrap_or(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs());
    let user = std::env::var("USER").unwrap_or_else(|_| uid.to_string());
    let job = Job {
        id,
        sluid: 0,
        sluid_text: String::new(),
        uid,
        gid,
        environment: Environment::of_job(id, uid, gid, &user, node.name, None),
        user,
        node: node.name.to_owned(),
        slurm_conf: None,
        boot: BootId::current().map_err(|errno| Error::call("read the boot id", "read", errno).to_string())?,
    };
    // From here on Ctrl-C ends the command, not us.
    let signals =
        EndSignals::block().map_err(|errno| Error::call("wait for signals", "signalfd4", errno).to_string())?;
    let created = create(host, settings, &job, progress::SHOWN).map_err(|error| error.to_string())?;
    if let Some(base) = base {
        base.share();
    }
    let directory = directory.inspect_err(|error| {
        host.log(Level::Warning, format_args!("the working directory is not known ({error}); starting in /"));
    });
    let directory = directory.ok();
    let ended = start_in(&created, &options.command, signals.mask_before, directory.as_deref())
        .and_then(|child| wait(&child, &signals));
    let Created { record, pins } = created;
    if ended.is_err() {
        end_children(&record);
    }
    let left = delete::delete(host, &record, Epilog::new(settings, None), Some(pins), progress::SHOWN);
    if !left.is_gone() {
        host.log(Level::Error, format_args!("something is left under {}", settings.base_path));
    }
    ended.map_err(|error| error.to_string())
}

fn settings(host: &TerminalHost, options: &Options, node: &config::settings::Node<'_>) -> Result<Settings, String> {
    let (name, text) = match &options.config {
        Some(path) => {
            let name = path.to_string_lossy().into_owned();
            let text = node::read_config(host, &name).map_err(|error| error.to_string())?;
            (name, text)
        }
        None => ("the embedded configuration".to_owned(), DEFAULT_CONFIG.as_bytes().to_vec()),
    };
    let parsed = config::namespace_yaml::parse_namespace_yaml(&name, &text, node);
    let rendered: Vec<String> = parsed
        .problems
        .iter()
        .filter(|p| p.level == config::problem::Level::Error)
        .map(config::problem::Problem::render)
        .collect();
    for warning in parsed.problems.iter().filter(|p| p.level == config::problem::Level::Warning) {
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

fn start_in(
    created: &Created,
    command: &[OsString],
    signal_mask: u64,
    directory: Option<&Path>,
) -> Result<OwnedFd, Error> {
    let intention = || "enter the namespaces".to_owned();
    let holder = created.record.holder.ok_or_else(|| Error::because(intention(), "the holder is not known"))?;
    let holder = holder.open().doing("pidfd_open", intention)?;
    start(holder.as_fd(), created.record.namespaces, command, signal_mask, directory)
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

    fn options(words: &[&str]) -> Result<Options, Stop> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_end_at_the_command() {
        let found = options(&["--job=7", "-v", "ls", "--job", "x"]).unwrap();
        assert_eq!((found.job, found.verbose, found.command.len()), (Some(7), true, 3));
        assert_eq!(options(&["--", "--verbose"]).unwrap().command, ["--verbose"]);
        for shell in [&[][..], &["--"], &["--verbose"]] {
            assert_eq!(options(shell).unwrap().command.len(), 1, "{shell:?}");
        }
        for bad in [&["--job", "0", "x"][..], &["--job"], &["--nod", "n", "x"]] {
            assert!(options(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_embedded_configuration_has_no_problem() {
        let parsed = config::namespace_yaml::parse_namespace_yaml(
            "x",
            DEFAULT_CONFIG.as_bytes(),
            &config::settings::Node { name: "n", hostname: "n" },
        );
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    }
}

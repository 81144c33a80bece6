//! `jobns run`: runs a command in namespaces like those of a job, without Slurm.
//!
//! It performs the steps of slurmd and slurmstepd: create, enter in a child, delete. An ordinary user first gets a user
//! namespace, in which the rest is allowed.

use crate::base::error::{Doing, Error};
use crate::base::log::{Level, Log};
use crate::cli::command;
use crate::cli::command::{end_as, exit_code, wait};
use crate::cli::help::RUN;
use crate::cli::options;
use crate::cli::options::{Reader, Stop, Word};
use crate::cli::progress;
use crate::cli::run_base::{Base, Caller};
use crate::cli::{OWN_FAILURE, TerminalHost, complain};
use crate::config::problem;
use crate::config::problem::Problem;
use crate::config::settings::{Node, NodeSettings, Settings};
use crate::config::size::JobHas;
use crate::job::make::create::{Created, create};
use crate::job::record::job::Record;
use crate::job::record::process::BootId;
use crate::job::record::state::Header;
use crate::job::remove::delete::Epilog;
use crate::job::remove::{dead_jobs, delete};
use crate::job::script::Environment;
use crate::job::{Job, LiveJobs};
use crate::node::config_file::{ConfigFile, NAMESPACE_YAML};
use crate::node::finding::Findings;
use crate::node::kernel;
use crate::node::paths;
use crate::node::paths::Manner;
use crate::node::surroundings;
use crate::sys::clone::{NamespaceFlags, spawn};
use crate::sys::exec::{Inherited, exit_group};
use crate::sys::process::{Ended, unshare_user_and_mounts};
use crate::sys::signals::EndSignals;
use rustix::fd::AsFd;
use rustix::fs::{CWD, Mode, OFlags};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// The default configuration. [`super::run_base`] replaces its base path.
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
                options.job = Some(parsed.ok_or(format!("--job {} is not a job id", number.display()))?);
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
        options.command = command::shell();
    }
    Ok(options)
}

/// `jobns run`
pub(crate) fn main(arguments: &[OsString]) -> Result<ExitCode, String> {
    let Some(options) = options::or_help(&RUN, parse(arguments))? else { return Ok(ExitCode::SUCCESS) };
    let host = TerminalHost { verbose: options.verbose };
    let (node, hostname) = match &options.config {
        Some(_) => super::nodes::this(options.node.as_deref())?,
        // The name must not depend on the environment: a later run finds by it what this run leaves.
        None => (super::host_name(), super::host_name()),
    };
    let node = options.node.clone().unwrap_or(node);
    run(&host, &options, &Node { name: &node, hostname: &hostname }).map(exit_code)
}

fn run(host: &TerminalHost, options: &Options, node: &Node<'_>) -> Result<Ended, String> {
    let caller = Caller::current();
    let (file, mut settings) = read(host, options, node)?;
    if options.config.is_none() {
        let base = Base::take(host, &caller, &mut settings)?;
        let ended = in_namespaces(host, options, node, &settings, &caller, Some(&base));
        base.give_up(&|path| clean(host, node, path));
        return ended;
    }
    // Before entering a user namespace, in which the owners of paths are not visible.
    let mut found = Findings::default();
    paths::follow(&mut settings, &Manner::START, &mut found);
    found.log(host, |finding| file.line(finding)).map_err(|lines| lines.join("\n"))?;
    in_namespaces(host, options, node, &settings, &caller, None)
}

/// Removes what killed runs have left.
fn clean(host: &TerminalHost, node: &Node<'_>, base: &String) -> Result<(), String> {
    let former = dead_jobs::Node {
        name: node.name,
        bases: std::slice::from_ref(base),
        other_bases: Vec::new(),
        epilog: None,
        removal: progress::SHOWN,
        project_ids: None,
    };
    dead_jobs::clean(host, &former, Ok(LiveJobs::default())).map_err(|error| error.to_string())
}

/// Makes the namespaces, runs the command in them, and removes them.
fn in_namespaces(
    host: &TerminalHost,
    options: &Options,
    node: &Node<'_>,
    settings: &Settings,
    caller: &Caller,
    base: Option<&Base>,
) -> Result<Ended, String> {
    let text = |error: Error| error.to_string();
    let Caller { uid, gid, .. } = *caller;
    let directory = std::env::current_dir();
    if !caller.is_root() {
        enter_own_user_namespace(uid, gid).map_err(text)?;
    }
    let mut found = Findings::default();
    kernel::try_out(settings, &mut found);
    found.log(host, ToString::to_string).map_err(|lines| lines.join("\n"))?;
    // A base path of a configuration is left to slurmd.
    if let Some(base) = base {
        base.clean(&|path| clean(host, node, path))?;
    }
    let id = options.job.unwrap_or(std::process::id());
    let user = std::env::var("USER").unwrap_or_else(|_| uid.to_string());
    let job = Job {
        header: Header { id, sluid: 0, uid, gid, user: user.clone(), node: node.name.to_owned() },
        sluid_text: String::new(),
        environment: Environment::of_job(id, uid, gid, &user, node.name, None),
        has: JobHas::default(),
        slurm_conf: None,
        boot: BootId::current().doing("read", || "read the boot id".to_owned()).map_err(text)?,
    };
    // From here on, Ctrl-C ends the command, not this process.
    let signals = EndSignals::block().doing("signalfd4", || "wait for signals".to_owned()).map_err(text)?;
    let Created { record, pins } = create(host, settings, &job, progress::SHOWN).map_err(text)?;
    if let Some(base) = base {
        base.share();
    }
    let directory = directory.inspect_err(|error| {
        host.log(Level::Warning, format_args!("the working directory is unknown ({error}); starting in /"));
    });
    let inside = Inside {
        record: &record,
        command: &options.command,
        directory: directory.ok(),
        signals: &signals,
        lock: base.map(Base::inherited),
    };
    let ended = inside.run();
    let left = delete::delete(host, &record, Epilog::new(settings, None), Some(pins), progress::SHOWN);
    if !left.is_gone() {
        host.log(Level::Error, format_args!("something is left under {}", settings.base_path));
    }
    ended.map_err(text)
}

/// A child enters the namespaces as `jobns enter` does, while this process stays outside to clean up.
struct Inside<'a> {
    record: &'a Record,
    command: &'a [OsString],
    directory: Option<PathBuf>,
    signals: &'a EndSignals,
    /// The lock of the base path. The child must not keep it when this process is killed.
    lock: Option<Inherited>,
}

impl Inside<'_> {
    fn run(&self) -> Result<Ended, Error> {
        let child =
            spawn(NamespaceFlags::empty(), self, enter).doing("clone3", || "enter the namespaces".to_owned())?;
        wait(&child.pidfd, self.signals)
    }

    fn enter(&self) -> Result<Ended, Error> {
        let intention = || "enter the namespaces".to_owned();
        let holder = self.record.holder.ok_or_else(|| Error::because(intention(), "the holder is not known"))?;
        let holder = holder.open().doing("pidfd_open", intention)?;
        let directory = self.directory.as_deref();
        command::run(Some(holder.as_fd()), self.record.namespaces, self.command, directory, self.signals)
    }
}

/// Runs in a copy of this process. The process has one thread, so the copy may allocate.
extern "C" fn enter(inside: &Inside<'_>) -> ! {
    if let Some(lock) = inside.lock {
        lock.close_in_child();
    }
    let status = inside.enter().map_or_else(
        |error| {
            complain(&format!("jobns: {error}\n"));
            OWN_FAILURE
        },
        end_as,
    );
    exit_group(status.into())
}

/// Reads the configuration of `--config`, or the embedded one.
fn read(host: &TerminalHost, options: &Options, node: &Node<'_>) -> Result<(ConfigFile, Settings), String> {
    let (mut file, mut found) = match &options.config {
        Some(path) => NAMESPACE_YAML
            .read_trusted(path.to_string_lossy().into_owned(), ".", node)
            .map_err(|error| error.to_string())?,
        None => (embedded(node), Findings::default()),
    };
    let (errors, warnings): (Vec<&Problem>, _) =
        file.parsed.problems.iter().partition(|problem| problem.level == problem::Level::Error);
    for warning in warnings {
        found.problem(warning);
    }
    let _ = found.log(host, |finding| file.line(finding));
    if !errors.is_empty() {
        return Err(errors.into_iter().map(Problem::render).collect());
    }
    match file.parsed.settings.take() {
        Some(NodeSettings::Enabled(settings)) => Ok((file, settings)),
        Some(NodeSettings::Disabled(why)) => Err(surroundings::why_disabled(&file, node.name, why)),
        None => Err(format!("{}: it cannot be read", file.path)),
    }
}

fn embedded(node: &Node<'_>) -> ConfigFile {
    NAMESPACE_YAML.parse("the embedded configuration".to_owned(), DEFAULT_CONFIG.as_bytes(), node, &mut |name| {
        Err(format!("{name} is not embedded"))
    })
}

/// Enters a new user namespace, in which an ordinary user can make the other namespaces. The ids stay the same.
fn enter_own_user_namespace(uid: u32, gid: u32) -> Result<(), Error> {
    let intention = || "make a user namespace".to_owned();
    unshare_user_and_mounts().map_err(|errno| {
        Error::call(intention(), "unshare", errno).with_hint(
            "this machine does not allow them for ordinary users: see the sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns, or run as root",
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
        let problems = embedded(&Node { name: "n", hostname: "n" }).parsed.problems;
        assert!(problems.is_empty(), "{problems:?}");
    }
}

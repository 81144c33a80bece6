//! `jobns`: the stand-alone host of the same core.
//!
//! | file | command |
//! |---|---|
//! | [`check`] | `jobns check`: what a configuration comes to for one node, and what is wrong with it |
//! | [`node`] | `jobns list`, `jobns clean`: the jobs of this node, and what is left of those that are gone |
//! | [`enter`] | `jobns enter`: a command in the namespaces of a live job |
//! | [`json`] | how all of them write JSON |
//! | [`run`] | `jobns run`: a command in the namespaces that a configuration asks for, without Slurm |
//! | [`command`] | what `run` and `enter` share: a command in a job's namespaces |
//! | [`stamp`] | `jobns stamp`: a plugin for another micro release of Slurm |

#![forbid(unsafe_code)]

pub mod check;
mod command;
pub mod enter;
pub mod json;
pub mod node;
pub mod run;
pub mod stamp;

use crate::job::error::Error;
use crate::job::{Host, Level, Log};
use core::fmt;
use rustix::process::Pid;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

/// Exit status when `jobns` itself cannot do what it was asked to, as env(1) and others have it.
pub const OWN_FAILURE: u8 = 125;

const USAGE: &str = "\
usage: jobns check FILE [--node NAMES] [--format text|json] [--strict] [--tmpfs] [--here]
       jobns list [--spool DIR] [--format text|json]
       jobns clean [--dry-run [--format text|json]] [--spool DIR]
       jobns enter [--spool DIR] JOB [--] [COMMAND [ARGUMENT...]]
       jobns run [--config FILE] [--node NAME] [--job NUMBER] [--verbose] [--] COMMAND [ARGUMENT...]
       jobns stamp PLUGIN [VERSION]

  check    says all that is wrong with FILE (a namespace.yaml or job_container.conf; - is standard
           input), what it comes to for one node, and where each value comes from.
  list     shows the jobs that have namespaces on this node, and what is left of those that are gone.
  clean    removes what is left, as slurmd does when it starts; --dry-run only shows it, as list does.
  enter    runs COMMAND, or a shell, as root in the namespaces of a live job.
  run      runs COMMAND with a private /tmp and /dev/shm in a PID namespace of its own, or in
           what FILE (a namespace.yaml) asks for; as root as slurmd would, as an ordinary user
           in a user namespace. Everything is gone afterwards.
  stamp    makes PLUGIN, a namespace_linux.so or namespace_tmpfs.so of ours, one for VERSION of
           Slurm, another micro release of the line that it was built for; else says for which it is.

options of check:
  --node NAMES    the node that it is read for, also for %h, or a hostlist of them (default:
                  SLURMD_NODENAME in the environment, what slurmd has written down here, or the name
                  of this machine)
  --format json   one JSON object, for programs; text is the default
  --strict        warnings count: exit status 1 when there are some
  --tmpfs         FILE is a job_container.conf; one of that name is taken for one anyway
  --here          ask this machine, too: do the paths exist, who can write to them, are the scripts
                  safe, and, as root, does the kernel take it. Makes nothing.

options of list, clean and enter, which only root can use:
  --spool DIR     slurmd's spool directory (default: /var/spool/slurmd or /var/lib/slurm/slurmd)
  --format json   of list and clean --dry-run: one JSON object, for programs; text is the default

options of run:
  --config FILE   the configuration; without it an embedded one is used
  --node NAME     the node that it is read for (default: as of check)
  --job NUMBER    the job id (default: the process id)
  --verbose       say what is done

exit status of check: 0 fine (warnings too, without --strict); 1 warnings, with --strict; 2 errors,
             or FILE cannot be read; 125 wrong usage.
exit status of list and clean: 0; 1 when something is left of a job that is gone, also in .trash, or
             may be; 125 when the node cannot be looked at.
exit status of stamp: 0, or 125 when PLUGIN stays as it was.
exit status of run and enter: that of COMMAND; 127 when it is not found, 126 when it cannot be executed, 125 when
             jobns fails.
";

/// This machine's name up to the first dot, as Slurm has it (`gethostname_short`).
fn host_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().split('.').next().unwrap_or_default().to_owned()
}

/// Slurm's names of this node and of its machine: what slurmd has told whoever calls us, what it has
/// written down, where that can be read, or else the name of the machine.
fn this_node() -> (String, String) {
    let recorded = node::recorded();
    let told = std::env::var("SLURMD_NODENAME").ok().filter(|name| !name.is_empty());
    match (told, recorded) {
        (Some(name), Some(registry)) if registry.node == name => (name, registry.hostname),
        (Some(name), _) => (name, host_name()),
        (None, Some(registry)) => (registry.node, registry.hostname),
        (None, None) => (host_name(), host_name()),
    }
}

/// Entry point of the program.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(command) = arguments.next() else {
        complain(USAGE);
        return ExitCode::from(OWN_FAILURE);
    };
    let rest: Vec<OsString> = arguments.collect();
    let wants_help = rest.first().is_some_and(|first| first == "--help" || first == "-h");
    let result = match command.to_str() {
        Some("check" | "list" | "clean" | "enter" | "run" | "stamp") if wants_help => {
            answer(USAGE).map(|()| ExitCode::SUCCESS)
        }
        Some("check") => check::main(&rest),
        Some("list") => node::list(&rest),
        Some("clean") => node::clean(&rest),
        Some("enter") => enter::main(&rest),
        Some("run") => run::main(&rest),
        Some("stamp") => stamp::main(&rest),
        Some("help" | "--help" | "-h") => answer(USAGE).map(|()| ExitCode::SUCCESS),
        Some("--version" | "-V") => {
            answer(concat!("jobns ", env!("CARGO_PKG_VERSION"), "\n")).map(|()| ExitCode::SUCCESS)
        }
        _ => Err(format!("there is no command {}; see jobns --help", command.display())),
    };
    result.unwrap_or_else(|error| {
        for line in error.lines() {
            complain(&format!("jobns: {line}\n"));
        }
        ExitCode::from(OWN_FAILURE)
    })
}

/// What cannot be written is lost: a full disk or a closed terminal must not end what we do, as std's
/// macros would, and there is nobody left to tell.
fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Half an answer is none; somebody who closed the pipe has seen enough.
fn answer(text: &str) -> Result<(), String> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write the answer to standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// The terminal as a host of the core.
#[derive(Debug)]
pub struct TerminalHost {
    pub verbose: bool,
}

impl Log for TerminalHost {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        if self.verbose || matches!(level, Level::Error | Level::Warning) {
            let word = if level == Level::Warning { "warning: " } else { "" };
            complain(&format!("jobns: {word}{line}\n"));
        }
    }
}

impl Host for TerminalHost {
    fn holder_name(&self) -> &'static str {
        "jobns"
    }

    fn track(&self, _: Pid) -> Result<(), Error> {
        Ok(())
    }

    fn has_set_up_inside(&self) -> bool {
        false
    }

    fn set_up_inside(&self) -> Result<(), Error> {
        Ok(())
    }
}

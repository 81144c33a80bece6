//! `jobns`: the stand-alone command with the same core as the plugins.
//!
//! | file | command |
//! |---|---|
//! | [`check`] | `jobns check`: the problems of a configuration and its settings for a node |
//! | [`convert`] | `jobns convert`: a configuration as a namespace.yaml for one node |
//! | [`jobs`] | `jobns list`, `jobns clean`: the jobs on this node, and what ended jobs have left |
//! | [`enter`] | `jobns enter`: a command in the namespaces of a live job |
//! | [`run`] | `jobns run`: a command in namespaces like those of a job, without Slurm |
//! | [`stamp`] | `jobns stamp`: makes a plugin fit another micro release of Slurm |
//! | [`nodes`] | the nodes of this machine, and the spool directories of their slurmds |
//! | [`command`] | runs a command in a job's namespaces, for `run` and `enter` |
//! | [`run_base`] | the directory for the files of `run` |
//! | [`help`], [`options`] | help texts, and parsing of arguments |
//! | [`progress`] | the progress line of a long removal |
//! | [`json`] | JSON output |

#![forbid(unsafe_code)]

mod check;
mod command;
pub mod convert;
mod enter;
mod help;
mod jobs;
mod json;
mod nodes;
mod options;
mod progress;
mod run;
mod run_base;
mod stamp;

use crate::base::error::Words;
use crate::base::log::{Level, Log};
use crate::job::make::create::StepHost;
use core::fmt;
use rustix::io::Errno;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

/// Exit status if `jobns` itself fails, as for env(1).
pub(crate) const OWN_FAILURE: u8 = 125;

/// The name of this machine up to the first dot, as in Slurm (`gethostname_short`).
fn host_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().split('.').next().unwrap_or_default().to_owned()
}

/// The entry point of the program.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(command) = arguments.next() else {
        complain(&help::all());
        return ExitCode::from(OWN_FAILURE);
    };
    let rest: Vec<OsString> = arguments.collect();
    let result = match command.to_str() {
        Some("check") => check::main(&rest),
        Some("convert") => convert::main(&rest),
        Some("list") => jobs::list(&rest),
        Some("clean") => jobs::clean(&rest),
        Some("enter") => enter::main(&rest),
        Some("run") => run::main(&rest),
        Some("stamp") => stamp::main(&rest),
        Some("help" | "--help" | "-h") => help_about(rest.first()),
        Some("--version" | "-V") => {
            answer(concat!("jobns ", env!("CARGO_PKG_VERSION"), "\n")).map(|()| ExitCode::SUCCESS)
        }
        _ => Err(help::unknown(&command.to_string_lossy())),
    };
    result.unwrap_or_else(|error| {
        for line in error.lines() {
            complain(&format!("jobns: {line}\n"));
        }
        ExitCode::from(OWN_FAILURE)
    })
}

fn help_about(command: Option<&OsString>) -> Result<ExitCode, String> {
    let text = match command {
        None => help::all(),
        Some(name) => {
            let name = name.to_string_lossy();
            help::Command::named(&name).ok_or_else(|| help::unknown(&name))?.text()
        }
    };
    answer(&text).map(|()| ExitCode::SUCCESS)
}

/// Writes to standard error and ignores failures. The macros of std would end the program if a disk is full or a terminal
/// is closed.
fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// An error of std in the words of all other errors.
fn words(error: &std::io::Error) -> String {
    Errno::from_io_error(error).map_or_else(|| error.to_string(), |errno| Words(errno).to_string())
}

/// Writes to standard output. A failure is an error, unless the reader has closed the pipe.
fn answer(text: &str) -> Result<(), String> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// Logs to standard error.
#[derive(Debug)]
pub(crate) struct TerminalHost {
    pub(crate) verbose: bool,
}

impl Log for TerminalHost {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        if self.verbose || matches!(level, Level::Error | Level::Warning) {
            let word = if level == Level::Warning { "warning: " } else { "" };
            complain(&format!("jobns: {word}{line}\n"));
        }
    }
}

impl StepHost for TerminalHost {
    fn holder_name(&self) -> &'static str {
        "jobns"
    }
}

//! `jobns`: the stand-alone host of the same core.
//!
//! | file | command |
//! |---|---|
//! | [`check`] | `jobns check`: what a configuration comes to for one node, and what is wrong with it |
//! | [`convert`] | `jobns convert`: what a configuration means for one node, as a namespace.yaml |
//! | [`jobs`] | `jobns list`, `jobns clean`: the jobs of this node, and what is left of those that are gone |
//! | [`enter`] | `jobns enter`: a command in the namespaces of a live job |
//! | [`nodes`] | which nodes this machine is, and where their slurmd's spool directories are |
//! | [`json`] | how all of them write JSON |
//! | [`run`] | `jobns run`: a command in the namespaces that a configuration asks for, without Slurm |
//! | [`command`] | what `run` and `enter` share: a command in a job's namespaces |
//! | [`help`], [`options`] | what each command is for, and how its words are read |
//! | [`progress`] | what is shown while many files are removed |
//! | [`base`] | where `run` keeps the files of its jobs |
//! | [`stamp`] | `jobns stamp`: a plugin for another micro release of Slurm |

#![forbid(unsafe_code)]

mod base;
pub mod check;
mod command;
pub mod convert;
pub mod enter;
mod help;
pub mod jobs;
pub mod json;
mod nodes;
mod options;
mod progress;
pub mod run;
pub mod stamp;

use crate::base::error::Words;
use crate::base::log::{Level, Log};
use crate::job::make::create::StepHost;
use core::fmt;
use rustix::io::Errno;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

/// Exit status when `jobns` itself cannot do what it was asked to, as env(1) and others have it.
pub const OWN_FAILURE: u8 = 125;

/// This machine's name up to the first dot, as Slurm has it (`gethostname_short`).
fn host_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().split('.').next().unwrap_or_default().to_owned()
}

/// Entry point of the program.
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

/// What cannot be written is lost: a full disk or a closed terminal must not end what we do, as std's
/// macros would, and there is nobody left to tell.
fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// An error of std, worded as all other errors are.
fn words(error: &std::io::Error) -> String {
    Errno::from_io_error(error).map_or_else(|| error.to_string(), |errno| Words(errno).to_string())
}

/// An answer that is cut short is an error, unless the reader has closed the pipe.
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

impl StepHost for TerminalHost {
    fn holder_name(&self) -> &'static str {
        "jobns"
    }
}

//! `jobns enter`: runs a shell or a command in all namespaces of a live job.
//!
//! Like [`join`](crate::job::join), it uses the record of the job. It enters the namespaces of the holder, after checking
//! that the holder is still the recorded process. Only root can use it. The command has the rights of root in the job's
//! `/proc`, `/tmp` and so on.

use crate::base::base_dir::open_base;
use crate::base::error::{Doing, Error};
use crate::cli::command;
use crate::cli::command::{exit_code, shell};
use crate::cli::help::ENTER;
use crate::cli::nodes;
use crate::cli::options;
use crate::cli::options::{Reader, Stop, Word};
use crate::job::join::{DeadPid, join};
use crate::job::record::job;
use crate::job::record::job::Found;
use crate::job::record::process::BootId;
use crate::job::record::registry::Registry;
use crate::job::remove::{dead_jobs, slurms_leftovers};
use crate::sys::process::has_ended;
use crate::sys::signals::EndSignals;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::ffi::OsString;
use std::process::ExitCode;

#[derive(Debug, PartialEq, Eq)]
struct Options {
    spool: Option<String>,
    job: u32,
    command: Vec<OsString>,
}

fn parse(arguments: &[OsString]) -> Result<Options, Stop> {
    let mut spool = None;
    let mut job = None;
    let mut reader = Reader::new(&ENTER, arguments);
    while let Some(word) = reader.next()? {
        match word {
            Word::Option(option, value) => spool = Some(options::text(option, value)?),
            Word::Operand(word) => {
                job = Some(word);
                break;
            }
            Word::Flag(_) | Word::Dashes => break,
        }
    }
    let job = job.ok_or_else(|| "enter needs a job id; see jobns list".to_owned())?;
    let job = job.to_str().and_then(|job| job.parse().ok()).ok_or(format!(
        "{} is not a job id (for a job of an array, use the id that jobns list prints)",
        job.display()
    ))?;
    let mut command = reader.rest();
    if command.first().is_some_and(|dashes| dashes == "--") {
        command.remove(0);
    }
    Ok(Options { spool, job, command: if command.is_empty() { shell() } else { command } })
}

/// `jobns enter`
pub(crate) fn main(arguments: &[OsString]) -> Result<ExitCode, String> {
    let Some(options) = options::or_help(&ENTER, parse(arguments))? else { return Ok(ExitCode::SUCCESS) };
    let Options { spool, job, command } = options;
    let nodes = nodes::found(spool.as_deref(), None)?;
    let registries = || nodes.iter().flat_map(|node| &node.registries);
    let found = registries().find_map(|(_, registry)| find(&registry.bases, &registry.node, job));
    let Some(found) = found else {
        let slurms = registries().find_map(|(_, registry)| of_slurms_plugin(registry, job));
        return Err(slurms.unwrap_or_else(|| format!("job {job} has no namespaces on this node; see jobns list")));
    };
    enter(&found, &command).map_err(|error| error.to_string())
}

/// The sentence about a job that Slurm's own plugin has made, with the command that enters it.
fn of_slurms_plugin(registry: &Registry, job: u32) -> Option<String> {
    registry.bases.iter().flat_map(|base| dead_jobs::places(base, &registry.node)).find_map(|place| {
        let base = open_base(&place).ok()?;
        let leftover = slurms_leftovers::recognise(base.as_fd(), &job.to_string())?;
        let options: Vec<String> = leftover
            .namespaces()
            .iter()
            .map(|(kind, file)| format!(" --{kind}={place}/{job}/{file}"))
            .collect();
        Some(if options.is_empty() {
            format!("job {job} was made by Slurm's own plugin, and its namespaces are gone; jobns clean removes what is left")
        } else {
            format!("job {job} was made by Slurm's own plugin; hint: nsenter{}", options.concat())
        })
    })
}

/// The record of a job of this plugin under one of the base paths of this node.
fn find(bases: &[String], node: &str, job: u32) -> Option<Found> {
    bases.iter().filter_map(|base| job::of_job(base, job).ok()).find(|found| found.record.header.node == node)
}

fn enter(found: &Found, command: &[OsString]) -> Result<ExitCode, Error> {
    let record = &found.record;
    let intention = || format!("enter the namespaces of job {}", record.header.id);
    if !record.of_this_boot {
        return Err(
            Error::because(intention(), "it is from an earlier boot").with_hint("jobns clean removes what is left")
        );
    }
    let holder = record.holder.ok_or_else(|| Error::because(intention(), "it is still being set up"))?;
    let holder = match holder.open() {
        Ok(holder) if !has_ended(holder.as_fd()).unwrap_or(true) => Some(holder),
        // In an Epilog with PrologFlags=RunInJob: Slurm has killed the processes of the job. Its extern slurmstepd keeps
        // the other namespaces.
        Ok(_) | Err(Errno::SRCH) => {
            let boot = BootId::current().doing("read", || "read the boot id".to_owned())?;
            let bases = record.trees.first().map(|tree| tree.base.as_str());
            join(bases.into_iter(), &record.header.node, boot, record.header.id, DeadPid::IsLeftOut)
                .map_err(|why| Error::because(intention(), why.to_string()))?;
            None
        }
        Err(errno) => return Err(Error::call(intention(), "pidfd_open", errno)),
    };
    // From here on, Ctrl-C ends the command, not this process.
    let signals = EndSignals::block().doing("signalfd4", || "wait for signals".to_owned())?;
    command::run(holder.as_ref().map(AsFd::as_fd), record.namespaces, command, None, &signals).map(exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_starts_after_the_job() {
        let parsed = |words: &[&str]| parse(&words.iter().map(OsString::from).collect::<Vec<_>>());
        let found = parsed(&["--spool=/s", "7", "ls", "--spool", "x"]).unwrap();
        assert_eq!((found.spool.as_deref(), found.job, found.command.len()), (Some("/s"), 7, 3));
        assert_eq!(parsed(&["7", "--", "--x"]).unwrap().command, ["--x"]);
        assert_eq!(parsed(&["7"]).unwrap().command.len(), 1);
        for bad in [&[][..], &["x"], &["-1"], &["--spool"], &["--spool", "/s"], &["7.0"]] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }
}

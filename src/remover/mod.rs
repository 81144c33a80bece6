//! `jobns-remover`: the program beside the plugins that removes what jobs leave.
//!
//! A user can make every access to a tree of theirs wait forever. So the daemons only rename trees, and processes of
//! this program walk them. slurmd starts the program, and starts it again if it has ended.
//!
//! | file | runs in | what it does |
//! |---|---|---|
//! | [`supervisor`] | one process for each slurmd | finds what must be removed, assigns it, never opens a tree |
//! | [`queue`] | the supervisor | decides whose turn it is; no system call |
//! | [`status`] | the supervisor, and `jobns list` | the file in slurmd's spool directory that says what is held up |
//! | `process` | the supervisor | starts workers and reads their replies |
//! | [`worker`] | one process for each tree, a few at a time | removes a tree, or deletes a dead job |
//! | [`survivors`] | a worker | finds processes that still use a tree |
//!
//! Its arguments say what to do. Standard input is a pidfd of slurmd, which tells when slurmd has ended. Standard
//! output is for lines for slurmd's log, each of which begins with a letter for its level.

mod log;
mod process;
pub mod queue;
pub mod status;
mod supervisor;
pub mod survivors;
mod worker;

pub use log::parse_line;

use crate::base::trusted_path;
use crate::config::flavour::Flavour;
use crate::config::settings::Script;
use crate::config::size::ProjectIds;
use crate::config::spelling;
use std::ffi::OsString;
use std::process::ExitCode;

/// The name of the program, in the directory of the plugins.
pub const PROGRAM: &str = "jobns-remover";

const USAGE: &str = "\
usage: jobns-remover --node NAME --spool DIR --status FILE --slurm-conf FILE [--base DIR]... [--trash DIR]...
                     [--epilog FILE --epilog-wait SECONDS] [--wait SECONDS] [--slurm-user UID]
                     [--project-ids FIRST-LAST] [--debug]

Removes what jobs leave in their base paths. slurmd's plugin starts it; do not start it by hand.
See slurm-jobns(7).
";

/// The arguments from slurmd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The name that Slurm has for the node.
    pub node: String,
    /// slurmd's spool directory.
    pub spool: String,
    /// The name of the status file there.
    pub status: String,
    pub slurm_conf: String,
    /// Where job directories are.
    pub bases: Vec<String>,
    /// Other directories with a trash.
    pub trash: Vec<String>,
    pub epilog: Option<Script>,
    /// How many seconds the end of a job waits for its removal.
    pub wait: u32,
    pub debug: bool,
    /// The uid of `SlurmUser`; 0 if it is root.
    pub slurm_user: u32,
    /// The projects of jobs.
    pub project_ids: Option<ProjectIds>,
    /// It is a worker, not the supervisor.
    pub worker: bool,
}

impl Options {
    /// The options as arguments of the program.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
        add("--node", &self.node);
        add("--spool", &self.spool);
        add("--status", &self.status);
        add("--slurm-conf", &self.slurm_conf);
        for base in &self.bases {
            add("--base", base);
        }
        for base in &self.trash {
            add("--trash", base);
        }
        if let Some(Script { path, wait_seconds }) = &self.epilog {
            add("--epilog", path);
            add("--epilog-wait", &wait_seconds.to_string());
        }
        add("--wait", &self.wait.to_string());
        add("--slurm-user", &self.slurm_user.to_string());
        if let Some(ids) = self.project_ids {
            words.extend(["--project-ids".to_owned(), ids.to_string()]);
        }
        words.extend(self.debug.then(|| "--debug".to_owned()));
        words.extend(self.worker.then(|| "--worker".to_owned()));
        words
    }

    fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self::default();
        let (mut epilog, mut epilog_wait) = (None, 0);
        let mut rest =
            arguments.map(|word| word.into_string().map_err(|word| format!("{} is not UTF-8", word.display())));
        while let Some(name) = rest.next().transpose()? {
            match name.as_str() {
                "--debug" => {
                    options.debug = true;
                    continue;
                }
                "--worker" => {
                    options.worker = true;
                    continue;
                }
                _ => {}
            }
            let value = rest.next().transpose()?.ok_or(format!("{name} needs a value"))?;
            let number = || value.parse::<u32>().map_err(|_| format!("{name} {value} is not a number"));
            match name.as_str() {
                "--node" => options.node = value,
                "--spool" => options.spool = value,
                "--status" => options.status = value,
                "--slurm-conf" => options.slurm_conf = value,
                "--base" => options.bases.push(value),
                "--trash" => options.trash.push(value),
                "--epilog" => epilog = Some(value),
                "--epilog-wait" => epilog_wait = number()?,
                "--wait" => options.wait = number()?,
                "--slurm-user" => options.slurm_user = number()?,
                "--project-ids" => {
                    let ids = ProjectIds::parse(&value).map_err(|refusal| format!("{name} {value} {refusal}"))?;
                    options.project_ids = Some(ids);
                }
                _ => return Err(format!("unknown option {name}")),
            }
        }
        options.epilog = epilog.map(|path| Script { path, wait_seconds: epilog_wait });
        if options.node.is_empty() || options.spool.is_empty() || options.status.is_empty() {
            return Err("--node, --spool and --status are required".to_owned());
        }
        Ok(options)
    }
}

/// Entry point of the program.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    match arguments.peek().and_then(|word| word.to_str()) {
        Some("--version") => {
            println!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some("--help") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let run = |options: Options| {
        trusted_path::trust_slurm_user(options.slurm_user);
        spelling::use_conf(options.status == Flavour::Tmpfs.removal_status());
        if options.worker { worker::run(&options) } else { supervisor::run(options) }
    };
    match Options::parse(arguments).map_err(|why| format!("{PROGRAM}: {why}\n{USAGE}")).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::log::Level;

    #[test]
    fn options_survive_the_arguments() {
        let options = Options {
            node: "n1".into(),
            spool: "/var/spool/a b".into(),
            status: "s".into(),
            slurm_conf: "/etc/slurm.conf".into(),
            bases: vec!["/a".into(), "/b c".into()],
            trash: vec!["/d".into()],
            epilog: Some(Script { path: "/e".into(), wait_seconds: 7 }),
            wait: 60,
            debug: true,
            slurm_user: 64030,
            project_ids: ProjectIds::parse("5-9").ok(),
            worker: true,
        };
        let parsed = Options::parse(options.arguments().into_iter().map(OsString::from));
        assert_eq!(parsed, Ok(options));
        for bad in [&["--node"][..], &["--nod", "x"], &["--wait", "x"], &["--node", "n"]] {
            assert!(Options::parse(bad.iter().map(OsString::from)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_line_has_its_level() {
        assert_eq!(parse_line("I job 7: x"), (Level::Info, "job 7: x"));
        assert_eq!(parse_line("thread 'main' panicked"), (Level::Error, "thread 'main' panicked"));
    }
}

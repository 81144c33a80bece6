//! The help texts of `jobns`: a summary of all commands, and each command with its options and an example.

use crate::config::suggest::nearest;
use std::fmt::Write as _;

/// An option of a command.
#[derive(Debug)]
pub(super) struct Opt {
    pub(super) name: &'static str,
    /// Empty if there is no short form.
    pub(super) short: &'static str,
    pub(super) has_value: bool,
}

const fn flag(name: &'static str) -> Opt {
    Opt { name, short: "", has_value: false }
}

const fn valued(name: &'static str) -> Opt {
    Opt { name, short: "", has_value: true }
}

/// A command.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// The usage line after the name.
    usage: &'static str,
    short: &'static str,
    pub(super) options: &'static [Opt],
    help: &'static str,
}

pub(super) const CHECK: Command = Command {
    name: "check",
    usage: "FILE [--node NAME] [--format text|json] [--strict] [--tmpfs] [--here] [--quiet]",
    short: "check a configuration and print its settings",
    options: &[
        valued("--node"),
        valued("--format"),
        flag("--strict"),
        flag("--tmpfs"),
        flag("--here"),
        flag("--quiet"),
    ],
    help: "\
Prints all problems of FILE, a namespace.yaml or job_container.conf (- is standard input), then the
settings of one node, each with the line that it comes from.

  --node NAME     the node, also for %h (default: SLURMD_NODENAME in the environment, the name that
                  slurmd has recorded in /run/slurm-jobns, or the name of this machine)
  --format json   print one JSON object, for programs; the default is text
  --strict        exit with status 1 if there are warnings
  --tmpfs         FILE is a job_container.conf; a file of that name is always read as one
  --here          also check this machine: whether the paths exist, who can write to them, and
                  whether the scripts are safe; as root also whether base_path can be written to,
                  whether the kernel supports the settings, and whether the running slurmd has
                  loaded this plugin and its jobns-remover runs
  --quiet         print only errors, one on each line

exit status: 0 no error (with --strict, no warning either); 1 warnings, with --strict; 2 errors, or
             FILE cannot be read; 125 wrong usage
example:     jobns check /etc/slurm/namespace.yaml --node=gpu7 --strict
",
};

pub(super) const CONVERT: Command = Command {
    name: "convert",
    usage: "FILE [--node NAME] [--tmpfs]",
    short: "convert a configuration to a tidy namespace.yaml",
    options: &[valued("--node"), flag("--tmpfs")],
    help: "\
Converts FILE, a job_container.conf or namespace.yaml (- is standard input), to a namespace.yaml for one
node, on standard output. A comment beside each value names its line in FILE. Problems of FILE are printed
on standard error, as by jobns check.

  --node NAME     the node (default: as for check)
  --tmpfs         FILE is a job_container.conf; a file of that name is always read as one

exit status: 0 no error; 2 errors, or FILE cannot be read; 125 wrong usage
example:     jobns convert /etc/slurm/job_container.conf --node n7 >namespace.yaml
",
};

pub(super) const LIST: Command = Command {
    name: "list",
    usage: "[--node NAME] [--spool DIR] [--format text|json]",
    short: "list the jobs on this node, and what ended jobs have left",
    options: &[valued("--node"), valued("--spool"), valued("--format")],
    help: "\
Lists the jobs that have namespaces on this node, and what ended jobs have left.
Only root can use it.

  --node NAME     the node, if several slurmds run on this machine
  --spool DIR     slurmd's spool directory (default: the one that slurmd has recorded in
                  /run/slurm-jobns, /var/spool/slurmd, or /var/lib/slurm/slurmd)
  --format json   print one JSON object, for programs; the default is text

exit status: 0 nothing is left of ended jobs; 1 something is left, possibly in .trash, or it is not
             clear which jobs are alive; 125 the node cannot be examined
example:     jobns list --format=json
",
};

pub(super) const CLEAN: Command = Command {
    name: "clean",
    usage: "[--dry-run [--format text|json]] [--node NAME] [--spool DIR]",
    short: "remove what ended jobs have left",
    options: &[flag("--dry-run"), valued("--format"), valued("--node"), valued("--spool")],
    help: "\
Removes what ended jobs have left, as jobns-remover does. Only root can use it.

  --dry-run       remove nothing, print what list prints
  --format json   with --dry-run: print one JSON object, for programs
  --node NAME     the node, if several slurmds run on this machine
  --spool DIR     slurmd's spool directory (default: as for list)

exit status: 0 nothing is left; 1 something is left; 125 the node cannot be examined, or the
             configuration cannot be read
example:     jobns clean --dry-run
",
};

pub(super) const ENTER: Command = Command {
    name: "enter",
    usage: "[--spool DIR] JOB [--] [COMMAND [ARGUMENT...]]",
    short: "run a command in the namespaces of a live job",
    options: &[valued("--spool")],
    help: "\
Runs COMMAND, or a shell, as root in the namespaces of a live job. Only root can use it.

  --spool DIR     slurmd's spool directory (default: as for list)

exit status: that of COMMAND; 127 it is not found; 126 it cannot be executed; 125 jobns failed
example:     jobns enter 4711 -- ls -l /tmp
",
};

pub(super) const RUN: Command = Command {
    name: "run",
    usage: "[--config FILE] [--node NAME] [--job NUMBER] [--verbose] [--] [COMMAND [ARGUMENT...]]",
    short: "run a command in namespaces like those of a job, without Slurm",
    options: &[
        valued("--config"),
        valued("--node"),
        valued("--job"),
        Opt { name: "--verbose", short: "-v", has_value: false },
    ],
    help: "\
Runs COMMAND, or a shell, with a private /tmp and /dev/shm in a new PID namespace, or with the
settings in FILE, a namespace.yaml. Root gets what slurmd gives to jobs; an ordinary user gets the
same in a user namespace. Everything is removed when COMMAND ends.

  --config FILE   the configuration (default: an embedded one)
  --node NAME     the node for which it is read (default: as for check)
  --job NUMBER    the job id (default: the process id)
  --verbose, -v   print what is done

exit status: that of COMMAND; 127 it is not found; 126 it cannot be executed; 125 jobns failed
example:     jobns run -- sh -c 'ls -la /tmp; ps -ef'
",
};

pub(super) const STAMP: Command = Command {
    name: "stamp",
    usage: "PLUGIN [VERSION]",
    short: "make a plugin fit another micro release of Slurm",
    options: &[],
    help: "\
Makes PLUGIN, a namespace_linux.so or namespace_tmpfs.so of slurm-jobns, fit VERSION of Slurm, another
micro release of the line for which it was built. Without VERSION it prints the version that PLUGIN fits.

exit status: 0 success; 125 failure, PLUGIN stays as it was
example:     jobns stamp /opt/slurm-jobns/namespace_linux.so 26.05.6
",
};

pub(super) const COMMANDS: [&Command; 7] = [&CHECK, &CONVERT, &LIST, &CLEAN, &ENTER, &RUN, &STAMP];

impl Command {
    /// The output of `jobns COMMAND --help`.
    pub(super) fn text(&self) -> String {
        format!("usage: jobns {} {}\n\n{}", self.name, self.usage, self.help)
    }

    pub(super) fn named(name: &str) -> Option<&'static Self> {
        COMMANDS.into_iter().find(|command| command.name == name)
    }
}

/// The output of `jobns` and `jobns --help`.
pub(super) fn all() -> String {
    let mut text = String::new();
    for (index, command) in COMMANDS.iter().enumerate() {
        let start = if index == 0 { "usage:" } else { "      " };
        let _ = writeln!(text, "{start} jobns {} {}", command.name, command.usage);
    }
    text.push('\n');
    for command in COMMANDS {
        let _ = writeln!(text, "  {:7}  {}", command.name, command.short);
    }
    text.push_str("\njobns COMMAND --help prints the help of one command, jobns --version the version.\n");
    text
}

/// The error about an unknown command.
pub(super) fn unknown(name: &str) -> String {
    let known = COMMANDS.iter().map(|command| command.name).chain(["help"]);
    let meant = nearest(name, known).map(|command| format!("did you mean {command}? "));
    format!("there is no command {name}; {}see jobns --help", meant.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_its_options_in_its_help_and_an_example() {
        for command in COMMANDS {
            let (text, name) = (command.text(), command.name);
            for option in command.options {
                assert!(command.usage.contains(option.name), "{name} {}", option.name);
                assert!(command.help.contains(&format!("\n  {}", option.name)), "{name} {}", option.name);
                assert!(command.help.contains(option.short), "{name} {}", option.name);
            }
            assert!(text.contains(&format!("\nexample:     jobns {name} ")), "{text}");
            assert!(text.lines().all(|line| line.len() <= 120), "{text}");
        }
    }

    #[test]
    fn the_error_about_an_unknown_command_suggests_the_nearest() {
        assert_eq!(unknown("lst"), "there is no command lst; did you mean list? see jobns --help");
        assert_eq!(unknown("frobnicate"), "there is no command frobnicate; see jobns --help");
    }
}

//! What `jobns` says about itself: all commands in short, and each with its options and an example.

use crate::config::suggest::nearest;
use std::fmt::Write as _;

/// An option of a command.
#[derive(Debug)]
pub(super) struct Opt {
    pub(super) name: &'static str,
    /// Empty: it has no short form.
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
    /// Behind the name.
    usage: &'static str,
    short: &'static str,
    pub(super) options: &'static [Opt],
    help: &'static str,
}

pub(super) const CHECK: Command = Command {
    name: "check",
    usage: "FILE [--node NAME] [--format text|json] [--strict] [--tmpfs] [--here] [--quiet]",
    short: "what is wrong with a configuration, and what it comes to",
    options: &[
        valued("--node"),
        valued("--format"),
        flag("--strict"),
        flag("--tmpfs"),
        flag("--here"),
        flag("--quiet"),
    ],
    help: "\
Shows everything that is wrong with FILE, a namespace.yaml or job_container.conf (- is standard
input), the settings of one node, and where each of them comes from.

  --node NAME     the node, also for %h (default: SLURMD_NODENAME in the environment, the name that
                  slurmd has written down in /run/slurm-jobns, or the name of this machine)
  --format json   one JSON object, for programs; text is the default
  --strict        warnings count: exit status 1 when there are some
  --tmpfs         FILE is a job_container.conf; a file of that name is taken for one anyway
  --here          ask this machine as well: do the paths exist, who can write to them, are the
                  scripts safe, and, as root, can base_path be written to, does the kernel take it,
                  do the plugin and jobns-remover of the slurmd that runs fit
  --quiet         one line for each error, and nothing if there is none

exit status: 0 no error (and no warning, with --strict); 1 warnings, with --strict; 2 errors, or
             FILE cannot be read; 125 wrong usage
example:     jobns check /etc/slurm/namespace.yaml --node=gpu7 --strict
",
};

pub(super) const CONVERT: Command = Command {
    name: "convert",
    usage: "FILE [--node NAME] [--tmpfs]",
    short: "a configuration as a tidy namespace.yaml",
    options: &[valued("--node"), flag("--tmpfs")],
    help: "\
Writes to standard output what FILE, a job_container.conf or namespace.yaml (- is standard input), means
for one node, as a namespace.yaml. Comments say which line of FILE each value comes from. What is wrong
with FILE is shown on standard error, as by jobns check.

  --node NAME     the node (default: as of check)
  --tmpfs         FILE is a job_container.conf; a file of that name is taken for one anyway

exit status: 0; 2 errors, or FILE cannot be read; 125 wrong usage
example:     jobns convert /etc/slurm/job_container.conf >/etc/slurm/namespace.yaml
",
};

pub(super) const LIST: Command = Command {
    name: "list",
    usage: "[--node NAME] [--spool DIR] [--format text|json]",
    short: "the jobs of this node, and what is left of those that are gone",
    options: &[valued("--node"), valued("--spool"), valued("--format")],
    help: "\
Shows the jobs that have namespaces on this node, and what is left of those that are gone.
Only root can use it.

  --node NAME     which node, where several slurmds run on this machine
  --spool DIR     slurmd's spool directory (default: what slurmd has written down in /run/slurm-jobns,
                  else /var/spool/slurmd or /var/lib/slurm/slurmd)
  --format json   one JSON object, for programs; text is the default

exit status: 0; 1 something is left of a job that is gone, also in .trash, or may be; 125 jobns
             could not look
example:     jobns list --format=json
",
};

pub(super) const CLEAN: Command = Command {
    name: "clean",
    usage: "[--dry-run [--format text|json]] [--node NAME] [--spool DIR]",
    short: "remove what is left",
    options: &[flag("--dry-run"), valued("--format"), valued("--node"), valued("--spool")],
    help: "\
Removes what is left of jobs that are gone, as slurmd does when it starts. Only root can use it.

  --dry-run       only shows it, as list does
  --format json   with --dry-run: one JSON object, for programs
  --node NAME     which node, where several slurmds run on this machine
  --spool DIR     slurmd's spool directory (default: as of list)

exit status: 0; 1 something stays; 125 jobns could not look, or the configuration cannot be read
example:     jobns clean --dry-run
",
};

pub(super) const ENTER: Command = Command {
    name: "enter",
    usage: "[--spool DIR] JOB [--] [COMMAND [ARGUMENT...]]",
    short: "a command in the namespaces of a live job",
    options: &[valued("--spool")],
    help: "\
Runs COMMAND, or a shell, as root in the namespaces of a live job. Only root can use it.

  --spool DIR     slurmd's spool directory (default: as of list)

exit status: that of COMMAND; 127 it is not found; 126 it cannot be executed; 125 jobns failed
example:     jobns enter 4711 -- ls -l /tmp
",
};

pub(super) const RUN: Command = Command {
    name: "run",
    usage: "[--config FILE] [--node NAME] [--job NUMBER] [--verbose] [--] [COMMAND [ARGUMENT...]]",
    short: "a command in namespaces of its own, without Slurm",
    options: &[
        valued("--config"),
        valued("--node"),
        valued("--job"),
        Opt { name: "--verbose", short: "-v", has_value: false },
    ],
    help: "\
Runs COMMAND, or a shell, with a private /tmp and /dev/shm in a PID namespace of its own, or in what
FILE (a namespace.yaml) asks for. Root gets what slurmd gives to jobs; an ordinary user gets it in a
user namespace. Everything is gone afterwards.

  --config FILE   the configuration; without it an embedded one is used
  --node NAME     the node that it is read for (default: as of check)
  --job NUMBER    the job id (default: the process id)
  --verbose, -v   say what is done

exit status: that of COMMAND; 127 it is not found; 126 it cannot be executed; 125 jobns failed
example:     jobns run -- sh -c 'ls -la /tmp; ps -ef'
",
};

pub(super) const STAMP: Command = Command {
    name: "stamp",
    usage: "PLUGIN [VERSION]",
    short: "a plugin for another micro release of Slurm",
    options: &[],
    help: "\
Makes PLUGIN, a namespace_linux.so or namespace_tmpfs.so of slurm-jobns, one for VERSION of Slurm,
another micro release of the line that it was built for. Without VERSION it says for which it is.

exit status: 0; 125 PLUGIN stays as it was
example:     jobns stamp /opt/slurm-jobns/namespace_linux.so 26.05.6
",
};

pub(super) const COMMANDS: [&Command; 7] = [&CHECK, &CONVERT, &LIST, &CLEAN, &ENTER, &RUN, &STAMP];

impl Command {
    /// All that `jobns COMMAND --help` says.
    pub(super) fn text(&self) -> String {
        format!("usage: jobns {} {}\n\n{}", self.name, self.usage, self.help)
    }

    pub(super) fn named(name: &str) -> Option<&'static Self> {
        COMMANDS.into_iter().find(|command| command.name == name)
    }
}

/// What `jobns` and `jobns --help` say.
pub(super) fn all() -> String {
    let mut text = String::new();
    for (index, command) in COMMANDS.iter().enumerate() {
        let begin = if index == 0 { "usage:" } else { "      " };
        let _ = writeln!(text, "{begin} jobns {} {}", command.name, command.usage);
    }
    text.push('\n');
    for command in COMMANDS {
        let _ = writeln!(text, "  {:7}  {}", command.name, command.short);
    }
    text.push_str("\njobns COMMAND --help says more about one of them, jobns --version which jobns this is.\n");
    text
}

/// An error about a command that there is not.
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
    fn an_unknown_command_is_told_of_with_the_nearest() {
        assert_eq!(unknown("lst"), "there is no command lst; did you mean list? see jobns --help");
        assert_eq!(unknown("frobnicate"), "there is no command frobnicate; see jobns --help");
    }
}

//! Parses the arguments of a command: `--option value`, `--option=value`, and `--` before operands.

use crate::cli::help::Command;
use crate::config::suggest::nearest;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// The reason why a command does not run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// `--help` was asked for.
    Help,
    Wrong(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

/// One argument, or an option with its value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// An option without a value.
    Flag(&'static str),
    Option(&'static str, OsString),
    /// `--`, which is followed by operands.
    Dashes,
    Operand(OsString),
}

/// Reads the arguments of a command, one after the other.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    command: &'static Command,
    rest: core::slice::Iter<'a, OsString>,
    only_operands: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(command: &'static Command, arguments: &'a [OsString]) -> Self {
        Self { command, rest: arguments.iter(), only_operands: false }
    }

    /// The next argument; `None` at the end.
    ///
    /// # Errors
    ///
    /// An unknown option, a missing or an unexpected value, or `--help`.
    pub(super) fn next(&mut self) -> Result<Option<Word>, Stop> {
        let Some(word) = self.rest.next() else { return Ok(None) };
        if self.only_operands || word.len() < 2 || !word.as_bytes().starts_with(b"-") {
            return Ok(Some(Word::Operand(word.clone())));
        }
        if word == "--" {
            self.only_operands = true;
            return Ok(Some(Word::Dashes));
        }
        let (name, value) = match word.as_bytes().iter().position(|byte| *byte == b'=') {
            Some(at) => {
                let (name, value) = word.as_bytes().split_at(at);
                (OsStr::from_bytes(name), Some(OsStr::from_bytes(value.get(1..).unwrap_or_default()).to_owned()))
            }
            None => (word.as_os_str(), None),
        };
        if name == "--help" || name == "-h" {
            return Err(Stop::Help);
        }
        let Some(option) = self.command.options.iter().find(|option| name == option.name || name == option.short)
        else {
            return Err(self.unknown(&name.to_string_lossy()).into());
        };
        match (option.has_value, value) {
            (false, None) => Ok(Some(Word::Flag(option.name))),
            (false, Some(_)) => Err(format!("{} takes no value", option.name).into()),
            (true, Some(value)) => Ok(Some(Word::Option(option.name, value))),
            (true, None) => {
                let value = self.rest.next().ok_or_else(|| format!("{} needs a value", option.name))?;
                Ok(Some(Word::Option(option.name, value.clone())))
            }
        }
    }

    fn unknown(&self, name: &str) -> String {
        let Command { name: command, options, .. } = self.command;
        let known = options.iter().map(|option| option.name).chain(["--help"]);
        let meant = nearest(name, known).map(|option| format!("did you mean {option}? "));
        format!("{command} has no option {name}; {}see jobns {command} --help", meant.unwrap_or_default())
    }

    /// The arguments that are not read yet.
    pub(super) fn rest(self) -> Vec<OsString> {
        self.rest.cloned().collect()
    }

    /// The error about an operand that the command does not accept.
    pub(super) fn unexpected(&self, operand: &OsStr) -> Stop {
        let command = self.command.name;
        Stop::Wrong(format!("{command} has no argument {}; see jobns {command} --help", operand.display()))
    }
}

/// The value of an option as text. It must be UTF-8.
pub(super) fn text(option: &str, value: OsString) -> Result<String, Stop> {
    value.into_string().map_err(|value| Stop::Wrong(format!("{option} {} is not UTF-8", value.display())))
}

/// The value of `--node`, which cannot be empty.
pub(super) fn node(value: OsString) -> Result<String, Stop> {
    match text("--node", value)? {
        name if name.is_empty() => Err(Stop::Wrong("--node needs the name of a node".to_owned())),
        name => Ok(name),
    }
}

/// The value of `--format`. True means JSON.
pub(super) fn format(value: OsString) -> Result<bool, Stop> {
    match text("--format", value)?.as_str() {
        "text" => Ok(false),
        "json" => Ok(true),
        other => Err(Stop::Wrong(format!("--format must be text or json, not {other:?}"))),
    }
}

/// The result of parsing. Prints the help if `--help` was given, and returns `None`.
pub(super) fn or_help<T>(command: &Command, read: Result<T, Stop>) -> Result<Option<T>, String> {
    match read {
        Ok(options) => Ok(Some(options)),
        Err(Stop::Help) => super::answer(&command.text()).map(|()| None),
        Err(Stop::Wrong(why)) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::help::{CHECK, RUN};

    fn words(command: &'static Command, arguments: &[&str]) -> Result<Vec<Word>, Stop> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let mut reader = Reader::new(command, &arguments);
        let mut found = Vec::new();
        while let Some(word) = reader.next()? {
            found.push(word);
        }
        Ok(found)
    }

    #[test]
    fn a_value_follows_an_equals_sign_or_is_the_next_argument() {
        let node = |value: &str| Word::Option("--node", value.into());
        assert_eq!(
            words(&CHECK, &["--node", "a=b", "--node=c", "--node="]).unwrap(),
            [node("a=b"), node("c"), node("")]
        );
        assert_eq!(
            words(&CHECK, &["-", "--", "--node"]).unwrap(),
            [Word::Operand("-".into()), Word::Dashes, Word::Operand("--node".into())]
        );
        assert_eq!(words(&RUN, &["-v"]).unwrap(), [Word::Flag("--verbose")]);
        assert_eq!(words(&CHECK, &["x", "--help"]), Err(Stop::Help));
        assert_eq!(words(&CHECK, &["--node", "--help"]).unwrap(), [node("--help")]);
    }

    #[test]
    fn the_error_about_an_unknown_option_suggests_the_nearest() {
        let why = |arguments: &[&str]| match words(&CHECK, arguments) {
            Err(Stop::Wrong(why)) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why(&["--nod=n"]), "check has no option --nod; did you mean --node? see jobns check --help");
        assert_eq!(why(&["--colour"]), "check has no option --colour; see jobns check --help");
        assert_eq!(why(&["--strict=yes"]), "--strict takes no value");
        assert_eq!(why(&["--node"]), "--node needs a value");
    }
}

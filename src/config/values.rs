//! Converts one scalar to the value of a key, by the rules of its file.
//!
//! In namespace.yaml these are the rules of Slurm's `data_t`. It keeps every untagged scalar as text, quoted or not, and
//! converts it when the type of a key requires that. Slurm 25.11 first converts every scalar that looks like a null or a
//! number (`data_convert_tree`). The release for which this plugin is built decides between the two. In
//! job_container.conf the rules are those of `s_p_handle_boolean` and `s_p_handle_uint32`.
//!
//! This reader refuses values that Slurm accepts by accident: `shared: flase` is true in Slurm.

use crate::config::cluster::Named;
use crate::config::flavour::Flavour;
use crate::config::hostlist;
use crate::config::keys::{Key, Kind};
use crate::config::layer::{DirSpec, Value};
use crate::config::limits::{LONG_WAIT_SECONDS, MAX_BASE_PATH, MAX_DIRS, MAX_WORDS};
use crate::config::path::{normalise, not_private};
use crate::config::pattern::{check_job_pattern, check_node_pattern, has_other_percent};
use crate::config::problem::{Level, Place, Refusal, Report, Scalar, quote, refuse};
use crate::config::proc;
use crate::config::settings::DEFAULT_WAIT_SECONDS;
use crate::config::size::{Amount, ProjectIds, Size};
use crate::config::suggest;
use crate::config::suspicious;

/// Whether the Slurm of this build converts scalars that look like nulls and numbers.
const TYPED: bool = crate::slurm_version::RELEASE.typed_scalars;

/// The kind of value that a key requires.
pub(super) struct Wanted {
    pub(super) what: &'static str,
    /// What to write instead of another kind.
    pub(super) hint: &'static str,
}

pub(super) const BOOLEAN: Wanted = Wanted { what: "true or false", hint: "write true or false" };
pub(super) const MODE: Wanted = Wanted { what: "permission bits", hint: "write them in octal, such as 0700 or 1777" };
pub(super) const AMOUNT: Wanted = Wanted { what: "text", hint: "write a number such as 100K" };
pub(super) const SIZE: Wanted = Wanted { what: "text", hint: "write a size such as 20G or 50%mem" };
pub(super) const TEXT: Wanted = Wanted { what: "text", hint: "write a single value here" };
pub(super) const HOSTLIST: Wanted = Wanted { what: "a name or a hostlist", hint: "write a hostlist such as n[1-9]" };
const SECONDS: Wanted = Wanted { what: "a number of seconds", hint: "write a whole number such as 10, without a unit" };
const PERCENT: Wanted =
    Wanted { what: "a percentage from 1 to 100", hint: "write a whole number such as 10, without a percent sign" };
const DIRS: Wanted = Wanted { what: "text", hint: "separate the directories by commas, as in \"/tmp,/dev/shm\"" };

impl Kind {
    /// The value that a key of this kind requires, if it is a scalar.
    pub(super) const fn wanted(&self) -> &'static Wanted {
        match self {
            Self::Flag(_) => &BOOLEAN,
            Self::Seconds(_) | Self::Wait(_) => &SECONDS,
            Self::Percent(_) => &PERCENT,
            Self::Mode => &MODE,
            Self::Dirs => &DIRS,
            Self::Size => &SIZE,
            Self::Inodes => &AMOUNT,
            _ => &TEXT,
        }
    }
}

/// Reads the scalars of one file. Keys have their names in that file.
pub(super) struct ScalarReader<'r> {
    pub(super) format: Flavour,
    pub(super) report: &'r mut Report,
}

impl ScalarReader<'_> {
    /// The value of a key. `None` if the value is refused, which is reported, or if the key never has a scalar.
    pub(super) fn value(&mut self, key: &Key, scalar: &Scalar) -> Option<Value> {
        let name = key.spelled(self.format)?;
        match key.kind {
            Kind::Flag(_) => self.boolean(name, scalar).map(Value::Flag),
            Kind::Seconds(_) => self.number(name, scalar, &SECONDS, number(&scalar.text)).map(Value::Number),
            Kind::Wait(_) => self.wait(name, scalar).map(Value::Number),
            Kind::Percent(_) => {
                let percent = number(&scalar.text).filter(|percent| (1..=100).contains(percent));
                self.number(name, scalar, &PERCENT, percent).map(Value::Number)
            }
            Kind::Mode => self.mode(name, scalar).map(Value::Number),
            Kind::Script(_) => self.path(name, &scalar.text, scalar.at, normalise).map(Value::Path),
            Kind::BasePath => self.base_path(name, scalar),
            Kind::Dirs => Some(Value::Dirs(self.dirs(name, scalar))),
            Kind::HidePid => Some(Value::HidePid(proc::options(scalar, self.report))),
            Kind::Size => self.limit(name, scalar, Size::parse).map(Value::Size),
            Kind::Inodes => self.limit(name, scalar, Amount::parse).map(Value::Amount),
            Kind::ProjectIds => self.limit(name, scalar, ProjectIds::parse).map(Value::ProjectIds),
            Kind::Nodes => Some(Value::Nodes(scalar.clone())),
            Kind::Namespaces | Kind::ProcPaths | Kind::DirConfs | Kind::Keep => None,
        }
    }

    pub(super) fn boolean(&mut self, name: &str, scalar: &Scalar) -> Option<bool> {
        let text = scalar.text.to_ascii_lowercase();
        let is_yaml = self.format == Flavour::Linux;
        match text.as_str() {
            "true" | "yes" | "1" => return Some(true),
            "false" | "no" | "0" => return Some(false),
            "t" | "y" | "on" if is_yaml => return Some(true),
            "f" | "n" | "off" if is_yaml => return Some(false),
            "up" if !is_yaml => return Some(true),
            "down" if !is_yaml => return Some(false),
            "" | "~" | "null" if is_yaml => {
                self.report.warning(
                    scalar.at,
                    format!("{name} has no value, which Slurm reads as false"),
                    "write false",
                );
                return Some(false);
            }
            _ => {}
        }
        let hint = match text.as_str() {
            "on" => "write true: Slurm accepts this only in namespace.yaml".to_owned(),
            "off" => "write false: Slurm accepts this only in namespace.yaml".to_owned(),
            text => suggest::hint(text, ["true", "false", "yes", "no"], || {
                let slurm = !(text.starts_with('~') || is_zero(text));
                let slurms = if is_yaml { format!(" (Slurm reads this as {slurm})") } else { String::new() };
                format!("{}{slurms}", BOOLEAN.hint)
            }),
        };
        self.refuse(name, scalar, &BOOLEAN, &hint)
    }

    /// Reports that the value is not of the kind that the key requires.
    fn refuse<T>(&mut self, name: &str, scalar: &Scalar, wanted: &Wanted, hint: &str) -> Option<T> {
        self.report.error(scalar.at, format!("{name} must be {}, not {}", wanted.what, quote(&scalar.text)), hint);
        None
    }

    fn number(&mut self, name: &str, scalar: &Scalar, wanted: &Wanted, number: Option<u32>) -> Option<u32> {
        let text = scalar.text.as_str();
        let is_octal = self.format == Flavour::Tmpfs
            && text.len() > 1
            && text.starts_with('0')
            && text.bytes().all(|b| b.is_ascii_digit());
        if is_octal {
            let hint = "Slurm reads a number with a leading zero as octal: remove the zero";
            return self.refuse(name, scalar, wanted, hint);
        }
        number.or_else(|| self.refuse(name, scalar, wanted, wanted.hint))
    }

    /// Permission bits in octal: `0700`, `700`, `0o700`, `1777`.
    pub(super) fn mode(&mut self, name: &str, scalar: &Scalar) -> Option<u32> {
        mode(&scalar.text).or_else(|| self.refuse(name, scalar, &MODE, MODE.hint))
    }

    /// A number of files, or a size.
    pub(super) fn limit<T>(
        &mut self,
        name: &str,
        scalar: &Scalar,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        let text = scalar.text.as_str();
        parse(text).map_err(|refusal| self.report.of_value(Level::Error, scalar.at, name, text, refusal)).ok()
    }

    /// The time limit of a script in seconds.
    fn wait(&mut self, name: &str, scalar: &Scalar) -> Option<u32> {
        let is_yaml = self.format == Flavour::Linux;
        let seconds = if is_yaml { wait(&scalar.text, TYPED) } else { number(&scalar.text) };
        let seconds = self.number(name, scalar, &SECONDS, seconds)?;
        if seconds == 0 && is_yaml {
            let hint = format!("it means {DEFAULT_WAIT_SECONDS} seconds: write {DEFAULT_WAIT_SECONDS}");
            self.report.warning(scalar.at, format!("{name}: 0 does not mean \"no limit\""), hint);
            return Some(DEFAULT_WAIT_SECONDS);
        }
        if seconds == 0 {
            let what = format!("{name} is 0, so a script that hangs blocks the job");
            let hint = "Slurm waits forever, this plugin 136 years: write a number such as 10";
            self.report.warning(scalar.at, what, hint);
            return Some(u32::MAX);
        }
        if seconds > LONG_WAIT_SECONDS {
            let hint = "a script that hangs blocks the job";
            self.report.warning(scalar.at, format!("{name} is more than a day"), hint);
        }
        Some(seconds)
    }

    /// A path that `normalise` accepts. Reports a path that looks like a mistake.
    pub(super) fn path(
        &mut self,
        name: &str,
        text: &str,
        at: Place,
        normalise: impl Fn(&str) -> Result<String, Refusal>,
    ) -> Option<String> {
        if let Some((level, refusal)) = suspicious::remark(text, self.format == Flavour::Tmpfs) {
            self.report.of_value(level, at, name, text, refusal);
            if level == Level::Error {
                return None;
            }
        }
        normalise(text).map_err(|refusal| self.report.of_value(Level::Error, at, name, text, refusal)).ok()
    }

    fn base_path(&mut self, name: &str, scalar: &Scalar) -> Option<Value> {
        let text = scalar.text.as_str();
        if text.eq_ignore_ascii_case("none") {
            return Some(Value::Base(None));
        }
        if text.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("none")) {
            let what = format!("{name} {} only starts with \"none\", but Slurm would disable the plugin", quote(text));
            self.report.error(scalar.at, what, "write none, or an absolute path");
            return None;
        }
        self.base_pattern(name, scalar).map(|pattern| Value::Base(Some(pattern)))
    }

    /// The base path of the node or of one directory.
    pub(super) fn base_pattern(&mut self, name: &str, scalar: &Scalar) -> Option<String> {
        let pattern = self.path(name, &scalar.text, scalar.at, |text| match check_node_pattern(text)? {
            path if path.len() > MAX_BASE_PATH => {
                refuse(format!("has {} bytes", path.len()), format!("it can have at most {MAX_BASE_PATH}"))
            }
            path => Ok(path),
        })?;
        if has_other_percent(&pattern) {
            let what = format!("{name} {} contains a % that is not replaced", quote(&scalar.text));
            self.report.warning(scalar.at, what, "only %h (host name) and %n (node name) are replaced");
        }
        Some(pattern)
    }

    /// Paths, separated by commas.
    fn dirs(&mut self, name: &str, scalar: &Scalar) -> Vec<DirSpec> {
        let mut out = Vec::new();
        let mut has_spaces = false;
        for (index, word) in scalar.text.split(',').filter(|word| !word.trim().is_empty()).enumerate() {
            let path = word.trim();
            let at = scalar.place_of(path);
            if index >= MAX_WORDS {
                self.report.error(
                    at,
                    format!("{name} has more than {MAX_WORDS} names"),
                    "make fewer directories private",
                );
                break;
            }
            has_spaces |= path.len() != word.len();
            out.extend(self.dir(name, path, at, &out).map(|path| DirSpec::new(path, at)));
        }
        if has_spaces {
            let what = format!("there are spaces around the commas of {name}");
            self.report.warning(scalar.place_of(&scalar.text), what, "Slurm does not skip them: remove them");
        }
        if scalar.text.is_empty() {
            let what = format!("{name} is empty: no directory is private");
            self.report.warning(scalar.at, what, "leave it out for /tmp and /dev/shm");
        }
        out
    }

    /// The path of a private directory, as far as it can be checked on its own.
    pub(super) fn dir(&mut self, name: &str, text: &str, at: Place, before: &[DirSpec]) -> Option<String> {
        let is_conf = self.format == Flavour::Tmpfs;
        let path = self.path(&format!("the directory in {name}"), text, at, |text| {
            if !is_conf {
                return check_job_pattern(text);
            }
            let path = normalise(text)?;
            if !path.contains('%') {
                return Ok(path);
            }
            // Slurm reads the % literally. A user who writes it probably expects a pattern.
            let hint = "write the path without it; namespace.yaml supports %u and %j";
            refuse("contains a %, which has no meaning in this file", hint)
        })?;
        if let Some(top) = not_private(&path) {
            let what = format!("{} cannot be private: it is in {top}", quote(text));
            self.report.error(at, what, "jobs need what is there; remove this directory");
            return None;
        }
        // This is fast enough: `before` never has more than MAX_DIRS entries.
        if let Some(first) = before.iter().find(|dir| dir.path == path) {
            let line = self.report.line_of(first.at);
            let what = format!("{} is already a private directory, on line {line}", quote(text));
            self.report.error(at, what, "remove one");
            return None;
        }
        if before.len() >= MAX_DIRS {
            let what = format!("there are more than {MAX_DIRS} private directories");
            self.report.error(at, what, "make fewer directories private");
            return None;
        }
        Some(path)
    }

    /// Whether the node is in this hostlist. `None` if the hostlist cannot be parsed.
    pub(super) fn hostlist(&mut self, scalar: &Scalar, node: &str, named: &mut Vec<Named>) -> Option<bool> {
        let text = scalar.text.as_str();
        let is_ours = match hostlist::contains(text, node) {
            Ok(is_ours) => is_ours,
            Err(refusal) => {
                self.report.of_value(Level::Error, scalar.at, "the hostlist", text, refusal);
                return None;
            }
        };
        for name in hostlist::names(text) {
            if let Some(Refusal { what, hint }) = hostlist::idiom(name, node) {
                self.report.warning(scalar.place_of(name), what, hint);
            }
        }
        named.push(Named { list: text.to_owned(), line: self.report.top_line_of(scalar.at), is_ours });
        Some(is_ours)
    }
}

/// Whether Slurm reads this value in namespace.yaml as not set.
pub(super) fn is_unset(text: &str) -> bool {
    is_null(text, TYPED)
}

fn is_null(text: &str, typed: bool) -> bool {
    text.is_empty() || typed && (text == "~" || text.eq_ignore_ascii_case("null"))
}

/// Whether Slurm would read this as the number zero. Only for a message about Slurm.
fn is_zero(text: &str) -> bool {
    let hex = text.strip_prefix("0x").map(|digits| !digits.is_empty() && digits.bytes().all(|b| b == b'0'));
    hex.unwrap_or_else(|| {
        let number = text.trim_start_matches(['+', '-']);
        let (mantissa, exponent) = number.split_once('e').unwrap_or((number, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !(whole.is_empty() && fraction.is_empty() || exponent.is_empty())
            && whole.bytes().chain(fraction.bytes()).all(|b| b == b'0')
            && exponent.bytes().all(|b| b.is_ascii_digit())
    })
}

/// A 32-bit number as Slurm reads it: decimal, optionally with leading zeros, or hexadecimal. Slurm also accepts `-1` and
/// larger numbers, and turns them into a wait of 136 years.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(digits, 16).ok(),
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

/// Permission bits in octal: `0700`, `700`, `0o700`, `1777`.
fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    u32::from_str_radix(digits, 8).ok().filter(|&bits| bits <= 0o7777)
}

/// A number of seconds as Slurm reads it. 0 if not set.
fn wait(text: &str, typed: bool) -> Option<u32> {
    match number(text) {
        None if typed && is_null(text, typed) => Some(0),
        None if typed => whole(text),
        found => found,
    }
}

/// `2e1` and `20.0` are 20. Slurm rounds a number that is not whole; this reader refuses it.
fn whole(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{integer}{fraction}");
    if integer.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
    let shift = exponent.parse::<u8>().ok()?.checked_sub(u8::try_from(fraction.len()).ok()?);
    match shift {
        Some(zeros) => digits.parse::<u32>().ok()?.checked_mul(10_u32.checked_pow(zeros.into())?),
        // The digits that remain after the decimal point must be zeros.
        None => {
            let kept = integer.len() + usize::from(exponent.parse::<u8>().ok()?);
            let (kept, rest) = digits.split_at_checked(kept)?;
            rest.bytes().all(|b| b == b'0').then(|| kept.parse().ok()).flatten()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn boolean(text: &str, format: Flavour) -> (Option<bool>, String) {
        let mut report = Report::default();
        report.add_file("f", text.as_bytes());
        let scalar = Scalar::new(text);
        let found = ScalarReader { format, report: &mut report }.boolean("key", &scalar);
        (found, report.finish().iter().map(crate::config::problem::Problem::one_line).collect())
    }

    #[test]
    fn booleans_as_slurm_reads_them() {
        let silent = |value| (Some(value), String::new());
        let (yaml, conf) = (Flavour::Linux, Flavour::Tmpfs);
        for text in ["true", "True", "TRUE", "yes", "1"] {
            assert_eq!((boolean(text, yaml), boolean(text, conf)), (silent(true), silent(true)), "{text}");
        }
        for text in ["false", "False", "no", "NO", "0"] {
            assert_eq!((boolean(text, yaml), boolean(text, conf)), (silent(false), silent(false)), "{text}");
        }
        for (text, value) in [("t", true), ("Y", true), ("on", true), ("f", false), ("N", false), ("OFF", false)] {
            assert_eq!((boolean(text, yaml), boolean(text, conf).0), (silent(value), None), "{text}");
        }
        for (text, value) in [("up", true), ("Down", false)] {
            assert_eq!((boolean(text, yaml).0, boolean(text, conf)), (None, silent(value)), "{text}");
        }
        for text in ["", "~", "null", "NULL"] {
            let (value, said) = boolean(text, yaml);
            assert_eq!((value, boolean(text, conf).0), (Some(false), None), "{text}");
            assert!(said.contains("key has no value"), "{said}");
        }
        for (text, slurm) in [("2", true), ("00", false), ("0x0", false), ("0.0", false)] {
            let (value, said) = boolean(text, yaml);
            assert_eq!(value, None, "{text}");
            assert!(said.contains(&format!("(Slurm reads this as {slurm})")), "{said}");
        }
    }

    proptest! {
        #[test]
        fn zero_in_every_spelling(text in "[+-]?[0.]{0,4}[1e]?[+-]?[0-9e]{0,3}") {
            // Excludes 1e-999, which underflows to zero.
            let digits = text.trim_start_matches(['+', '-']).split('e').next().unwrap_or_default();
            let zero = text.trim_start_matches(['+', '-']).parse::<f64>() == Ok(0.0) && !digits.contains('1');
            prop_assert_eq!(is_zero(&text), zero);
        }
    }

    #[test]
    fn numbers_as_slurm_reads_them() {
        for (text, value) in [("0", 0), ("10", 10), ("010", 10), ("0x10", 16), ("0XfF", 255), ("4294967295", u32::MAX)]
        {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for text in [
            "",
            "-1",
            "+5",
            " 5",
            "5s",
            "1e3",
            "1.0",
            "0x",
            "0x-1",
            "0x+1",
            "4294967296",
            "99999999999999999999",
            "ten",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn nulls_and_numbers_as_25_11_reads_them() {
        for text in ["", "~", "null", "NULL"] {
            assert!(is_null(text, true), "{text}");
            assert_eq!(is_null(text, false), text.is_empty(), "{text}");
            assert_eq!((wait(text, true), wait(text, false)), (Some(0), None), "{text}");
        }
        assert!(!is_null("~/jobns", true));
        for (text, value) in [("20.0", 20), ("2e1", 20), ("2E+1", 20), ("2.5e1", 25), ("2.50e1", 25), ("200.00", 200)] {
            assert_eq!((wait(text, true), wait(text, false)), (Some(value), None), "{text}");
        }
        assert_eq!((wait("0x14", true), wait("020", true)), (Some(20), Some(20)));
        for text in ["20.5", "2.55e1", "2e-1", "-2e1", "e1", ".5", "2e10", "2e300", "5s", "1.2.3", "nan", "inf", "2e"] {
            assert_eq!(wait(text, true), None, "{text}");
        }
    }

    #[test]
    fn modes() {
        for (text, value) in [("700", 0o700), ("0700", 0o700), ("0o700", 0o700), ("1777", 0o1777), ("01777", 0o1777)] {
            assert_eq!(mode(text), Some(value), "{text}");
        }
        for text in ["", "0o", "800", "10000", "-700", "0x1ff", "rwx", "0000700"] {
            assert_eq!(mode(text), None, "{text}");
        }
    }
}

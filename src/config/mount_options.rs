//! `options` of a private directory: flags of the mount, and parameters of a tmpfs.
//!
//! Slurm's plugin knows seven flags. It passes every other word to the kernel as tmpfs data, or drops it on a bind mount,
//! so `nosiud` protects nothing. Here an unknown flag is an error. An unknown tmpfs parameter may be known to a newer
//! kernel, so slurmd tries it when it starts.

use crate::config::limits::{MAX_TMPFS_PARAMS, MAX_WORDS};
use crate::config::problem::{Report, Scalar, quote};
use crate::config::settings::{MountFlags, TmpfsParam};
use crate::config::suggest;

/// The value of `options`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    pub flags: MountFlags,
    pub params: Vec<TmpfsParam>,
}

/// The form of the value of a tmpfs parameter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Nothing,
    /// A number of bytes, or a percentage of memory.
    Size,
    /// A number with a unit.
    Count,
    /// A number.
    Id,
    Octal,
    Huge,
    Policy,
    /// An SELinux label.
    Label,
}

/// The parameters of tmpfs; see Documentation/filesystems/tmpfs.rst of Linux.
const PARAMS: [(&str, Form); 22] = [
    ("size", Form::Size),
    ("nr_blocks", Form::Count),
    ("nr_inodes", Form::Count),
    ("mode", Form::Octal),
    ("uid", Form::Id),
    ("gid", Form::Id),
    ("huge", Form::Huge),
    ("mpol", Form::Policy),
    ("inode32", Form::Nothing),
    ("inode64", Form::Nothing),
    ("noswap", Form::Nothing),
    ("quota", Form::Nothing),
    ("usrquota", Form::Nothing),
    ("grpquota", Form::Nothing),
    ("usrquota_block_hardlimit", Form::Count),
    ("usrquota_inode_hardlimit", Form::Count),
    ("grpquota_block_hardlimit", Form::Count),
    ("grpquota_inode_hardlimit", Form::Count),
    ("context", Form::Label),
    ("fscontext", Form::Label),
    ("defcontext", Form::Label),
    ("rootcontext", Form::Label),
];

/// Those that say how much can be in a tmpfs, and how many files.
pub(super) const SIZES: &[&str] = &["size", "nr_blocks"];
pub(super) const INODES: &[&str] = &["nr_inodes"];

/// Bytes of the value of a parameter.
const MAX_VALUE: usize = 64;
/// Bytes of a label, or of the value of a parameter that is not in the list.
const MAX_LABEL: usize = 256;

/// Reads `options`. On a mount that is not a tmpfs, tmpfs parameters are ignored with a warning.
#[must_use]
pub fn read(scalar: &Scalar, is_tmpfs: bool, report: &mut Report) -> MountOptions {
    let mut reader = Reader { out: MountOptions::default(), scalar, report, is_tmpfs };
    // The nodes in `mpol=bind:0,2` are also separated by commas.
    let mut policy_open = false;
    for (index, word) in words(&scalar.text).enumerate() {
        if index >= MAX_WORDS {
            reader.error(word, format!("options has more than {MAX_WORDS} words"), "remove most of them");
            break;
        }
        let part = word.trim();
        if part.is_empty() {
            continue;
        }
        if part.len() != word.len() {
            let what = format!("there are spaces around {} in options", quote(part));
            reader.warning(part, what, "Slurm does not skip them: write the options without spaces");
        }
        if policy_open && is_node_range(part) {
            match reader.out.params.last_mut() {
                Some(TmpfsParam { value: Some(value), .. }) if value.len() + 1 + part.len() <= MAX_VALUE => {
                    value.push(',');
                    value.push_str(part);
                }
                _ => {
                    let what = format!("mpol has more than {MAX_VALUE} bytes");
                    reader.error(part, what, "write ranges of nodes, such as 0-7");
                }
            }
            continue;
        }
        reader.word(part);
        policy_open = part.starts_with("mpol=") && reader.out.params.last().is_some_and(|p| p.key == "mpol");
    }
    let flags = &mut reader.out.flags;
    if flags.noatime && flags.relatime {
        flags.relatime = false;
        let part = scalar.text.trim();
        reader.warning(part, "noatime and relatime exclude each other", "noatime takes precedence");
    }
    reader.out
}

struct Reader<'a> {
    out: MountOptions,
    scalar: &'a Scalar,
    report: &'a mut Report,
    is_tmpfs: bool,
}

impl Reader<'_> {
    fn error(&mut self, part: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.report.error(self.scalar.place_of(part), what, hint);
    }

    fn warning(&mut self, part: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.report.warning(self.scalar.place_of(part), what, hint);
    }

    fn word(&mut self, part: &str) {
        if let Some((_, flag)) = MountFlags::NAMES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(part)) {
            *flag(&mut self.out.flags) = true;
            return;
        }
        let only_restrictions = "remove it: only restrictions can be set";
        match part.to_ascii_lowercase().as_str() {
            // Slurm passes it to the kernel, which accepts it, or drops it on a bind mount.
            "rw" => self.warning(part, "rw has no effect", only_restrictions),
            "defaults" | "atime" | "diratime" | "dev" | "suid" | "exec" => {
                self.error(part, format!("{} is not an option here", quote(part)), only_restrictions);
            }
            _ => self.param(part),
        }
    }

    fn param(&mut self, part: &str) {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (part, None),
        };
        // mount(8) removes quotation marks.
        let value = value.map(|value| value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value));
        let Some(&(_, form)) = PARAMS.iter().find(|(name, _)| *name == key) else {
            let known = || flags().chain(PARAMS.iter().map(|(name, _)| *name));
            if self.is_tmpfs && may_be_newer(key, value) && !suggest::is_typo(key, known()) {
                let what = format!("the mount option {} is not known here", quote(part));
                let hint = "slurmd tries it when it starts, and does not start if the kernel refuses it";
                self.warning(part, what, hint);
                return self.push(part, key, value);
            }
            let hint = suggest::hint(key, known(), || {
                let flags: Vec<_> = flags().collect();
                format!("the options are {}, and on a tmpfs size= and the like", flags.join(", "))
            });
            return self.error(part, format!("unknown mount option {}", quote(part)), hint);
        };
        if let Err(wanted) = check_value(form, value) {
            let what = format!("the mount option {} cannot be parsed", quote(part));
            // The kernel reads 16Gi and 16GB as 16G.
            let plain = value.map(|value| value.trim_end_matches(['i', 'B', 'b']));
            let hint =
                match plain.filter(|_| matches!(form, Form::Size | Form::Count) && check_value(form, plain).is_ok()) {
                    Some(plain) => format!("write {key}={plain}"),
                    None => format!("write {key}{wanted}"),
                };
            return self.error(part, what, hint);
        }
        if !self.is_tmpfs {
            let what = format!("{} has no effect on a directory that is not a tmpfs", quote(part));
            return self.warning(part, what, "remove it, or add \"tmpfs: true\"");
        }
        if key == "size" && value.is_some_and(is_zero) {
            self.warning(part, "size=0 means that the tmpfs has no size limit", "write the size that jobs may use");
        }
        let percent = value.and_then(|value| value.strip_suffix('%')?.parse::<u64>().ok());
        if key == "size" && percent.is_some_and(|percent| percent > 100) {
            self.warning(part, "this size is more than the memory of the node", "write at most 100%");
        }
        self.push(part, key, value);
    }

    fn push(&mut self, part: &str, key: &str, value: Option<&str>) {
        if self.out.params.iter().any(|param| param.key == key) {
            return self.error(part, format!("{key} appears twice"), "keep one of the two");
        }
        if self.out.params.len() >= MAX_TMPFS_PARAMS {
            return;
        }
        self.out.params.push(TmpfsParam { key: key.to_owned(), value: value.map(str::to_owned) });
    }
}

fn flags() -> impl Iterator<Item = &'static str> {
    MountFlags::NAMES.into_iter().map(|(name, _)| name)
}

/// Whether [`read`] could have returned this parameter. For settings from the pipe.
#[must_use]
pub fn is_valid_param(param: &TmpfsParam) -> bool {
    let value = param.value.as_deref();
    match PARAMS.iter().find(|(name, _)| *name == param.key) {
        Some(&(_, form)) => check_value(form, value).is_ok(),
        None => may_be_newer(&param.key, value),
    }
}

/// Whether this has the form of a tmpfs parameter, which a newer kernel may know.
fn may_be_newer(key: &str, value: Option<&str>) -> bool {
    let is_name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    key.len() <= MAX_VALUE
        && key.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && key.bytes().all(is_name)
        && key != "source"
        && !flags().any(|flag| flag == key)
        && value.is_none_or(is_label)
}

fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"')
}

/// Splits at commas outside double quotes. A label can contain commas in quotes.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut in_quotes = false;
    text.split(move |c: char| {
        in_quotes ^= c == '"';
        c == ',' && !in_quotes
    })
}

/// Checks the form of a value. The error is the text to write after the key.
fn check_value(form: Form, value: Option<&str>) -> Result<(), &'static str> {
    let with = |wanted: &'static str, test: &dyn Fn(&str) -> bool| match value {
        Some(value) if value.len() <= MAX_VALUE && test(value) => Ok(()),
        _ => Err(wanted),
    };
    match form {
        Form::Nothing => {
            if value.is_none() {
                Ok(())
            } else {
                Err(" without a value")
            }
        }
        Form::Size => with("= and a number with a unit, such as 4g or 50%", &|v| {
            is_count(v) || v.strip_suffix('%').is_some_and(is_number)
        }),
        Form::Count => with("= and a number, such as 1000000 or 1m", &is_count),
        Form::Id => with("= and a numeric id", &|v| is_number(v) && v.parse::<u32>().is_ok()),
        Form::Octal => with("= and an octal mode, such as 1777", &|v| {
            is_number(v) && u32::from_str_radix(v, 8).is_ok_and(|bits| bits <= 0o7777)
        }),
        Form::Huge => with("=never, always, within_size or advise", &|v| {
            matches!(v, "never" | "always" | "within_size" | "advise")
        }),
        Form::Label => match value {
            Some(value) if is_label(value) => Ok(()),
            _ => Err("= and a label"),
        },
        Form::Policy => with("= and a memory policy, such as interleave or bind:0-3", &is_policy),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 19 && text.bytes().all(|b| b.is_ascii_digit())
}

/// A number, optionally with a unit that `memparse` of the kernel knows.
fn is_count(text: &str) -> bool {
    is_number(text.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', 't', 'T', 'p', 'P', 'e', 'E']).unwrap_or(text))
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|b| !matches!(b, b'1'..=b'9'))
}

/// `default`, `local`, `prefer:1`, `bind=static:0-3,5`, `interleave` and so on.
fn is_policy(text: &str) -> bool {
    let (mode, nodes) = match text.split_once(':') {
        Some((mode, nodes)) => (mode, Some(nodes)),
        None => (text, None),
    };
    let mode = mode.strip_suffix("=static").or_else(|| mode.strip_suffix("=relative")).unwrap_or(mode);
    let nodes_fit = |nodes: &str| nodes.split(',').all(is_node_range);
    match mode {
        "default" | "local" => nodes.is_none(),
        "interleave" => nodes.is_none_or(nodes_fit),
        "bind" | "prefer" | "weighted interleave" => nodes.is_some_and(nodes_fit),
        _ => false,
    }
}

/// `3` or `0-3`.
fn is_node_range(text: &str) -> bool {
    match text.split_once('-') {
        Some((low, high)) => is_number(low) && is_number(high),
        None => is_number(text),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests stop where they fail")]
mod tests {
    use super::{MountOptions, is_valid_param};
    use crate::config::problem::{Level, Problem, Report, Scalar};
    use crate::config::settings::{MountFlags, TmpfsParam};

    fn read(text: &str, is_tmpfs: bool) -> (MountOptions, Vec<Problem>) {
        let mut report = Report::default();
        report.add_file("options", text.as_bytes());
        let options = super::read(&Scalar::new(text), is_tmpfs, &mut report);
        (options, report.finish())
    }

    fn remarks(text: &str, is_tmpfs: bool) -> Vec<(Level, String)> {
        read(text, is_tmpfs).1.into_iter().map(|p| (p.level, format!("{}; {}", p.what, p.hint.unwrap()))).collect()
    }

    fn params(text: &str) -> Vec<(String, Option<String>)> {
        let (options, remarks) = read(text, true);
        assert_eq!(remarks, [], "{text}");
        options.params.into_iter().map(|param| (param.key, param.value)).collect()
    }

    #[test]
    fn flags_and_params() {
        let (options, none) = read("noexec,NoSuid,nodev,ro,noatime,nodiratime,size=8g,mode=1777", true);
        assert_eq!(none, []);
        let MountFlags { nosuid, nodev, noexec, read_only, noatime, nodiratime, relatime } = options.flags;
        assert!(nosuid && nodev && noexec && read_only && noatime && nodiratime && !relatime);
        assert_eq!(options.params.len(), 2);
        assert_eq!(params("size=50%"), [("size".to_owned(), Some("50%".to_owned()))]);
        assert_eq!(params("noswap,mpol=bind:0-1,3,5-7,nr_inodes=1m").len(), 3);
        assert_eq!(params("mpol=bind=static:0,2"), [("mpol".to_owned(), Some("bind=static:0,2".to_owned()))]);
        assert_eq!(read("", true), (MountOptions::default(), Vec::new()));
    }

    #[test]
    fn mistakes() {
        for bad in [
            "nosiud",
            "siez=4g",
            "noswp",
            "source=x",
            "context=",
            "context",
            "casefold=a b",
            "size=\"",
            "size=",
            "size=abc",
            "size=4gb",
            "size=-1",
            "size=4g=",
            "mode=999",
            "mode=17777",
            "suid",
            "defaults",
            "huge=yes",
            "uid=root",
            "gid=4294967296",
            "noswap=1",
            "mpol=bind",
            "mpol=bind:",
            "3",
            "0-1",
            "Size=4g",
            "size=4g,size=5g",
            "nr_inodes=50%",
        ] {
            let found = remarks(bad, true);
            assert!(found.iter().any(|(level, _)| *level == Level::Error), "{bad}: {found:?}");
        }
        assert_eq!(
            remarks("nosiud", false),
            [(Level::Error, "unknown mount option \"nosiud\"; did you mean \"nosuid\"?".to_owned())]
        );
        for odd in ["size=0", "rw", "noexec, nosuid", "noatime,relatime"] {
            let found = remarks(odd, true);
            assert!(matches!(found.as_slice(), [(Level::Warning, _)]), "{odd}: {found:?}");
        }
    }

    #[test]
    fn parameters_of_newer_kernels_are_kept_with_a_warning() {
        for (text, key, value) in [
            ("casefold", "casefold", None),
            ("strict_encoding,", "strict_encoding", None),
            ("casefold=utf8-12.1.0", "casefold", Some("utf8-12.1.0")),
        ] {
            let (options, remarks) = read(text, true);
            assert_eq!(options.params, [TmpfsParam { key: key.to_owned(), value: value.map(str::to_owned) }], "{text}");
            assert!(matches!(remarks.as_slice(), [Problem { level: Level::Warning, .. }]), "{remarks:?}");
            assert!(options.params.iter().all(is_valid_param));
            assert!(read(text, false).1.iter().any(|remark| remark.level == Level::Error));
        }
        // A label with categories contains commas.
        let label = "system_u:object_r:tmp_t:s0:c1,c2";
        let text = format!("size=1g,context=\"{label}\",rootcontext=a:b:c,mode=1777");
        let found = params(&text);
        assert_eq!(found.len(), 4);
        assert!(found.contains(&("context".to_owned(), Some(label.to_owned()))));
        for bad in ["source", "Size", "a-b", "", "nosuid"] {
            let param = TmpfsParam { key: bad.to_owned(), value: Some("x".to_owned()) };
            assert!(!is_valid_param(&param), "{bad}");
        }
    }

    #[test]
    fn tmpfs_parameters_on_another_mount_are_ignored() {
        let (options, remarks) = read("noexec,size=4g", false);
        assert!(options.flags.noexec && options.params.is_empty());
        assert!(matches!(remarks.as_slice(), [Problem { level: Level::Warning, column: 8, length: 7, .. }]));
    }
}

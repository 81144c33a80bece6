//! Converts settings to lines for `send_stepd`, and back for `recv_stepd`.
//!
//! If a node is upgraded while slurmd runs, the two ends of the pipe are two builds of this plugin. Data from a pipe is
//! not trusted until it is checked: the settings are checked as a whole, like those of a file. One end can even be
//! Slurm's own plugin, which Slurm loads if this plugin was built for another version of Slurm. Slurm's plugin reads a
//! length in the machine's byte order, and then that number of bytes. This format starts with the same length, so each
//! plugin reads the whole message of the other and refuses it at once. After the length:
//!
//! ```text
//! slurm-jobns-settings 12 0.1.0      the format, and the version of the plugin for messages
//! mount_namespace 4026531841         the namespaces of slurmd
//! pid_namespace 4026531836
//! user_namespace 4026531837
//! ipc_namespace 4026531839
//! former_base /old                   a list: one line for each item
//! slurm_user 64030
//! base_path /ns/n1                   or not_configured or set_to_none, without the lines up to end
//! hide_base_path                     a flag or option that is not set has no line
//! user_ns_limits 10
//! init_script /a
//! wait 7
//! removal_timeout 60
//! hide_pid 0
//! keep /tmp/.X11-unix
//! read_only
//! project_ids 100000-199999
//! dir /dev/shm
//! nosuid
//! nodev
//! owned_by_root
//! mode 1023
//! size 50%mem max 64G
//! inodes 100K
//! tmpfs                              or other_base, same_as, or none of the three
//! param size
//! value 4g
//! end
//! ```

use crate::config::check;
use crate::config::limits::{
    MAX_BASE_PATH, MAX_DIRS, MAX_FORMER_BASES, MAX_KEEP, MAX_PROC_KEEP, MAX_TMPFS_PARAMS, MAX_WIRE,
};
use crate::config::lines::{BadLine, Fields, Lines, put};
use crate::config::path::normalise;
use crate::config::problem::{Refusal, escape, quote};
use crate::config::settings::{
    Backing, Dir, DisabledWhy, HidePid, KeepPath, MountFlags, NamespaceInodes, Namespaces, NodeSettings, Script,
    Settings, TmpfsParam,
};
use crate::config::size::{Amount, ProjectIds, Size};
use std::fmt::Display;

/// Bytes of the length at the start. Formats before 8 have no length.
pub const FRAME_LEN: usize = 4;

/// The version of this plugin, for messages.
pub(crate) const PLUGIN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Must change whenever the lines change.
const FORMAT: u16 = 12;

const HEADER: &str = "slurm-jobns-settings";

/// The start of formats before 9: a binary header, with the format at offset 8 and the version at offset 20.
const FORMER_MAGIC: &[u8] = b"jobns\0ns";
const FORMER_HEADER_LEN: usize = 64;

/// The message of slurmd to a slurmstepd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub settings: NodeSettings,
    /// The namespaces of slurmd. A slurmstepd in other namespaces is in those of its job, no matter what the settings are
    /// now.
    pub node: NamespaceInodes,
    /// Former base paths that may still contain jobs of this node. At most [`MAX_FORMER_BASES`].
    pub former_bases: Vec<String>,
    /// The uid of `SlurmUser`.
    pub slurm_user: u32,
}

/// The length and the lines.
///
/// [`announced`] refuses a message that is too long. Settings that [`fits`] accepts are never too long.
#[must_use]
pub fn encode(mut message: Message) -> Vec<u8> {
    let mut end = End::Writes(format!("{HEADER} {FORMAT} {PLUGIN_VERSION}\n"));
    // Only reading can fail.
    let _ = end.message(&mut message);
    let End::Writes(text) = end else { return Vec::new() };
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [&length.to_ne_bytes(), text.as_bytes()].concat()
}

/// Checks that the settings can be sent.
pub(crate) fn fits(settings: &Settings) -> Result<(), String> {
    let mut end = End::Writes(String::new());
    let _ = end.settings(&mut settings.clone());
    // The other lines of the message need space as well.
    match end {
        End::Writes(text) if text.len() > MAX_WIRE - MAX_FORMER_BASES * (MAX_BASE_PATH + 16) - 1024 => {
            Err("the settings are too long to be sent to slurmstepd".to_owned())
        }
        _ => Ok(()),
    }
}

/// The number of bytes that follow this length.
///
/// # Errors
/// If it exceeds [`MAX_WIRE`].
pub fn announced(frame: [u8; FRAME_LEN]) -> Result<usize, String> {
    if FORMER_MAGIC.starts_with(&frame) {
        // This is the start of the header of a format before 8. `decode` reads the version from the rest.
        return Ok(FORMER_HEADER_LEN - FRAME_LEN);
    }
    let length = u32::from_ne_bytes(frame) as usize;
    if length > MAX_WIRE {
        return Err(format!("slurmd announces {length} bytes of settings, more than the limit of {MAX_WIRE}"));
    }
    Ok(length)
}

/// Decodes all that follows the length.
///
/// # Errors
/// If [`encode`] does not make this text of valid settings. If another version of this plugin sent it, the sentence names
/// both versions.
pub fn decode(text: &[u8]) -> Result<Message, String> {
    let mut lines = Lines(text);
    let header = lines.value(HEADER).and_then(|mut rest| Some((rest.number()?, rest.0))).or_else(|| former(text));
    let (format, version) = header.ok_or(
        "the settings from slurmd are not from this plugin: slurmd has loaded another namespace plugin, or is another \
         version of Slurm; restart slurmd",
    )?;
    if format != FORMAT {
        let version = std::str::from_utf8(version).ok().filter(|version| (1..=44).contains(&version.len()));
        return Err(format!(
            "slurmd's plugin is version {} (format {format}), slurmstepd's is {PLUGIN_VERSION} (format {FORMAT}): \
             restart slurmd, so that both use the installed one",
            version.map_or_else(|| "unknown".to_owned(), escape)
        ));
    }
    let mut message = Message {
        settings: NodeSettings::Disabled(DisabledWhy::NotConfigured),
        node: NamespaceInodes::default(),
        former_bases: Vec::new(),
        slurm_user: 0,
    };
    let mut end = End::Reads(lines);
    end.message(&mut message).map_err(|bad| format!("in the settings from slurmd, {bad}"))?;
    if let NodeSettings::Enabled(settings) = &message.settings {
        check::settings(settings)
            .map_err(|sentence| format!("the settings from slurmd are not valid: {}", escape(&sentence)))?;
    }
    if let Some(base) = message.former_bases.iter().find(|base| normalise(base).as_ref() != Ok(*base)) {
        return Err(format!(
            "the settings from slurmd contain the former base path {}, which is not valid",
            escape(&quote(base))
        ));
    }
    Ok(message)
}

/// The format and the version in the header of a format before 9. Its first bytes are missing if [`announced`] has
/// consumed them.
fn former(header: &[u8]) -> Option<(u16, &[u8])> {
    let rest = header.strip_prefix(FORMER_MAGIC).or_else(|| header.strip_prefix(FORMER_MAGIC.get(FRAME_LEN..)?))?;
    let (format, rest) = rest.split_first_chunk()?;
    let version = rest.get(10..54)?;
    Some((u16::from_le_bytes(*format), version.split(|&byte| byte == 0).next()?))
}

/// One end of the pipe. Both ends use the same list of fields, so they cannot disagree on the order.
enum End<'a> {
    Writes(String),
    Reads(Lines<'a>),
}

type Done = Result<(), BadLine>;

impl End<'_> {
    fn message(&mut self, message: &mut Message) -> Done {
        let Message { settings, node: NamespaceInodes { mount, pid, user, ipc }, former_bases, slurm_user } = message;
        self.number("mount_namespace", mount)?;
        self.number("pid_namespace", pid)?;
        self.number("user_namespace", user)?;
        self.number("ipc_namespace", ipc)?;
        self.list("former_base", former_bases, MAX_FORMER_BASES, Self::text)?;
        self.number("slurm_user", slurm_user)?;
        self.node(settings)?;
        // A message that was cut off has no such line.
        self.word("end")?;
        if matches!(self, Self::Reads(Lines(rest)) if !rest.is_empty()) { Err(BadLine("end")) } else { Ok(()) }
    }

    fn node(&mut self, settings: &mut NodeSettings) -> Done {
        if let Self::Reads(lines) = self {
            *settings = if lines.is_next("not_configured") {
                NodeSettings::Disabled(DisabledWhy::NotConfigured)
            } else if lines.is_next("set_to_none") {
                NodeSettings::Disabled(DisabledWhy::SetToNone)
            } else {
                NodeSettings::Enabled(Settings::default())
            };
        }
        match settings {
            NodeSettings::Disabled(DisabledWhy::NotConfigured) => self.word("not_configured"),
            NodeSettings::Disabled(DisabledWhy::SetToNone) => self.word("set_to_none"),
            NodeSettings::Enabled(settings) => self.settings(settings),
        }
    }

    fn settings(&mut self, settings: &mut Settings) -> Done {
        // All fields are named, so a new field cannot be forgotten here.
        let Settings {
            auto_base_path,
            base_path,
            hide_base_path,
            namespaces: Namespaces { pid, user, ipc },
            shared,
            disable_bpf_token,
            user_ns_limits,
            entire_step_in_ns,
            init_script,
            user_ns_script,
            clone_ns_script,
            clone_ns_epilog,
            scripts_may_be_missing,
            removal_timeout,
            hide_pid,
            proc_keep,
            keep,
            project_ids,
            dirs,
        } = settings;
        self.text("base_path", base_path)?;
        self.flag("auto_base_path", auto_base_path);
        self.flag("hide_base_path", hide_base_path);
        self.flag("pid", pid);
        self.flag("user", user);
        self.flag("ipc", ipc);
        self.flag("shared", shared);
        self.flag("disable_bpf_token", disable_bpf_token);
        self.flag("entire_step_in_ns", entire_step_in_ns);
        self.flag("scripts_may_be_missing", scripts_may_be_missing);
        self.number("user_ns_limits", user_ns_limits)?;
        self.option("init_script", init_script, Self::script)?;
        self.option("user_ns_script", user_ns_script, Self::script)?;
        self.option("clone_ns_script", clone_ns_script, Self::script)?;
        self.option("clone_ns_epilog", clone_ns_epilog, Self::script)?;
        self.number("removal_timeout", removal_timeout)?;
        let mut number = hide_pid.number();
        self.number("hide_pid", &mut number)?;
        let found = HidePid::ALL.into_iter().find(|known| known.number() == number);
        *hide_pid = found.ok_or(BadLine("hide_pid"))?;
        self.list("proc_keep", proc_keep, MAX_PROC_KEEP, Self::text)?;
        self.list("keep", keep, MAX_KEEP, Self::keep)?;
        self.limit("project_ids", project_ids, ProjectIds::parse)?;
        self.list("dir", dirs, MAX_DIRS, Self::dir)
    }

    fn script(&mut self, word: &'static str, script: &mut Script) -> Done {
        let Script { path, wait_seconds } = script;
        self.text(word, path)?;
        self.number("wait", wait_seconds)
    }

    fn keep(&mut self, word: &'static str, kept: &mut KeepPath) -> Done {
        let KeepPath { path, read_only, required } = kept;
        self.text(word, path)?;
        self.flag("read_only", read_only);
        self.flag("required", required);
        Ok(())
    }

    fn dir(&mut self, word: &'static str, dir: &mut Dir) -> Done {
        let Dir { path, backing, flags, owned_by_root, is_cover, mode, size, inodes } = dir;
        let MountFlags { nosuid, nodev, noexec, read_only, noatime, nodiratime, relatime } = flags;
        self.text(word, path)?;
        self.flag("nosuid", nosuid);
        self.flag("nodev", nodev);
        self.flag("noexec", noexec);
        self.flag("read_only", read_only);
        self.flag("noatime", noatime);
        self.flag("nodiratime", nodiratime);
        self.flag("relatime", relatime);
        self.flag("owned_by_root", owned_by_root);
        self.flag("cover", is_cover);
        self.option("mode", mode, Self::number)?;
        self.limit("size", size, Size::parse)?;
        self.limit("inodes", inodes, Amount::parse)?;
        if let Self::Reads(lines) = self {
            *backing = if lines.is_next("other_base") {
                Backing::OtherBase(String::new())
            } else if lines.is_next("same_as") {
                Backing::SameAs(String::new())
            } else if lines.is_next("tmpfs") {
                Backing::Tmpfs(Vec::new())
            } else {
                Backing::BasePath
            };
        }
        match backing {
            Backing::BasePath => Ok(()),
            Backing::OtherBase(base) => self.text("other_base", base),
            Backing::SameAs(other) => self.text("same_as", other),
            Backing::Tmpfs(params) => {
                self.word("tmpfs")?;
                self.list("param", params, MAX_TMPFS_PARAMS, Self::param)
            }
        }
    }

    /// What has a parser of its own.
    fn limit<T: Display>(
        &mut self,
        word: &'static str,
        value: &mut Option<T>,
        parse: fn(&str) -> Result<T, Refusal>,
    ) -> Done {
        let mut text = value.as_ref().map(T::to_string);
        self.option(word, &mut text, Self::text)?;
        *value = text.as_deref().map(parse).transpose().map_err(|_| BadLine(word))?;
        // One text for each value.
        if value.as_ref().map(T::to_string) == text { Ok(()) } else { Err(BadLine(word)) }
    }

    fn param(&mut self, word: &'static str, param: &mut TmpfsParam) -> Done {
        let TmpfsParam { key, value } = param;
        self.text(word, key)?;
        self.option("value", value, Self::text)
    }

    fn text(&mut self, word: &'static str, text: &mut String) -> Done {
        match self {
            Self::Writes(out) => write(out, word, text),
            Self::Reads(lines) => {
                let found = lines.value(word).and_then(Fields::text).ok_or(BadLine(word))?;
                found.clone_into(text);
            }
        }
        Ok(())
    }

    fn number<T: Display + TryFrom<u64>>(&mut self, word: &'static str, number: &mut T) -> Done {
        match self {
            Self::Writes(out) => write(out, word, number),
            Self::Reads(lines) => *number = lines.value(word).and_then(Fields::only).ok_or(BadLine(word))?,
        }
        Ok(())
    }

    /// A line without a value, if the flag is set.
    fn flag(&mut self, word: &str, flag: &mut bool) {
        match self {
            Self::Writes(out) if *flag => out.extend([word, "\n"]),
            Self::Writes(_) => {}
            Self::Reads(lines) => *flag = lines.flag(word),
        }
    }

    /// A line without a value.
    fn word(&mut self, word: &'static str) -> Done {
        let mut is_there = true;
        self.flag(word, &mut is_there);
        if is_there { Ok(()) } else { Err(BadLine(word)) }
    }

    /// A value whose line starts with this word, if there is one.
    fn option<T: Default>(
        &mut self,
        word: &'static str,
        value: &mut Option<T>,
        item: fn(&mut Self, &'static str, &mut T) -> Done,
    ) -> Done {
        if let Self::Reads(lines) = self {
            *value = lines.is_next(word).then(T::default);
        }
        value.as_mut().map_or(Ok(()), |value| item(self, word, value))
    }

    /// Values whose lines start with this word.
    fn list<T: Default>(
        &mut self,
        word: &'static str,
        items: &mut Vec<T>,
        most: usize,
        item: fn(&mut Self, &'static str, &mut T) -> Done,
    ) -> Done {
        if let Self::Writes(_) = self {
            return items.iter_mut().try_for_each(|known| item(self, word, known));
        }
        while matches!(self, Self::Reads(lines) if lines.is_next(word)) && items.len() < most {
            let mut new = T::default();
            item(self, word, &mut new)?;
            items.push(new);
        }
        Ok(())
    }
}

/// Writing to a `String` cannot fail.
fn write(out: &mut String, word: &str, value: &dyn Display) {
    let _ = put(out, word, value);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests stop where they fail")]
mod tests;

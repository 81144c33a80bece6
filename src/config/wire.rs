//! Settings to lines for `send_stepd`, and back for `recv_stepd`.
//!
//! The two ends of the pipe are two builds of this plugin when a node is upgraded under running slurmds, and what comes
//! out of a pipe is hostile until it is checked: the settings are checked as a whole like those of a file. The two ends
//! can even be this plugin and Slurm's own, which Slurm loads where ours was built for another version of it. Slurm's
//! plugin reads a length in the machine's byte order and then as many bytes. So that length comes first here: either
//! plugin reads all of what the other sends, and refuses it at once. Behind it:
//!
//! ```text
//! slurm-jobns-settings 9 0.1.0       format, and the plugin's version for messages
//! mount_namespace 4026531841         slurmd's own
//! pid_namespace 4026531836
//! user_namespace 4026531837
//! ipc_namespace 4026531839
//! former_base /old                   as many as there are, as all lists
//! slurm_user 64030
//! base_path /ns/n1                   or not_configured, or set_to_none, and nothing more
//! hide_base_path                     a flag that is not set has no line, nor has what there is not
//! user_ns_limits 10
//! init_script /a
//! wait 7
//! removal_timeout 60
//! hide_pid 0
//! dir /dev/shm
//! nosuid
//! nodev
//! mode 1023
//! tmpfs                              or other_base, or same_as, or none of them
//! param size
//! value 4g
//! end
//! ```

use crate::config::check;
use crate::config::limits::{MAX_BASE_PATH, MAX_DIRS, MAX_FORMER_BASES, MAX_PROC_KEEP, MAX_TMPFS_PARAMS, MAX_WIRE};
use crate::config::lines::{BadLine, Fields, Lines, put};
use crate::config::path::normalise;
use crate::config::problem::{escape, quote};
use crate::config::settings::{
    Backing, Dir, DisabledWhy, HidePid, MountFlags, NamespaceInodes, Namespaces, NodeSettings, Script, Settings,
    TmpfsParam,
};
use std::fmt::Display;

/// Bytes of the length in front. Formats before 8 have none.
pub const FRAME_LEN: usize = 4;

/// The version of this plugin, as it stands in messages.
pub const PLUGIN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Changes whenever the lines do.
const FORMAT: u16 = 9;

const HEADER: &str = "slurm-jobns-settings";

/// What formats before 9 begin with: a header of numbers, with the format at 8 and the version at 20.
const FORMER_MAGIC: &[u8] = b"jobns\0ns";
const FORMER_HEADER_LEN: usize = 64;

/// What slurmd tells a slurmstepd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub settings: NodeSettings,
    /// slurmd's own namespaces: a slurmstepd in others lives in its job's, whatever today's settings say.
    pub node: NamespaceInodes,
    /// Base paths besides today's under which a job of this node may live. At most [`MAX_FORMER_BASES`].
    pub former_bases: Vec<String>,
    /// The uid of `SlurmUser`; 0 where it is root.
    pub slurm_user: u32,
}

/// The length, and the lines.
///
/// Settings that [`fits`] accepts always fit; what does not fit is refused by [`announced`].
#[must_use]
pub fn encode(mut message: Message) -> Vec<u8> {
    let mut end = End::Writes(format!("{HEADER} {FORMAT} {PLUGIN_VERSION}\n"));
    // Only reading can fail.
    let _ = end.message(&mut message);
    let End::Writes(text) = end else { return Vec::new() };
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [&length.to_ne_bytes(), text.as_bytes()].concat()
}

/// Can the settings be sent?
pub(crate) fn fits(settings: &Settings) -> Result<(), String> {
    let mut end = End::Writes(String::new());
    let _ = end.settings(&mut settings.clone());
    // With room for what is sent beside them.
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
/// When no message of this plugin has that length.
pub fn announced(frame: [u8; FRAME_LEN]) -> Result<usize, String> {
    if FORMER_MAGIC.starts_with(&frame) {
        // A format before 8: of its header, which `decode` reads the version from, this is the first part.
        return Ok(FORMER_HEADER_LEN - FRAME_LEN);
    }
    let length = u32::from_ne_bytes(frame) as usize;
    if length > MAX_WIRE {
        return Err(format!("slurmd announces {length} bytes of settings, more than the limit of {MAX_WIRE}"));
    }
    Ok(length)
}

/// The message, from all that follows the length.
///
/// # Errors
/// When it is not what [`encode`] makes of valid settings. Where it comes from another version of this
/// plugin, the sentence names both.
pub fn decode(text: &[u8]) -> Result<Message, String> {
    let mut lines = Lines(text);
    let header = lines.value(HEADER).and_then(|mut rest| Some((rest.number()?, rest.0))).or_else(|| former(text));
    let (format, version) = header.ok_or(
        "what slurmd sent is not from this plugin: slurmd has loaded another namespace plugin, or another Slurm; \
         restart slurmd",
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
        return Err(format!("the settings from slurmd have the former base path {}", escape(&quote(base))));
    }
    Ok(message)
}

/// Format and version in a header of a format before 9, whose first bytes can be missing: [`announced`] has had them.
fn former(header: &[u8]) -> Option<(u16, &[u8])> {
    let behind = header.strip_prefix(FORMER_MAGIC).or_else(|| header.strip_prefix(FORMER_MAGIC.get(FRAME_LEN..)?))?;
    let (format, rest) = behind.split_first_chunk()?;
    let version = rest.get(10..54)?;
    Some((u16::from_le_bytes(*format), version.split(|&byte| byte == 0).next()?))
}

/// One end of the pipe. Both ends have one list of fields, in one order: what is read is what is written.
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
        // A message that was cut has no such line.
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
        // Named one by one, so that a new field cannot be forgotten here.
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
        self.list("dir", dirs, MAX_DIRS, Self::dir)
    }

    fn script(&mut self, word: &'static str, script: &mut Script) -> Done {
        let Script { path, wait_seconds } = script;
        self.text(word, path)?;
        self.number("wait", wait_seconds)
    }

    fn dir(&mut self, word: &'static str, dir: &mut Dir) -> Done {
        let Dir { path, backing, flags, mode } = dir;
        let MountFlags { nosuid, nodev, noexec, read_only, noatime, nodiratime, relatime } = flags;
        self.text(word, path)?;
        self.flag("nosuid", nosuid);
        self.flag("nodev", nodev);
        self.flag("noexec", noexec);
        self.flag("read_only", read_only);
        self.flag("noatime", noatime);
        self.flag("nodiratime", nodiratime);
        self.flag("relatime", relatime);
        self.option("mode", mode, Self::number)?;
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

    /// A line without a value, where the flag is set.
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

    /// What begins with this word, if it is there.
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

    /// What begins with this word, as often as it is there.
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

/// A String has room for all.
fn write(out: &mut String, word: &str, value: &dyn Display) {
    let _ = put(out, word, value);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests stop where they fail")]
mod tests;

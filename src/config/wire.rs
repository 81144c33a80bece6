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
mod tests {
    use super::*;

    /// Every field has a value, and none the one that a field has by itself.
    fn sample() -> Settings {
        let script = |path: &str| Some(Script { path: path.to_owned(), wait_seconds: 7 });
        let flags = MountFlags { nosuid: true, nodev: true, ..MountFlags::default() };
        let param =
            |key: &str, value: Option<&str>| TmpfsParam { key: key.to_owned(), value: value.map(str::to_owned) };
        let tmpfs = Backing::Tmpfs(vec![param("size", Some("4g")), param("noswap", None)]);
        Settings {
            auto_base_path: true,
            base_path: "/ns/n1".to_owned(),
            hide_base_path: true,
            namespaces: Namespaces { pid: true, user: true, ipc: true },
            shared: true,
            entire_step_in_ns: true,
            disable_bpf_token: true,
            user_ns_limits: 25,
            init_script: script("/a"),
            user_ns_script: script("/b"),
            clone_ns_script: script("/c d"),
            clone_ns_epilog: script("/e"),
            scripts_may_be_missing: true,
            removal_timeout: 30,
            hide_pid: HidePid::Ptraceable,
            proc_keep: vec!["/proc/cpuinfo".to_owned(), "/proc/driver/x".to_owned()],
            dirs: vec![
                Dir { path: "/tmp".to_owned(), backing: Backing::BasePath, flags: MountFlags::default(), mode: None },
                Dir { path: "/dev/shm".to_owned(), backing: tmpfs, flags, mode: Some(0o1777) },
                Dir {
                    path: "/scratch/%u".to_owned(),
                    backing: Backing::OtherBase("/fast".to_owned()),
                    flags: MountFlags {
                        nosuid: true,
                        nodev: true,
                        noexec: true,
                        read_only: true,
                        noatime: true,
                        nodiratime: true,
                        relatime: true,
                    },
                    mode: Some(0o700),
                },
                Dir {
                    path: "/var/tmp".to_owned(),
                    backing: Backing::SameAs("/tmp".to_owned()),
                    flags: MountFlags::default(),
                    mode: None,
                },
            ],
        }
    }

    fn message(settings: NodeSettings) -> Message {
        let node = NamespaceInodes { mount: 1 << 60, pid: 2, user: 3, ipc: 4 };
        Message { settings, node, former_bases: vec!["/old".to_owned(), "/older/n1".to_owned()], slurm_user: 64030 }
    }

    /// What is behind the length.
    fn lines_of(settings: NodeSettings) -> String {
        let bytes = encode(message(settings));
        let (frame, text) = bytes.split_first_chunk().unwrap();
        assert_eq!(announced(*frame), Ok(text.len()));
        String::from_utf8(text.to_vec()).unwrap()
    }

    fn refused(text: &str) -> String {
        decode(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn there_and_back() {
        for settings in [
            NodeSettings::Enabled(sample()),
            NodeSettings::Disabled(DisabledWhy::NotConfigured),
            NodeSettings::Disabled(DisabledWhy::SetToNone),
        ] {
            assert_eq!(decode(lines_of(settings.clone()).as_bytes()), Ok(message(settings)));
        }
    }

    /// Another format has other lines. Whoever changes one of these raises `FORMAT`, and then this.
    #[test]
    fn the_lines_are_those_of_this_format() {
        let lines = "mount_namespace 1152921504606846976\npid_namespace 2\nuser_namespace 3\nipc_namespace 4\n\
             former_base /old\nformer_base /older/n1\nslurm_user 64030\n\
             base_path /ns/n1\nauto_base_path\nhide_base_path\npid\nuser\nipc\nshared\ndisable_bpf_token\n\
             entire_step_in_ns\nscripts_may_be_missing\nuser_ns_limits 25\n\
             init_script /a\nwait 7\nuser_ns_script /b\nwait 7\nclone_ns_script /c d\nwait 7\nclone_ns_epilog /e\nwait 7\n\
             removal_timeout 30\nhide_pid 4\nproc_keep /proc/cpuinfo\nproc_keep /proc/driver/x\n\
             dir /tmp\n\
             dir /dev/shm\nnosuid\nnodev\nmode 1023\ntmpfs\nparam size\nvalue 4g\nparam noswap\n\
             dir /scratch/%u\nnosuid\nnodev\nnoexec\nread_only\nnoatime\nnodiratime\nrelatime\nmode 448\nother_base /fast\n\
             dir /var/tmp\nsame_as /tmp\nend\n";
        let made = lines_of(NodeSettings::Enabled(sample()));
        let (header, made) = made.split_once('\n').unwrap();
        assert_eq!((header, FORMAT, made), (format!("slurm-jobns-settings 9 {PLUGIN_VERSION}").as_str(), 9, lines));
    }

    /// Slurm's plugin reads an int and so many bytes (`namespace_p_recv_stepd`); the first is a bool, the next four
    /// the length of a text, most significant byte first.
    #[test]
    fn slurms_plugin_reads_all_of_it_and_refuses_it() {
        let bytes = encode(message(NodeSettings::Disabled(DisabledWhy::SetToNone)));
        let length = i32::from_ne_bytes(bytes[..4].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), bytes.len() - 4);
        let text = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
        assert!(text > 1 << 30, "MAX_PACK_MEM_LEN of Slurm");
    }

    #[test]
    fn what_slurms_plugin_sends_is_refused_without_waiting_for_more() {
        for length in [0_u16, 1, 40, 63, 200] {
            assert_eq!(announced(u32::from(length).to_ne_bytes()), Ok(length.into()));
            assert!(decode(&vec![0; length.into()]).unwrap_err().contains("another namespace plugin"));
        }
        for length in [u32::try_from(MAX_WIRE + 1).unwrap(), u32::MAX] {
            assert!(announced(length.to_ne_bytes()).unwrap_err().contains("more than the limit"));
        }
    }

    #[test]
    fn another_version_is_named() {
        let next = "slurm-jobns-settings 10 9.8.7\nwhatever it\0says";
        let start = "slurmd's plugin is version 9.8.7 (format 10), slurmstepd's is ";
        assert!(refused(next).starts_with(start), "{}", refused(next));
        for (version, named) in [("\x1b[1m", "\\x1b[1m"), ("", "unknown"), (&"x".repeat(45), "unknown")] {
            let sentence = refused(&format!("slurm-jobns-settings 10 {version}\n"));
            assert!(sentence.contains(&format!("version {named} (format 10)")), "{sentence}");
        }
    }

    /// Format 8 has a length in front, those before have none.
    #[test]
    fn a_version_that_sends_no_lines_is_named() {
        for format in [7_u8, 8] {
            let mut header = [0; FORMER_HEADER_LEN];
            header[..8].copy_from_slice(FORMER_MAGIC);
            header[8] = format;
            header[20..26].copy_from_slice(b"0.0.1\0");
            let rest = if format == 7 {
                let (frame, rest) = header.split_first_chunk().unwrap();
                assert_eq!(announced(*frame), Ok(rest.len()));
                rest.to_vec()
            } else {
                [&header[..], &[0xff; 100]].concat()
            };
            let sentence = decode(&rest).unwrap_err();
            let start = format!("slurmd's plugin is version 0.0.1 (format {format}), slurmstepd's is ");
            assert!(sentence.starts_with(&start), "{sentence}");
            assert!(decode(&rest[..50]).unwrap_err().contains("another namespace plugin"));
        }
    }

    #[test]
    fn every_cut_is_noticed_and_every_damaged_bit_gives_an_error_or_other_valid_settings() {
        let text = lines_of(NodeSettings::Enabled(sample())).into_bytes();
        for length in 0..text.len() {
            assert!(decode(&text[..length]).is_err(), "cut at {length}");
        }
        let behind = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for index in behind..text.len() {
            for bit in 0..8 {
                let mut damaged = text.clone();
                damaged[index] ^= 1 << bit;
                if let Ok(message) = decode(&damaged) {
                    assert_eq!(encode(message)[FRAME_LEN..], damaged, "one text for each value");
                }
            }
        }
    }

    #[test]
    fn a_line_that_does_not_fit_is_named() {
        let good = lines_of(NodeSettings::Enabled(sample()));
        for (from, to, line) in [
            ("slurm_user 64030", "slurm_user 064030", "slurm_user"),
            ("slurm_user 64030", "slurm_user 4294967296", "slurm_user"),
            ("pid\n", "pid 1\n", "user_ns_limits"),
            ("pid\n", "pid \n", "user_ns_limits"),
            ("pid\n", "pid\npid\n", "user_ns_limits"),
            ("hide_pid 4", "hide_pid 3", "hide_pid"),
            ("wait 7", "later 7", "wait"),
            ("/scratch/%u", "/scratch\nx", "end"),
            ("tmpfs\n", "tmpfs \n", "tmpfs"),
            ("end\n", "end\n\n", "end"),
        ] {
            let sentence = refused(&good.replacen(from, to, 1));
            assert!(sentence.contains(&format!("the line \"{line}\" is missing, damaged")), "{sentence}");
        }
    }

    #[test]
    fn no_list_is_longer_than_its_limit() {
        let nothing = NodeSettings::Disabled(DisabledWhy::NotConfigured);
        let with_former = |base: &str, times: usize| {
            let bytes = encode(Message { former_bases: vec![base.to_owned(); times], ..message(nothing.clone()) });
            decode(&bytes[FRAME_LEN..]).is_ok()
        };
        assert!(with_former("/old", MAX_FORMER_BASES) && !with_former("/old", MAX_FORMER_BASES + 1));
        for bad in ["", "old", "/", "/old/", "/a/../b", "/a\nb"] {
            assert!(!with_former(bad, 1), "{bad:?}");
        }
        let sentence = refused(&lines_of(NodeSettings::Enabled(sample())).replace("end\n", &"dir /x\n".repeat(300)));
        assert!(sentence.contains("\"end\""), "{sentence}");
    }

    #[test]
    fn hostile_settings_are_checked_like_a_file() {
        for change in [
            |s: &mut Settings| s.base_path = "/ns/..".to_owned(),
            |s: &mut Settings| s.base_path = "/tmp".to_owned(),
            |s: &mut Settings| s.base_path = "/".to_owned(),
            |s: &mut Settings| s.base_path = String::new(),
            |s: &mut Settings| s.user_ns_limits = 0,
            |s: &mut Settings| s.user_ns_limits = 101,
            |s: &mut Settings| s.user_ns_limits = u32::MAX,
            |s: &mut Settings| s.dirs[0].path = "tmp".to_owned(),
            |s: &mut Settings| s.dirs[0].path = "/dev/shm".to_owned(),
            |s: &mut Settings| s.dirs[0].path = "/tmp/".to_owned(),
            |s: &mut Settings| s.dirs[0].path = "/proc".to_owned(),
            |s: &mut Settings| s.dirs[0].path = "/a/b/c/d".to_owned(),
            |s: &mut Settings| s.dirs[0].mode = Some(0o10000),
            |s: &mut Settings| s.dirs[1].flags.nosuid = false,
            |s: &mut Settings| s.dirs[1].backing = Backing::BasePath,
            |s: &mut Settings| s.dirs[2].backing = Backing::OtherBase("/ns/n1".to_owned()),
            |s: &mut Settings| s.dirs[0].backing = Backing::SameAs("/dev/shm".to_owned()),
            |s: &mut Settings| s.dirs[2].backing = Backing::SameAs("/nowhere".to_owned()),
            |s: &mut Settings| s.dirs[2].backing = Backing::OtherBase("/scratch".to_owned()),
            |s: &mut Settings| s.dirs[2].backing = Backing::OtherBase("/ns/n1/12".to_owned()),
            |s: &mut Settings| s.init_script.as_mut().unwrap().wait_seconds = 0,
            |s: &mut Settings| s.init_script.as_mut().unwrap().path = "a\0".to_owned(),
            |s: &mut Settings| s.init_script.as_mut().unwrap().path = "/a\rb".to_owned(),
            |s: &mut Settings| s.dirs = vec![s.dirs[0].clone(); 300],
            |s: &mut Settings| s.namespaces.pid = false,
            |s: &mut Settings| s.proc_keep[0] = "/etc/passwd".to_owned(),
            |s: &mut Settings| s.proc_keep[0] = "/proc/self/x".to_owned(),
            |s: &mut Settings| s.proc_keep[1] = "/proc/x/".to_owned(),
            |s: &mut Settings| s.proc_keep[1] = s.proc_keep[0].clone(),
            |s: &mut Settings| s.proc_keep.reverse(),
            |s: &mut Settings| s.proc_keep = (0..65).map(|n| format!("/proc/x{n}")).collect(),
        ] {
            let mut settings = sample();
            change(&mut settings);
            let sentence = refused(&lines_of(NodeSettings::Enabled(settings)));
            assert!(!sentence.contains(char::is_control), "{sentence:?}");
        }
    }
}

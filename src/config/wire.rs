//! Settings to bytes for `send_stepd`, and back for `recv_stepd`.
//!
//! The two ends of the pipe are two builds of this plugin when a node is upgraded under running
//! slurmds, and what comes out of a pipe is hostile until it is checked: a fixed header says what
//! follows and how long it is, before a byte of the body is read or allocated, and the settings in
//! the body are checked as a whole like those of a file. The two ends can even be this plugin and
//! Slurm's own, which Slurm loads where ours was built for another version of it. Slurm's plugin reads
//! a length in the machine's byte order and then as many bytes. So that length comes first here: either
//! plugin reads all of what the other sends, and refuses it at once.
//!
//! ```text
//! frame, 4 bytes:    length of header and body u32, in the machine's byte order
//! header, 64 bytes:  magic 8 | format u16 | zero u16 | body length u32 | CRC-32 u32 | version 44
//! body:              namespaces of slurmd 4 u64 | former base paths | kind u8, then the fields of Settings in order
//!                    bool u8 | u32 | text: u32 length, bytes | list: u32 count, items | option: bool, item
//! ```
//!
//! All other numbers are little-endian. The version is the plugin's, as text, filled up with zeros; it only
//! serves messages. The CRC is that of the version and the body.

mod reader;

use crate::config::check;
use crate::config::limits::{MAX_BASE_PATH, MAX_FORMER_BASES, MAX_WIRE};
use crate::config::path::normalise;
use crate::config::problem::{escape, quote};
use crate::config::settings::NamespaceInodes;
use crate::config::settings::{
    Backing, Dir, DisabledWhy, MountFlags, Namespaces, NodeSettings, Script, Settings, TmpfsParam,
};
use reader::Reader;

/// Bytes of the frame. Formats before 8 have none.
pub const FRAME_LEN: usize = 4;

/// Bytes of the header. Every format has this length, and the magic, format and version in their places.
pub const HEADER_LEN: usize = 64;

/// The version of this plugin, as it stands in messages.
pub const PLUGIN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Changes whenever the body does.
const FORMAT: u16 = 8;

const MAGIC: [u8; 8] = *b"jobns\0ns";
const VERSION_LEN: usize = 44;

/// Why a message is refused: a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError(String);

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WireError {}

fn error<T>(sentence: impl Into<String>) -> Result<T, WireError> {
    Err(WireError(sentence.into()))
}

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

/// Frame, header and body.
///
/// Settings that [`fits`] accepts always fit; what does not fit is refused by [`announced`].
#[must_use]
pub fn encode(message: &Message) -> Vec<u8> {
    let Message { settings, node, former_bases, slurm_user } = message;
    let mut body = Vec::new();
    let NamespaceInodes { mount, pid, user, ipc } = node;
    for inode in [mount, pid, user, ipc] {
        body.extend_from_slice(&inode.to_le_bytes());
    }
    put_count(&mut body, former_bases.len());
    for base in former_bases {
        put_text(&mut body, base);
    }
    body.extend_from_slice(&slurm_user.to_le_bytes());
    put_node(&mut body, settings);
    let mut version = [0; VERSION_LEN];
    for (slot, byte) in version.iter_mut().zip(PLUGIN_VERSION.bytes()) {
        *slot = byte;
    }
    let mut out = Vec::with_capacity(FRAME_LEN + HEADER_LEN + body.len());
    // A message that is too long gets lengths that no reader accepts.
    out.extend_from_slice(&u32::try_from(HEADER_LEN + body.len()).unwrap_or(u32::MAX).to_ne_bytes());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&crc32(&[&version, &body]).to_le_bytes());
    out.extend_from_slice(&version);
    out.append(&mut body);
    out
}

/// Can the settings be sent?
pub(crate) fn fits(settings: &Settings) -> Result<(), String> {
    let mut body = Vec::new();
    put_settings(&mut body, settings);
    // With room for what is sent beside them.
    if body.len() < MAX_WIRE - MAX_FORMER_BASES * (MAX_BASE_PATH + 4) - 64 {
        return Ok(());
    }
    Err("the settings are too long to be sent to slurmstepd".to_owned())
}

/// The number of bytes that follow this frame.
///
/// # Errors
/// When no message of this plugin has that length.
pub fn announced(frame: [u8; FRAME_LEN]) -> Result<usize, WireError> {
    if MAGIC.starts_with(&frame) {
        // A format before 8: of its header, which `decode` reads the version from, this is the first part.
        return Ok(HEADER_LEN - FRAME_LEN);
    }
    let length = u32::from_ne_bytes(frame) as usize;
    if length < HEADER_LEN {
        return foreign();
    }
    if length > HEADER_LEN + MAX_WIRE {
        return error(format!("slurmd announces {length} bytes of settings, more than the limit of {MAX_WIRE}"));
    }
    Ok(length)
}

/// The message, from all that follows the frame.
///
/// # Errors
/// When it is not what [`encode`] makes of valid settings. Where it comes from another version of this
/// plugin, the sentence names both.
pub fn decode(message: &[u8]) -> Result<Message, WireError> {
    let Some((header, body)) = message.split_first_chunk::<HEADER_LEN>() else {
        return without_frame(message);
    };
    let parts = Header::read(header)?;
    if body.len() != parts.body_len {
        return error(format!("slurmd sent {} bytes of settings where it announced {}", body.len(), parts.body_len));
    }
    if crc32(&[&parts.version, body]) != parts.crc {
        return error("the settings from slurmd were damaged on the way (checksum)");
    }
    let mut reader = Reader { rest: body };
    let node = NamespaceInodes {
        mount: u64::from_le_bytes(reader.array()?),
        pid: u64::from_le_bytes(reader.array()?),
        user: u64::from_le_bytes(reader.array()?),
        ipc: u64::from_le_bytes(reader.array()?),
    };
    let former_bases = reader.list(MAX_FORMER_BASES, |reader| reader.text(MAX_BASE_PATH))?;
    let slurm_user = u32::from_le_bytes(reader.array()?);
    let settings = reader.node()?;
    if !reader.rest.is_empty() {
        return error(format!("the settings from slurmd have {} bytes too many", reader.rest.len()));
    }
    if let NodeSettings::Enabled(settings) = &settings
        && let Err(sentence) = check::settings(settings)
    {
        return error(format!("the settings from slurmd are not valid: {sentence}"));
    }
    if let Some(base) = former_bases.iter().find(|base| normalise(base).as_ref() != Ok(*base)) {
        return error(format!("the settings from slurmd have the former base path {}", quote(base)));
    }
    Ok(Message { settings, node, former_bases, slurm_user })
}

/// A header of a format before 8, of which `announced` has had the first bytes.
fn without_frame(rest: &[u8]) -> Result<Message, WireError> {
    let mut header = [0; HEADER_LEN];
    let (magic, behind) = header.split_at_mut(FRAME_LEN);
    if behind.len() != rest.len() {
        return foreign();
    }
    behind.copy_from_slice(rest);
    magic.copy_from_slice(MAGIC.get(..FRAME_LEN).unwrap_or_default());
    Header::read(&header)?;
    foreign()
}

fn foreign<T>() -> Result<T, WireError> {
    error(
        "what slurmd sent is not from this plugin: slurmd has loaded another namespace plugin, \
         or another Slurm; restart slurmd",
    )
}

struct Header {
    body_len: usize,
    crc: u32,
    version: [u8; VERSION_LEN],
}

impl Header {
    fn read(header: &[u8; HEADER_LEN]) -> Result<Self, WireError> {
        let mut reader = Reader { rest: header };
        if reader.array::<8>()? != MAGIC {
            return foreign();
        }
        let format = u16::from_le_bytes(reader.array()?);
        let zero: [u8; 2] = reader.array()?;
        let body_len = u32::from_le_bytes(reader.array()?);
        let crc = u32::from_le_bytes(reader.array()?);
        let version: [u8; VERSION_LEN] = reader.array()?;
        if format != FORMAT {
            return error(format!(
                "slurmd's plugin is version {} (format {format}), slurmstepd's is {PLUGIN_VERSION} (format {FORMAT}): \
                 restart slurmd, so that both use the installed one",
                version_text(&version)
            ));
        }
        if zero != [0; 2] {
            return error("the settings from slurmd have a damaged header");
        }
        if body_len as usize > MAX_WIRE {
            return error(format!("slurmd announces {body_len} bytes of settings, more than the limit of {MAX_WIRE}"));
        }
        Ok(Self { body_len: body_len as usize, crc, version })
    }
}

/// The version in a header, safe to print.
fn version_text(version: &[u8; VERSION_LEN]) -> String {
    let text: Vec<u8> = version.iter().copied().take_while(|&byte| byte != 0).collect();
    match std::str::from_utf8(&text) {
        Ok(text) if !text.is_empty() => escape(text),
        _ => "unknown".to_owned(),
    }
}

fn put_node(out: &mut Vec<u8>, settings: &NodeSettings) {
    match settings {
        NodeSettings::Disabled(DisabledWhy::NotConfigured) => out.push(0),
        NodeSettings::Disabled(DisabledWhy::SetToNone) => out.push(1),
        NodeSettings::Enabled(settings) => {
            out.push(2);
            put_settings(out, settings);
        }
    }
}

fn put_settings(out: &mut Vec<u8>, settings: &Settings) {
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
    put_text(out, base_path);
    for flag in [auto_base_path, hide_base_path, pid, user, ipc, shared, disable_bpf_token, entire_step_in_ns] {
        out.push(u8::from(*flag));
    }
    out.extend_from_slice(&user_ns_limits.to_le_bytes());
    for script in [init_script, user_ns_script, clone_ns_script, clone_ns_epilog] {
        out.push(u8::from(script.is_some()));
        if let Some(Script { path, wait_seconds }) = script {
            put_text(out, path);
            out.extend_from_slice(&wait_seconds.to_le_bytes());
        }
    }
    out.push(u8::from(*scripts_may_be_missing));
    out.extend_from_slice(&removal_timeout.to_le_bytes());
    out.push(hide_pid.number());
    put_count(out, proc_keep.len());
    for path in proc_keep {
        put_text(out, path);
    }
    put_count(out, dirs.len());
    for Dir { path, backing, flags, mode } in dirs {
        put_text(out, path);
        match backing {
            Backing::BasePath => out.push(0),
            Backing::OtherBase(base) => {
                out.push(1);
                put_text(out, base);
            }
            Backing::SameAs(other) => {
                out.push(3);
                put_text(out, other);
            }
            Backing::Tmpfs(params) => {
                out.push(2);
                put_count(out, params.len());
                for TmpfsParam { key, value } in params {
                    put_text(out, key);
                    out.push(u8::from(value.is_some()));
                    if let Some(value) = value {
                        put_text(out, value);
                    }
                }
            }
        }
        let MountFlags { nosuid, nodev, noexec, read_only, noatime, nodiratime, relatime } = flags;
        for flag in [nosuid, nodev, noexec, read_only, noatime, nodiratime, relatime] {
            out.push(u8::from(*flag));
        }
        out.push(u8::from(mode.is_some()));
        if let Some(mode) = mode {
            out.extend_from_slice(&mode.to_le_bytes());
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

/// CRC-32 (IEEE 802.3) of the parts one after the other. It finds accidents, not malice.
fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in parts.iter().copied().flatten() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc = (crc >> 1) ^ (0xedb8_8320 & carry.wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests stop where they fail")]
mod tests {
    use super::*;
    use crate::config::settings::HidePid;

    fn sample() -> NodeSettings {
        let script = |path: &str| Some(Script { path: path.to_owned(), wait_seconds: 7 });
        let flags = MountFlags { nosuid: true, nodev: true, ..MountFlags::default() };
        let param =
            |key: &str, value: Option<&str>| TmpfsParam { key: key.to_owned(), value: value.map(str::to_owned) };
        let tmpfs = Backing::Tmpfs(vec![param("size", Some("4g")), param("noswap", None)]);
        NodeSettings::Enabled(Settings {
            auto_base_path: true,
            base_path: "/ns/n1".to_owned(),
            hide_base_path: true,
            namespaces: Namespaces { pid: true, user: false, ipc: true },
            shared: false,
            entire_step_in_ns: false,
            disable_bpf_token: true,
            user_ns_limits: 25,
            init_script: script("/a"),
            user_ns_script: None,
            clone_ns_script: script("/b"),
            clone_ns_epilog: None,
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
                    flags: MountFlags { noexec: true, relatime: true, ..MountFlags::default() },
                    mode: Some(0o700),
                },
            ],
        })
    }

    fn split(message: &[u8]) -> ([u8; HEADER_LEN], &[u8]) {
        let (header, body) = message[FRAME_LEN..].split_first_chunk().unwrap();
        (*header, body)
    }

    fn decode_parts(header: &[u8; HEADER_LEN], body: &[u8]) -> Result<Message, WireError> {
        decode(&[header, body].concat())
    }

    fn message(settings: NodeSettings) -> Message {
        let node = NamespaceInodes { mount: 1 << 60, pid: 2, user: 3, ipc: 4 };
        Message { settings, node, former_bases: vec!["/old".to_owned(), "/older/n1".to_owned()], slurm_user: 64030 }
    }

    #[test]
    fn there_and_back() {
        for settings in [
            sample(),
            NodeSettings::Disabled(DisabledWhy::NotConfigured),
            NodeSettings::Disabled(DisabledWhy::SetToNone),
        ] {
            let sent = message(settings);
            let bytes = encode(&sent);
            let (frame, rest) = bytes.split_first_chunk().unwrap();
            assert_eq!(announced(*frame), Ok(rest.len()));
            assert_eq!(decode(rest), Ok(sent));
        }
    }

    /// Slurm's plugin reads an int and so many bytes (`namespace_p_recv_stepd`); the first is a bool, the next four
    /// the length of a text, most significant byte first.
    #[test]
    fn slurms_plugin_reads_all_of_it_and_refuses_it() {
        let bytes = encode(&message(sample()));
        let length = i32::from_ne_bytes(bytes[..4].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), bytes.len() - 4);
        let text = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
        assert!(text > 1 << 30, "MAX_PACK_MEM_LEN of Slurm");
    }

    #[test]
    fn what_slurms_plugin_sends_is_refused_without_waiting_for_more() {
        for length in [0_u32, 1, 40, 63] {
            assert!(announced(length.to_ne_bytes()).unwrap_err().to_string().contains("another namespace plugin"));
        }
        assert_eq!(announced(200_u32.to_ne_bytes()), Ok(200));
        assert!(decode(&[0; 200]).unwrap_err().to_string().contains("another namespace plugin"));
        for length in [u32::try_from(MAX_WIRE + HEADER_LEN + 1).unwrap(), u32::MAX] {
            assert!(announced(length.to_ne_bytes()).unwrap_err().to_string().contains("more than the limit"));
        }
    }

    #[test]
    fn a_version_that_sends_no_frame_is_named() {
        let bytes = encode(&message(sample()));
        let (mut header, _) = split(&bytes);
        header[8] = 7;
        header[20..26].copy_from_slice(b"0.0.1\0");
        let (frame, rest) = header.split_first_chunk().unwrap();
        assert_eq!(announced(*frame), Ok(rest.len()));
        let sentence = decode(rest).unwrap_err().to_string();
        assert!(sentence.starts_with("slurmd's plugin is version 0.0.1 (format 7), slurmstepd's is "), "{sentence}");
    }

    #[test]
    fn every_damaged_bit_and_every_cut_is_noticed() {
        let message = encode(&message(sample()));
        let version = 20..HEADER_LEN;
        for index in FRAME_LEN..message.len() {
            for bit in 0..8 {
                let mut damaged = message.clone();
                damaged[index] ^= 1 << bit;
                let (header, body) = split(&damaged);
                assert!(
                    decode_parts(&header, body).is_err(),
                    "byte {index} bit {bit} {}",
                    version.contains(&(index - FRAME_LEN))
                );
            }
        }
        let (header, body) = split(&message);
        for length in 0..body.len() {
            assert!(decode_parts(&header, &body[..length]).is_err());
        }
    }

    #[test]
    fn a_share_of_limits_that_no_file_can_ask_for_is_refused() {
        for percent in [0, 101, u32::MAX] {
            let NodeSettings::Enabled(settings) = sample() else { panic!("it is enabled") };
            let sent = message(NodeSettings::Enabled(Settings { user_ns_limits: percent, ..settings }));
            let bytes = encode(&sent);
            let (header, body) = split(&bytes);
            let sentence = decode_parts(&header, body).unwrap_err().to_string();
            assert!(sentence.contains("user_ns_limits"), "{sentence}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let (mut header, body) = {
            let message = encode(&message(sample()));
            let (header, body) = split(&message);
            (header, body.to_vec())
        };
        header[8] = 9;
        header[20..26].copy_from_slice(b"9.8.7\0");
        let sentence = decode_parts(&header, &body).unwrap_err().to_string();
        assert!(sentence.starts_with("slurmd's plugin is version 9.8.7 (format 9), slurmstepd's is "), "{sentence}");
    }

    /// A body with a right checksum, but with settings that no file can ask for.
    fn decode_body(settings: &[u8]) -> Result<Message, WireError> {
        decode_whole(&[&[0; 40], settings].concat())
    }

    fn decode_whole(body: &[u8]) -> Result<Message, WireError> {
        let (mut header, _) = {
            let message = encode(&message(NodeSettings::Disabled(DisabledWhy::SetToNone)));
            let (header, body) = split(&message);
            (header, body.to_vec())
        };
        header[12..16].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        let crc = crc32(&[&header[20..], body]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        decode_parts(&header, body)
    }

    #[test]
    fn a_hostile_body_is_checked_like_a_file() {
        for change in [
            |s: &mut Settings| s.base_path = "/ns/..".to_owned(),
            |s: &mut Settings| s.base_path = "/tmp".to_owned(),
            |s: &mut Settings| s.base_path = "/".to_owned(),
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
            |s: &mut Settings| s.dirs = vec![s.dirs[0].clone(); 300],
            |s: &mut Settings| s.namespaces.pid = false,
            |s: &mut Settings| s.proc_keep[0] = "/etc/passwd".to_owned(),
            |s: &mut Settings| s.proc_keep[0] = "/proc/self/x".to_owned(),
            |s: &mut Settings| s.proc_keep[1] = "/proc/x/".to_owned(),
            |s: &mut Settings| s.proc_keep[1] = s.proc_keep[0].clone(),
            |s: &mut Settings| s.proc_keep.reverse(),
            |s: &mut Settings| s.proc_keep = (0..65).map(|n| format!("/proc/x{n}")).collect(),
        ] {
            let NodeSettings::Enabled(mut settings) = sample() else { unreachable!() };
            change(&mut settings);
            let mut body = vec![2];
            put_settings(&mut body, &settings);
            assert!(decode_body(&body).is_err(), "{settings:?}");
        }
        assert!(decode_body(&[]).is_err());
        assert!(decode_body(&[3]).is_err());
        assert!(decode_body(&[0, 0]).is_err());
        assert!(decode_body(&[2, 255, 255, 255, 255]).is_err());
        let nothing = Message {
            slurm_user: 0,
            settings: NodeSettings::Disabled(DisabledWhy::NotConfigured),
            node: NamespaceInodes::default(),
            former_bases: Vec::new(),
        };
        assert_eq!(decode_body(&[0]), Ok(nothing.clone()));
        let with_former = |base: &str, times: usize| {
            let former_bases = vec![base.to_owned(); times];
            let bytes = encode(&Message { former_bases, ..nothing.clone() });
            decode_whole(split(&bytes).1).is_ok()
        };
        assert!(with_former("/old", MAX_FORMER_BASES) && !with_former("/old", MAX_FORMER_BASES + 1));
        for bad in ["", "old", "/", "/old/", "/a/../b", "/a\nb"] {
            assert!(!with_former(bad, 1), "{bad:?}");
        }
    }

    #[test]
    fn checksum_is_the_usual_one() {
        assert_eq!(crc32(&[b"1234", b"56789"]), 0xcbf4_3926);
    }
}

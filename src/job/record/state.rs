//! The state file `base_path/<job>/.ns/state`: a record of what was made for a job, and where.
//!
//! It is a journal of text lines. Each line is appended before what it announces is made, so after a
//! crash the file names everything that may exist. A last line without a newline was being written
//! when the writer died. It is skipped.
//!
//! ```text
//! slurm-jobns 1
//! job 1234
//! sluid 5566
//! uid 1000
//! gid 1000
//! user alice
//! node n1
//! boot 0d6f1ac5-…
//! stepd 4711 998877 3344         pid, start time, pidfs inode
//! namespaces 537001984           CLONE_NEW* bits
//! tree 65024 131 /nvme/scratch   device and inode of /nvme/scratch/<job>, 0 0 before it is made
//! project 100123 /nvme/scratch   the project that limits /nvme/scratch/<job>
//! holder 4712 998878 3345
//! pins 9 10 -1 -1                fds in stepd: mount, pid, user, ipc
//! ready
//! ```
//!
//! Reading allocates nothing: `join` does it in a forked child.

#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use crate::config::lines::{BadLine, Fields, Lines, put};
use crate::job::record::process::{BootId, Identity};
use crate::sys::clone::{NamespaceFlags, namespaces_of_job};
use core::fmt;

/// First line: the format and its version. A reader refuses any other.
pub const HEADER: &str = "slurm-jobns 1";

/// The largest size of a state file, so that a reader can use a fixed buffer.
pub const MAX_SIZE: usize = 16 * 1024;

/// The properties that a job has from its start. Host, state file and record share this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<T> {
    pub id: u32,
    pub sluid: u64,
    pub uid: u32,
    pub gid: u32,
    pub user: T,
    /// Slurm's name of this node.
    pub node: T,
}

impl<T: AsRef<str>> Header<T> {
    /// The same with borrowed or owned texts.
    pub fn with_texts<'a, U: From<&'a str>>(&'a self) -> Header<U> {
        let Self { id, sluid, uid, gid, user, node } = self;
        let (user, node) = (user.as_ref().into(), node.as_ref().into());
        Header { id: *id, sluid: *sluid, uid: *uid, gid: *gid, user, node }
    }
}

/// The numbers of the namespace descriptors of the extern slurmstepd, which keep the namespaces alive
/// after the holder has ended. -1: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinNumbers {
    pub mount: i32,
    pub pid: i32,
    pub user: i32,
    pub ipc: i32,
}

/// One directory `<base>/<job>` that was made for the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree<'a> {
    pub device: u64,
    pub inode: u64,
    /// The base that contains it.
    pub base: &'a str,
}

/// The content of a state file. Borrows the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State<'a> {
    text: &'a [u8],
    pub header: Header<&'a str>,
    pub boot: &'a [u8],
    pub stepd: Identity,
    pub namespaces: NamespaceFlags,
    pub holder: Option<Identity>,
    pub pins: Option<PinNumbers>,
    pub ready: bool,
}

impl<'a> State<'a> {
    /// Reads a state file. Lines with unknown words are skipped: a later 1.x may add some.
    ///
    /// # Errors
    ///
    /// The file has another format, or lacks a line that every state file has.
    pub fn parse(text: &'a [u8]) -> Result<Self, BadLine> {
        let (mut id, mut sluid, mut uid, mut gid) = (None, None, None, None);
        let (mut user, mut node, mut boot, mut stepd, mut namespaces) = (None, None, None, None, None);
        let (mut holder, mut pins, mut ready) = (None, None, false);
        for (word, value) in Lines::after(HEADER, text)? {
            match word {
                b"job" => id = value.only(),
                b"sluid" => sluid = value.only(),
                b"uid" => uid = value.only(),
                b"gid" => gid = value.only(),
                b"user" => user = value.text(),
                b"node" => node = value.text(),
                b"boot" => boot = Some(value.0),
                b"stepd" => stepd = Identity::read(value),
                b"namespaces" => namespaces = value.only().map(namespaces_of_job),
                b"holder" => holder = Identity::read(value),
                b"pins" => pins = PinNumbers::read(value),
                b"ready" => ready = true,
                _ => {}
            }
        }
        Ok(Self {
            text,
            header: Header {
                id: id.ok_or(BadLine("job"))?,
                sluid: sluid.ok_or(BadLine("sluid"))?,
                uid: uid.ok_or(BadLine("uid"))?,
                gid: gid.ok_or(BadLine("gid"))?,
                user: user.ok_or(BadLine("user"))?,
                node: node.ok_or(BadLine("node"))?,
            },
            boot: boot.ok_or(BadLine("boot"))?,
            stepd: stepd.ok_or(BadLine("stepd"))?,
            namespaces: namespaces.ok_or(BadLine("namespaces"))?,
            holder,
            pins,
            ready,
        })
    }

    /// The directories of the job. If there are several lines about one, the last counts.
    pub fn trees(&self) -> impl Iterator<Item = Tree<'a>> + use<'a> {
        Lines(self.text).filter(|(word, _)| *word == b"tree").filter_map(|(_, mut value)| {
            Some(Tree { device: value.number()?, inode: value.number()?, base: value.path()? })
        })
    }

    /// The projects of its directories, each with the base.
    pub fn projects(&self) -> impl Iterator<Item = (u32, &'a str)> + use<'a> {
        Lines(self.text)
            .filter(|(word, _)| *word == b"project")
            .filter_map(|(_, mut value)| Some((value.number()?, value.path()?)))
    }
}

impl PinNumbers {
    fn read(mut value: Fields<'_>) -> Option<Self> {
        let mut number = || match value.word() {
            b"-1" => Some(-1),
            digits => Fields(digits).only(),
        };
        Some(Self { mount: number()?, pid: number()?, user: number()?, ipc: number()? })
    }
}

/// Lines to write to a journal. The texts must not contain control characters; the caller has checked
/// this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    Job { header: Header<&'a str>, boot: BootId, stepd: Identity, namespaces: NamespaceFlags },
    Tree(Tree<'a>),
    Project { id: u32, base: &'a str },
    Holder(Identity),
    Pins(PinNumbers),
    Ready,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job { header, boot, stepd, namespaces } => {
                let Header { id, sluid, uid, gid, user, node } = header;
                writeln!(f, "{HEADER}")?;
                put(f, "job", id)?;
                put(f, "sluid", sluid)?;
                put(f, "uid", uid)?;
                put(f, "gid", gid)?;
                put(f, "user", user)?;
                put(f, "node", node)?;
                put(f, "boot", core::str::from_utf8(boot.as_bytes()).unwrap_or_default())?;
                put(f, "stepd", stepd)?;
                put(f, "namespaces", namespaces.bits())
            }
            Self::Tree(Tree { device, inode, base }) => put(f, "tree", format_args!("{device} {inode} {base}")),
            Self::Project { id, base } => put(f, "project", format_args!("{id} {base}")),
            Self::Holder(holder) => put(f, "holder", holder),
            Self::Pins(PinNumbers { mount, pid, user, ipc }) => {
                put(f, "pins", format_args!("{mount} {pid} {user} {ipc}"))
            }
            Self::Ready => writeln!(f, "ready"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests may allocate")]
mod tests {
    use super::*;
    use rustix::process::Pid;

    fn id(pid: i32) -> Identity {
        Identity { pid: Pid::from_raw(pid).unwrap(), start_time: 99, pidfs_inode: 7 }
    }

    fn journal() -> String {
        [
            Line::Job {
                header: Header { id: 12, sluid: 3, uid: 1000, gid: 1001, user: "alice", node: "n1" },
                boot: BootId::current().unwrap(),
                stepd: id(5),
                namespaces: NamespaceFlags::MOUNT | NamespaceFlags::PROCESS_ID,
            },
            Line::Tree(Tree { device: 1, inode: 2, base: "/a b" }),
            Line::Project { id: 7, base: "/a b" },
            Line::Holder(id(6)),
            Line::Pins(PinNumbers { mount: 9, pid: 10, user: -1, ipc: -1 }),
            Line::Ready,
        ]
        .iter()
        .map(ToString::to_string)
        .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let text = journal();
        let state = State::parse(text.as_bytes()).unwrap();
        assert_eq!(state.header, Header { id: 12, sluid: 3, uid: 1000, gid: 1001, user: "alice", node: "n1" });
        assert_eq!(state.boot, BootId::current().unwrap().as_bytes());
        assert_eq!(state.stepd, id(5));
        assert_eq!(state.holder, Some(id(6)));
        assert_eq!(state.pins.unwrap().pid, 10);
        assert!(state.ready);
        assert_eq!(state.trees().collect::<Vec<_>>(), [Tree { device: 1, inode: 2, base: "/a b" }]);
        assert_eq!(state.projects().collect::<Vec<_>>(), [(7, "/a b")]);
    }

    #[test]
    fn every_cut_is_either_refused_or_read_as_less() {
        let text = journal();
        for len in 0..text.len() {
            let cut = &text.as_bytes()[..len];
            // ext4 may write the new size of a file before the data. The rest is then zeros.
            let zeros = [cut, &[0; 64]].concat();
            let states = [State::parse(cut), State::parse(&zeros)];
            for state in states.into_iter().flatten() {
                assert_eq!(state.header.id, 12);
                assert!(!state.ready, "cut at {len}");
            }
            assert_eq!(states[0].is_ok(), states[1].is_ok(), "cut at {len}");
        }
    }

    #[test]
    fn another_format_is_refused() {
        let header = Err(BadLine(HEADER));
        assert_eq!(State::parse(b"slurm-jobns 2\njob 1\n"), header);
        assert_eq!(State::parse(b""), header);
        assert_eq!(State::parse(b"slurm-jobns 1\njob 1\n"), Err(BadLine("sluid")));
    }
}

//! The state file `base_path/<job>/.ns/state`: what was made for a job, and where.
//!
//! It is a journal of text lines, written before what it announces is made, and only ever appended
//! to, so that whoever finds it after a crash knows what may exist. A last line without its newline
//! was being written when the writer died; it says nothing and is skipped.
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

use crate::base::io::parse_number;
use crate::job::record::process::{BootId, Identity};
use crate::sys::clone::{NamespaceFlags, namespaces_of_job};
use core::fmt;
use rustix::process::Pid;

/// First line: the format and its version. A reader refuses any other.
pub const HEADER: &str = "slurm-jobns 1";

/// No state file is larger, so that a reader needs one fixed buffer.
pub const MAX_SIZE: usize = 16 * 1024;

/// Numbers of nsfs descriptors in the extern slurmstepd, which keep the namespaces alive when the
/// holder has ended. -1: none.
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
    /// The base it lies in.
    pub base: &'a str,
}

/// A state file as read. Borrows the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State<'a> {
    text: &'a [u8],
    pub job: u32,
    pub sluid: u64,
    pub uid: u32,
    pub gid: u32,
    pub user: &'a str,
    pub node: &'a str,
    pub boot: &'a [u8],
    pub stepd: Identity,
    pub namespaces: NamespaceFlags,
    pub holder: Option<Identity>,
    pub pins: Option<PinNumbers>,
    pub ready: bool,
}

/// Why a file is no state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The first line is not [`HEADER`].
    Header,
    /// A line that every state file begins with is missing or malformed.
    Incomplete,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "it does not begin with \"slurm-jobns 1\": another format, or damaged",
            Self::Incomplete => "a line that every state file has is missing: it was cut, or damaged",
        })
    }
}

impl<'a> State<'a> {
    /// Reads a state file. Lines with unknown words are skipped: a later 1.x may add some.
    ///
    /// # Errors
    ///
    /// [`StateError`].
    pub fn parse(text: &'a [u8]) -> Result<Self, StateError> {
        let mut lines = complete_lines(text);
        if lines.next() != Some(HEADER.as_bytes()) {
            return Err(StateError::Header);
        }
        let (mut job, mut sluid, mut uid, mut gid) = (None, None, None, None);
        let (mut user, mut node, mut boot, mut stepd, mut namespaces) = (None, None, None, None, None);
        let (mut holder, mut pins, mut ready) = (None, None, false);
        for line in lines {
            let (word, rest) = split_word(line);
            match word {
                b"job" => job = parse_u32(rest),
                b"sluid" => sluid = parse_number(rest),
                b"uid" => uid = parse_u32(rest),
                b"gid" => gid = parse_u32(rest),
                b"user" => user = core::str::from_utf8(rest).ok(),
                b"node" => node = core::str::from_utf8(rest).ok(),
                b"boot" => boot = Some(rest),
                b"stepd" => stepd = parse_identity(rest),
                b"namespaces" => namespaces = parse_u32(rest).map(namespaces_of_job),
                b"holder" => holder = parse_identity(rest),
                b"pins" => pins = parse_pins(rest),
                b"ready" => ready = true,
                _ => {}
            }
        }
        let state = || {
            Some(Self {
                text,
                job: job?,
                sluid: sluid?,
                uid: uid?,
                gid: gid?,
                user: user?,
                node: node?,
                boot: boot?,
                stepd: stepd?,
                namespaces: namespaces?,
                holder,
                pins,
                ready,
            })
        };
        state().ok_or(StateError::Incomplete)
    }

    /// The directories made for the job, the last word on each being the last line about it.
    pub fn trees(&self) -> impl Iterator<Item = Tree<'a>> + use<'a> {
        complete_lines(self.text).filter_map(|line| match split_word(line) {
            (b"tree", rest) => parse_tree(rest),
            _ => None,
        })
    }
}

fn complete_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&b| b == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
}

fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = line.splitn(2, |&b| b == b' ');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

fn parse_u32(digits: &[u8]) -> Option<u32> {
    u32::try_from(parse_number(digits)?).ok()
}

fn parse_identity(text: &[u8]) -> Option<Identity> {
    let mut fields = text.split(|&b| b == b' ').map(parse_number);
    Some(Identity {
        pid: Pid::from_raw(i32::try_from(fields.next()??).ok()?)?,
        start_time: fields.next()??,
        pidfs_inode: fields.next()??,
    })
}

fn parse_pins(text: &[u8]) -> Option<PinNumbers> {
    let mut fields = text.split(|&b| b == b' ').map(|field| {
        if field == b"-1" {
            return Some(-1);
        }
        i32::try_from(parse_number(field)?).ok()
    });
    Some(PinNumbers { mount: fields.next()??, pid: fields.next()??, user: fields.next()??, ipc: fields.next()?? })
}

fn parse_tree(text: &[u8]) -> Option<Tree<'_>> {
    let mut fields = text.splitn(3, |&b| b == b' ');
    Some(Tree {
        device: parse_number(fields.next()?)?,
        inode: parse_number(fields.next()?)?,
        base: core::str::from_utf8(fields.next()?).ok().filter(|base| base.starts_with('/'))?,
    })
}

/// The lines of a journal, as they are written. The texts must hold no control characters: the
/// caller has checked them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    Job {
        job: u32,
        sluid: u64,
        uid: u32,
        gid: u32,
        user: &'a str,
        node: &'a str,
        boot: BootId,
        stepd: Identity,
        namespaces: NamespaceFlags,
    },
    Tree(Tree<'a>),
    Holder(Identity),
    Pins(PinNumbers),
    Ready,
}

struct Ids<'a>(&'a Identity);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { pid, start_time, pidfs_inode } = self.0;
        write!(f, "{} {start_time} {pidfs_inode}", pid.as_raw_nonzero())
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job { job, sluid, uid, gid, user, node, boot, stepd, namespaces } => {
                writeln!(f, "{HEADER}\njob {job}\nsluid {sluid}\nuid {uid}\ngid {gid}\nuser {user}\nnode {node}")?;
                let boot = core::str::from_utf8(boot.as_bytes()).unwrap_or_default();
                writeln!(f, "boot {boot}\nstepd {}\nnamespaces {}", Ids(stepd), namespaces.bits())
            }
            Self::Tree(Tree { device, inode, base }) => writeln!(f, "tree {device} {inode} {base}"),
            Self::Holder(holder) => writeln!(f, "holder {}", Ids(holder)),
            Self::Pins(PinNumbers { mount, pid, user, ipc }) => {
                writeln!(f, "pins {mount} {pid} {user} {ipc}")
            }
            Self::Ready => writeln!(f, "ready"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests may allocate")]
mod tests {
    use super::*;

    fn id(pid: i32) -> Identity {
        Identity { pid: Pid::from_raw(pid).unwrap(), start_time: 99, pidfs_inode: 7 }
    }

    fn journal() -> String {
        [
            Line::Job {
                job: 12,
                sluid: 3,
                uid: 1000,
                gid: 1001,
                user: "alice",
                node: "n1",
                boot: BootId::current().unwrap(),
                stepd: id(5),
                namespaces: NamespaceFlags::MOUNT | NamespaceFlags::PROCESS_ID,
            },
            Line::Tree(Tree { device: 1, inode: 2, base: "/a b" }),
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
        assert_eq!((state.job, state.sluid, state.uid, state.gid), (12, 3, 1000, 1001));
        assert_eq!((state.user, state.node), ("alice", "n1"));
        assert_eq!(state.boot, BootId::current().unwrap().as_bytes());
        assert_eq!(state.stepd, id(5));
        assert_eq!(state.holder, Some(id(6)));
        assert_eq!(state.pins.unwrap().pid, 10);
        assert!(state.ready);
        assert_eq!(state.trees().collect::<Vec<_>>(), [Tree { device: 1, inode: 2, base: "/a b" }]);
    }

    #[test]
    fn every_cut_is_either_refused_or_read_as_less() {
        let text = journal();
        for len in 0..text.len() {
            let Ok(state) = State::parse(&text.as_bytes()[..len]) else {
                continue;
            };
            assert_eq!(state.job, 12);
            assert!(!state.ready, "cut at {len}");
        }
    }

    #[test]
    fn another_format_is_refused() {
        assert_eq!(State::parse(b"slurm-jobns 2\njob 1\n"), Err(StateError::Header));
        assert_eq!(State::parse(b""), Err(StateError::Header));
        assert_eq!(State::parse(b"slurm-jobns 1\njob 1\n"), Err(StateError::Incomplete));
    }
}

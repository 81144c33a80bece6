//! `<SlurmdSpoolDir>/namespace_linux.removal`: the removal program of this node, and what it has not removed yet. A
//! program that reads this file need not open any tree.
//!
//! ```text
//! slurm-jobns-removal 1
//! program 4711 998877 3344                      pid, start time, pidfs inode
//! tree 1001 1790000000 held 120 /nvme/jobns/.trash/17.1001.0
//! reason it contains 1 mounts, which are left alone
//! directories 66306:1234 66306:1240
//! told
//! ```
//!
//! tree: uid, since when (seconds since the epoch), state, entries that were left at the end of the last turn, path.
//! directories: device and inode of those that its user's processes may have open. told: it was logged.

use crate::base::error::Error;
use crate::base::spool;
use crate::base::spool::PowerCut;
use crate::config::lines::put;
use crate::job::record::process::Identity;
use crate::remover::survivors::Directory;

const HEADER: &str = "slurm-jobns-removal 1";
const MAX_SIZE: usize = 4 << 20;
/// The most trees in the file.
const MAX_TREES: usize = 2000;

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub program: Option<Identity>,
    pub trees: Vec<Tree>,
}

/// A tree that is not removed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    pub uid: u32,
    /// Seconds since the epoch.
    pub since: u64,
    pub state: TreeState,
    /// How many entries are known to be left at the end of the last turn.
    pub left: u64,
    pub path: String,
    /// Why it is held up.
    pub reason: Option<String>,
    /// It was logged that it is held up.
    pub is_told: bool,
    /// The user's directories in it.
    pub directories: Vec<Directory>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeState {
    /// It waits for its turn.
    Waits,
    /// It is being removed.
    Runs,
    /// Its process makes no progress.
    Stuck,
    /// It could not be removed, and is tried again later.
    Held,
}

impl TreeState {
    const ALL: [Self; 4] = [Self::Waits, Self::Runs, Self::Stuck, Self::Held];

    fn read(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word().as_bytes() == word)
    }

    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Runs => "runs",
            Self::Stuck => "stuck",
            Self::Held => "held",
        }
    }
}

impl Status {
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        if let Some(program) = &self.program {
            let _ = put(&mut text, "program", program);
        }
        for Tree { uid, since, state, left, path, reason, is_told, directories } in self.trees.iter().take(MAX_TREES) {
            let _ = put(&mut text, "tree", format_args!("{uid} {since} {} {left} {path}", state.word()));
            if let Some(reason) = reason {
                let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect();
                let _ = put(&mut text, "reason", line);
            }
            if !directories.is_empty() {
                let list: Vec<String> = directories.iter().map(Directory::to_string).collect();
                let _ = put(&mut text, "directories", list.join(" "));
            }
            if *is_told {
                text.push_str("told\n");
            }
        }
        text
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut status = Self::default();
        for (word, mut value) in spool::lines(HEADER, text).ok()? {
            match word {
                b"program" => status.program = Some(Identity::read(value)?),
                b"tree" => status.trees.push(Tree {
                    uid: value.number()?,
                    since: value.number()?,
                    state: TreeState::read(value.word())?,
                    left: value.number()?,
                    path: value.text()?.to_owned(),
                    reason: None,
                    is_told: false,
                    directories: Vec::new(),
                }),
                b"directories" => {
                    let list = value.text()?.split(' ');
                    status.trees.last_mut()?.directories = list.filter_map(Directory::parse).collect();
                }
                b"told" => status.trees.last_mut()?.is_told = true,
                b"reason" => status.trees.last_mut()?.reason = Some(value.text()?.to_owned()),
                _ => {}
            }
        }
        Some(status)
    }

    /// None: there is no such file, or it has another format.
    pub fn read(spool: &str, name: &str) -> Result<Option<Self>, Error> {
        let text = spool::read(spool, name, MAX_SIZE)?;
        Ok(text.as_deref().and_then(Self::parse))
    }

    /// Replaces the file atomically.
    pub fn write(&self, spool: &str, name: &str) -> Result<(), Error> {
        // A former program may write at the same time.
        let new = format!("{name}.new.{}", rustix::process::getpid().as_raw_nonzero());
        spool::replace(spool, name, &new, &self.text(), PowerCut::MayLoseIt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = crate::config::flavour::Flavour::Linux.removal_status();

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().to_str().unwrap();
        assert_eq!(Status::read(spool, FILE).unwrap(), None);
        let tree = |state, reason: Option<&str>| Tree {
            uid: 1001,
            since: 5,
            state,
            left: 6,
            path: "/a b/.trash/7.1001.0".into(),
            reason: reason.map(str::to_owned),
            is_told: reason.is_some(),
            directories: reason.map(|_| Directory { device: 1, inode: 2 }).into_iter().collect(),
        };
        let status = Status {
            program: Some(Identity { pid: rustix::process::getpid(), start_time: 1, pidfs_inode: 2 }),
            trees: vec![tree(TreeState::Held, Some("it contains a mount")), tree(TreeState::Runs, None)],
        };
        status.write(spool, FILE).unwrap();
        assert_eq!(Status::read(spool, FILE).unwrap(), Some(status));
        for damaged in ["", "slurm-jobns-removal 2\n", "slurm-jobns-removal 1\ntree x\n"] {
            assert_eq!(Status::parse(damaged.as_bytes()), None, "{damaged:?}");
        }
    }
}

//! What a node's slurmd remembers between its starts: its name, its configuration, and every
//! `base_path` under which a job of it may still live.
//!
//! An administrator may change `base_path`, or switch the plugin off, while jobs run. Their
//! directories are then found again by this file, `<SlurmdSpoolDir>/namespace_linux.jobns` (or `namespace_tmpfs.jobns`):
//!
//! ```text
//! slurm-jobns-node 1
//! node n1
//! hostname host1
//! slurm_conf /etc/slurm/slurm.conf
//! base /var/spool/jobns          today's first, where there is one
//! base /nvme/old
//! trash /nvme/other              has a .trash, and no job: a base_path of dir_confs, or a former one
//! ```

#![forbid(unsafe_code)]

use super::error::Error;
use super::spool::{self, PowerCut};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The names of the file in slurmd's spool directory, for namespace/linux and namespace/tmpfs.
pub const FILES: [&str; 2] = ["namespace_linux.jobns", "namespace_tmpfs.jobns"];

const HEADER: &str = "slurm-jobns-node 1";

/// Base paths of the longest kind for years of changes.
const MAX_SIZE: usize = 256 * 1024;

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    /// Slurm's name of the node.
    pub node: String,
    /// The name of the machine, for `%h`.
    pub hostname: String,
    pub slurm_conf: String,
    /// Absolute and normalised.
    pub bases: Vec<String>,
    /// Other directories whose trash is the node's.
    pub trash: Vec<String>,
}

impl Registry {
    /// None: there is no such file, as before the first start.
    ///
    /// # Errors
    ///
    /// When the file is there and cannot be read, is not root's alone, or is damaged.
    pub fn read(spooldir: &str, name: &str) -> Result<Option<Self>, Error> {
        let Some(text) = spool::read(spooldir, name, MAX_SIZE)? else { return Ok(None) };
        let damaged = || Error::because(format!("read {spooldir}/{name}"), "it is damaged, or of another format");
        Self::parse(&text).map(Some).ok_or_else(damaged)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = core::str::from_utf8(text).ok()?.strip_suffix('\n')?.split('\n');
        if lines.next() != Some(HEADER) {
            return None;
        }
        let mut found = Self::default();
        for line in lines {
            match line.split_once(' ')? {
                ("node", rest) => rest.clone_into(&mut found.node),
                ("hostname", rest) => rest.clone_into(&mut found.hostname),
                ("slurm_conf", rest) => rest.clone_into(&mut found.slurm_conf),
                ("base", rest) if rest.starts_with('/') => found.bases.push(rest.to_owned()),
                ("trash", rest) if rest.starts_with('/') => found.trash.push(rest.to_owned()),
                // A later 1.x may have more.
                _ => {}
            }
        }
        (!found.node.is_empty()).then_some(found)
    }

    fn text(&self) -> String {
        let Self { node, hostname, slurm_conf, bases, trash } = self;
        let mut text = format!("{HEADER}\nnode {node}\nhostname {hostname}\nslurm_conf {slurm_conf}\n");
        for (word, path) in bases.iter().map(|base| ("base", base)).chain(trash.iter().map(|path| ("trash", path))) {
            let _ = writeln!(text, "{word} {path}");
        }
        text
    }

    /// Each directory in one place only, once.
    pub fn tidy(&mut self) {
        let mut seen = BTreeSet::new();
        self.trash.retain(|path| !self.bases.contains(path) && seen.insert(path.clone()));
    }

    /// Replaces the file, whole or not at all.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, spooldir: &str, name: &str) -> Result<(), Error> {
        spool::replace(spooldir, name, &format!("{name}.new"), &self.text(), PowerCut::Survives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().to_str().unwrap();
        assert_eq!(Registry::read(spool, FILES[0]).unwrap(), None);
        let written = Registry {
            node: "n1".to_owned(),
            hostname: "h".to_owned(),
            slurm_conf: "/etc/s".to_owned(),
            bases: vec!["/a b".to_owned(), "/c".to_owned()],
            trash: vec!["/d e".to_owned()],
        };
        written.write(spool, FILES[0]).unwrap();
        assert_eq!(Registry::read(spool, FILES[0]).unwrap(), Some(written));
        let path = dir.path().join(FILES[0]);
        for damaged in
            ["", "slurm-jobns-node 1\n", "slurm-jobns-node 2\nnode n\n", "slurm-jobns-node 1\nnode n\nbase /c"]
        {
            std::fs::write(&path, damaged).unwrap();
            assert!(Registry::read(spool, FILES[0]).is_err(), "{damaged:?}");
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(Registry::read(spool, FILES[0]).is_err());
    }
}

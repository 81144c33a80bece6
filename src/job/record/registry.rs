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
//!
//! Where slurmd's spool directory is depends on slurm.conf, so each slurmd writes that down as well, in
//! `/run/slurm-jobns/<node>`, for `jobns`:
//!
//! ```text
//! slurm-jobns-spool 1
//! spool /var/spool/slurmd
//! ```

use crate::base::error::{Doing, Error};
use crate::base::listing::names;
use crate::base::spool;
use crate::base::spool::PowerCut;
use crate::base::trusted_path;
use crate::base::trusted_path::Missing;
use crate::config::lines::{BadLine, put};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;

const HEADER: &str = "slurm-jobns-node 1";

/// Where each slurmd of this machine writes down its spool directory, in a file with the node's name.
pub const WHEREABOUTS: &str = "/run/slurm-jobns";

const SPOOL_HEADER: &str = "slurm-jobns-spool 1";

/// A path and a few words.
const MAX_SPOOL_SIZE: usize = 8192;

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
        Self::parse(&text).map(Some).map_err(|bad| Error::because(format!("read {spooldir}/{name}"), bad.to_string()))
    }

    fn parse(text: &[u8]) -> Result<Self, BadLine> {
        let mut found = Self::default();
        for (word, value) in spool::lines(HEADER, text)? {
            let text = |word| value.text().map(str::to_owned).ok_or(BadLine(word));
            let path = |word| value.path().map(str::to_owned).ok_or(BadLine(word));
            match word {
                b"node" => found.node = text("node")?,
                b"hostname" => found.hostname = text("hostname")?,
                b"slurm_conf" => found.slurm_conf = text("slurm_conf")?,
                b"base" => found.bases.push(path("base")?),
                b"trash" => found.trash.push(path("trash")?),
                // A later 1.x may have more.
                _ => {}
            }
        }
        if found.node.is_empty() { Err(BadLine("node")) } else { Ok(found) }
    }

    fn text(&self) -> String {
        let Self { node, hostname, slurm_conf, bases, trash } = self;
        let mut text = format!("{HEADER}\n");
        let lines = [("node", node), ("hostname", hostname), ("slurm_conf", slurm_conf)].into_iter();
        let lines = lines.chain(bases.iter().map(|base| ("base", base)));
        for (word, value) in lines.chain(trash.iter().map(|path| ("trash", path))) {
            let _ = put(&mut text, word, value);
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

/// A node's name as the name of a file that is not hidden.
fn is_file_name(node: &str) -> bool {
    !node.is_empty() && !node.starts_with('.') && !node.contains(['/', '\n'])
}

/// Writes down in the directory `place` where the spool directory of a node is.
///
/// # Errors
///
/// When it cannot be written, or somebody else could write there.
pub fn write_spool(place: &str, node: &str, spooldir: &str) -> Result<(), Error> {
    if !is_file_name(node) || spooldir.contains('\n') {
        return Err(Error::because(format!("write {place}/{node}"), "the name cannot be that of a file"));
    }
    let path = trusted_path::open_dir("the directory", place, Missing::MakeForAll)?.path;
    let text = format!("{SPOOL_HEADER}\nspool {spooldir}\n");
    spool::replace(&path, node, &format!(".{node}.new"), &text, PowerCut::MayLoseIt)
}

/// The nodes whose slurmd has written down its spool directory in `place`. Anybody can read these names.
///
/// # Errors
///
/// When the directory is there and cannot be listed.
pub fn nodes(place: &str) -> Result<Vec<String>, Error> {
    let dir = match rustix::fs::open(place, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        result => result.doing("openat", || format!("list {place}"))?,
    };
    let mut nodes = names(dir.as_fd(), place)?;
    nodes.retain(|node| is_file_name(node));
    nodes.sort();
    Ok(nodes)
}

/// The spool directory of a node, as its slurmd has written it down in `place`.
///
/// # Errors
///
/// When the file cannot be read, is not root's alone, or is damaged.
pub fn spool_of(place: &str, node: &str) -> Result<Option<String>, Error> {
    let Some(text) = spool::read(place, node, MAX_SPOOL_SIZE)? else { return Ok(None) };
    let path = spool::lines(SPOOL_HEADER, &text).and_then(|mut lines| {
        let path = lines.find(|(word, _)| *word == b"spool").and_then(|(_, value)| value.path());
        path.ok_or(BadLine("spool"))
    });
    let path = path.map_err(|bad| Error::because(format!("read {place}/{node}"), bad.to_string()))?;
    Ok(Some(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = crate::config::flavour::Flavour::Linux.registry();

    #[test]
    fn each_slurmd_has_its_spool_directory_written_down() {
        let top = tempfile::tempdir().unwrap();
        let place = top.path().join("run/slurm-jobns");
        let place = place.to_str().unwrap();
        assert!(nodes(place).unwrap().is_empty());
        write_spool(place, "n1", "/var/spool/a b").unwrap();
        write_spool(place, "n2", "/var/spool/n2").unwrap();
        write_spool(place, "n2", "/else/where").unwrap();
        assert_eq!(nodes(place).unwrap(), ["n1", "n2"]);
        let mode = std::fs::metadata(place).unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o755, "everybody can list it");
        assert_eq!(spool_of(place, "n1").unwrap().as_deref(), Some("/var/spool/a b"));
        assert_eq!(spool_of(place, "n2").unwrap().as_deref(), Some("/else/where"));
        assert_eq!(spool_of(place, "n3").unwrap(), None);
        for odd in ["", ".", "..", ".n", "a/b"] {
            assert!(write_spool(place, odd, "/s").is_err(), "{odd:?}");
        }
        for damaged in
            ["", "slurm-jobns-spool 1\n", "slurm-jobns-spool 2\nspool /s\n", "slurm-jobns-spool 1\nspool s\n"]
        {
            std::fs::write(format!("{place}/n1"), damaged).unwrap();
            assert!(spool_of(place, "n1").is_err(), "{damaged:?}");
        }
        std::fs::set_permissions(place, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(write_spool(place, "n1", "/s").is_err(), "everybody can write there");
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().to_str().unwrap();
        assert_eq!(Registry::read(spool, FILE).unwrap(), None);
        let written = Registry {
            node: "n1".to_owned(),
            hostname: "h".to_owned(),
            slurm_conf: "/etc/s".to_owned(),
            bases: vec!["/a b".to_owned(), "/c".to_owned()],
            trash: vec!["/d e".to_owned()],
        };
        written.write(spool, FILE).unwrap();
        assert_eq!(Registry::read(spool, FILE).unwrap(), Some(written));
        let path = dir.path().join(FILE);
        for damaged in
            ["", "slurm-jobns-node 1\n", "slurm-jobns-node 2\nnode n\n", "slurm-jobns-node 1\nnode n\nbase /c"]
        {
            std::fs::write(&path, damaged).unwrap();
            assert!(Registry::read(spool, FILE).is_err(), "{damaged:?}");
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(Registry::read(spool, FILE).is_err());
    }
}

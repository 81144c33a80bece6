//! The registry of a node, which slurmd keeps between its starts: the node's name, its configuration, and
//! every `base_path` under which jobs may still live.
//!
//! An administrator may change `base_path`, or disable the plugin, while jobs run. Their directories are
//! then found by this file, `<SlurmdSpoolDir>/namespace_linux.jobns` (or `namespace_tmpfs.jobns`):
//!
//! ```text
//! slurm-jobns-node 1
//! node n1
//! hostname host1
//! slurm_conf /etc/slurm/slurm.conf
//! base /var/spool/jobns          the current one comes first, if there is one
//! base /nvme/old
//! trash /nvme/other              has a .trash but no jobs: a base_path of dir_confs, or a former one
//! ```
//!
//! slurm.conf names slurmd's spool directory, so each slurmd also writes its path to `/run/slurm-jobns/<node>`,
//! for `jobns`:
//!
//! ```text
//! slurm-jobns-spool 1
//! spool /var/spool/slurmd
//! ```

use crate::base::error::Error;
use crate::base::listing::names_at;
use crate::base::spool;
use crate::base::spool::PowerCut;
use crate::base::trusted_path;
use crate::base::trusted_path::Missing;
use crate::config::lines::{BadLine, put};
use rustix::io::Errno;
use std::collections::BTreeSet;

const HEADER: &str = "slurm-jobns-node 1";

/// The directory in which each slurmd of this machine writes its spool directory to a file named after the node.
pub const WHEREABOUTS: &str = "/run/slurm-jobns";

const SPOOL_HEADER: &str = "slurm-jobns-spool 1";

/// Enough for a path and a few words.
const MAX_SPOOL_SIZE: usize = 8192;

/// Enough for the longest base paths, changed often.
const MAX_SIZE: usize = 256 * 1024;

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    /// Slurm's name of the node.
    pub node: String,
    /// The host name, for `%h`.
    pub hostname: String,
    pub slurm_conf: String,
    /// Absolute and normalised.
    pub bases: Vec<String>,
    /// Other directories that contain a trash of the node.
    pub trash: Vec<String>,
}

impl Registry {
    /// None: there is no such file, as before the first start.
    ///
    /// # Errors
    ///
    /// The file exists but cannot be read, is not root's alone, or is damaged.
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

    /// Removes duplicates from `trash`, and the directories that are in `bases`.
    pub fn tidy(&mut self) {
        let mut seen = BTreeSet::new();
        self.trash.retain(|path| !self.bases.contains(path) && seen.insert(path.clone()));
    }

    /// Replaces the file atomically.
    pub fn write(&self, spooldir: &str, name: &str) -> Result<(), Error> {
        spool::replace(spooldir, name, &format!("{name}.new"), &self.text(), PowerCut::Survives)
    }
}

/// Can the node's name be the name of a file that is not hidden?
fn is_file_name(node: &str) -> bool {
    !node.is_empty() && !node.starts_with('.') && !node.contains(['/', '\n'])
}

/// Writes the path of a node's spool directory to a file in the directory `place`. Fails if others could write
/// there.
pub fn write_spool(place: &str, node: &str, spooldir: &str) -> Result<(), Error> {
    if !is_file_name(node) || spooldir.contains('\n') {
        return Err(Error::because(format!("write {place}/{node}"), "it cannot be the name of a file"));
    }
    let path = trusted_path::open_dir("the directory", place, Missing::MakeForAll)?.path;
    let text = format!("{SPOOL_HEADER}\nspool {spooldir}\n");
    spool::replace(&path, node, &format!(".{node}.new"), &text, PowerCut::MayLoseIt)
}

/// The nodes whose slurmd has written its spool directory to `place`. Anyone can read these names.
pub fn nodes(place: &str) -> Result<Vec<String>, Error> {
    let mut nodes = match names_at(place) {
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(Vec::new()),
        result => result?,
    };
    nodes.retain(|node| is_file_name(node));
    nodes.sort();
    Ok(nodes)
}

/// The spool directory of a node, from the file in `place`; None if there is no such file.
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
    fn each_slurmd_records_its_spool_directory() {
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

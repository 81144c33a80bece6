//! The configuration file: reads one of the two kinds safely, for one node.

use crate::base::error::{Doing, Error};
use crate::base::trusted_path::is_trusted_owner;
use crate::config::cluster;
use crate::config::flavour::Flavour;
use crate::config::job_container_conf::{Include, parse_job_container_conf};
use crate::config::keys;
use crate::config::limits::MAX_TEXT;
use crate::config::namespace_yaml::parse_namespace_yaml;
use crate::config::outcome::{Origin, Parsed};
use crate::config::settings::Node;
use crate::node::finding::{About, Finding, Findings};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;

/// A kind of configuration file. Not an enumeration but constants with functions, so that each plugin contains only the
/// parser of its own file.
#[derive(Clone, Copy, Debug)]
pub struct File {
    pub name: &'static str,
    /// The plugin that reads it.
    pub(crate) plugin: &'static str,
    /// A hint with a minimal file.
    example: &'static str,
    parse: fn(&str, &[u8], &Node<'_>, Include<'_>) -> Parsed,
    pub(crate) format: Flavour,
    /// The sentence that no entry of the file names this node.
    left_out: fn(&str) -> String,
}

impl PartialEq for File {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// The file of namespace/linux.
pub const NAMESPACE_YAML: File = File {
    name: "namespace.yaml",
    plugin: "namespace_linux.so",
    example: "write one beside slurm.conf; two lines are enough: \"defaults:\" and \"  base_path: /some/dir\"",
    parse: |path, text, node, _| parse_namespace_yaml(path, text, node),
    format: Flavour::Linux,
    left_out: |node| format!("no entry of node_confs names node {node}"),
};

/// The file of namespace/tmpfs.
pub const JOB_CONTAINER_CONF: File = File {
    name: "job_container.conf",
    plugin: "namespace_tmpfs.so",
    example: "write one beside slurm.conf; one line is enough: \"BasePath=/some/dir\"",
    parse: |path, text, node, include| parse_job_container_conf(path, text, node, include),
    format: Flavour::Tmpfs,
    left_out: |node| format!("no line with NodeName names node {node}"),
};

/// A file as read for one node.
#[derive(Debug)]
pub struct ConfigFile {
    pub file: File,
    pub path: String,
    pub parsed: Parsed,
    /// The sentence that no entry names this node, if entries name others.
    pub left_out: Option<String>,
}

impl File {
    /// Reads `<directory>/<name>` as slurmd does, for one node. The findings say who can change it.
    pub(crate) fn read(self, directory: &str, node: &Node<'_>) -> Result<(ConfigFile, Findings), Error> {
        let path = format!("{directory}/{}", self.name);
        self.read_trusted(path, directory, node).map_err(|error| match error.errno() {
            Some(Errno::NOENT) => error.with_hint(self.example),
            _ => error,
        })
    }

    /// Reads the file at `path`, and the files that it includes from `directory`, if no other user can write to them.
    pub(crate) fn read_trusted(
        self,
        path: String,
        directory: &str,
        node: &Node<'_>,
    ) -> Result<(ConfigFile, Findings), Error> {
        let mut found = Findings::default();
        let text = read_trusted(&path, &mut found)?;
        // A relative name means a file beside slurm.conf, as in parse_config.c.
        let file = self.parse(path, &text, node, &mut |name| {
            let path = if name.starts_with('/') { name.to_owned() } else { format!("{directory}/{name}") };
            read_trusted(&path, &mut found).map_err(|error| error.to_string())
        });
        Ok((file, found))
    }

    /// The spelling of a key of namespace.yaml in this file; None if it has no such key.
    pub(crate) fn key(self, key: &'static str) -> Option<&'static str> {
        keys::spelled(key, self.format)
    }

    pub(crate) fn parse(self, path: String, text: &[u8], node: &Node<'_>, include: Include<'_>) -> ConfigFile {
        let parsed = (self.parse)(&path, text, node, include);
        let left_out = cluster::leaves_out(&parsed.nodes).then(|| (self.left_out)(node.name));
        ConfigFile { file: self, path, parsed, left_out }
    }
}

impl ConfigFile {
    /// Where the value of a key comes from; None if it is not set for the node.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<Origin> {
        self.parsed.sources.iter().find(|source| source.key == key).map(|source| source.origin)
    }

    fn line_of(&self, key: &str) -> Option<usize> {
        match self.origin(key)? {
            Origin::BuiltIn => None,
            Origin::Defaults { line } | Origin::NodeEntry { line } => Some(line),
        }
    }

    /// A finding as one line that begins with its place.
    #[must_use]
    pub fn line(&self, finding: &Finding) -> String {
        let line = match finding.about {
            About::Node => return finding.to_string(),
            About::File => None,
            About::Line(line) => Some(line),
            // Either key may have the list of directories.
            About::Key("dirs") => self.line_of("dir_confs").or_else(|| self.line_of("dirs")),
            About::Key(key) => self.line_of(key),
        };
        let line = line.map_or_else(String::new, |line| format!(":{line}"));
        format!("{}{line}: {finding}", self.path)
    }

    /// Adds the problems of the text.
    pub(crate) fn problems(&self, found: &mut Findings) {
        for problem in &self.parsed.problems {
            found.problem(problem);
        }
    }
}

/// Reads a file that decides what root does, if only root can change it. Checks and reads the same descriptor.
fn read_trusted(path: &str, found: &mut Findings) -> Result<Vec<u8>, Error> {
    let file = open(path, OFlags::NONBLOCK).doing("openat", || format!("read {path}"))?;
    who_can_change(&file, path, found)?;
    read_text(&file).doing("read", || format!("read {path}"))
}

pub(crate) fn open(path: impl Arg, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty())
}

/// Refuses a file that every user can change, and warns of one that a user other than root can change.
pub(crate) fn who_can_change(file: &OwnedFd, path: &str, found: &mut Findings) -> Result<(), Error> {
    let intention = || format!("read {path}");
    let stat = rustix::fs::fstat(file).doing("fstat", intention)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::because(intention(), "it is not a regular file"));
    }
    if stat.st_mode & 0o002 != 0 {
        return Err(Error::because(intention(), "every user can write to it, and it decides what root does")
            .with_hint("chmod o-w"));
    }
    if !is_trusted_owner(stat.st_uid) || (stat.st_mode & 0o020 != 0 && stat.st_gid != 0) {
        let (uid, mode) = (stat.st_uid, stat.st_mode & 0o7777);
        found.warn(About::Node, format!("{path}: uid {uid} (mode {mode:04o}) can change what root does on this node"));
    }
    Ok(())
}

/// Reads at least one byte more than the parser accepts, so that the parser reports a file that is too long.
pub(crate) fn read_text(file: impl AsFd) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    let mut chunk = vec![0_u8; 64 * 1024];
    while text.len() <= MAX_TEXT {
        match rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut chunk[..]))? {
            0 => break,
            n => text.extend_from_slice(chunk.get(..n).unwrap_or_default()),
        }
    }
    Ok(text)
}

/// The directory of the configuration files, from the path of slurm.conf.
#[must_use]
pub fn config_directory(slurm_conf: &str) -> &str {
    match slurm_conf.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((directory, _)) => directory,
        None => ".",
    }
}

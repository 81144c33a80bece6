//! What one part of a file sets: a mapping of namespace.yaml, a line of job_container.conf. Each value is checked for
//! itself, also for other nodes: a file is right or wrong as a whole. What only the merged settings show is checked in
//! [`super::merge`].

use crate::config::keys::Key;
use crate::config::mount_options::MountOptions;
use crate::config::problem::{Place, Scalar};
use crate::config::settings::{DEV_SHM, HidePid, Namespaces};

/// What is set, in the order of the text.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub(super) sets: Vec<(&'static Key, Set<Value>)>,
    /// For single nodes, and not for all.
    pub(super) is_of_node: bool,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Set<T> {
    pub(super) value: T,
    pub(super) at: Place,
}

/// What a key is set to.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Something empty, which Slurm takes for not set.
    Unset,
    Flag(bool),
    Number(u32),
    Path(String),
    /// `%h` and `%n` not yet replaced; `None` for `none`.
    Base(Option<String>),
    Namespaces(Namespaces),
    HidePid(HidePid),
    Paths(Vec<String>),
    Dirs(Vec<DirSpec>),
    Nodes(Scalar),
}

/// A private directory as written.
#[derive(Clone, Debug)]
pub(super) struct DirSpec {
    /// Normalised, patterns not replaced.
    pub(super) path: String,
    pub(super) at: Place,
    /// Normalised, `%h` and `%n` not yet replaced.
    pub(super) other_base: Option<Set<String>>,
    pub(super) is_tmpfs: bool,
    pub(super) options: MountOptions,
    pub(super) mode: Option<u32>,
}

impl DirSpec {
    /// One of which nothing but the path is said.
    pub(super) fn new(path: String, at: Place) -> Self {
        let is_tmpfs = path == DEV_SHM;
        Self { path, at, other_base: None, is_tmpfs, options: MountOptions::default(), mode: None }
    }
}

impl Layer {
    /// The last that it sets for the key.
    pub(super) fn get(&self, name: &str) -> Option<&Set<Value>> {
        self.sets
            .iter()
            .rev()
            .find(|(key, set)| key.name == name && !matches!(set.value, Value::Unset))
            .map(|(_, set)| set)
    }
}

//! The values that one part of a file sets: a mapping of namespace.yaml, or a line of job_container.conf. Each value is
//! checked on its own, even if it is for other nodes: a file is valid or not as a whole. Checks of the merged settings
//! are in [`super::merge`].

use crate::config::keys::Key;
use crate::config::mount_options::MountOptions;
use crate::config::problem::{Place, Scalar};
use crate::config::settings::{DEV_SHM, HidePid, KeepPath, Namespaces};
use crate::config::size::{Amount, ProjectIds, Size};

/// Keys with their values, in the order of the text.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub(super) sets: Vec<(&'static Key, Set<Value>)>,
    /// It is for some nodes only.
    pub(super) is_of_node: bool,
}

/// A value and its place in the file.
#[derive(Clone, Debug)]
pub(super) struct Set<T> {
    pub(super) value: T,
    pub(super) at: Place,
}

/// The value of a key.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// An empty value, which counts as not set.
    Unset,
    Flag(bool),
    Number(u32),
    Path(String),
    /// `%h` and `%n` are not replaced yet. `None` means `none`.
    Base(Option<String>),
    Namespaces(Namespaces),
    HidePid(HidePid),
    Paths(Vec<String>),
    Keep(Vec<Set<KeepPath>>),
    Dirs(Vec<DirSpec>),
    Size(Size),
    Amount(Amount),
    ProjectIds(ProjectIds),
    Nodes(Scalar),
}

/// A private directory as written.
#[derive(Clone, Debug)]
pub(super) struct DirSpec {
    /// Normalised. Patterns are not replaced yet.
    pub(super) path: String,
    pub(super) at: Place,
    /// Normalised. `%h` and `%n` are not replaced yet.
    pub(super) other_base: Option<Set<String>>,
    pub(super) is_tmpfs: bool,
    pub(super) options: MountOptions,
    /// The node need not have it.
    pub(super) create: bool,
    /// It belongs to the job's user, and not to root.
    pub(super) is_users: Option<bool>,
    pub(super) mode: Option<u32>,
    pub(super) size: Option<Size>,
    pub(super) inodes: Option<Amount>,
}

impl DirSpec {
    /// A directory without options.
    pub(super) fn new(path: String, at: Place) -> Self {
        let is_tmpfs = path == DEV_SHM;
        Self {
            path,
            at,
            other_base: None,
            is_tmpfs,
            options: MountOptions::default(),
            create: false,
            is_users: None,
            mode: None,
            size: None,
            inodes: None,
        }
    }
}

impl Layer {
    /// The last value of the key in this layer.
    pub(super) fn get(&self, name: &str) -> Option<&Set<Value>> {
        self.sets
            .iter()
            .rev()
            .find(|(key, set)| key.name == name && !matches!(set.value, Value::Unset))
            .map(|(_, set)| set)
    }
}

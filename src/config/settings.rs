//! What a file says about one node, checked: the types that the rest of the plugin works with.

use crate::config::limits::DEFAULT_REMOVAL_TIMEOUT;

/// Seconds that a script may run when the file does not say: Slurm's default.
pub const DEFAULT_WAIT_SECONDS: u32 = 10;

/// Percent of the node's limits that one job's user namespace may use when the file does not say.
pub const DEFAULT_USER_NS_LIMITS: u32 = 10;

/// The directories that are private when the file names none: Slurm's default.
pub const DEFAULT_DIRS: [&str; 2] = ["/tmp", "/dev/shm"];

/// The directory that is always a fresh tmpfs, never a directory under `base_path`.
pub const DEV_SHM: &str = "/dev/shm";

/// The node that the file is read for.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Slurm's name of the node (`NodeName`), for `nodes` and `%n`.
    pub name: &'a str,
    /// The name of the machine (`NodeHostname`), for `%h`.
    pub hostname: &'a str,
}

/// What a valid file says about one node.
#[allow(clippy::large_enum_variant, reason = "a process has one or two of it")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeSettings {
    /// Jobs on this node get no namespaces.
    Disabled(DisabledWhy),
    /// Jobs on this node get what the settings ask for.
    Enabled(Settings),
}

/// Why a valid file leaves a node without namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledWhy {
    /// Neither `defaults` nor an entry for this node has a `base_path`.
    NotConfigured,
    /// `base_path` is `none`.
    SetToNone,
}

/// What the administrator asked for on this node.
///
/// A value that comes from [`parse_namespace_yaml`](super::namespace_yaml::parse_namespace_yaml) or [`wire::decode`](super::wire::decode) holds what
/// [`check::settings`](super::check::settings) checks: absolute normalised paths, distinct directories, a parent before what
/// is nested in it, no directory at or below a base path, `nosuid` and `nodev` on every tmpfs.
#[allow(clippy::struct_excessive_bools, reason = "each is one key of the file, free to combine")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Make `base_path` (mode 0711) when slurmd starts.
    pub auto_base_path: bool,
    /// Where the job directories live: `%h` and `%n` are expanded, absolute, normalised.
    pub base_path: String,
    /// Cover `base_path` inside the job with an empty read-only tmpfs. Ours, not Slurm's.
    pub hide_base_path: bool,
    /// Namespaces besides the mount namespace, which every job gets.
    pub namespaces: Namespaces,
    /// New mounts of the host appear in the job.
    pub shared: bool,
    /// Do without a BPF token in a user namespace.
    pub disable_bpf_token: bool,
    /// Percent, 1 to 100, of the node's limits below `/proc/sys/user` that the user namespace of one job
    /// may use. 100 leaves the node's own limits. Ours, not Slurm's.
    pub user_ns_limits: u32,
    /// Each slurmstepd is inside the job's namespaces altogether, from its start; else only its tasks
    /// are. Always so in namespace.yaml; `EntireStepInNS` in job_container.conf.
    pub entire_step_in_ns: bool,
    /// Runs before the namespaces are made.
    pub init_script: Option<Script>,
    /// Writes the id maps of the user namespace.
    pub user_ns_script: Option<Script>,
    /// Runs once the namespaces are made.
    pub clone_ns_script: Option<Script>,
    /// Runs before the namespaces go away.
    pub clone_ns_epilog: Option<Script>,
    /// slurmd starts without a script that is not there. Ours, not Slurm's.
    pub scripts_may_be_missing: bool,
    /// Seconds that the end of a job waits for the removal of its files. The rest is removed in the background.
    /// Ours, not Slurm's.
    pub removal_timeout: u32,
    /// Of the fresh `/proc` that a PID namespace brings; off without one. Ours, not Slurm's.
    pub hide_pid: HidePid,
    /// Paths below `/proc`, a parent before what is nested in it: what is mounted there on the node is there on
    /// the fresh `/proc` as well. Ours, not Slurm's.
    pub proc_keep: Vec<String>,
    /// The private directories in mount order: a parent before what is nested in it.
    pub dirs: Vec<Dir>,
}

impl Settings {
    /// What a file without any other key comes to; no directory is private.
    #[must_use]
    pub fn new(base_path: String) -> Self {
        Self {
            base_path,
            user_ns_limits: DEFAULT_USER_NS_LIMITS,
            removal_timeout: DEFAULT_REMOVAL_TIMEOUT,
            ..Self::default()
        }
    }
}

/// One of several booleans that are written as words: its word and its field.
type Flag<T> = (&'static str, fn(&mut T) -> &mut bool);

/// Which namespaces a job gets besides the mount namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// `CLONE_NEWPID`
    pub pid: bool,
    /// `CLONE_NEWUSER`
    pub user: bool,
    /// `CLONE_NEWIPC`. Ours, not Slurm's.
    pub ipc: bool,
}

impl Namespaces {
    /// Each flag of `clone_ns_flags` with what it asks for, but for the mount namespace.
    pub(super) const NAMES: [Flag<Self>; 3] = [
        ("CLONE_NEWPID", |namespaces| &mut namespaces.pid),
        ("CLONE_NEWUSER", |namespaces| &mut namespaces.user),
        ("CLONE_NEWIPC", |namespaces| &mut namespaces.ipc),
    ];

    /// The flags of those that a job gets besides the mount namespace.
    pub fn names(mut self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(_, flag)| *flag(&mut self)).map(|(name, _)| name)
    }
}

/// An administrator's script and how long it may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Absolute and normalised.
    pub path: String,
    /// Never 0.
    pub wait_seconds: u32,
}

/// One private directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dir {
    /// Absolute and normalised; may contain `%j`, `%S` and `%u`, see [`pattern::expand_job`](super::pattern::expand_job).
    pub path: String,
    /// What the job sees there.
    pub backing: Backing,
    /// Flags of the mount. A tmpfs always has `nosuid` and `nodev` set here.
    pub flags: MountFlags,
    /// Permission bits instead of the default 0700. Ours, not Slurm's.
    pub mode: Option<u32>,
}

impl Dir {
    pub(super) fn make_tmpfs(&mut self, params: Vec<TmpfsParam>) {
        self.backing = Backing::Tmpfs(params);
        self.flags.nosuid = true;
        self.flags.nodev = true;
    }
}

/// Where the content of a private directory lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// In the job's directory under [`Settings::base_path`].
    #[default]
    BasePath,
    /// In a job directory under this base path: absolute, normalised, never equal to the main one.
    OtherBase(String),
    /// That of another private directory, under its path: on this node the two are one directory. No file says so,
    /// slurmd finds it out.
    SameAs(String),
    /// In memory, with these parameters.
    Tmpfs(Vec<TmpfsParam>),
}

/// One parameter of a tmpfs, such as `size=4g` or `noswap`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TmpfsParam {
    /// One of the names in [`mount_options`](super::mount_options).
    pub key: String,
    /// `None` for a parameter without a value.
    pub value: Option<String>,
}

/// As in `options`.
impl std::fmt::Display for TmpfsParam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

/// The per-mount flags that `options` can ask for.
#[allow(clippy::struct_excessive_bools, reason = "each is one flag of mount(2), free to combine")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountFlags {
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
    pub read_only: bool,
    pub noatime: bool,
    pub nodiratime: bool,
    pub relatime: bool,
}

impl MountFlags {
    /// Each flag with its name in `options`.
    pub(super) const NAMES: [Flag<Self>; 7] = [
        ("nosuid", |flags| &mut flags.nosuid),
        ("nodev", |flags| &mut flags.nodev),
        ("noexec", |flags| &mut flags.noexec),
        ("ro", |flags| &mut flags.read_only),
        ("noatime", |flags| &mut flags.noatime),
        ("nodiratime", |flags| &mut flags.nodiratime),
        ("relatime", |flags| &mut flags.relatime),
    ];

    /// The names of those that are set.
    pub fn names(mut self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(_, flag)| *flag(&mut self)).map(|(name, _)| name)
    }
}

/// `hidepid` of a fresh `/proc` (proc(5)): what a user sees there of the processes of others. The default
/// is the kernel's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HidePid {
    #[default]
    Off = 0,
    /// That they are there, and no more.
    NoAccess = 1,
    /// Nothing.
    Invisible = 2,
    /// Nothing, and of the user's own only those that may be traced.
    Ptraceable = 4,
}

impl HidePid {
    pub const ALL: [Self; 4] = [Self::Off, Self::NoAccess, Self::Invisible, Self::Ptraceable];

    /// As mount(8) writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NoAccess => "noaccess",
            Self::Invisible => "invisible",
            Self::Ptraceable => "ptraceable",
        }
    }

    /// The same as a number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// The inodes of a process's namespaces (nsfs), which tell them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceInodes {
    pub mount: u64,
    pub pid: u64,
    pub user: u64,
    pub ipc: u64,
}

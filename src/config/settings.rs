//! The checked settings of one node: the types that the rest of the plugin uses.

use crate::config::limits::DEFAULT_REMOVAL_TIMEOUT;
use crate::config::size::{Amount, ProjectIds, Size};

/// The default time limit of a script in seconds. It is Slurm's default.
pub(crate) const DEFAULT_WAIT_SECONDS: u32 = 10;

/// The default share of the node's limits that the user namespace of one job may use, in percent.
pub(crate) const DEFAULT_USER_NS_LIMITS: u32 = 10;

/// The directories that are private by default. They are Slurm's default.
pub(crate) const DEFAULT_DIRS: [&str; 2] = ["/tmp", "/dev/shm"];

/// The directory that is always a fresh tmpfs, never a directory under `base_path`.
pub(crate) const DEV_SHM: &str = "/dev/shm";

/// The node that the file is read for.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Slurm's name of the node (`NodeName`), for `nodes` and `%n`.
    pub name: &'a str,
    /// The name of the machine (`NodeHostname`), for `%h`.
    pub hostname: &'a str,
}

/// The settings of one node in a valid file.
#[allow(clippy::large_enum_variant, reason = "a process has only one or two")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeSettings {
    /// Jobs on this node get no namespaces.
    Disabled(DisabledWhy),
    /// Jobs on this node get namespaces.
    Enabled(Settings),
}

/// The reason why jobs on a node get no namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledWhy {
    /// Neither `defaults` nor an entry for this node has a `base_path`.
    NotConfigured,
    /// `base_path` is `none`.
    SetToNone,
}

/// The settings of a node on which the plugin is enabled.
///
/// Settings from [`parse_namespace_yaml`](super::namespace_yaml::parse_namespace_yaml),
/// [`parse_job_container_conf`](super::job_container_conf::parse_job_container_conf) or
/// [`wire::decode`](super::wire::decode) keep every promise that [`check::settings`](super::check::settings) checks:
/// paths are absolute and normalised, directories are distinct, a parent comes before what is nested in it, no directory
/// is a base path or inside one, every tmpfs has `nosuid` and `nodev`.
#[allow(clippy::struct_excessive_bools, reason = "each is one key of the file, free to combine")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Make `base_path` (mode 0711) when slurmd starts.
    pub auto_base_path: bool,
    /// The directory of the job directories: absolute, normalised, with `%h` and `%n` expanded.
    pub base_path: String,
    /// Cover `base_path` inside the job with an empty read-only tmpfs. Not in Slurm's plugin.
    pub hide_base_path: bool,
    /// Namespaces besides the mount namespace, which every job gets.
    pub namespaces: Namespaces,
    /// New mounts on the node appear in the job.
    pub shared: bool,
    /// Use no BPF token in a user namespace.
    pub disable_bpf_token: bool,
    /// The share of the limits in `/proc/sys/user` that the user namespace of one job may use, from 1 to 100 percent.
    /// 100 sets no limits. Not in Slurm's plugin.
    pub user_ns_limits: u32,
    /// Each slurmstepd enters the job's namespaces when it starts. Otherwise only its tasks do. Always true with
    /// namespace.yaml; `EntireStepInNS` in job_container.conf.
    pub entire_step_in_ns: bool,
    /// Runs before the namespaces are made.
    pub init_script: Option<Script>,
    /// Writes the id maps of the user namespace.
    pub user_ns_script: Option<Script>,
    /// Runs after the namespaces are made.
    pub clone_ns_script: Option<Script>,
    /// Runs at the end of the job, before its files are removed.
    pub clone_ns_epilog: Option<Script>,
    /// slurmd starts even if a script is missing. Not in Slurm's plugin.
    pub scripts_may_be_missing: bool,
    /// Seconds that the end of a job waits for the removal of its files. Later the removal continues in the background.
    /// Not in Slurm's plugin.
    pub removal_timeout: u32,
    /// An option of the fresh `/proc` of a PID namespace; off without one. Not in Slurm's plugin.
    pub hide_pid: HidePid,
    /// Paths below `/proc`, a parent before what is nested in it. Mounts of the node on these paths are kept on the fresh
    /// `/proc`. Not in Slurm's plugin.
    pub proc_keep: Vec<String>,
    /// Paths of the node that stay visible inside private directories. Ours, not Slurm's.
    pub keep: Vec<KeepPath>,
    /// Ids of projects for the directories of jobs in base paths. Ours, not Slurm's.
    pub project_ids: Option<ProjectIds>,
    /// The private directories in mount order: a parent before what is nested in it.
    pub dirs: Vec<Dir>,
}

impl Settings {
    /// The defaults, without private directories.
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

/// A boolean that is written as a word in a list: the word and the field.
type Flag<T> = (&'static str, fn(&mut T) -> &mut bool);

/// Which namespaces a job gets besides the mount namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// `CLONE_NEWPID`
    pub pid: bool,
    /// `CLONE_NEWUSER`
    pub user: bool,
    /// `CLONE_NEWIPC`. Not in Slurm's plugin.
    pub ipc: bool,
}

impl Namespaces {
    /// The flags of `clone_ns_flags` except for the mount namespace, with their fields.
    pub(super) const NAMES: [Flag<Self>; 3] = [
        ("CLONE_NEWPID", |namespaces| &mut namespaces.pid),
        ("CLONE_NEWUSER", |namespaces| &mut namespaces.user),
        ("CLONE_NEWIPC", |namespaces| &mut namespaces.ipc),
    ];

    /// The flags of the namespaces that are set.
    pub(crate) fn names(mut self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(_, flag)| *flag(&mut self)).map(|(name, _)| name)
    }
}

/// A script and its time limit.
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
    /// Absolute and normalised; may contain `%j`, `%S`, `%u`, `%U` and `%g`, see [`pattern::expand_job`](super::pattern::expand_job).
    pub path: String,
    /// The source of its contents.
    pub backing: Backing,
    /// Flags of the mount. A tmpfs always has `nosuid` and `nodev` set here.
    pub flags: MountFlags,
    /// It belongs to root, as a tmpfs does by default, and not to the job's user. Not in Slurm's plugin.
    pub owned_by_root: bool,
    /// An empty directory that hides the node's, so that directories of `create` can be made in it: see [`Dir::cover`].
    pub is_cover: bool,
    /// Permission bits instead of the default 0700. Not in Slurm's plugin.
    pub mode: Option<u32>,
    /// How much can be in it. Ours, not Slurm's.
    pub size: Option<Size>,
    /// How many files and directories can be in it. Ours, not Slurm's.
    pub inodes: Option<Amount>,
}

impl Dir {
    /// Is there a limit on what is in it?
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        self.size.is_some() || self.inodes.is_some()
    }

    pub(super) fn make_tmpfs(&mut self, params: Vec<TmpfsParam>) {
        self.backing = Backing::Tmpfs(params);
        self.flags.nosuid = true;
        self.flags.nodev = true;
        self.owned_by_root = true;
    }

    /// The only settings that a directory has which hides that of the node.
    pub(crate) fn cover(path: String) -> Self {
        let flags = MountFlags { noexec: true, read_only: true, ..MountFlags::default() };
        let mut dir = Self { path, is_cover: true, flags, mode: Some(0o755), ..Self::default() };
        dir.make_tmpfs(Vec::new());
        dir
    }
}

/// The base paths of directories that have one of their own, as often as they are there.
pub fn other_bases(dirs: &[Dir]) -> impl Iterator<Item = &str> {
    dirs.iter().filter_map(|dir| match &dir.backing {
        Backing::OtherBase(base) => Some(base.as_str()),
        Backing::BasePath | Backing::SameAs(_) | Backing::Tmpfs(_) => None,
    })
}

/// A path of the node that stays visible inside a private directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeepPath {
    /// Absolute and normalised, below a private directory; may contain patterns as [`Dir::path`].
    pub path: String,
    /// The job cannot write to it.
    pub read_only: bool,
    /// A job does not start without it.
    pub required: bool,
}

/// Such as `/tmp/.X11-unix(ro)`.
impl std::fmt::Display for KeepPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, read_only, required } = self;
        f.write_str(path)?;
        f.write_str(match (read_only, required) {
            (false, false) => "",
            (true, false) => "(ro)",
            (false, true) => "(required)",
            (true, true) => "(ro,required)",
        })
    }
}

/// The source of the contents of a private directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// In the job's directory under [`Settings::base_path`].
    #[default]
    BasePath,
    /// In a job directory under this base path: absolute, normalised, different from that of the node.
    OtherBase(String),
    /// The same as another private directory, given by its path: on this node the two are one directory. slurmd detects
    /// this; no file can set it.
    SameAs(String),
    /// A tmpfs with these parameters.
    Tmpfs(Vec<TmpfsParam>),
}

/// One parameter of a tmpfs, such as `size=4g` or `noswap`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TmpfsParam {
    /// Its name; see [`mount_options`](super::mount_options).
    pub key: String,
    /// `None` if the parameter has no value.
    pub value: Option<String>,
}

/// As written in `options`.
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

    /// The names of the flags that are set.
    pub(crate) fn names(mut self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(_, flag)| *flag(&mut self)).map(|(name, _)| name)
    }
}

/// `hidepid` of a fresh `/proc` (proc(5)): what users see of processes of other users. The default is that of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HidePid {
    #[default]
    Off = 0,
    /// Only that they exist.
    NoAccess = 1,
    /// Nothing.
    Invisible = 2,
    /// Nothing, and only those of their own processes that they may trace.
    Ptraceable = 4,
}

impl HidePid {
    pub(crate) const ALL: [Self; 4] = [Self::Off, Self::NoAccess, Self::Invisible, Self::Ptraceable];

    /// The name, as in mount options.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NoAccess => "noaccess",
            Self::Invisible => "invisible",
            Self::Ptraceable => "ptraceable",
        }
    }

    /// The number, as in mount options.
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }
}

/// The inodes of a process's namespaces in nsfs, which identify them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceInodes {
    pub mount: u64,
    pub pid: u64,
    pub user: u64,
    pub ipc: u64,
}

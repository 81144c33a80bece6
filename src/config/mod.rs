//! Text to checked settings, and settings to bytes and back.
//!
//! Everything here is pure: no system call, no clock, no environment, no global state. What comes in
//! is text from an administrator or bytes from a pipe; what comes out is either [`Settings`] that hold
//! every promise listed there, or sentences that say what is wrong. No input makes it panic, and time
//! and memory are bounded by the constants in [`limits`].
//!
//! Reading order, which is also the way the data flows:
//!
//! | file | what it does |
//! |---|---|
//! | [`yaml`] | text to a small tree, each node with its place in the text |
//! | [`namespace_yaml`] | the top level of the tree, and the entry of this node |
//! | `layer` | one mapping of options (`defaults`, `options` of an entry), every key checked |
//! | `private_dirs` | `dirs` and `dir_confs` of such a mapping |
//! | [`proc`] | its `proc_options` and `proc_keep` |
//! | `merge` | `defaults` and the entry to settings; directories against base paths |
//! | `convert` | one scalar to a boolean, a number, a list of flags: Slurm's rules |
//! | [`mount_options`] | `nosuid,size=4g` to flags and tmpfs parameters, from closed lists |
//! | `pasted` | paths that look as if something else was meant |
//! | [`path`], [`pattern`] | absolute normalised paths; `%h %n` and `%j %S %u` |
//! | [`hostlist`] | does `n[1-3,7]` contain this node |
//! | [`cluster`] | do the names of nodes in the file fit any node |
//! | [`short`] | short lists, sorted without much code |
//! | [`check`] | the promises of [`Settings`], checked as a whole |
//! | [`job_container_conf`] | the file of namespace/tmpfs to the same settings |
//! | [`slurm_conf`] | single values of slurm.conf |
//! | [`wire`] | settings to bytes for `send_stepd`, and back for `recv_stepd` |
//! | [`problem`] | errors and warnings with file, line, column and a mark under the text |

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod check;
pub mod cluster;
mod convert;
pub mod hostlist;
pub mod job_container_conf;
mod layer;
pub mod limits;
mod merge;
pub mod mount_options;
pub mod namespace_yaml;
mod pasted;
pub mod path;
pub mod pattern;
mod private_dirs;
pub mod problem;
pub mod proc;
pub mod short;
pub mod slurm_conf;
pub(crate) mod suggest;
pub mod wire;
pub mod yaml;

pub use job_container_conf::{ParsedConf, parse_job_container_conf, spelled_in_conf};
pub use namespace_yaml::{Origin, Parsed, Source, parse_namespace_yaml};
pub use pattern::JobNames;
pub use problem::{Level, Problem};
pub use proc::HidePid;

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
/// A value that comes from [`parse_namespace_yaml`] or [`wire::decode`] holds what
/// [`check::settings`] checks: absolute normalised paths, distinct directories, a parent before what
/// is nested in it, no directory at or below a base path, `nosuid` and `nodev` on every tmpfs.
#[allow(clippy::struct_excessive_bools, reason = "each is one key of the file, free to combine")]
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// the fresh `/proc`, too. Ours, not Slurm's.
    pub proc_keep: Vec<String>,
    /// The private directories in mount order: a parent before what is nested in it.
    pub dirs: Vec<Dir>,
}

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

/// An administrator's script and how long it may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Absolute and normalised.
    pub path: String,
    /// Never 0.
    pub wait_seconds: u32,
}

/// One private directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dir {
    /// Absolute and normalised; may hold `%j`, `%S` and `%u`, see [`pattern::expand_job`].
    pub path: String,
    /// What the job sees there.
    pub backing: Backing,
    /// Flags of the mount. A tmpfs always has `nosuid` and `nodev` set here.
    pub flags: MountFlags,
    /// Permission bits instead of the default 0700. Ours, not Slurm's.
    pub mode: Option<u32>,
}

/// Where the content of a private directory lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// In the job's directory under [`Settings::base_path`].
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TmpfsParam {
    /// One of the names in [`mount_options`].
    pub key: String,
    /// `None` for a parameter without a value.
    pub value: Option<String>,
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

//! The limits on input, each with its reason.

/// Bytes of a configuration file. The file of a large site has some tens of KiB. 1 MiB is enough for ten thousand node
/// names, and reading the worst file takes far less than 50 ms and 32 MiB.
pub const MAX_TEXT: usize = 1 << 20;

/// Depth of nested Includes in job_container.conf, including the outermost file. Slurm has no limit, and never finishes
/// reading a file that includes itself.
pub(crate) const MAX_INCLUDE_DEPTH: usize = 8;

/// Files that make up one job_container.conf.
pub(crate) const MAX_INCLUDES: usize = 64;

/// Lines, and settings on all lines, of one job_container.conf and its included files: a few for each node of a large
/// site that does not use hostlists.
pub(crate) const MAX_SETTINGS: usize = 16_384;

/// Nesting of lists and mappings. namespace.yaml needs 5; the limit of Slurm's reader is 64.
pub(crate) const MAX_DEPTH: usize = 16;

/// Scalars, lists and mappings in a file. 1 MiB of `[[],[],…` would be half a million. An entry with one setting for one
/// node is seven, so this is enough for 7,000 such entries.
pub(crate) const MAX_NODES: usize = 49_152;

/// Private directories of one node. Each is a mount in every job.
pub(crate) const MAX_DIRS: usize = 256;

/// Words in one string that is a list, such as `options`. For each unknown word the nearest known one is searched, so a
/// mebibyte of unknown words would take seconds.
pub(crate) const MAX_WORDS: usize = 1024;

/// Parameters of one tmpfs. There are fewer different ones.
pub(crate) const MAX_TMPFS_PARAMS: usize = 32;

/// Paths of `proc_keep`. Each is a mount in every job.
pub(crate) const MAX_PROC_KEEP: usize = 64;

/// Paths of `keep`. Each is a mount of every job.
pub(crate) const MAX_KEEP: usize = 64;

/// Problems that are reported. One more line gives the number of the others.
pub(crate) const MAX_PROBLEMS: usize = 50;

/// Bytes of a path without the final NUL. `PATH_MAX` of Linux, 4096, includes it.
pub(crate) const MAX_PATH: usize = 4095;

/// Bytes of one component of a path: `NAME_MAX` of Linux.
pub(crate) const MAX_COMPONENT: usize = 255;

/// Bytes of a base path. A job id and the name of a private directory are appended to it.
pub(crate) const MAX_BASE_PATH: usize = 3072;

/// A longer time limit of a script, in seconds, is probably a mistake.
pub(crate) const LONG_WAIT_SECONDS: u32 = 86_400;

/// Default of `removal_timeout`, in seconds: as long as Slurm waits for processes that do not end
/// (UnkillableStepTimeout). After that time the next job may find less space.
pub(crate) const DEFAULT_REMOVAL_TIMEOUT: u32 = 60;

/// Hosts in one range such as `[0-65535]`: the limit of Slurm's hostlists.
pub(crate) const MAX_HOST_RANGE: u64 = 65_536;

/// Bytes of a node name that is searched in a hostlist.
pub(crate) const MAX_NODE_NAME: usize = 255;

/// Bracket groups in one name of a hostlist. Slurm expands all but the last one by one.
pub(crate) const MAX_HOST_GROUPS: usize = 8;

/// Range tests in one search of a hostlist.
pub(crate) const MAX_HOST_WORK: usize = 4_000_000;

/// Bytes of a message between slurmd and slurmstepd. 256 directories with paths of the maximum length would need more,
/// but no real configuration has them.
pub(crate) const MAX_WIRE: usize = 1 << 20;

/// Former base paths that slurmd sends to a slurmstepd.
pub const MAX_FORMER_BASES: usize = 64;

/// Characters of a value that a message quotes.
pub(crate) const MAX_QUOTE: usize = 80;

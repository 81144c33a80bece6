//! The limits of what this room accepts, each with its reason.

/// Bytes of a configuration file. The file of a large site is some tens of KiB; 1 MiB leaves room
/// for ten thousand node names and keeps the worst case far below 50 ms and 32 MiB.
pub const MAX_TEXT: usize = 1 << 20;

/// Files that include one another in job_container.conf, the outermost one counted. Slurm has no
/// limit, and a file that includes itself never ends there.
pub const MAX_INCLUDE_DEPTH: usize = 8;

/// Files that one job_container.conf consists of.
pub const MAX_INCLUDES: usize = 64;

/// Lines, and settings in all lines, of one job_container.conf with what it includes: a few for each
/// node of a large site that does not use hostlists.
pub const MAX_SETTINGS: usize = 16_384;

/// Nesting of lists and mappings. namespace.yaml needs 5; Slurm's own reader stops at 64.
pub const MAX_DEPTH: usize = 16;

/// Scalars, lists and mappings in a file: 1 MiB of `[[],[],…` would make half a million. An entry
/// that sets one thing for one node is seven, so this is 7,000 such entries.
pub const MAX_NODES: usize = 49_152;

/// Private directories of one node. Each is a mount of every job.
pub const MAX_DIRS: usize = 256;

/// Words in one text that is a list, such as `options`. Each wrong one costs a search for the right
/// one, so that a mebibyte of them would take seconds.
pub const MAX_WORDS: usize = 1024;

/// Parameters of one tmpfs: there are not that many different ones.
pub const MAX_TMPFS_PARAMS: usize = 32;

/// Paths of `proc_keep`. Each is a mount of every job.
pub const MAX_PROC_KEEP: usize = 64;

/// Problems that are reported; the rest is counted in one more line.
pub const MAX_PROBLEMS: usize = 50;

/// Bytes of a path, without the final NUL: the kernel's `PATH_MAX` is 4096 with it.
pub const MAX_PATH: usize = 4095;

/// Bytes of one component of a path: the kernel's `NAME_MAX`.
pub const MAX_COMPONENT: usize = 255;

/// Bytes of a base path: below it come a job id and the name of a private directory.
pub const MAX_BASE_PATH: usize = 3072;

/// Seconds from which a wait is more likely a mistake than a wish.
pub const LONG_WAIT_SECONDS: u32 = 86_400;

/// Seconds that the end of a job waits for the removal of its files, where the file does not say: as long as Slurm
/// waits for processes that do not end (UnkillableStepTimeout). After them the next job may find less space.
pub const DEFAULT_REMOVAL_TIMEOUT: u32 = 60;

/// Hosts in one range such as `[0-65535]`: the limit of Slurm's hostlists.
pub const MAX_HOST_RANGE: u64 = 65_536;

/// Bytes of a node name that is looked for in a hostlist.
pub const MAX_NODE_NAME: usize = 255;

/// Bracket groups in one name of a hostlist. Slurm expands all but the last one by one.
pub const MAX_HOST_GROUPS: usize = 8;

/// Range tests in one look-up of a name in a hostlist.
pub const MAX_HOST_WORK: usize = 4_000_000;

/// Bytes of a message between slurmd and slurmstepd. 256 directories of the longest paths would
/// be more, but then each of them would be absurd.
pub const MAX_WIRE: usize = 1 << 20;

/// Base paths besides today's that slurmd tells a slurmstepd.
pub const MAX_FORMER_BASES: usize = 64;

/// Characters of the configuration that a message quotes.
pub const MAX_QUOTE: usize = 80;

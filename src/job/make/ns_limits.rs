//! The limits of a job's user namespace.
//!
//! Root owns that namespace. The kernel therefore counts what a job makes twice: for the job's user in the
//! job's user namespace, and for root in the node's. Without further limits, one job can use up root's: then
//! no job starts, and root's own programs fail. So each job's namespace gets a share of the node's limits.
//!
//! Namespaces, inotify instances and watches, fanotify groups and marks are limited by the files below
//! `/proc/sys/user`, for each user in the namespace that the writer is in (namespaces(7)): the child of
//! the clone writes them before any process of the job exists, and only CAP_SYS_RESOURCE in that
//! namespace changes them afterwards. Pending signals and the bytes of POSIX message queues are limited
//! by the soft rlimits that a process has when it makes the namespace (Linux 5.14). The kernel compares
//! them with root's use on the whole node, in all jobs together. They are half of root's limits. Root keeps
//! the other half, but one job can use up the half for jobs. Other jobs with a user namespace then get no
//! queued signal and no message queue.

use crate::base::error::{Doing, Error, TryingTo};
use crate::base::io::read_file;
use crate::base::listing::names_at;
use crate::base::trusted_path::c_path;
use crate::config::settings::Settings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::CString;
use std::fmt::Write as _;

/// The limits of the user namespace that a process is in.
pub const DIRECTORY: &str = "/proc/sys/user";

/// The least number of watches and marks of a job, if the node has as many: a program that watches a tree
/// needs one for each directory.
const FLOOR_OF_WATCHES: u64 = 1024;
/// The least number of everything else. slurmstepd itself uses some, and a container half a dozen namespaces.
const FLOOR: u64 = 8;

/// A default message queue (mq_open(3)) uses 83 kB, by `mq_treesize` of the kernel's `ipc/mqueue.c`.
const FLOOR_OF_MESSAGE_BYTES: u64 = 96 * 1024;
const FLOOR_OF_SIGNALS: u64 = 64;
/// The default of the soft limit (`MQ_BYTES_MAX`, linux/mqueue.h).
const DEFAULT_MESSAGE_BYTES: u64 = 819_200;

/// slurmd warns at its start if a job gets less of these: file, sysctl that sets it, what it limits, how
/// many a job should have.
const WANTED: [(&str, &str, &str, u64); 10] = [
    ("max_inotify_instances", "fs.inotify.max_user_instances", "inotify instances", 64),
    ("max_inotify_watches", "fs.inotify.max_user_watches", "inotify watches", 4096),
    ("max_user_namespaces", "user.max_user_namespaces", "user namespaces", 64),
    ("max_mnt_namespaces", "user.max_mnt_namespaces", "mount namespaces", 64),
    ("max_pid_namespaces", "user.max_pid_namespaces", "PID namespaces", 64),
    ("max_ipc_namespaces", "user.max_ipc_namespaces", "IPC namespaces", 64),
    ("max_net_namespaces", "user.max_net_namespaces", "network namespaces", 64),
    ("max_uts_namespaces", "user.max_uts_namespaces", "UTS namespaces", 64),
    ("max_cgroup_namespaces", "user.max_cgroup_namespaces", "cgroup namespaces", 64),
    ("max_time_namespaces", "user.max_time_namespaces", "time namespaces", 64),
];

/// Root's limits on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    /// Names and values of the files in [`DIRECTORY`].
    pub files: Vec<(String, u64)>,
    pub pending_signals: u64,
    pub message_bytes: u64,
}

impl NodeLimits {
    /// Reads the limits, if jobs get a share of them under these settings.
    pub fn read(settings: &Settings) -> Result<Option<Self>, Error> {
        if !settings.namespaces.user || settings.user_ns_limits == 100 {
            return Ok(None);
        }
        let without = |error: Error| error.with_hint(WITHOUT);
        let mut files = Vec::new();
        for name in names_at(DIRECTORY).map_err(without)? {
            let value = number(&format!("{DIRECTORY}/{name}")).map_err(without)?;
            files.push((name, value));
        }
        files.sort();
        Ok(Some(Self {
            files,
            pending_signals: match getrlimit(Resource::Sigpending).current {
                Some(limit) => limit,
                // The default (`fork_init`, kernel/fork.c).
                None => number("/proc/sys/kernel/threads-max")? / 2,
            },
            message_bytes: getrlimit(Resource::Msgqueue).current.unwrap_or(DEFAULT_MESSAGE_BYTES),
        }))
    }
}

/// The hint if the limits of a namespace cannot be set.
pub const WITHOUT: &str = "/proc/sys must be mounted and writable for root, which is often not so in a container; with \
                           user_ns_limits: 100 jobs have the node's own limits";

fn number(path: &str) -> Result<u64, Error> {
    let mut buffer = [0_u8; 64];
    let text = read_file(&c_path(path)?, &mut buffer).trying_to(|| format!("read {path}"))?;
    let text = String::from_utf8_lossy(text);
    text.trim()
        .parse()
        .map_err(|_| Error::because(format!("read {path}"), format!("{:?} is not a number", text.trim())))
}

/// The limits of one job's user namespace.
#[derive(Debug, PartialEq, Eq)]
pub struct JobLimits {
    /// Paths below [`DIRECTORY`] and the values to write.
    pub files: Vec<(String, u64)>,
    pub pending_signals: u64,
    pub message_bytes: u64,
}

impl JobLimits {
    /// `percent` is 1 to 100. Each limit has a floor, but no job gets more than the node has.
    #[must_use]
    pub fn new(node: &NodeLimits, percent: u32) -> Self {
        let path = |(name, value): &(String, u64)| (format!("{DIRECTORY}/{name}"), share(name, *value, percent));
        let half = |value: u64, floor: u64| (value / 2).max(value.min(floor));
        Self {
            files: node.files.iter().map(path).collect(),
            pending_signals: half(node.pending_signals, FLOOR_OF_SIGNALS),
            message_bytes: half(node.message_bytes, FLOOR_OF_MESSAGE_BYTES),
        }
    }

    /// File names in [`DIRECTORY`] and their contents, for the child, which only writes them.
    pub fn lay_out(&self) -> Result<Vec<(CString, CString)>, Error> {
        let name = |path: &str| c_path(path.rsplit('/').next().unwrap_or_default());
        self.files.iter().map(|(path, value)| Ok((name(path)?, c_path(&value.to_string())?))).collect()
    }
}

fn share(name: &str, value: u64, percent: u32) -> u64 {
    let is_watches = name.ends_with("_watches") || name.ends_with("_marks");
    let floor = if is_watches { FLOOR_OF_WATCHES } else { FLOOR };
    let share = u128::from(value) * u128::from(percent) / 100;
    u64::try_from(share).unwrap_or(value).max(value.min(floor))
}

/// A warning for each limit of which a job's share is too small for common programs. A limit of 0 was set on
/// purpose.
#[must_use]
pub fn too_small(node: &NodeLimits, percent: u32) -> Vec<String> {
    let mut said = Vec::new();
    for (file, sysctl, what, wanted) in WANTED {
        let Some((_, value)) = node.files.iter().find(|(name, _)| name == file) else { continue };
        let share = share(file, *value, percent);
        if *value == 0 || share >= wanted {
            continue;
        }
        let mut line = format!("a job can have {share} {what}: user_ns_limits is {percent} percent, and ");
        let _ = write!(line, "{sysctl} = {value} (sysctl), which all jobs and root share; hint: sysctl ");
        let _ = write!(line, "{sysctl}={} or more", (wanted * 100).div_ceil(u64::from(percent)));
        said.push(line);
    }
    said
}

/// While a value of this type exists, this process has the job's soft limits: a user namespace that is made
/// meanwhile keeps them, and the child that is made with it inherits them.
///
/// All threads of this process have them meanwhile, and so do their children: for the time of one clone3,
/// slurmstepd can have half as many pending signals and message queues as before. It keeps those that it has.
#[derive(Debug)]
pub struct Lowered {
    before: Vec<(Resource, Rlimit)>,
}

impl Lowered {
    pub fn new(limits: &JobLimits) -> Result<Self, Error> {
        let mut lowered = Self { before: Vec::new() };
        for (resource, limit) in
            [(Resource::Sigpending, limits.pending_signals), (Resource::Msgqueue, limits.message_bytes)]
        {
            let before = getrlimit(resource);
            setrlimit(resource, Rlimit { current: Some(limit), maximum: before.maximum })
                .doing("setrlimit", || "limit pending signals and message queues of the job's user namespace".into())?;
            lowered.before.push((resource, before));
        }
        Ok(lowered)
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        for (resource, before) in self.before.drain(..) {
            // No privilege is needed to raise a soft limit up to the hard one.
            let _ = setrlimit(resource, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(files: &[(&str, u64)]) -> NodeLimits {
        let files = files.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        NodeLimits { files, pending_signals: 1000, message_bytes: 819_200 }
    }

    #[test]
    fn a_job_gets_its_share_and_never_more_than_the_node_has() {
        for (name, value, percent, expected) in [
            ("max_mnt_namespaces", 96_364, 10, 9636),
            ("max_mnt_namespaces", 96_364, 100, 96_364),
            ("max_inotify_instances", 128, 10, 12),
            ("max_inotify_instances", 128, 1, 8),
            ("max_inotify_instances", 5, 1, 5),
            ("max_inotify_watches", 192_536, 1, 1925),
            ("max_inotify_watches", 8192, 1, 1024),
            ("max_fanotify_marks", 100, 50, 100),
            ("max_user_namespaces", 0, 50, 0),
            ("max_user_namespaces", i32::MAX as u64, 99, 2_126_008_810),
        ] {
            assert_eq!(share(name, value, percent), expected, "{name} {value} {percent}");
        }
        let limits = JobLimits::new(&node(&[("max_pid_namespaces", 1000)]), 20);
        assert_eq!(limits.files, [("/proc/sys/user/max_pid_namespaces".to_owned(), 200)]);
        assert_eq!((limits.pending_signals, limits.message_bytes), (500, 409_600));
        let small = JobLimits::new(&NodeLimits { pending_signals: 70, message_bytes: 100_000, ..node(&[]) }, 1);
        assert_eq!((small.pending_signals, small.message_bytes), (64, 98_304), "one queue fits");
        let smaller = JobLimits::new(&NodeLimits { pending_signals: 3, message_bytes: 0, ..node(&[]) }, 1);
        assert_eq!((smaller.pending_signals, smaller.message_bytes), (3, 0));
    }

    #[test]
    fn a_limit_too_small_for_jobs_is_reported_with_a_sufficient_value() {
        let said = too_small(&node(&[("max_inotify_instances", 128), ("max_net_namespaces", 0)]), 10);
        assert_eq!(
            said,
            ["a job can have 12 inotify instances: user_ns_limits is 10 percent, and fs.inotify.max_user_instances = \
              128 (sysctl), which all jobs and root share; hint: sysctl fs.inotify.max_user_instances=640 or more"]
        );
        for percent in 1..=100 {
            let enough = (64_u64 * 100).div_ceil(percent.into());
            assert!(too_small(&node(&[("max_inotify_instances", enough)]), percent).is_empty(), "{percent}");
            assert_eq!(too_small(&node(&[("max_inotify_instances", 63)]), percent).len(), 1);
        }
    }

    #[test]
    fn soft_limits_are_as_before_afterwards() {
        let limits = || [Resource::Sigpending, Resource::Msgqueue].map(|resource| getrlimit(resource).current);
        let before = limits();
        let half = JobLimits { files: Vec::new(), pending_signals: 70, message_bytes: 100_000 };
        let lowered = Lowered::new(&half).unwrap();
        assert_eq!(limits(), [Some(70), Some(100_000)]);
        drop(lowered);
        assert_eq!(limits(), before);
    }
}

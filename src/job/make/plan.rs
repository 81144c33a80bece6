//! Decides what will be done for one job, before anything is done: turns settings and job into names and
//! flags. No system call.

use crate::base::error::Error;
use crate::config::check::{dirs_for_job, keep_for_job};
use crate::config::path::path_below;
use crate::config::pattern::JobNames;
use crate::config::settings::{Backing, Dir, HidePid, KeepPath, MountFlags, Namespaces, Settings, TmpfsParam};
use crate::config::size;
use crate::config::size::{Amount, JobHas, Size};
use crate::job::Job;
use crate::job::make::child::ProcParameters;
use crate::job::make::ns_limits::{JobLimits, NodeLimits};
use crate::job::record::state::Header;
use crate::sys::clone::NamespaceFlags;
use crate::sys::quota::Amounts;
use rustix::mount::{MountAttrFlags, MountPropagationFlags};

/// Everything that create needs to know about a job.
#[derive(Debug)]
pub struct Plan {
    pub namespaces: NamespaceFlags,
    pub propagation: MountPropagationFlags,
    /// The mount options of the fresh `/proc` of a PID namespace; None without one.
    pub proc: Option<ProcParameters>,
    /// Paths whose mounts are kept on it.
    pub proc_keep: Vec<String>,
    /// The limits of a new user namespace; None if they are those of the node.
    pub limits: Option<JobLimits>,
    /// `base_path`, in which `<job>/` is made.
    pub base_path: String,
    /// The other bases, from `dir_confs`, in which `<job>/` is made.
    pub other_bases: Vec<String>,
    /// In mount order.
    pub dirs: Vec<PlannedDir>,
    /// What stays visible in them.
    pub keep: Vec<PlannedKeep>,
    /// The bases to cover inside the job.
    pub hidden: Vec<String>,
    /// How much can be in the job's directories in a base.
    pub in_bases: Vec<(String, Amounts)>,
}

/// One private directory of this job.
#[derive(Debug, PartialEq, Eq)]
pub struct PlannedDir {
    /// The path that the job sees.
    pub target: String,
    pub source: Source,
    pub flags: MountFlags,
    /// Otherwise it belongs to the job's user.
    pub owned_by_root: bool,
    /// The permission bits from the configuration.
    pub mode: Option<u32>,
}

impl PlannedDir {
    fn new(dir: &Dir, source: Source) -> Self {
        let &Dir { flags, owned_by_root, mode, .. } = dir;
        Self { target: dir.path.clone(), source, flags, owned_by_root, mode }
    }

    /// A tmpfs as configured, for a trial.
    #[must_use]
    pub fn from_config(dir: &Dir) -> Self {
        let params = match &dir.backing {
            Backing::Tmpfs(params) => params.clone(),
            _ => Vec::new(),
        };
        Self::new(dir, Source::Tmpfs(params))
    }
}

/// A path of `keep` for this job.
#[derive(Debug, PartialEq, Eq)]
pub struct PlannedKeep {
    pub kept: KeepPath,
    /// The job's user may own it, as root may.
    pub may_be_users: bool,
}

/// Where its content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `<base>/<job>/<name>`. Two private directories that are the same one on this node share it.
    Directory { base: String, name: String },
    /// A fresh tmpfs.
    Tmpfs(Vec<TmpfsParam>),
}

impl Plan {
    /// `node` is the result of [`NodeLimits::read`] for these settings. Fails if a path of `dir_confs` cannot be
    /// expanded for this job.
    pub fn new(settings: &Settings, job: &Job, node: Option<&NodeLimits>) -> Result<Self, Error> {
        let &Header { id: job_id, ref user, uid, gid, .. } = &job.header;
        let names = JobNames { job_id, sluid: &job.sluid_text, user, uid, gid };
        let expanded = dirs_for_job(settings, &names).map_err(lay_out)?;
        let keep = keep_for_job(settings, &expanded, &names).map_err(lay_out)?;
        let keep = keep.into_iter().map(|(kept, may_be_users)| PlannedKeep { kept, may_be_users }).collect();
        let mut other_bases: Vec<String> = Vec::new();
        let mut dirs: Vec<PlannedDir> = Vec::new();
        let mut in_bases = Vec::new();
        for dir in &expanded {
            let source = match &dir.backing {
                Backing::Tmpfs(params) => Source::Tmpfs(for_job(params, dir, job)?),
                Backing::SameAs(other) => {
                    let other_dir = dirs.iter().find(|dir| dir.target == *other);
                    let why = || lay_out(format!("there is no {other}"));
                    other_dir.ok_or_else(why)?.source.clone()
                }
                Backing::BasePath => {
                    limit(&mut in_bases, &settings.base_path, dir, &job.has)?;
                    directory(&settings.base_path, &dir.path, &dirs)
                }
                Backing::OtherBase(base) => {
                    limit(&mut in_bases, base, dir, &job.has)?;
                    if !other_bases.contains(base) {
                        other_bases.push(base.clone());
                    }
                    directory(base, &dir.path, &dirs)
                }
            };
            dirs.push(PlannedDir::new(dir, source));
        }
        let hidden = if settings.hide_base_path {
            // A private directory already hides the bases below it.
            let in_sight = |base: &&String| !dirs.iter().any(|dir| path_below(base, &dir.target).is_some());
            std::iter::once(&settings.base_path).chain(&other_bases).filter(in_sight).cloned().collect()
        } else {
            Vec::new()
        };
        Ok(Self {
            namespaces: namespaces(settings),
            propagation: if settings.shared {
                MountPropagationFlags::DOWNSTREAM
            } else {
                MountPropagationFlags::PRIVATE
            },
            proc: proc_parameters(settings),
            // Without a PID namespace jobs have the node's /proc and its mounts.
            proc_keep: if settings.namespaces.pid { settings.proc_keep.clone() } else { Vec::new() },
            limits: node.map(|node| JobLimits::new(node, settings.user_ns_limits)),
            base_path: settings.base_path.clone(),
            other_bases,
            dirs,
            keep,
            hidden,
            in_bases,
        })
    }

    /// How much can be in `<base>/<job>/`, if that is limited.
    pub fn limit_of(&self, base: &str) -> Option<Amounts> {
        self.in_bases.iter().find(|(limited, _)| limited == base).map(|(_, limit)| *limit)
    }

    /// All bases in which `<job>/` is made.
    pub fn bases(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.base_path).chain(&self.other_bases).map(String::as_str)
    }
}

fn lay_out(why: String) -> Error {
    Error::because("lay out the private directories", why)
}

/// The innermost of the private directories `dirs` that contains `path`, and the path from there. `dirs` are pairs of a
/// path and any value.
pub fn nearest<'p, T>(path: &'p str, dirs: impl Iterator<Item = (&'p str, T)>) -> Option<(T, &'p str)> {
    let around = dirs.filter_map(|(dir, what)| Some((what, path_below(path, dir)?)));
    around.min_by_key(|(_, below)| below.len())
}

/// The mount options of the fresh `/proc` that jobs get under these settings, if they get one.
#[must_use]
pub fn proc_parameters(settings: &Settings) -> Option<ProcParameters> {
    let hide_pid = match settings.hide_pid {
        HidePid::Off => None,
        HidePid::NoAccess => Some(c"noaccess"),
        HidePid::Invisible => Some(c"invisible"),
        HidePid::Ptraceable => Some(c"ptraceable"),
    };
    settings.namespaces.pid.then_some(ProcParameters { hide_pid })
}

/// The namespaces that jobs get under these settings.
#[must_use]
pub fn namespaces(settings: &Settings) -> NamespaceFlags {
    let Namespaces { pid, user, ipc } = settings.namespaces;
    let mut flags = NamespaceFlags::MOUNT;
    flags.set(NamespaceFlags::PROCESS_ID, pid);
    flags.set(NamespaceFlags::USER, user);
    flags.set(NamespaceFlags::INTER_PROCESS_COMMUNICATION, ipc);
    flags
}

/// The parameters of a tmpfs with its size, number of inodes and owner for this job.
fn for_job(params: &[TmpfsParam], dir: &Dir, job: &Job) -> Result<Vec<TmpfsParam>, Error> {
    let mut params = params.to_vec();
    let mut add =
        |key: &str, value: u64| params.push(TmpfsParam { key: key.to_owned(), value: Some(value.to_string()) });
    if let Some(size) = &dir.size {
        add("size", bytes(size, dir, &job.has)?);
    }
    if let Some(inodes) = dir.inodes {
        add("nr_inodes", inodes.get());
    }
    if !dir.owned_by_root {
        add("uid", job.header.uid.into());
    }
    Ok(params)
}

/// Adds the size of a directory to the limit of the base that it is in.
fn limit(in_bases: &mut Vec<(String, Amounts)>, base: &str, dir: &Dir, job: &JobHas) -> Result<(), Error> {
    if !dir.is_limited() {
        return Ok(());
    }
    let bytes = dir.size.as_ref().map_or(Ok(0), |size| bytes(size, dir, job))?;
    let inodes = dir.inodes.map_or(0, Amount::get);
    let known = in_bases.iter().position(|(limited, _)| limited == base).unwrap_or(in_bases.len());
    if known == in_bases.len() {
        in_bases.push((base.to_owned(), Amounts::default()));
    }
    if let Some((_, limit)) = in_bases.get_mut(known) {
        limit.bytes = limit.bytes.saturating_add(bytes).min(size::MAX);
        limit.inodes = limit.inodes.saturating_add(inodes).min(size::MAX);
    }
    Ok(())
}

/// The size of a directory for this job.
fn bytes(size: &Size, dir: &Dir, job: &JobHas) -> Result<u64, Error> {
    size.of(job).map_err(|refusal| {
        Error::because(format!("give {} a size of {size}", dir.path), refusal.what).with_hint(refusal.hint)
    })
}

/// The name under `<base>/<job>/`: `_tmp` for `/tmp`, as with Slurm's plugin. It is never the name of
/// another directory. With Slurm's plugin `/a/b` and `/a_b` share `_a_b`.
fn directory(base: &str, target: &str, others: &[PlannedDir]) -> Source {
    let plain = target.replace('/', "_");
    // A name can have at most 255 bytes (NAME_MAX), a path can have more.
    let plain = if plain.len() > 200 { "_long".to_owned() } else { plain };
    let numbered = (2_u32..).map(|number| format!("{plain}.{number}"));
    let sources =
        std::iter::once(plain.clone()).chain(numbered).map(|name| Source::Directory { base: base.to_owned(), name });
    let mut free = sources.filter(|source| others.iter().all(|other| other.source != *source));
    free.next().unwrap_or(Source::Directory { base: base.to_owned(), name: plain })
}

/// The attributes that `mount_setattr(2)` sets for these flags, and those that it clears before: the whole access-time
/// field, if a part of it is set. `relatime` is 0 there.
#[must_use]
pub fn attributes(flags: MountFlags) -> (MountAttrFlags, MountAttrFlags) {
    let MountFlags { nosuid, nodev, noexec, read_only, noatime, nodiratime, relatime } = flags;
    let mut set = MountAttrFlags::empty();
    set.set(MountAttrFlags::MOUNT_ATTR_NOSUID, nosuid);
    set.set(MountAttrFlags::MOUNT_ATTR_NODEV, nodev);
    set.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, noexec);
    set.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    set.set(MountAttrFlags::MOUNT_ATTR_NOATIME, noatime);
    set.set(MountAttrFlags::MOUNT_ATTR_NODIRATIME, nodiratime);
    let mut clear = MountAttrFlags::empty();
    clear.set(MountAttrFlags::MOUNT_ATTR__ATIME, noatime || relatime);
    (set, clear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::namespace_yaml::parse_namespace_yaml;
    use crate::config::settings::{Node, NodeSettings};

    fn plan(options: &str) -> Result<Plan, Error> {
        plan_on(options, None)
    }

    fn plan_on(options: &str, node: Option<&NodeLimits>) -> Result<Plan, Error> {
        plan_for(options, node, &JobHas::default())
    }

    fn plan_for(options: &str, node: Option<&NodeLimits>, has: &JobHas) -> Result<Plan, Error> {
        let text = format!("defaults:\n  base_path: /base\n{options}");
        let parsed = parse_namespace_yaml("t", text.as_bytes(), &Node { name: "n", hostname: "n" });
        let Some(NodeSettings::Enabled(settings)) = parsed.settings else { panic!("{:?}", parsed.problems) };
        Plan::new(&settings, &Job { has: has.clone(), ..job() }, node)
    }

    fn job() -> Job {
        Job {
            header: Header { id: 7, sluid: 1, uid: 1000, gid: 1000, user: "alice".into(), node: "n".into() },
            sluid_text: "s1".into(),
            environment: crate::job::script::Environment::default(),
            has: crate::config::size::JobHas::default(),
            slurm_conf: None,
            boot: crate::job::record::process::BootId::current().unwrap(),
        }
    }

    fn names(plan: &Plan) -> Vec<(&str, &str)> {
        let name = plan.dirs.iter().filter_map(|dir| match &dir.source {
            Source::Directory { base, name } => Some((base.as_str(), name.as_str())),
            Source::Tmpfs(_) => None,
        });
        name.collect()
    }

    #[test]
    fn names_are_slurms_and_never_shared() {
        assert_eq!(names(&plan("").unwrap()), [("/base", "_tmp")]);
        let plan = plan("  dirs: /a/b,/a_b,/a/b.2\n").unwrap();
        let mut found = names(&plan);
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_long_path_gets_a_short_name() {
        let long = format!("/{}/{}", "x".repeat(200), "y".repeat(200));
        let plan = plan(&format!("  dirs: {long},{long}z\n")).unwrap();
        assert_eq!(names(&plan), [("/base", "_long"), ("/base", "_long.2")]);
    }

    #[test]
    fn other_bases_are_listed_once_and_hidden_on_request() {
        let confs = "  hide_base_path: true\n  dir_confs:\n    - {path: /a, base_path: /x}\n    - {path: /b, base_path: /x}\n    - {path: /c}\n";
        let found = plan(confs).unwrap();
        assert_eq!(found.bases().collect::<Vec<_>>(), ["/base", "/x"]);
        assert_eq!(found.hidden, ["/base", "/x"]);
        assert_eq!(names(&found), [("/x", "_a"), ("/x", "_b"), ("/base", "_c")]);
        assert!(plan("").unwrap().hidden.is_empty());
    }

    #[test]
    fn values_of_the_job_fill_paths_and_cannot_make_two_one() {
        let found = plan("  dir_confs:\n    - path: /scratch/%u/%j\n").unwrap();
        assert_eq!(found.dirs[0].target, "/scratch/alice/7");
        assert!(plan("  dir_confs:\n    - path: /s/%u\n    - path: /s/alice\n").is_err());
    }

    #[test]
    fn a_tmpfs_has_the_size_that_the_job_gives_it() {
        let options = "  dir_confs:\n    - {path: /dev/shm, size: 50%mem else 3M, inodes: 1K, options: noexec}\n    \
                       - {path: /b, tmpfs: true, size: 1K/core}\n";
        let of = |has: &JobHas| plan_for(options, None, has);
        let words = |dir: &PlannedDir| match &dir.source {
            Source::Tmpfs(params) => params.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            Source::Directory { .. } => panic!("no tmpfs"),
        };
        let has = JobHas { memory: Some(1 << 30), cores: Some(3), ..JobHas::default() };
        let found = of(&has).unwrap();
        let sizes: Vec<String> = found.dirs.iter().map(words).collect();
        assert_eq!(sizes, ["size=3072", "size=536870912,nr_inodes=1024"]);
        let found = of(&JobHas { memory: None, ..has }).unwrap();
        assert_eq!(words(&found.dirs[1]), "size=3145728,nr_inodes=1024");
        let error = of(&JobHas::default()).unwrap_err().to_string();
        assert!(error.starts_with("cannot give /b a size of 1K/core: the cores of the job"), "{error}");
    }

    #[test]
    fn a_tmpfs_of_the_user_is_made_for_the_user() {
        let options = "  dir_confs:\n    - {path: /run/user/%U, create: true, tmpfs: true, owner: user}\n    \
                       - {path: /a, owner: root}\n    - {path: /b, tmpfs: true, mode: 0750}\n";
        let found = plan(options).unwrap();
        let dirs: Vec<_> = found.dirs.iter().map(|dir| (dir.target.as_str(), dir.owned_by_root, dir.mode)).collect();
        let users = ("/run/user/1000", false, None);
        assert_eq!(dirs, [("/a", true, None), ("/b", true, Some(0o750)), ("/run/user", true, Some(0o755)), users]);
        let told = crate::job::make::told::PlanOf(7, &found).to_string();
        let expected = " /a=/base/7/_a(owner=root) /b=tmpfs(nosuid,nodev,mode=0750) \
                        /run/user=tmpfs(nosuid,nodev,noexec,ro,mode=0755) /run/user/1000=tmpfs(nosuid,nodev,uid=1000)";
        assert!(told.contains(expected), "{told}");
    }

    #[test]
    fn all_that_a_job_has_in_a_base_has_one_limit() {
        let options = "  project_ids: 5-9\n  dir_size: 2K/core\n  dir_confs:\n    - path: /a\n    - {path: /b, size: 1K}\n    \
                       - {path: /c, base_path: /x, inodes: 7}\n    - {path: /d, tmpfs: true, size: 8K}\n";
        let has = JobHas { cores: Some(3), ..JobHas::default() };
        let found = plan_for(options, None, &has).unwrap();
        assert_eq!(found.limit_of("/base"), Some(Amounts { bytes: 7 << 10, inodes: 0 }));
        assert_eq!(found.limit_of("/x"), Some(Amounts { bytes: 6 << 10, inodes: 7 }));
        assert!(plan_for(options, None, &JobHas::default()).is_err());
        let most = "  project_ids: 5-9\n  dir_size: 8388607T\n  dirs: /a,/b\n";
        assert_eq!(plan(most).unwrap().limit_of("/base").unwrap().bytes, size::MAX);
        assert_eq!(plan("").unwrap().limit_of("/base"), None);
    }

    #[test]
    fn the_nearest_around_a_directory_is_found() {
        let around = |path| nearest(path, ["/a", "/ab", "/a/b"].into_iter().map(|dir| (dir, dir)));
        assert_eq!(around("/a/b/x/y"), Some(("/a/b", "x/y")));
        assert_eq!(around("/a/c"), Some(("/a", "c")));
        assert_eq!((around("/a"), around("/abc"), around("/")), (None, None, None));
    }

    #[test]
    fn two_paths_of_one_directory_share_its_source() {
        let text = "defaults:\n  base_path: /base\n  dirs: /tmp,/var/tmp\n";
        let parsed = parse_namespace_yaml("t", text.as_bytes(), &Node { name: "n", hostname: "n" });
        let Some(NodeSettings::Enabled(mut settings)) = parsed.settings else { panic!("{:?}", parsed.problems) };
        settings.dirs[1].backing = Backing::SameAs("/tmp".to_owned());
        assert_eq!(names(&Plan::new(&settings, &job(), None).unwrap()), [("/base", "_tmp"), ("/base", "_tmp")]);
    }

    #[test]
    fn namespaces_flags_and_propagation_follow_the_settings() {
        let found = plan("  shared: true\n  clone_ns_flags: CLONE_NEWPID,CLONE_NEWUSER\n").unwrap();
        assert_eq!(found.propagation, MountPropagationFlags::DOWNSTREAM);
        assert!(found.namespaces.contains(NamespaceFlags::PROCESS_ID | NamespaceFlags::USER | NamespaceFlags::MOUNT));
        assert!(!found.namespaces.contains(NamespaceFlags::INTER_PROCESS_COMMUNICATION));
        let found = plan("  dir_confs:\n    - {path: /a, options: \"noexec,ro,noatime\"}\n").unwrap();
        let (set, clear) = attributes(found.dirs[0].flags);
        let expected = [MountAttrFlags::MOUNT_ATTR_NOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY];
        assert_eq!(set, MountAttrFlags::from_iter(expected) | MountAttrFlags::MOUNT_ATTR_NOATIME);
        assert_eq!(clear, MountAttrFlags::MOUNT_ATTR__ATIME);
        let relatime = attributes(MountFlags { relatime: true, ..MountFlags::default() });
        assert_eq!(relatime, (MountAttrFlags::empty(), MountAttrFlags::MOUNT_ATTR__ATIME));
    }

    #[test]
    fn only_a_pid_namespace_brings_a_proc() {
        let words = |plan: &Plan| plan.proc.map(|parameters| parameters.to_string());
        let options = "  proc_options: hidepid=2\n  proc_keep: /proc/cpuinfo\n";
        let found = plan(&format!("{options}  clone_ns_flags: CLONE_NEWPID\n")).unwrap();
        assert_eq!(words(&found).as_deref(), Some(" with hidepid=invisible"));
        assert_eq!(found.proc_keep, ["/proc/cpuinfo"]);
        let found = plan("  clone_ns_flags: CLONE_NEWPID\n  proc_options: hidepid=4\n").unwrap();
        assert_eq!(words(&found).as_deref(), Some(" with hidepid=ptraceable"));
        assert_eq!(words(&plan("  clone_ns_flags: CLONE_NEWPID\n").unwrap()).as_deref(), Some(""));
        let found = plan("  proc_keep: /proc/cpuinfo\n").unwrap();
        assert!(found.proc.is_none() && found.proc_keep.is_empty());
    }

    #[test]
    fn limits_are_those_of_the_node_and_the_settings() {
        assert_eq!(plan("  clone_ns_flags: CLONE_NEWUSER\n").unwrap().limits, None, "none of the node are known");
        let node = NodeLimits { files: vec![("max_x".to_owned(), 1000)], pending_signals: 8, message_bytes: 9 };
        for (options, expected) in [("", 100), ("  user_ns_limits: 25\n", 250)] {
            let found = plan_on(&format!("  clone_ns_flags: CLONE_NEWUSER\n{options}"), Some(&node)).unwrap();
            assert_eq!(found.limits.unwrap().files, [("/proc/sys/user/max_x".to_owned(), expected)]);
        }
    }
}

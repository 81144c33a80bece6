//! What will be done for one job, decided before anything is done: settings and job in, names and
//! flags out. No system call.

use crate::base::error::Error;
use crate::config::check::dirs_for_job;
use crate::config::path::path_below;
use crate::config::pattern::JobNames;
use crate::config::settings::{Backing, Dir, HidePid, MountFlags, Settings, TmpfsParam};
use crate::job::Job;
use crate::job::make::child::ProcParameters;
use crate::job::make::ns_limits::{JobLimits, NodeLimits};
use crate::sys::clone::NamespaceFlags;
use crate::sys::mount::{Atime, Attributes, Propagation};

/// Everything that create needs to know about a job.
#[derive(Debug)]
pub struct Plan {
    pub namespaces: NamespaceFlags,
    pub propagation: Propagation,
    /// What the fresh `/proc` of a PID namespace is told; None without one.
    pub proc: Option<ProcParameters>,
    /// Paths of which what is mounted over them is kept on it.
    pub proc_keep: Vec<String>,
    /// The limits of a new user namespace; None where they are the node's own.
    pub limits: Option<JobLimits>,
    /// The directories in which `<job>/` is made: `base_path` first, then those of `dir_confs`.
    pub bases: Vec<String>,
    /// In mount order.
    pub dirs: Vec<PlannedDir>,
    /// The bases to cover inside the job.
    pub hidden: Vec<String>,
}

/// One private directory of this job.
#[derive(Debug, PartialEq, Eq)]
pub struct PlannedDir {
    /// The path that the job sees.
    pub target: String,
    /// The private directory that it lies in, by its place in [`Plan::dirs`], and its path from there.
    pub within: Option<(usize, String)>,
    pub source: Source,
    pub attributes: Attributes,
    /// Permission bits that the file asks for.
    pub mode: Option<u32>,
}

impl PlannedDir {
    fn new(dir: &Dir, source: Source) -> Self {
        Self { target: dir.path.clone(), within: None, mode: dir.mode, source, attributes: attributes(dir.flags) }
    }

    /// A tmpfs as configured, for trying it out.
    #[must_use]
    pub fn from_config(dir: &Dir) -> Self {
        let params = match &dir.backing {
            Backing::Tmpfs(params) => params.clone(),
            _ => Vec::new(),
        };
        Self::new(dir, Source::Tmpfs(params))
    }
}

/// Where its content lives.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// `<bases[base]>/<job>/<name>`.
    Directory { base: usize, name: String },
    /// What the private directory at this place in [`Plan::dirs`] has.
    SameAs(usize),
    /// A fresh tmpfs.
    Tmpfs(Vec<TmpfsParam>),
}

impl Plan {
    /// `node`: what [`NodeLimits::read`] finds under these settings.
    ///
    /// # Errors
    ///
    /// When a path of `dir_confs` cannot be expanded for this job.
    pub fn new(settings: &Settings, job: &Job, node: Option<&NodeLimits>) -> Result<Self, Error> {
        let names = JobNames { job_id: job.header.id, sluid: &job.sluid_text, user: &job.header.user };
        let expanded =
            dirs_for_job(settings, &names).map_err(|why| Error::because("lay out the private directories", why))?;
        let mut bases = vec![settings.base_path.clone()];
        let mut taken: Vec<(usize, String)> = Vec::new();
        let mut dirs: Vec<PlannedDir> = Vec::new();
        for dir in &expanded {
            let source = match &dir.backing {
                Backing::Tmpfs(params) => Source::Tmpfs(params.clone()),
                Backing::SameAs(other) => {
                    let place = dirs.iter().position(|dir| dir.target == *other);
                    let why = || Error::because("lay out the private directories", format!("there is no {other}"));
                    Source::SameAs(place.ok_or_else(why)?)
                }
                Backing::BasePath => directory(0, &dir.path, &mut taken),
                Backing::OtherBase(path) => {
                    let base = bases.iter().position(|base| base == path).unwrap_or_else(|| {
                        bases.push(path.clone());
                        bases.len().saturating_sub(1)
                    });
                    directory(base, &dir.path, &mut taken)
                }
            };
            // What it lies in comes before it; the nearest is the one with the longest path.
            let outer = dirs.iter().enumerate().filter_map(|(index, outer)| {
                let below = path_below(&dir.path, &outer.target)?;
                Some((outer.target.len(), (index, below.to_owned())))
            });
            let within = outer.max().map(|(_, within)| within);
            dirs.push(PlannedDir { within, ..PlannedDir::new(dir, source) });
        }
        let hidden = if settings.hide_base_path {
            // One that lies below a private directory is out of sight already.
            let covered = |base: &&String| !dirs.iter().any(|dir| path_below(base, &dir.target).is_some());
            bases.iter().filter(covered).cloned().collect()
        } else {
            Vec::new()
        };
        Ok(Self {
            namespaces: namespaces(settings),
            propagation: if settings.shared { Propagation::Slave } else { Propagation::Private },
            proc: proc_parameters(settings),
            // Without a PID namespace jobs have the node's /proc with all that is mounted over it.
            proc_keep: if settings.namespaces.pid { settings.proc_keep.clone() } else { Vec::new() },
            limits: node.map(|node| JobLimits::new(node, settings.user_ns_limits)),
            bases,
            dirs,
            hidden,
        })
    }
}

/// What the fresh `/proc` that jobs get under these settings is told, if they get one.
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
    let mut flags = NamespaceFlags::MOUNT;
    for (on, flag) in [
        (settings.namespaces.pid, NamespaceFlags::PID),
        (settings.namespaces.user, NamespaceFlags::USER),
        (settings.namespaces.ipc, NamespaceFlags::IPC),
    ] {
        if on {
            flags = flags.with(flag);
        }
    }
    flags
}

/// The name under `<base>/<job>/`: `_tmp` for `/tmp`, as Slurm's plugin names it, but never the name
/// of another directory (there `/a/b` and `/a_b` share `_a_b`).
fn directory(base: usize, target: &str, taken: &mut Vec<(usize, String)>) -> Source {
    let plain = target.replace('/', "_");
    // A name may have 255 bytes (NAME_MAX); a path may have more.
    let plain = if plain.len() > 200 { "_long".to_owned() } else { plain };
    let mut name = plain.clone();
    let mut number = 2_u32;
    while taken.contains(&(base, name.clone())) {
        name = format!("{plain}.{number}");
        number = number.saturating_add(1);
    }
    taken.push((base, name.clone()));
    Source::Directory { base, name }
}

fn attributes(flags: MountFlags) -> Attributes {
    Attributes {
        nosuid: flags.nosuid,
        nodev: flags.nodev,
        noexec: flags.noexec,
        read_only: flags.read_only,
        nodiratime: flags.nodiratime,
        atime: if flags.noatime {
            Some(Atime::Noatime)
        } else if flags.relatime {
            Some(Atime::Relatime)
        } else {
            None
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::namespace_yaml::parse_namespace_yaml;
    use crate::config::settings::{Node, NodeSettings};
    use crate::job::record::state::Header;

    fn plan(options: &str) -> Result<Plan, Error> {
        plan_on(options, None)
    }

    fn plan_on(options: &str, node: Option<&NodeLimits>) -> Result<Plan, Error> {
        let text = format!("defaults:\n  base_path: /base\n{options}");
        let parsed = parse_namespace_yaml("t", text.as_bytes(), &Node { name: "n", hostname: "n" });
        let Some(NodeSettings::Enabled(settings)) = parsed.settings else { panic!("{:?}", parsed.problems) };
        let job = Job {
            header: Header { id: 7, sluid: 1, uid: 1000, gid: 1000, user: "alice".into(), node: "n".into() },
            sluid_text: "s1".into(),
            environment: Vec::new(),
            boot: crate::job::record::process::BootId::current().unwrap(),
        };
        Plan::new(&settings, &job, node)
    }

    fn names(plan: &Plan) -> Vec<(usize, &str)> {
        let name = |dir| match dir {
            &PlannedDir { source: Source::Directory { base, ref name }, .. } => Some((base, name.as_str())),
            _ => None,
        };
        plan.dirs.iter().filter_map(name).collect()
    }

    #[test]
    fn names_are_slurms_and_never_shared() {
        assert_eq!(names(&plan("").unwrap()), [(0, "_tmp")]);
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
        assert_eq!(names(&plan), [(0, "_long"), (0, "_long.2")]);
    }

    #[test]
    fn other_bases_are_listed_once_and_hidden_on_request() {
        let confs = "  hide_base_path: true\n  dir_confs:\n    - {path: /a, base_path: /x}\n    - {path: /b, base_path: /x}\n    - {path: /c}\n";
        let found = plan(confs).unwrap();
        assert_eq!(found.bases, ["/base", "/x"]);
        assert_eq!(found.hidden, ["/base", "/x"]);
        assert_eq!(names(&found), [(1, "_a"), (1, "_b"), (0, "_c")]);
        assert!(plan("").unwrap().hidden.is_empty());
    }

    #[test]
    fn values_of_the_job_fill_paths_and_cannot_make_two_one() {
        let found = plan("  dir_confs:\n    - path: /scratch/%u/%j\n").unwrap();
        assert_eq!(found.dirs[0].target, "/scratch/alice/7");
        assert!(plan("  dir_confs:\n    - path: /s/%u\n    - path: /s/alice\n").is_err());
    }

    #[test]
    fn a_nested_directory_knows_the_nearest_around_it() {
        let plan = plan("  dirs: /a/b/c/%j,/a,/ab,/a/b,/a/b/x/y/z\n").unwrap();
        let found: Vec<_> = plan
            .dirs
            .iter()
            .map(|dir| (dir.target.as_str(), dir.within.as_ref().map(|(i, p)| (*i, p.as_str()))))
            .collect();
        assert_eq!(
            found,
            [
                ("/a", None),
                ("/ab", None),
                ("/a/b", Some((0, "b"))),
                ("/a/b/c/7", Some((2, "c/7"))),
                ("/a/b/x/y/z", Some((2, "x/y/z"))),
            ]
        );
    }

    #[test]
    fn namespaces_flags_and_propagation_follow_the_settings() {
        let found = plan("  shared: true\n  clone_ns_flags: CLONE_NEWPID,CLONE_NEWUSER\n").unwrap();
        assert_eq!(found.propagation, Propagation::Slave);
        assert!(found.namespaces.contains(NamespaceFlags::PID.with(NamespaceFlags::USER).with(NamespaceFlags::MOUNT)));
        assert!(!found.namespaces.contains(NamespaceFlags::IPC));
        let found = plan("  dir_confs:\n    - {path: /a, options: \"noexec,ro,noatime\"}\n").unwrap();
        let attributes = found.dirs[0].attributes;
        assert!(attributes.noexec && attributes.read_only && !attributes.nosuid);
        assert_eq!(attributes.atime, Some(Atime::Noatime));
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

//! Examines what else is in and around the base paths and private directories: what jobs and Slurm need but would no
//! longer see. Also explains why a node is disabled.

use crate::base::error::Error;
use crate::base::listing::names_at;
use crate::base::mountinfo::{mounts, table_of};
use crate::config::path::is_at_or_below;
use crate::config::settings::{DisabledWhy, Node, Settings};
use crate::config::spelling::{key, setting};
use crate::config::{cluster, slurm_conf};
use crate::node::config_file::ConfigFile;
use crate::node::finding::Findings;
use crate::node::paths;
use crate::slurm_version::Version;
use rustix::io::Errno;

/// The most names in one line.
const MOST_NAMES: usize = 8;

/// Facts from Slurm or from slurm.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slurm {
    pub spool: String,
    /// The directory of slurm.conf.
    pub directory: String,
    pub munge_socket: String,
    /// `TmpFS`
    pub tmp: String,
    /// The nodes in slurm.conf; empty if it does not name all.
    pub nodes: Vec<String>,
    /// The version of Slurm, if the plugin cannot read the generic resources of its jobs.
    pub hides_gres: Option<Version>,
}

impl Slurm {
    /// `text` is that of slurm.conf, or empty if it cannot be read. slurmd knows its spool directory. If `spool` is
    /// None, slurm.conf names it.
    #[must_use]
    pub fn new(text: &[u8], directory: &str, spool: Option<&str>, version: Version, node: &Node<'_>) -> Self {
        let named = || slurm_conf::path(text, "SlurmdSpoolDir", node);
        Self {
            spool: spool.map(str::to_owned).or_else(named).unwrap_or_else(|| "/var/spool/slurmd".to_owned()),
            directory: directory.to_owned(),
            munge_socket: slurm_conf::munge_socket(text).unwrap_or_else(|| "/run/munge/munge.socket.2".to_owned()),
            tmp: slurm_conf::path(text, "TmpFS", node).unwrap_or_else(|| "/tmp".to_owned()),
            nodes: cluster::nodes(text),
            hides_gres: Some(version).filter(|version| version.total_gres().is_none()),
        }
    }
}

/// Why the plugin is disabled on a node.
#[must_use]
pub fn why_disabled(file: &ConfigFile, node: &str, why: DisabledWhy) -> String {
    let (path, base_path) = (&file.path, key("base_path"));
    match (why, &file.left_out) {
        (DisabledWhy::NotConfigured, None) => format!("{path} sets no {base_path} for node {node}"),
        (DisabledWhy::NotConfigured, Some(left_out)) => {
            format!("{path}: {left_out}, and there is no {base_path} for all nodes")
        }
        (DisabledWhy::SetToNone, None) => format!("{path} sets {base_path} to none for node {node}"),
        (DisabledWhy::SetToNone, Some(left_out)) => {
            format!("{path}: {left_out}, and {base_path} is set to none for all nodes")
        }
    }
}

/// A private directory or a hidden base path, in which jobs do not see what the node has there.
struct Cover<'a> {
    path: &'a str,
    is_base: bool,
}

fn covers(settings: &Settings) -> Vec<Cover<'_>> {
    let dirs = settings.dirs.iter().map(|dir| Cover { path: &dir.path, is_base: false });
    let bases = paths::bases(settings).into_iter().filter(|_| settings.hide_base_path);
    dirs.chain(bases.map(|(_, path)| Cover { path, is_base: true })).collect()
}

/// Refuses settings that would hide what Slurm needs in jobs: each step reads its script from slurmd's spool directory,
/// and every command reads slurm.conf and asks munge. Warns of other things that jobs would not see. The paths of the
/// settings have no links in them.
pub(super) fn examine(settings: &Settings, slurm: &Slurm, node: &Node<'_>, found: &mut Findings) {
    let covers = covers(settings);
    let munge = slurm.munge_socket.rsplit_once('/').map_or("", |(directory, _)| directory);
    let needed = [
        ("SlurmdSpoolDir", slurm.spool.as_str(), "where steps find their scripts"),
        ("the directory of slurm.conf", &slurm.directory, "which every command of Slurm reads"),
        ("the directory of munge's socket", munge, "which every command of Slurm needs for authentication"),
    ];
    for (what, path, why) in needed {
        let Some(real) = real_path(path) else { continue };
        for cover in covers.iter().filter(|cover| is_at_or_below(&real, cover.path)) {
            let (about, intention, hint) = if cover.is_base {
                let hint = format!("use another {}, or {}", key("base_path"), setting("hide_base_path", "false"));
                ("base_path", format!("hide {} {}", key("base_path"), cover.path), hint)
            } else {
                ("dirs", format!("make {} private", cover.path), "remove it from the list".to_owned())
            };
            found.fatal(about, Error::because(intention, format!("{what} ({path}) is in it, {why}")).with_hint(hint));
        }
    }
    if let Some(version) = slurm.hides_gres {
        refuse_gres(settings, version, found);
    }
    if settings.hide_base_path {
        warn_of_hidden(settings, slurm, node, found);
    }
    if !settings.shared {
        warn_of_autofs(&covers, found);
    }
}

/// Refuses sizes that depend on generic resources. Every job would count as one without them.
fn refuse_gres(settings: &Settings, version: Version, found: &mut Findings) {
    for dir in &settings.dirs {
        if let Some(size) = dir.size.as_ref().filter(|size| size.is_by_gres()) {
            let error = Error::because(
                format!("give {} a size of {size}", dir.path),
                format!("the generic resources of a job cannot be read with Slurm {version}"),
            );
            found.fatal("dirs", error.with_hint("use another size; CAVEATS in slurm-jobns(7) lists the releases"));
        }
    }
}

/// Warns of what a hidden base path hides from jobs.
fn warn_of_hidden(settings: &Settings, slurm: &Slurm, node: &Node<'_>, found: &mut Findings) {
    let table = table_of("self").unwrap_or_default();
    let hide = setting("hide_base_path", "true");
    let keep = format!("hint: use a separate directory for {}, or remove {}", key("base_path"), key("hide_base_path"));
    for (_, base) in paths::bases(settings) {
        let mut hidden: Vec<String> = mounts(&table)
            .filter(|mount| mount.point != base && is_at_or_below(&mount.point, base))
            .map(|mount| mount.point.into_owned())
            .collect();
        let is_mounted = |path: &String| hidden.iter().any(|point| is_at_or_below(point, path));
        let entries = others(base, node.name).unwrap_or_default().into_iter().map(|name| format!("{base}/{name}"));
        let entries: Vec<String> = entries.filter(|path| !is_mounted(path)).collect();
        hidden.extend(entries);
        if !hidden.is_empty() {
            let what = listed(&hidden);
            found.warn("base_path", format!("{hide}: jobs will not see what else is in {base}: {what}; {keep}"));
        }
        if real_path(&slurm.tmp).is_some_and(|real| is_at_or_below(&real, base)) {
            let tmp = &slurm.tmp;
            found.warn("base_path", format!("{hide}: jobs will not see TmpFS ({tmp}), which is in {base}; {keep}"));
        }
    }
}

/// Warns of file systems that are mounted on demand, because they do not appear in running jobs.
fn warn_of_autofs(covers: &[Cover<'_>], found: &mut Findings) {
    let Ok(table) = table_of("self") else { return };
    let mut points = on_demand(&table);
    points.retain(|point| !covers.iter().any(|cover| is_at_or_below(point, cover.path)));
    if !points.is_empty() {
        found.warn(
            "shared",
            format!(
                "{}: autofs mounts file systems on demand at {}, and what it mounts while a job runs does not appear in the job; hint: {}",
                setting("shared", "false"),
                listed(&points),
                setting("shared", "true")
            ),
        );
    }
}

/// The mount points of autofs, except those of systemd in /proc, /sys and /dev, which are not for files.
fn on_demand(table: &str) -> Vec<String> {
    let is_for_files = |point: &str| !["/proc", "/sys", "/dev"].iter().any(|top| is_at_or_below(point, top));
    mounts(table)
        .filter(|mount| mount.kind == "autofs" && is_for_files(&mount.point))
        .map(|mount| mount.point.into_owned())
        .collect()
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(MOST_NAMES) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

/// The path without links; None if it does not exist.
fn real_path(path: &str) -> Option<String> {
    let real = std::fs::canonicalize(path).ok()?;
    real.to_str().map(str::to_owned)
}

/// Advice for `check --here`: a base path that contains only jobs can be hidden at no cost.
#[must_use]
pub fn advice(settings: &Settings, slurm: &Slurm, node: &str) -> Option<String> {
    let all: Vec<&str> = paths::bases(settings).into_iter().map(|(_, base)| base).collect();
    let has_only_jobs = |base: &&str| {
        others(base, node).is_some_and(|others| others.is_empty())
            && !real_path(&slurm.spool).is_some_and(|spool| is_at_or_below(&spool, base))
    };
    (!settings.hide_base_path && all.iter().all(has_only_jobs)).then(|| {
        format!(
            "{} contains only directories of jobs: {} hides the ids of other jobs and costs nothing",
            all.join(", "),
            setting("hide_base_path", "true")
        )
    })
}

/// The entries of a base path that neither this plugin nor Slurm's has made. Empty if the directory does not exist yet;
/// None if it cannot be read.
fn others(base: &str, node: &str) -> Option<Vec<String>> {
    let is_of_jobs = |name: &str| {
        let id = name.strip_prefix(".new.").unwrap_or(name);
        // Debian's build of Slurm's plugin puts jobs below a directory with the node's name.
        (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())) || name == ".trash" || name == node
    };
    let mut found = match names_at(base) {
        Err(error) if error.errno() == Some(Errno::NOENT) => return Some(Vec::new()),
        names => names.ok()?,
    };
    found.retain(|name| !is_of_jobs(name));
    found.sort_unstable();
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::namespace_yaml::parse_namespace_yaml;
    use crate::config::settings::NodeSettings;
    use crate::node::finding::{About, Severity};

    const NODE: Node<'_> = Node { name: "n1", hostname: "n1" };

    fn settings(yaml: &str) -> Settings {
        match parse_namespace_yaml("t", format!("defaults: {{{yaml}}}").as_bytes(), &NODE).settings {
            Some(NodeSettings::Enabled(settings)) => settings,
            other => panic!("{other:?}"),
        }
    }

    /// The fatal findings and the others, each after its key.
    fn said(settings: &Settings, slurm: &Slurm) -> (Vec<String>, Vec<String>) {
        let mut found = Findings::default();
        examine(settings, slurm, &NODE, &mut found);
        let (mut fatal, mut others) = (Vec::new(), Vec::new());
        for finding in found {
            let About::Key(key) = finding.about else { panic!("{finding:?}") };
            let list = if finding.severity == Severity::Fatal { &mut fatal } else { &mut others };
            list.push(format!("{key}: {finding}"));
        }
        (fatal, others)
    }

    #[test]
    fn what_slurm_needs_cannot_be_covered() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("{}/{name}", top.path().display());
        for dir in ["spool/slurmd", "etc", "munge"] {
            std::fs::create_dir_all(path(dir)).unwrap();
        }
        std::os::unix::fs::symlink(path("spool"), path("link")).unwrap();
        let slurm = Slurm {
            spool: path("link/slurmd"),
            directory: path("etc"),
            munge_socket: path("munge/socket"),
            tmp: "/no".to_owned(),
            ..Slurm::default()
        };
        let base = |name: &str, more: &str| settings(&format!("base_path: {}, dirs: /dev/shm{more}", path(name)));
        for (name, what) in [
            ("spool/slurmd", "SlurmdSpoolDir"),
            ("spool", "SlurmdSpoolDir"),
            ("etc", "the directory of slurm.conf"),
            ("munge", "the directory of munge's socket"),
        ] {
            let (errors, _) = said(&base(name, ", hide_base_path: true"), &slurm);
            assert!(
                matches!(errors.as_slice(), [line] if line.contains(what)
                && line.starts_with(&format!("base_path: cannot hide base_path {}", path(name)))),
                "{errors:?}"
            );
            assert!(said(&base(name, ""), &slurm).0.is_empty(), "{name} in sight is fine");
            let private = settings(&format!("base_path: /nowhere, dirs: {}", path(name)));
            let (errors, _) = said(&private, &slurm);
            assert!(
                matches!(errors.as_slice(), [line] if line.contains(what)
                && line.starts_with("dirs: cannot make")),
                "{errors:?}"
            );
        }
        assert!(said(&base("spool/jobns", ", hide_base_path: true"), &slurm).0.is_empty());
    }

    #[test]
    fn what_is_hidden_without_need_is_named() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("{}/{name}", top.path().display());
        let hidden = settings(&format!("base_path: {}, hide_base_path: true, dirs: /dev/shm", top.path().display()));
        let seen = settings(&format!("base_path: {}, dirs: /dev/shm", top.path().display()));
        let slurm = Slurm { spool: "/no".to_owned(), tmp: path("alice"), ..Slurm::default() };
        for dir in ["17", ".new.18", ".trash", "n1"] {
            std::fs::create_dir(path(dir)).unwrap();
        }
        assert!(said(&hidden, &slurm).1.is_empty());
        assert!(advice(&seen, &slurm, "n1").unwrap().contains("hide_base_path: true"));
        assert_eq!(advice(&hidden, &slurm, "n1"), None);
        std::fs::create_dir(path("alice")).unwrap();
        std::fs::create_dir(path("17x")).unwrap();
        assert_eq!(advice(&seen, &slurm, "n1"), None);
        let warnings = said(&hidden, &slurm).1;
        assert!(warnings[0].contains(&format!(": {}, {};", path("17x"), path("alice"))), "{warnings:?}");
        assert!(warnings[1].contains("TmpFS"), "{warnings:?}");
    }

    #[test]
    fn sizes_by_gres_need_a_version_whose_gres_can_be_read() {
        let settings = settings("base_path: /b, dir_confs: [{path: /tmp, tmpfs: true, size: 1G/gres/tmp else 2G}]");
        let of = |micro| {
            let version = Version { major: 26, minor: 5, micro };
            said(&settings, &Slurm::new(b"", "/no", Some("/no"), version, &NODE)).0
        };
        assert!(of(5).is_empty());
        let refused = of(4);
        assert!(
            matches!(refused.as_slice(), [line] if line.starts_with("dirs: cannot give /tmp a size of 1G/gres/tmp else 2G: the generic")
                && line.contains("Slurm 26.05.4")),
            "{refused:?}"
        );
    }

    #[test]
    fn autofs_is_found_where_files_are() {
        let table = "\
30 1 0:45 / /auto rw,relatime shared:9 - autofs /etc/auto.data rw
31 1 0:46 / /proc/sys/fs/binfmt_misc rw shared:10 - autofs systemd-1 rw
32 30 0:47 / /auto/data rw shared:11 - nfs server:/data rw
";
        assert_eq!(on_demand(table), ["/auto"]);
    }
}

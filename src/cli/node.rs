//! `jobns list` and `jobns clean`: the jobs of this node, and what is left of those that are gone.
//!
//! Both go by the file that slurmd keeps in its spool directory ([`crate::job::registry`]): it names the
//! node and every base path. `clean` does what slurmd does when it starts, no more: in doubt a directory stays.
//!
//! The JSON is one object: `node`, `spool`, `jobs[]` (`job`, `base`, `plugin` ("ours", "slurm"), `state`
//! ("alive", "dead", "foreign", "in doubt"), `user`, `uid`, `holder`, `namespaces[]`, `trees[]`, `age_seconds`;
//! null for what Slurm's plugin does not record), `trash[]` (`base`, `count`), `removals[]` (`path`, `user` or null, `uid`, `state`
//! ("waits", "runs", "stuck", "held"), `age_seconds`, `left`, `reason` or null), `unknown[]` (sentences).

#![forbid(unsafe_code)]

use super::{TerminalHost, json};
use crate::config::{self, NodeSettings, Settings};
use crate::job::delete::Removal;
use crate::job::handshake::describe;
use crate::job::registry::{self, Registry};
use crate::job::restore::{self, Live, Sight, SightOf, Verdict};
use crate::job::sources::open_base;
use crate::job::{Level, LiveJobs, Log, trusted};
use crate::node::{self, File, JOB_CONTAINER_CONF, NAMESPACE_YAML};
use crate::remover::status::{self, Status, Tree};
use crate::slurm::steps::live_jobs;
use core::fmt;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;

/// Where slurmd's spool directory usually is: Slurm's default, and Debian's.
const SPOOLS: [&str; 2] = ["/var/spool/slurmd", "/var/lib/slurm/slurmd"];

/// Removals that the text shows. The JSON has all of them.
const MOST_TREES: usize = 50;

/// Exit status of `list` when something dead is left, and of `clean` when something stays.
const LEFT: u8 = 1;

#[derive(Debug, Default)]
struct Options {
    spool: Option<String>,
    json: bool,
    dry_run: bool,
}

fn parse(command: &str, arguments: &[OsString]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = |name: &str| {
            let value = rest.next().ok_or(format!("{name} needs a value"))?;
            value.to_str().map(str::to_owned).ok_or(format!("{name} {} is not UTF-8", value.display()))
        };
        match argument.to_str() {
            Some("--spool") => options.spool = Some(value("--spool")?),
            Some("--format") => {
                options.json = match value("--format")?.as_str() {
                    "text" => false,
                    "json" => true,
                    other => return Err(format!("--format is text or json, not {other:?}")),
                }
            }
            Some("--dry-run") if command == "clean" => options.dry_run = true,
            _ => return Err(format!("{command} has no argument {}; see jobns --help", argument.display())),
        }
    }
    Ok(options)
}

/// Keeps the lines of the core, so that they are shown in their place.
#[derive(Debug, Default)]
struct Collector(Mutex<Vec<String>>);

impl Log for Collector {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        if matches!(level, Level::Error | Level::Warning) {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line.to_string());
        }
    }
}

/// What slurmd has written down of this node where it usually does; root can read it.
pub(super) fn recorded() -> Option<Registry> {
    let read = |spool, name| Registry::read(spool, name).ok().flatten();
    SPOOLS.into_iter().find_map(|spool| registry::FILES.into_iter().find_map(|name| read(spool, name)))
}

/// The node as slurmd has left it in its spool directory: a registry for each plugin that it loaded.
pub(super) fn registries(spool: Option<&str>) -> Result<(String, Vec<(File, Registry)>), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can look into the directories of jobs".to_owned());
    }
    let spools = spool.map_or_else(|| SPOOLS.to_vec(), |spool| vec![spool]);
    let mut why = String::new();
    for spool in &spools {
        let mut found = Vec::new();
        for (file, name) in [NAMESPACE_YAML, JOB_CONTAINER_CONF].into_iter().zip(registry::FILES) {
            match Registry::read(spool, name) {
                Ok(Some(registry)) => found.push((file, registry)),
                Ok(None) => {}
                Err(error) => why = format!(" ({error})"),
            }
        }
        if let Some((_, registry)) = found.first() {
            trust_slurm_user(&registry.slurm_conf);
            return Ok(((*spool).to_owned(), found));
        }
    }
    Err(format!(
        "no slurmd with this plugin has started with the spool directory {}{why}; name SlurmdSpoolDir with --spool (scontrol show config)",
        spools.join(" or ")
    ))
}

/// A job directory with the base that it is in.
struct Seen {
    base: String,
    sight: Sight,
}

/// Everything under the bases of the node.
fn look(host: &dyn Log, registry: &Registry, live: Option<&LiveJobs>) -> Result<Vec<Seen>, String> {
    let known = || live.cloned();
    let live = Live::new(&known);
    let mut seen = Vec::new();
    for base in &registry.bases {
        for path in restore::places(base, &registry.node) {
            let open = match open_base(&path) {
                Ok(open) => open,
                Err(error) if error.errno() == Some(Errno::NOENT) => continue,
                Err(error) => return Err(error.to_string()),
            };
            let sights =
                restore::look(host, open.as_fd(), &path, &registry.node, &live).map_err(|error| error.to_string())?;
            seen.extend(sights.into_iter().map(|sight| Seen { base: path.clone(), sight }));
        }
    }
    seen.sort_by_key(|seen| seen.sight.job.id());
    Ok(seen)
}

/// The bases of the node, and how much is in the trash of each.
fn trash(registry: &Registry) -> Result<Vec<(&str, usize)>, String> {
    let count = |base: &String| restore::in_trash(base).map_err(|error| error.to_string());
    registry.bases.iter().chain(&registry.trash).map(|base| Ok((base.as_str(), count(base)?))).collect()
}

const fn state(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Alive => "alive",
        Verdict::Dead => "dead",
        Verdict::Foreign => "foreign",
        Verdict::InDoubt => "in doubt",
    }
}

/// Seconds since the state file was last written to, that is, since the job's namespaces were ready.
fn age(base: &str, job: u32) -> Option<u64> {
    let written = rustix::fs::stat(format!("{base}/{job}/.ns").as_str()).ok()?.st_mtime;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    Some(now.saturating_sub(u64::try_from(written).ok()?))
}

fn shown_age(seconds: Option<u64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 60 => format!("{seconds}s"),
        Some(seconds) if seconds < 3600 => format!("{}m", seconds / 60),
        Some(seconds) if seconds < 86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        Some(seconds) => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// What the removal programs of the node have not removed yet, as they have written it down.
fn removals(host: &dyn Log, spool: &str) -> Vec<Tree> {
    let mut trees = Vec::new();
    for name in status::FILES {
        match Status::read(spool, name) {
            Ok(found) => trees.extend(found.unwrap_or_default().trees),
            Err(error) => host.log(Level::Warning, format_args!("{error}")),
        }
    }
    // It is written once a second: what is gone by now is not told.
    trees.retain(|tree| !matches!(rustix::fs::lstat(tree.path.as_str()), Err(Errno::NOENT)));
    trees
}

/// Counts `SlurmUser` of this slurm.conf as root, as slurmd does. Slurm's default is root.
pub(super) fn trust_slurm_user(slurm_conf: &str) {
    let text = std::fs::read(slurm_conf).unwrap_or_default();
    let Some(user) = config::slurm_conf::value(&text, "SlurmUser") else { return };
    let ask = || {
        let output = std::process::Command::new("getent").args(["passwd", &user]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.split(':').nth(2)?.parse().ok()
    };
    trusted::trust_slurm_user(user.parse().ok().or_else(ask).unwrap_or(0));
}

/// A user's name, by getent(1), which asks what the node asks. None: it has none.
fn user_name(uid: u32) -> Option<String> {
    let output = std::process::Command::new("getent").args(["passwd", &uid.to_string()]).output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?.split(':').next()?.to_owned();
    (!name.is_empty()).then(|| config::problem::escape(&name))
}

/// How long a removal has been going on, in seconds.
fn age_of(tree: &Tree) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    now.saturating_sub(tree.since)
}

fn text(seen: &[Seen], trash: &[(&str, usize)], trees: &[Tree], unknown: &[String]) -> String {
    let mut rows = vec![["JOB", "USER", "STATE", "AGE", "HOLDER", "NAMESPACES", "DIRECTORY"].map(str::to_owned)];
    for Seen { base, sight } in seen {
        let job = sight.job.id();
        let (user, holder, namespaces) = match &sight.job {
            SightOf::Ours(found) => (
                config::problem::escape(&found.record.user),
                found.record.holder.map_or_else(|| "-".to_owned(), |holder| holder.pid.as_raw_nonzero().to_string()),
                describe(found.record.namespaces, ","),
            ),
            SightOf::Lost(_) => ("-".to_owned(), "-".to_owned(), "state lost with a power cut".to_owned()),
            SightOf::Slurms(_) => ("-".to_owned(), "-".to_owned(), "Slurm's plugin".to_owned()),
        };
        let directory = format!("{}/{job}", config::problem::escape(base));
        let age = shown_age(age(base, job));
        rows.push([job.to_string(), user, state(sight.verdict).to_owned(), age, holder, namespaces, directory]);
    }
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in &rows {
        let line: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(line.join("  ").trim_end());
        out.push('\n');
    }
    for tree in trees.iter().take(MOST_TREES) {
        let _ = write!(
            out,
            "{}: of {}, {} for {}",
            config::problem::escape(&tree.path),
            user_name(tree.uid).unwrap_or_else(|| format!("uid {}", tree.uid)),
            tree.state.word(),
            shown_age(Some(age_of(tree)))
        );
        if tree.left > 0 {
            let _ = write!(out, ", at least {} entries left", tree.left);
        }
        if let Some(reason) = &tree.reason {
            let _ = write!(out, ": {}", config::problem::escape(reason));
        }
        out.push('\n');
    }
    for (base, count) in trash.iter().filter(|(_, count)| *count > 0) {
        let _ = writeln!(
            out,
            "{}/.trash: {count} directories of former jobs are being removed, or could not be",
            config::problem::escape(base)
        );
    }
    for sentence in unknown {
        let _ = writeln!(out, "note: {sentence}");
    }
    out
}

fn as_json(
    seen: &[Seen],
    spool: &str,
    node: &str,
    trash: &[(&str, usize)],
    trees: &[Tree],
    unknown: &[String],
) -> String {
    let number = |number: u64| number.to_string();
    let jobs = seen.iter().map(|Seen { base, sight }| {
        let job = sight.job.id();
        let record = if let SightOf::Ours(found) = &sight.job { Some(&found.record) } else { None };
        let namespaces = record.map(|record| describe(record.namespaces, ", "));
        let holder = record.and_then(|record| record.holder).map(|holder| holder.pid.as_raw_nonzero().to_string());
        let trees = record
            .map(|record| json::list(record.trees.iter().map(|tree| json::text(&format!("{}/{job}", tree.base)))));
        json::object([
            ("job", number(job.into())),
            ("base", json::text(base)),
            ("plugin", json::text(if matches!(sight.job, SightOf::Slurms(_)) { "slurm" } else { "ours" })),
            ("state", json::text(state(sight.verdict))),
            ("user", json::or_null(record.map(|record| json::text(&record.user)))),
            ("uid", json::or_null(record.map(|record| number(record.uid.into())))),
            ("holder", json::or_null(holder)),
            ("namespaces", json::or_null(namespaces.map(|names| json::list(names.split(", ").map(json::text))))),
            ("trees", json::or_null(trees)),
            ("age_seconds", json::or_null(age(base, job).map(number))),
        ])
    });
    let trash =
        trash.iter().map(|(base, count)| json::object([("base", json::text(base)), ("count", count.to_string())]));
    let removals = trees.iter().map(|tree| {
        json::object([
            ("path", json::text(&tree.path)),
            ("user", json::or_null(user_name(tree.uid).as_deref().map(json::text))),
            ("uid", number(tree.uid.into())),
            ("state", json::text(tree.state.word())),
            ("age_seconds", number(age_of(tree))),
            ("left", number(tree.left)),
            ("reason", json::or_null(tree.reason.as_deref().map(json::text))),
        ])
    });
    let object = json::object([
        ("node", json::text(node)),
        ("spool", json::text(spool)),
        ("jobs", json::list(jobs)),
        ("trash", json::list(trash)),
        ("removals", json::list(removals)),
        ("unknown", json::list(unknown.iter().map(|sentence| json::text(sentence)))),
    ]);
    object + "\n"
}

/// # Errors
///
/// Wrong usage, and a node that cannot be looked at.
pub fn list(arguments: &[OsString]) -> Result<ExitCode, String> {
    let options = parse("list", arguments)?;
    let (spool, registries) = registries(options.spool.as_deref())?;
    show(&options, &spool, registries)
}

/// Both plugins' as one: they are of one node.
fn show(options: &Options, spool: &str, registries: Vec<(File, Registry)>) -> Result<ExitCode, String> {
    let mut registry = Registry::default();
    for (_, mut one) in registries {
        one.bases.append(&mut registry.bases);
        one.trash.append(&mut registry.trash);
        registry = one;
    }
    registry.bases.sort();
    registry.bases.dedup();
    registry.tidy();
    let host = Collector::default();
    let live = live_jobs(spool, &registry.node)
        .inspect_err(|error| host.log(Level::Warning, format_args!("{error}; which jobs live is not known")))
        .ok();
    let seen = look(&host, &registry, live.as_ref())?;
    let trash = trash(&registry)?;
    let trees = removals(&host, spool);
    let unknown = host.0.into_inner().unwrap_or_default();
    let said = if options.json {
        as_json(&seen, spool, &registry.node, &trash, &trees, &unknown)
    } else {
        text(&seen, &trash, &trees, &unknown)
    };
    super::answer(&said)?;
    Ok(status(is_left(&seen, &trash)))
}

/// Something is left of a job that is gone, or may be.
fn is_left(seen: &[Seen], trash: &[(&str, usize)]) -> bool {
    trash.iter().any(|(_, count)| *count > 0)
        || seen.iter().any(|seen| matches!(seen.sight.verdict, Verdict::Dead | Verdict::InDoubt))
}

fn status(is_left: bool) -> ExitCode {
    if is_left { ExitCode::from(LEFT) } else { ExitCode::SUCCESS }
}

/// # Errors
///
/// Wrong usage, a node that cannot be looked at, a configuration that cannot be read.
pub fn clean(arguments: &[OsString]) -> Result<ExitCode, String> {
    let options = parse("clean", arguments)?;
    let (spool, registries) = registries(options.spool.as_deref())?;
    if options.dry_run {
        return show(&options, &spool, registries);
    }
    if options.json {
        return Err("clean has no JSON but with --dry-run".to_owned());
    }
    let configured: Vec<Configured> = registries.iter().map(|(file, registry)| configured(*file, registry)).collect();
    let is_configured = configured.iter().any(|one| !matches!(one, Configured::Gone(_)));
    let mut is_left = false;
    let mut errors = Vec::new();
    for ((_, registry), configured) in registries.iter().zip(configured) {
        let settings = match configured {
            Configured::Read(settings) => settings.map(|settings| *settings),
            // The site has changed to the other plugin.
            Configured::Gone(error) if is_configured => {
                let host = TerminalHost { verbose: false };
                host.log(
                    Level::Warning,
                    format_args!("{error}; what its plugin has left goes without clone_ns_epilog"),
                );
                None
            }
            Configured::Gone(error) | Configured::Broken(error) => {
                errors.push(error);
                continue;
            }
        };
        match clean_up(settings.as_ref(), &spool, registry) {
            Ok(left) => is_left |= left,
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(status(is_left)) } else { Err(errors.join("\n")) }
}

/// True when something stays.
fn clean_up(settings: Option<&Settings>, spool: &str, registry: &Registry) -> Result<bool, String> {
    let environment = [
        ("SLURM_CONF", registry.slurm_conf.clone().into_bytes()),
        ("SLURMD_NODENAME", registry.node.clone().into_bytes()),
    ];
    let mut registry = registry.clone();
    registry.trash.extend(settings.map(restore::other_bases).unwrap_or_default().into_iter().map(str::to_owned));
    registry.tidy();
    let node = restore::Node {
        name: &registry.node,
        bases: &registry.bases,
        other_bases: registry.trash.iter().map(String::as_str).collect(),
        epilog: settings.and_then(|settings| settings.clone_ns_epilog.as_ref()),
        environment: &environment,
        removal: Removal::HERE,
    };
    let host = TerminalHost { verbose: true };
    restore::clean(&host, &node, live_jobs(spool, &registry.node)).map_err(|error| error.to_string())?;
    let quiet = Collector::default();
    let live = live_jobs(spool, &registry.node).map_err(|error| error.to_string())?;
    Ok(is_left(&look(&quiet, &registry, Some(&live))?, &trash(&registry)?))
}

/// What the configuration of today says: its epilog runs, as when slurmd starts.
enum Configured {
    /// None: the plugin is off on this node.
    Read(Option<Box<Settings>>),
    /// There is no such file; why that matters.
    Gone(String),
    Broken(String),
}

fn configured(file: File, registry: &Registry) -> Configured {
    let of = config::Node { name: &registry.node, hostname: &registry.hostname };
    let host = TerminalHost { verbose: false };
    match file.read(&host, node::config_directory(&registry.slurm_conf), &of) {
        Err(error) if error.errno() == Some(Errno::NOENT) => Configured::Gone(error.to_string()),
        Err(error) => Configured::Broken(error.to_string()),
        Ok((path, parsed)) => match parsed.settings {
            Some(NodeSettings::Enabled(settings)) => Configured::Read(Some(Box::new(settings))),
            Some(NodeSettings::Disabled(_)) => Configured::Read(None),
            None => Configured::Broken(format!(
                "{path} has errors, so clone_ns_epilog is not known; see jobns check {path}"
            )),
        },
    }
}

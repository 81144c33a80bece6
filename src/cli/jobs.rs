//! `jobns list` and `jobns clean`: the jobs on this node, and what ended jobs have left.
//!
//! Both read the file of slurmd in its spool directory ([`crate::job::record::registry`]), which contains the node and
//! every base path. `clean` removes the same as jobns-remover: if it is not clear whether a job is dead, its directory
//! stays.
//!
//! The JSON is one object: `node`, `spool`, `jobs[]` (`job`, `base`, `plugin` ("ours", "slurm"), `state`
//! ("alive", "dead", "foreign", "in doubt"), `user`, `uid`, `holder`, `namespaces[]`, `trees[]`, `age_seconds`,
//! `used_bytes`, `limit_bytes`, `used_inodes`, `limit_inodes`; null if Slurm's plugin does not record it, or if the job
//! has no limit), `trash[]` (`base`, `count`), `removals[]` (`path`, `user` or null, `uid`, `state` ("waits", "runs",
//! "stuck", "held"), `age_seconds`, `left`, `reason` or null), `unknown[]` (sentences).

use crate::base::base_dir::open_base;
use crate::base::log::{Level, Lines, Log};
use crate::base::trusted_path;
use crate::cli::help::{CLEAN, Command, LIST};
use crate::cli::nodes;
use crate::cli::nodes::Node;
use crate::cli::options;
use crate::cli::options::{Reader, Stop, Word};
use crate::cli::{TerminalHost, json, progress};
use crate::config::flavour::Flavour;
use crate::config::problem::escape;
use crate::config::settings;
use crate::config::settings::{NodeSettings, Settings};
use crate::config::slurm_conf;
use crate::job::LiveJobs;
use crate::job::record::live_jobs::live_jobs;
use crate::job::record::namespaces::describe;
use crate::job::record::project;
use crate::job::record::registry::Registry;
use crate::job::remove::dead_jobs;
use crate::job::remove::dead_jobs::{JobEntry, Live, MadeBy, Verdict};
use crate::job::remove::delete::Epilog;
use crate::job::remove::lost;
use crate::node::config_file::{File, config_directory};
use crate::remover::status::{Status, Tree};
use crate::sys::quota::{Amounts, Quota};
use core::fmt;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Removals that the text contains at most. The JSON contains all of them.
const MOST_TREES: usize = 50;

/// Exit status of `list` and `clean` if something is left of ended jobs.
const LEFT: u8 = 1;

#[derive(Debug, Default)]
struct Options {
    spool: Option<String>,
    node: Option<String>,
    json: bool,
    dry_run: bool,
}

fn parse(command: &'static Command, arguments: &[OsString]) -> Result<Options, Stop> {
    let mut options = Options::default();
    let mut reader = Reader::new(command, arguments);
    while let Some(word) = reader.next()? {
        match word {
            Word::Option("--node", name) => options.node = Some(options::node(name)?),
            Word::Option("--format", value) => options.json = options::format(value)?,
            Word::Option(option, value) => options.spool = Some(options::text(option, value)?),
            Word::Flag(_) => options.dry_run = true,
            Word::Dashes => {}
            Word::Operand(operand) => return Err(reader.unexpected(&operand)),
        }
    }
    Ok(options)
}

/// A job directory and its base path.
struct Seen {
    base: String,
    sight: JobEntry,
}

/// Finds the job directories under all base paths of the node.
fn look(host: &dyn Log, registry: &Registry, live: Option<&LiveJobs>) -> Result<Vec<Seen>, String> {
    let known = || live.cloned();
    let live = Live::new(&known);
    let mut seen = Vec::new();
    for base in &registry.bases {
        for path in dead_jobs::places(base, &registry.node) {
            let open = match open_base(&path) {
                Ok(open) => open,
                Err(error) if error.errno() == Some(Errno::NOENT) => continue,
                Err(error) => return Err(error.to_string()),
            };
            let sights = dead_jobs::job_entries(host, open.as_fd(), &path, &registry.node, &live)
                .map_err(|error| error.to_string())?;
            seen.extend(sights.into_iter().map(|sight| Seen { base: path.clone(), sight }));
        }
    }
    for base in &registry.trash {
        let strays = lost::find(base, &registry.node, &registry.bases).map_err(|error| error.to_string())?;
        let jobs = strays.jobs.into_iter();
        seen.extend(jobs.map(|job| Seen { base: base.clone(), sight: JobEntry::of_lost(job) }));
    }
    seen.sort_by_key(|seen| seen.sight.job.id());
    Ok(seen)
}

/// The base paths of the node, with the number of directories in the trash of each.
fn trash(registry: &Registry) -> Result<Vec<(&str, usize)>, String> {
    let count = |base: &String| dead_jobs::in_trash(base).map_err(|error| error.to_string());
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

/// Seconds since the last change of the state file, which is when the job's namespaces were ready.
fn age(base: &str, job: u32) -> Option<u64> {
    let written = rustix::fs::stat(format!("{base}/{job}/.ns").as_str()).ok()?.st_mtime;
    Some(seconds_since(u64::try_from(written).ok()?))
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

/// The directories that the removal programs of the node have recorded as not removed yet.
fn removals(host: &dyn Log, spool: &str) -> Vec<Tree> {
    let mut trees = Vec::new();
    for name in Flavour::ALL.map(Flavour::removal_status) {
        match Status::read(spool, name) {
            Ok(found) => trees.extend(found.unwrap_or_default().trees),
            Err(error) => host.log(Level::Warning, format_args!("{error}")),
        }
    }
    // The record is written once a second. Skip directories that have been removed since then.
    trees.retain(|tree| !matches!(rustix::fs::lstat(tree.path.as_str()), Err(Errno::NOENT)));
    trees
}

/// Trusts `SlurmUser` of this slurm.conf like root, as slurmd does. Slurm's default is root.
pub(super) fn trust_slurm_user(path: &str) {
    let text = std::fs::read(path).unwrap_or_default();
    let Some(user) = slurm_conf::value(&text, "SlurmUser") else { return };
    let uid = user.parse().ok().or_else(|| passwd(&user, 2)?.parse().ok());
    trusted_path::trust_slurm_user(uid.unwrap_or(0));
}

/// A field of a user's entry in passwd(5), from getent(1), which uses the name services of the node.
fn passwd(user: &str, field: usize) -> Option<String> {
    let output = std::process::Command::new("getent").args(["passwd", user]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.split(':').nth(field).map(str::to_owned)
}

/// The name of a user; `None` if no user has this id.
fn user_name(uid: u32) -> Option<String> {
    passwd(&uid.to_string(), 0).filter(|name| !name.is_empty()).map(|name| escape(&name))
}

fn name_or_id(uid: u32) -> String {
    user_name(uid).unwrap_or_else(|| format!("uid {uid}"))
}

/// Seconds since a time, which is given in seconds since 1970.
fn seconds_since(then: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs()).saturating_sub(then)
}

/// The index of the column that is omitted if no job has a limit.
const USED: usize = 6;

/// The sum of what a job has in its projects, and of their limits.
fn quota(sight: &JobEntry) -> Option<Quota> {
    if let MadeBy::Ours(found) = &sight.job { project::of_job(&found.record) } else { None }
}

/// `1.5G of 20G, 12 of 1000 inodes`; empty without a limit.
fn shown_quota(sight: &JobEntry) -> String {
    let Some(Quota { used, limit, .. }) = quota(sight) else { return String::new() };
    let bytes = (limit.bytes > 0).then(|| format!("{} of {}", shown_bytes(used.bytes), shown_bytes(limit.bytes)));
    let inodes = (limit.inodes > 0).then(|| format!("{} of {} inodes", used.inodes, limit.inodes));
    bytes.into_iter().chain(inodes).collect::<Vec<_>>().join(", ")
}

/// The number with one digit after the point.
fn shown_bytes(bytes: u64) -> String {
    let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| bytes >> shift > 0) else {
        return bytes.to_string();
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    if tenths.is_multiple_of(10) {
        format!("{}{unit}", tenths / 10)
    } else {
        format!("{}.{}{unit}", tenths / 10, tenths % 10)
    }
}

fn text(node: &str, seen: &[Seen], trash: &[(&str, usize)], trees: &[Tree], unknown: &[String]) -> String {
    let mut rows =
        vec![["JOB", "USER", "STATE", "AGE", "HOLDER", "NAMESPACES", "USED", "DIRECTORY"].map(str::to_owned)];
    for Seen { base, sight } in seen {
        let job = sight.job.id();
        let (user, holder, namespaces) = match &sight.job {
            MadeBy::Ours(found) => (
                escape(&found.record.header.user),
                found.record.holder.map_or_else(|| "-".to_owned(), |holder| holder.pid.as_raw_nonzero().to_string()),
                describe(found.record.namespaces, ","),
            ),
            MadeBy::Lost(_) => ("-".to_owned(), "-".to_owned(), "state lost in a power failure".to_owned()),
            MadeBy::Slurms(leftover) => (name_or_id(leftover.uid()), "-".to_owned(), "Slurm's plugin".to_owned()),
        };
        let directory = format!("{}/{job}", escape(base));
        let age = shown_age(age(base, job));
        let used = shown_quota(sight);
        rows.push([job.to_string(), user, state(sight.verdict).to_owned(), age, holder, namespaces, used, directory]);
    }
    // Most nodes have no limits.
    if rows.iter().skip(1).all(|row| row[USED].is_empty()) {
        for row in &mut rows {
            row[USED].clear();
        }
    }
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    if seen.is_empty() {
        rows.clear();
        let _ = writeln!(out, "no jobs on node {}", escape(node));
    }
    for row in &rows {
        let cells = row.iter().zip(widths).filter(|(_, width)| *width > 0);
        let line: Vec<String> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(line.join("  ").trim_end());
        out.push('\n');
    }
    for tree in trees.iter().take(MOST_TREES) {
        let _ = write!(
            out,
            "{}: user {}, {}, first seen {} ago",
            escape(&tree.path),
            name_or_id(tree.uid),
            tree.state.word(),
            shown_age(Some(seconds_since(tree.since)))
        );
        if tree.left > 0 {
            let _ = write!(out, ", at least {} entries left", tree.left);
        }
        if let Some(reason) = &tree.reason {
            let _ = write!(out, ": {}", escape(reason));
        }
        out.push('\n');
    }
    for (base, count) in trash.iter().filter(|(_, count)| *count > 0) {
        let _ = writeln!(
            out,
            "{}/.trash: {count} directories of ended jobs are being removed, or could not be removed",
            escape(base)
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
        let record = if let MadeBy::Ours(found) = &sight.job { Some(&found.record) } else { None };
        let (user, uid) = match &sight.job {
            MadeBy::Ours(found) => (Some(found.record.header.user.clone()), Some(found.record.header.uid)),
            MadeBy::Slurms(leftover) => (user_name(leftover.uid()), Some(leftover.uid())),
            MadeBy::Lost(_) => (None, None),
        };
        let namespaces = record.map(|record| describe(record.namespaces, ", "));
        let holder = record.and_then(|record| record.holder).map(|holder| holder.pid.as_raw_nonzero().to_string());
        let trees = record
            .map(|record| json::list(record.trees.iter().map(|tree| json::text(&format!("{}/{job}", tree.base)))));
        let quota = quota(sight);
        let limit = |of: fn(&Amounts) -> u64| {
            json::or_null(quota.map(|quota| of(&quota.limit)).filter(|limit| *limit > 0).map(number))
        };
        json::object([
            ("job", number(job.into())),
            ("base", json::text(base)),
            ("plugin", json::text(if matches!(sight.job, MadeBy::Slurms(_)) { "slurm" } else { "ours" })),
            ("state", json::text(state(sight.verdict))),
            ("user", json::or_null(user.as_deref().map(json::text))),
            ("uid", json::or_null(uid.map(|uid| number(uid.into())))),
            ("holder", json::or_null(holder)),
            ("namespaces", json::or_null(namespaces.map(|names| json::list(names.split(", ").map(json::text))))),
            ("trees", json::or_null(trees)),
            ("age_seconds", json::or_null(age(base, job).map(number))),
            ("used_bytes", json::or_null(quota.map(|quota| number(quota.used.bytes)))),
            ("limit_bytes", limit(|limit| limit.bytes)),
            ("used_inodes", json::or_null(quota.map(|quota| number(quota.used.inodes)))),
            ("limit_inodes", limit(|limit| limit.inodes)),
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
            ("age_seconds", number(seconds_since(tree.since))),
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

/// `jobns list`
pub(crate) fn list(arguments: &[OsString]) -> Result<ExitCode, String> {
    let Some(options) = options::or_help(&LIST, parse(&LIST, arguments))? else { return Ok(ExitCode::SUCCESS) };
    let Node { spool, registries, .. } = nodes::only(options.spool.as_deref(), options.node.as_deref())?;
    show(&options, &spool, registries)
}

/// Lists what both plugins have recorded for the node.
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
    let host = Lines::default();
    let live = live_jobs(spool, &registry.node)
        .inspect_err(|error| host.log(Level::Warning, format_args!("{error}; it is not known which jobs are alive")))
        .ok();
    let seen = look(&host, &registry, live.as_ref())?;
    let trash = trash(&registry)?;
    let trees = removals(&host, spool);
    let is_shown = |level| matches!(level, Level::Error | Level::Warning);
    let unknown: Vec<String> =
        host.into_inner().into_iter().filter(|(level, _)| is_shown(*level)).map(|(_, line)| line).collect();
    let said = if options.json {
        as_json(&seen, spool, &registry.node, &trash, &trees, &unknown)
    } else {
        text(&registry.node, &seen, &trash, &trees, &unknown)
    };
    crate::cli::answer(&said)?;
    Ok(status(is_left(&seen, &trash)))
}

/// Whether something is left of an ended job, or of a job that may have ended.
fn is_left(seen: &[Seen], trash: &[(&str, usize)]) -> bool {
    trash.iter().any(|(_, count)| *count > 0)
        || seen.iter().any(|seen| matches!(seen.sight.verdict, Verdict::Dead | Verdict::InDoubt))
}

fn status(is_left: bool) -> ExitCode {
    if is_left { ExitCode::from(LEFT) } else { ExitCode::SUCCESS }
}

/// `jobns clean`
pub(crate) fn clean(arguments: &[OsString]) -> Result<ExitCode, String> {
    let Some(options) = options::or_help(&CLEAN, parse(&CLEAN, arguments))? else { return Ok(ExitCode::SUCCESS) };
    let Node { spool, registries, .. } = nodes::only(options.spool.as_deref(), options.node.as_deref())?;
    if options.dry_run {
        return show(&options, &spool, registries);
    }
    if options.json {
        return Err("clean prints JSON only with --dry-run".to_owned());
    }
    let configured: Vec<Configured> = registries.iter().map(|(file, registry)| configured(*file, registry)).collect();
    let is_configured = configured.iter().any(|one| !matches!(one, Configured::Gone(_)));
    let mut summary = Summary::default();
    let mut errors = Vec::new();
    for ((_, registry), configured) in registries.iter().zip(configured) {
        let settings = match configured {
            Configured::Read(settings) => settings.map(|settings| *settings),
            // The site has switched to the other plugin.
            Configured::Gone(error) if is_configured => {
                let host = TerminalHost { verbose: false };
                host.log(
                    Level::Warning,
                    format_args!("{error}; what its plugin left is removed without clone_ns_epilog"),
                );
                None
            }
            Configured::Gone(error) | Configured::Broken(error) => {
                errors.push(error);
                continue;
            }
        };
        if let Err(error) = clean_up(settings.as_ref(), &spool, registry, &mut summary) {
            errors.push(error);
        }
    }
    if !errors.is_empty() {
        return Err(errors.join("\n"));
    }
    crate::cli::complain(&format!("jobns: {summary}\n"));
    Ok(status(summary.is_left))
}

/// The last line of `clean`. The sets contain paths, because two plugins may share a base path.
#[derive(Debug, Default)]
struct Summary {
    /// Directories of jobs and in a trash.
    to_remove: BTreeSet<String>,
    left: BTreeSet<String>,
    alive: BTreeSet<String>,
    is_left: bool,
}

impl Summary {
    fn paths(seen: &[Seen], trash: &[(&str, usize)], is: impl Fn(Verdict) -> bool) -> BTreeSet<String> {
        let jobs = seen
            .iter()
            .filter(|seen| is(seen.sight.verdict))
            .map(|seen| format!("{}/{}", seen.base, seen.sight.job.id()));
        let trees =
            trash.iter().flat_map(|(base, count)| (0..*count).map(move |number| format!("{base}/.trash/{number}")));
        jobs.chain(trees).collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directories = |count: usize| match count {
            1 => "1 directory".to_owned(),
            _ => format!("{count} directories"),
        };
        match self.alive.len() {
            0 => f.write_str("no job is alive")?,
            1 => f.write_str("1 job is alive")?,
            many => write!(f, "{many} jobs are alive")?,
        }
        let left = self.left.len();
        match (self.to_remove.len().saturating_sub(left), left) {
            (0, 0) => f.write_str(", nothing to remove"),
            (removed, 0) => write!(f, ", removed {}", directories(removed)),
            (0, left) => write!(f, ", left {}: see jobns list", directories(left)),
            (removed, left) => write!(f, ", removed {}, left {left}: see jobns list", directories(removed)),
        }
    }
}

/// Prints everything except for live jobs, which the last line counts.
#[derive(Debug)]
struct CleanHost;

impl Log for CleanHost {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        if level != Level::Debug {
            TerminalHost { verbose: true }.log(level, line);
        }
    }
}

fn clean_up(
    settings: Option<&Settings>,
    spool: &str,
    registry: &Registry,
    summary: &mut Summary,
) -> Result<(), String> {
    let mut registry = registry.clone();
    registry.trash.extend(settings.map(dead_jobs::other_bases).unwrap_or_default().into_iter().map(str::to_owned));
    registry.tidy();
    let node = dead_jobs::Node {
        name: &registry.node,
        bases: &registry.bases,
        other_bases: registry.trash.iter().map(String::as_str).collect(),
        epilog: settings.and_then(|settings| Epilog::new(settings, Some(&registry.slurm_conf))),
        removal: progress::SHOWN,
        project_ids: settings.and_then(|settings| settings.project_ids),
    };
    let quiet = Lines::default();
    let look = || {
        let live = live_jobs(spool, &registry.node).map_err(|error| error.to_string())?;
        Ok::<_, String>((look(&quiet, &registry, Some(&live))?, trash(&registry)?))
    };
    let is_removable = |verdict| matches!(verdict, Verdict::Dead | Verdict::InDoubt);
    if let Ok((seen, trash)) = look() {
        summary.to_remove.append(&mut Summary::paths(&seen, &trash, is_removable));
    }
    dead_jobs::clean(&CleanHost, &node, live_jobs(spool, &registry.node)).map_err(|error| error.to_string())?;
    let (seen, trash) = look()?;
    summary.left.append(&mut Summary::paths(&seen, &trash, is_removable));
    summary.alive.append(&mut Summary::paths(&seen, &[], |verdict| verdict == Verdict::Alive));
    summary.is_left |= is_left(&seen, &trash);
    Ok(())
}

/// The present configuration of a plugin, whose epilog runs.
enum Configured {
    /// `None`: the plugin is disabled on this node.
    Read(Option<Box<Settings>>),
    /// There is no configuration. Contains the error.
    Gone(String),
    Broken(String),
}

fn configured(file: File, registry: &Registry) -> Configured {
    let of = settings::Node { name: &registry.node, hostname: &registry.hostname };
    let (file, found) = match file.read(config_directory(&registry.slurm_conf), &of) {
        Err(error) if error.errno() == Some(Errno::NOENT) => return Configured::Gone(error.to_string()),
        Err(error) => return Configured::Broken(error.to_string()),
        Ok(read) => read,
    };
    let _ = found.log(&TerminalHost { verbose: false }, |finding| file.line(finding));
    match file.parsed.settings {
        Some(NodeSettings::Enabled(settings)) => Configured::Read(Some(Box::new(settings))),
        Some(NodeSettings::Disabled(_)) => Configured::Read(None),
        None => Configured::Broken(format!(
            "{0} has errors, so clone_ns_epilog is not known; see jobns check {0}",
            file.path
        )),
    }
}

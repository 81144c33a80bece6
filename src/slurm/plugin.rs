//! What each entry point of the plugin does.
//!
//! State of the process: what `init` (slurmd) or `recv_stepd` (slurmstepd) has learnt, set once and
//! read without a lock, since `join` runs in forked children; and, in the extern slurmstepd, the
//! namespaces that it has made.

#![forbid(unsafe_code)]

use super::front::{self, PREFIX};
use super::host::{LOG_LEVEL_ERROR, LOG_LEVEL_VERBOSE, SlurmHost, StepHost};
use super::imports::{Daemon, Imports, Step, imports};
use super::layout::{self, NO_VAL, NsFdMap, SLURM_EXTERN_CONT, StepId};
use super::only_one;
use super::steps::live_jobs;
use crate::config::{self, NodeSettings, Settings, wire};
use crate::job::create::{Created, create};
use crate::job::error::Error;
use crate::job::fixed::FixedText;
use crate::job::identity::BootId;
use crate::job::join::{JoinError, join as join_job};
use crate::job::pins::Pins;
use crate::job::record;
use crate::job::registry::Registry;
use crate::job::{Host, Job, Level, Milliseconds, delete, plan, restore as restore_jobs};
use crate::node;
use crate::sys::clone::NamespaceFlags;
use core::fmt::Write as _;
use rustix::fd::{BorrowedFd, IntoRawFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

/// What the daemon says of itself.
#[derive(Debug)]
struct Daemons {
    node: String,
    hostname: String,
    spooldir: String,
    slurm_conf: String,
    boot: BootId,
}

static SETTINGS: OnceLock<NodeSettings> = OnceLock::new();
static DAEMON: OnceLock<Daemons> = OnceLock::new();
/// The job whose namespaces this extern slurmstepd has made, until it deletes them.
static CREATED: Mutex<Option<Created>> = Mutex::new(None);
/// What `join_external` hands out. In an extern slurmstepd, the pins of what it has made; in any
/// other, its own namespaces.
static EXTERNAL: OnceLock<Vec<NsFdMap>> = OnceLock::new();
/// Bases besides today's under which a job of this node lived when slurmd started.
static OLD_BASES: OnceLock<Vec<String>> = OnceLock::new();
static DELETED: AtomicBool = AtomicBool::new(false);
/// In an extern slurmstepd: `stepd_create` has come to its end, or never will.
static SET_UP_IS_OVER: Mutex<bool> = Mutex::new(false);
static SET_UP_ENDED: Condvar = Condvar::new();

/// Why an entry point failed; already a sentence.
pub type Failure = String;

fn daemon(imports: &Imports) -> Result<&'static Daemons, Failure> {
    if let Some(daemon) = DAEMON.get() {
        return Ok(daemon);
    }
    let text = |offset, what: &str| {
        let bytes = imports.conf_text(offset).unwrap_or_default();
        let text = String::from_utf8(bytes).unwrap_or_default();
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(format!("the daemon has no usable {what}"));
        }
        Ok(text)
    };
    let found = Daemons {
        node: text(layout::conf::NODE_NAME, "node name")?,
        hostname: text(layout::conf::HOSTNAME, "host name")?,
        spooldir: text(layout::conf::SPOOLDIR, "spool directory")?,
        slurm_conf: text(layout::conf::CONFFILE, "path of slurm.conf")?,
        boot: BootId::current().map_err(|errno| Error::call("read the boot id", "read", errno).to_string())?,
    };
    Ok(DAEMON.get_or_init(|| found))
}

fn loaded() -> Result<&'static Imports, Failure> {
    imports().ok_or_else(|| "the plugin was called before init".to_owned())
}

/// None: the plugin is off on this node.
fn settings() -> Result<Option<&'static Settings>, Failure> {
    match SETTINGS.get() {
        None => Err("the plugin was called before it had its configuration".to_owned()),
        Some(NodeSettings::Disabled(_)) => Ok(None),
        Some(NodeSettings::Enabled(settings)) => Ok(Some(settings)),
    }
}

/// In slurmd: reads namespace.yaml and prepares the node. A configuration that cannot be honoured
/// ends slurmd, since a failing `init` would only make it look for the next plugin of that name.
pub fn init(imports: &'static Imports) -> Result<(), Failure> {
    let host = SlurmHost { imports };
    if !imports.in_slurmd() {
        return Ok(());
    }
    let daemon = daemon(imports)?;
    let node = config::Node { name: &daemon.node, hostname: &daemon.hostname };
    let prepared = node::prepare(&host, front::FILE, node::config_directory(&daemon.slurm_conf), &node);
    match prepared.and_then(alone) {
        Ok(settings) => {
            if let NodeSettings::Enabled(settings) = &settings {
                host.log(
                    Level::Info,
                    format_args!(
                        "version {} for Slurm {}: jobs get {} namespaces and private {} under {}",
                        env!("CARGO_PKG_VERSION"),
                        super::entry::version(),
                        crate::job::handshake::describe(plan::namespaces(settings), ", "),
                        settings.dirs.iter().map(|dir| dir.path.as_str()).collect::<Vec<_>>().join(", "),
                        settings.base_path
                    ),
                );
                host.log(Level::Debug, format_args!("{settings:?}"));
            }
            let _ = SETTINGS.set(settings);
            Ok(())
        }
        Err(errors) => {
            for error in &errors {
                host.log(Level::Error, format_args!("{error}"));
            }
            let last = format!(
                "{PREFIX}{} above; slurmd does not start rather than run jobs without what {} asks for",
                if errors.len() == 1 { "see the error".to_owned() } else { format!("see the {} errors", errors.len()) },
                front::FILE.name
            );
            imports.fatal(&CString::new(last).unwrap_or_default());
            Err("the configuration cannot be honoured".to_owned())
        }
    }
}

/// Settings that another plugin is not in the way of.
fn alone(settings: NodeSettings) -> Result<NodeSettings, Vec<String>> {
    if let NodeSettings::Enabled(_) = settings
        && let Some(why) = only_one::claim(PREFIX.trim_end_matches(": "))
    {
        return Err(vec![why]);
    }
    Ok(settings)
}

/// slurmd has started: deletes what dead jobs left.
pub fn restore() -> Result<(), Failure> {
    let imports = loaded()?;
    let settings = settings()?;
    let daemon = daemon(imports)?;
    let host = SlurmHost { imports };
    let mut bases: Vec<String> = settings.map(|settings| settings.base_path.clone()).into_iter().collect();
    let today = bases.len();
    let trash_of_today = settings.map(restore_jobs::other_bases).unwrap_or_default();
    let mut trash: Vec<String> = trash_of_today.iter().map(|path| (*path).to_owned()).collect();
    match Registry::read(&daemon.spooldir, front::REGISTRY) {
        Ok(registry) => {
            let registry = registry.unwrap_or_default();
            let known = registry.bases;
            trash.extend(registry.trash.into_iter().filter(|path| !trash_of_today.contains(&path.as_str())));
            bases.extend(known.into_iter().filter(|base| settings.is_none_or(|today| today.base_path != *base)));
        }
        Err(error) => host.log(
            Level::Error,
            format_args!("{error}; jobs under a former base_path are not found, and get no new steps"),
        ),
    }
    let environment =
        [("SLURM_CONF", daemon.slurm_conf.clone().into_bytes()), ("SLURMD_NODENAME", daemon.node.clone().into_bytes())];
    let node = restore_jobs::Node {
        name: &daemon.node,
        bases: &bases,
        other_bases: trash.iter().filter(|path| !bases.contains(path)).map(String::as_str).collect(),
        epilog: settings.and_then(|settings| settings.clone_ns_epilog.as_ref()),
        environment: &environment,
        removal: delete::Removal::Later,
    };
    let (in_use, result) = restore_jobs::restore(&host, &node, live_jobs(&daemon.spooldir, &daemon.node));
    let old: Vec<String> = bases.iter().skip(today).filter(|base| in_use.contains(base)).cloned().collect();
    // A former one stays while it is not empty, or may get something when a job that lives now ends.
    let may_have_some = |path: &String| restore_jobs::in_trash(path).is_ok_and(|count| count > 0);
    trash.retain(|path| trash_of_today.contains(&path.as_str()) || !in_use.is_empty() || may_have_some(path));
    trash.extend(bases.iter().skip(today).filter(|base| !in_use.contains(base) && may_have_some(base)).cloned());
    let mut registry = Registry {
        node: daemon.node.clone(),
        hostname: daemon.hostname.clone(),
        slurm_conf: daemon.slurm_conf.clone(),
        bases: bases.into_iter().take(today).chain(old.iter().cloned()).collect(),
        trash,
    };
    registry.tidy();
    let _ = OLD_BASES.set(old);
    if let Err(error) = registry.write(&daemon.spooldir, front::REGISTRY) {
        host.log(
            Level::Error,
            format_args!("{error}; jobs will not be found by a slurmd that starts with another base_path"),
        );
    }
    result.map_err(|error| error.to_string())
}

/// slurmd tells a slurmstepd the settings.
pub fn send_stepd(fd: BorrowedFd<'_>) -> Result<(), Failure> {
    let settings = SETTINGS.get().ok_or("send_stepd was called before init")?;
    if let NodeSettings::Enabled(settings) = settings
        && settings.removal_timeout.is_some()
        && let Err(error) = restore_jobs::sweep_what_is_left(settings)
        && let Some(imports) = imports()
    {
        // The job that starts has nothing to do with it.
        SlurmHost { imports }.log(Level::Error, format_args!("{error}"));
    }
    let message = wire::encode(settings);
    let mut rest = message.as_slice();
    while !rest.is_empty() {
        match rustix::io::write(fd, rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::call("send the settings to slurmstepd", "write", errno).to_string()),
        }
    }
    Ok(())
}

/// slurmstepd hears the settings. The bytes are checked as if they came from anywhere.
pub fn recv_stepd(fd: BorrowedFd<'_>) -> Result<(), Failure> {
    let intention = "receive the settings from slurmd";
    let mut header = [0_u8; wire::HEADER_LEN];
    read_exactly(fd, &mut header).map_err(|errno| Error::call(intention, "read", errno).to_string())?;
    let len = wire::body_len(&header).map_err(|error| Error::because(intention, error.to_string()).to_string())?;
    let mut body = vec![0_u8; len];
    read_exactly(fd, &mut body).map_err(|errno| Error::call(intention, "read", errno).to_string())?;
    let settings =
        wire::decode(&header, &body).map_err(|error| Error::because(intention, error.to_string()).to_string())?;
    if matches!(&settings, NodeSettings::Enabled(settings) if !settings.entire_step_in_ns) {
        // `join` will be called in children of this process.
        daemon(loaded()?)?;
    }
    let _ = SETTINGS.set(settings);
    Ok(())
}

fn read_exactly(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(), Errno> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::read(fd, rest) {
            // Slurmd has ended in the middle.
            Ok(0) => return Err(Errno::PIPE),
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// When dropped, those who wait for the end of set-up go on, also after a panic.
struct SetUp;

impl Drop for SetUp {
    fn drop(&mut self) {
        *SET_UP_IS_OVER.lock().unwrap_or_else(PoisonError::into_inner) = true;
        SET_UP_ENDED.notify_all();
    }
}

/// The extern slurmstepd makes the job's namespaces.
pub fn stepd_create(step: Step) -> Result<(), Failure> {
    let _ended = SetUp;
    let imports = loaded()?;
    let Some(settings) = settings()? else { return Ok(()) };
    let Daemon::Slurmstepd(stepd) = imports.daemon() else {
        return Err("stepd_create was called outside of slurmstepd".to_owned());
    };
    let host = StepHost { daemon: SlurmHost { imports }, stepd, step };
    let job = job_of(imports, step)?;
    let start = std::time::Instant::now();
    let created = create(&host, settings, &job).map_err(|error| format!("job {}: {error}", job.id))?;
    let (record, ms) = (&created.record, Milliseconds(start.elapsed()));
    // For people and for what reads logs: no value has a blank in it, the times are milliseconds.
    host.log(
        Level::Info,
        format_args!(
            "job {}: created: namespaces={} directories={} base_path={} uid={} holder={} ms={ms}",
            job.id,
            crate::job::handshake::describe(record.namespaces, ","),
            listed(settings.dirs.iter().map(|dir| dir.path.as_str())),
            listed(std::iter::once(settings.base_path.as_str())),
            record.uid,
            record.holder.map_or(0, |holder| holder.pid.as_raw_nonzero().get()),
        ),
    );
    let _ = EXTERNAL.set(entries(&created.pins, created.record.namespaces));
    *CREATED.lock().unwrap_or_else(PoisonError::into_inner) = Some(created);
    Ok(())
}

/// Paths as one word of a line.
fn listed<'a>(paths: impl Iterator<Item = &'a str>) -> String {
    paths.map(|path| path.replace(' ', "\\x20")).collect::<Vec<_>>().join(",")
}

fn job_of(imports: &Imports, step: Step) -> Result<Job, Failure> {
    let daemon = daemon(imports)?;
    let id = step.step_id();
    let user = String::from_utf8(step.user_name().unwrap_or_default()).unwrap_or_default();
    if user.chars().any(char::is_control) {
        return Err(format!("job {}: the name of its user has control characters in it", id.job_id));
    }
    let sluid_text = if id.sluid == 0 { String::new() } else { imports.sluid_text(id.sluid) };
    // The variables, and when each is there, are those of Slurm's plugin.
    let mut environment = script_environment(daemon, id.job_id);
    let mut add = |name, value: Option<Vec<u8>>| environment.extend(value.map(|value| (name, value)));
    let number = |present: bool, value: u64| present.then(|| value.to_string().into_bytes());
    let het = step.het_job_id();
    add("SLURM_HET_JOB_ID", number(het != 0 && het != NO_VAL, het.into()));
    add("SLURM_JOB_GID", number(true, step.gid().into()));
    add("SLURM_JOB_UID", number(true, step.uid().into()));
    add("SLURM_JOB_USER", Some(user.clone().into_bytes()));
    add("SLURM_JOB_SLUID", (!sluid_text.is_empty()).then(|| sluid_text.clone().into_bytes()));
    add("SLURM_NODE_ALIASES", step.alias_list());
    add("SLURM_JOB_WORK_DIR", step.cwd());
    add("SLURM_JOB_MEM", number(step.job_mem() != 0, step.job_mem()));
    add("SLURM_JOB_CPUS", number(step.cpus() != 0, step.cpus().into()));
    add("SLURM_JOB_NUM_NODES", number(step.nnodes() != 0, step.nnodes().into()));
    add("SLURM_JOB_GRES", step.gres(imports));
    Ok(Job {
        id: id.job_id,
        sluid: id.sluid,
        sluid_text,
        uid: step.uid(),
        gid: step.gid(),
        user,
        node: daemon.node.clone(),
        environment,
        boot: daemon.boot,
    })
}

fn script_environment(daemon: &Daemons, job: u32) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("SLURM_JOB_ID", job.to_string().into_bytes()),
        ("SLURM_CONF", daemon.slurm_conf.clone().into_bytes()),
        ("SLURMD_NODENAME", daemon.node.clone().into_bytes()),
    ]
}

/// The extern slurmstepd ends: deletes what it has made. It may not have made anything, and then the
/// job's directory, if there is one, is another instance's.
pub fn stepd_delete() -> Result<(), Failure> {
    let imports = loaded()?;
    let Some(settings) = settings()? else { return Ok(()) };
    DELETED.store(true, Ordering::Release);
    drop(SetUp);
    let Some(created) = CREATED.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
    let host = SlurmHost { imports };
    let daemon = daemon(imports)?;
    let Created { record, pins } = created;
    let mut environment = script_environment(daemon, record.job);
    environment.push(("SLURM_JOB_UID", record.uid.to_string().into_bytes()));
    environment.push(("SLURM_JOB_GID", record.gid.to_string().into_bytes()));
    environment.push(("SLURM_JOB_USER", record.user.clone().into_bytes()));
    let removal = delete::Removal::at_end_of_job(settings);
    if delete::delete(&host, &record, settings.clone_ns_epilog.as_ref(), &environment, Some(pins), removal) {
        Ok(())
    } else {
        Err(format!("job {}: something of it is left; see above", record.job))
    }
}

/// Enters the job's namespaces, in a forked child. It allocates nothing until it fails.
///
/// With `entire_step_in_ns` (always in namespace/linux) slurmd's child enters them before it becomes a
/// slurmstepd (`step_create`), and so all calls in that slurmstepd are for nothing. Without, it is the
/// other way round. The extern slurmstepd is in the node's namespaces in either case.
pub fn join(step: &StepId, step_create: bool) -> Result<(), Failed> {
    let imports = imports().ok_or(Failed)?;
    let entire = match SETTINGS.get() {
        Some(NodeSettings::Enabled(settings)) => settings.entire_step_in_ns,
        _ => true,
    };
    let in_stepd = imports.stepd().is_some();
    if (entire && in_stepd && step.step_id != SLURM_EXTERN_CONT) || (!entire && !in_stepd && step_create) {
        return Ok(());
    }
    // Not a job but a script.
    if step.job_id == 0 {
        return Ok(());
    }
    let today = match SETTINGS.get() {
        Some(NodeSettings::Enabled(settings)) => Some(settings.base_path.as_str()),
        Some(NodeSettings::Disabled(_)) => None,
        None => return Err(Failed),
    };
    let old = OLD_BASES.get().map(Vec::as_slice).unwrap_or_default();
    if today.is_none() && old.is_empty() {
        return Ok(());
    }
    let bases = today.into_iter().chain(old.iter().map(String::as_str));
    // Set by init in slurmd and by create in the extern slurmstepd, from which we were forked.
    let daemon = DAEMON.get().ok_or(Failed)?;
    let mut line = FixedText::<512>::new();
    match join_job(bases, &daemon.node, daemon.boot, step.job_id) {
        // A job that was never given any: the plugin is off on this node.
        Err(JoinError::OpenState(Errno::NOENT)) if today.is_none() => Ok(()),
        Ok(()) => {
            if imports.debug() {
                let _ = write!(line, "NAMESPACE: {PREFIX}job {}: entered its namespaces", step.job_id);
                imports.log(LOG_LEVEL_VERBOSE, line.as_log_text());
            }
            Ok(())
        }
        Err(error) => {
            let _ = write!(line, "{PREFIX}job {}: cannot enter its namespaces: {error}", step.job_id);
            imports.log(LOG_LEVEL_ERROR, line.as_log_text());
            Err(Failed)
        }
    }
}

/// Failed, and said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// The namespaces for pam_slurm_adopt, in the order in which it enters them. All of them or an error.
/// Called by several threads at once.
///
/// A login that comes while the scripts of the job's set-up run waits for them. It was adopted by then:
/// with no namespaces, Slurm would leave it in the node's, and with an error, Slurm before 26.11 frees
/// a list twice, which ends the sshd of that login.
pub fn join_external(step: &StepId) -> Result<&'static [NsFdMap], Failure> {
    let imports = loaded()?;
    let Some(settings) = settings()? else { return Ok(&[]) };
    let stepd = imports.stepd().ok_or("join_external was called outside of slurmstepd")?;
    let own = stepd.step().ok_or("this slurmstepd has no step yet")?.step_id();
    if own.step_id == SLURM_EXTERN_CONT {
        let mut over = SET_UP_IS_OVER.lock().unwrap_or_else(PoisonError::into_inner);
        while !*over {
            over = SET_UP_ENDED.wait(over).unwrap_or_else(PoisonError::into_inner);
        }
    }
    if DELETED.load(Ordering::Acquire) {
        return Err(format!("job {}: its namespaces are being deleted", step.job_id));
    }
    if let Some(entries) = EXTERNAL.get() {
        return Ok(entries);
    }
    if own.step_id == SLURM_EXTERN_CONT {
        return Err(format!("job {}: its namespaces were not set up; see the error above", own.job_id));
    }
    // Any other slurmstepd lives in the job's namespaces itself, or only its tasks do.
    let namespaces = plan::namespaces(settings);
    let pins = if settings.entire_step_in_ns {
        Pins::open("self", namespaces)
    } else {
        record::of_job(&settings.base_path, step.job_id).and_then(|found| found.pins())
    }
    .map_err(|error| error.to_string())?;
    let found = entries(&pins, namespaces);
    if EXTERNAL.set(found).is_ok() {
        // Handed out from now on: they stay open for as long as this process lives.
        for fd in [Some(pins.mount), pins.pid, pins.user, pins.ipc].into_iter().flatten() {
            let _ = fd.into_raw_fd();
        }
    }
    EXTERNAL.get().map(Vec::as_slice).ok_or_else(|| "no namespaces to hand out".to_owned())
}

fn entries(pins: &Pins, namespaces: NamespaceFlags) -> Vec<NsFdMap> {
    use rustix::fd::AsRawFd;
    let kind = |flag: NamespaceFlags| i32::try_from(flag.bits()).unwrap_or(0);
    let entry = |fd: &Option<OwnedFd>, flag| {
        fd.as_ref().filter(|_| namespaces.contains(flag)).map(|fd| NsFdMap { kind: kind(flag), fd: fd.as_raw_fd() })
    };
    // PID first, as Slurm's plugin; the user namespace before those that it owns; mount last.
    [
        entry(&pins.pid, NamespaceFlags::PID),
        entry(&pins.user, NamespaceFlags::USER),
        entry(&pins.ipc, NamespaceFlags::IPC),
        Some(NsFdMap { kind: kind(NamespaceFlags::MOUNT), fd: pins.mount.as_raw_fd() }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// True when this slurmstepd can load BPF programs itself: it is not inside a user namespace.
pub fn can_bpf(step: Step) -> Result<bool, Failure> {
    let Some(settings) = settings()? else { return Ok(true) };
    Ok(step.step_id().step_id == SLURM_EXTERN_CONT || !settings.namespaces.user)
}

/// Gets a BPF token from the extern slurmstepd for one that is inside a user namespace.
pub fn setup_bpf_token(step: Step) -> Result<(), Failure> {
    let imports = loaded()?;
    let Some(settings) = settings()? else { return Ok(()) };
    let stepd = imports.stepd().ok_or("setup_bpf_token was called outside of slurmstepd")?;
    if settings.disable_bpf_token || can_bpf(step)? || stepd.has_bpf_token() {
        return Ok(());
    }
    let daemon = daemon(imports)?;
    let id = StepId { step_id: SLURM_EXTERN_CONT, step_het_comp: NO_VAL, ..step.step_id() };
    let text = |text: &str| CString::new(text).unwrap_or_default();
    stepd
        .fetch_bpf_token(&text(&daemon.spooldir), &text(&daemon.node), &id)
        .map_err(|why| format!("job {}: cannot constrain devices in a user namespace: {why}; hint: BPF tokens need Linux 6.9, or set disable_bpf_token: true (devices are then constrained per job, not per step)", id.job_id))
}

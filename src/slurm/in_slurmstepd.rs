//! The work of the entry points in slurmstepd: receives the settings, makes and deletes the job's namespaces (in the
//! extern slurmstepd), hands them out to logins, gets a BPF token.

#![forbid(unsafe_code)]

use crate::base::error::{Doing, Error};
use crate::base::log::{Level, Log};
use crate::base::trusted_path;
use crate::config::settings::{NodeSettings, Settings};
use crate::config::size::{JobHas, count_of_list};
use crate::config::wire;
use crate::job::make::create::{Created, create};
use crate::job::record::job;
use crate::job::record::live_jobs::has_other_steps;
use crate::job::record::namespaces::Pins;
use crate::job::record::state::Header;
use crate::job::remove::delete;
use crate::job::script::Environment;
use crate::job::{Job, Milliseconds};
use crate::slurm::gres;
use crate::slurm::gres::Gres;
use crate::slurm::host::{SlurmHost, SlurmStepHost};
use crate::slurm::imports::{Imports, NoToken};
use crate::slurm::layout::{NO_VAL, NsFdMap, SLURM_EXTERN_CONT, StepId};
use crate::slurm::logins;
use crate::slurm::plugin::{Daemon, Failure, NODE_NAMESPACES, OLD_BASES, SETTINGS, daemon, entered, loaded, settings};
use crate::slurm::step::Step;
use crate::sys::clone::NamespaceFlags;
use rustix::fd::{BorrowedFd, IntoRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::PidfdFlags;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The job whose namespaces this extern slurmstepd has made, until it deletes them.
static CREATED: Mutex<Option<Created>> = Mutex::new(None);
/// The entries of [`logins::of_job`] that `join_external` hands out. In an extern slurmstepd they are the namespaces
/// that it has made, in any other usually its own.
static EXTERNAL: OnceLock<Vec<NsFdMap>> = OnceLock::new();
/// A warning that nothing ends a login that could not enter all namespaces was logged.
static WARNED: AtomicBool = AtomicBool::new(false);
static DELETED: AtomicBool = AtomicBool::new(false);
/// In an extern slurmstepd: `stepd_create` has ended, or will never run.
static SET_UP_IS_OVER: Mutex<bool> = Mutex::new(false);
static SET_UP_ENDED: Condvar = Condvar::new();

/// How long the end of the extern step waits for the job's other steps to end, and the pause between two checks.
const STEPS_TIMEOUT: Duration = Duration::from_secs(3);
const STEPS_PAUSE: Duration = Duration::from_millis(50);

/// A set-up that fails takes at least this long. A slurmstepd that ends before a certain thread of Slurm has begun never
/// ends: `conmgr_fini` waits for `watch`, which has returned and has not said so (src/conmgr/watch.c of Slurm 26.05). On
/// a busy node one of ten that failed at once stayed, and the job with it.
const SHORTEST_FAILURE: Duration = Duration::from_millis(500);

/// Receives the settings from slurmd. The bytes are not trusted.
pub fn recv_stepd(fd: BorrowedFd<'_>) -> Result<(), Failure> {
    let failed = |error: Error| error.to_string();
    let intention = "receive the settings from slurmd";
    let refuse = |why: String| failed(Error::because(intention, why));
    let broken = |end| match end {
        End::Early => failed(
            Error::because(intention, "slurmd closed the pipe before it had sent all of them")
                .with_hint("see slurmd's log; if the plugin's file was replaced, restart slurmd"),
        ),
        End::Error(errno) => failed(Error::call(intention, "read", errno)),
    };
    let mut frame = [0_u8; wire::FRAME_LEN];
    read_exactly(fd, &mut frame).map_err(broken)?;
    let mut message = vec![0_u8; wire::announced(frame).map_err(refuse)?];
    read_exactly(fd, &mut message).map_err(broken)?;
    let wire::Message { settings, node, former_bases, slurm_user } = wire::decode(&message).map_err(refuse)?;
    if matches!(&settings, NodeSettings::Enabled(settings) if !settings.entire_step_in_ns) {
        // `join` will be called in children of this process.
        daemon(loaded()?)?;
    }
    trusted_path::trust_slurm_user(slurm_user);
    let _ = NODE_NAMESPACES.set(node);
    let _ = OLD_BASES.set(former_bases);
    let _ = SETTINGS.set(settings);
    Ok(())
}

/// Why not all bytes could be read.
enum End {
    Early,
    Error(Errno),
}

fn read_exactly(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(), End> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::read(fd, rest) {
            Ok(0) => return Err(End::Early),
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(End::Error(errno)),
        }
    }
    Ok(())
}

/// When dropped, also by a panic, the threads that wait for the end of set-up continue.
struct SetUp;

impl Drop for SetUp {
    fn drop(&mut self) {
        *SET_UP_IS_OVER.lock().unwrap_or_else(PoisonError::into_inner) = true;
        SET_UP_ENDED.notify_all();
    }
}

/// Makes the job's namespaces, in the extern slurmstepd.
pub fn stepd_create(step: Step) -> Result<(), Failure> {
    let mut failure = Failing(Some(Instant::now()));
    set_up(step)?;
    failure.0 = None;
    Ok(())
}

/// When dropped, also by a panic, waits until the set-up that began then has taken [`SHORTEST_FAILURE`].
struct Failing(Option<Instant>);

impl Drop for Failing {
    fn drop(&mut self) {
        if let Some(start) = self.0 {
            std::thread::sleep(SHORTEST_FAILURE.saturating_sub(start.elapsed()));
        }
    }
}

fn set_up(step: Step) -> Result<(), Failure> {
    let _ended = SetUp;
    let imports = loaded()?;
    let Some(settings) = settings()? else { return Ok(()) };
    let stepd = imports.stepd.as_ref().ok_or("stepd_create was called outside of slurmstepd")?;
    let host = SlurmStepHost { daemon: SlurmHost { imports }, stepd, step };
    let job = job_of(imports, step, settings)?;
    let start = Instant::now();
    let created = create(&host, settings, &job, delete::Removal::ByProgram(Duration::ZERO))
        .map_err(|error| format!("job {}: {error}", job.header.id))?;
    let (record, ms) = (&created.record, Milliseconds(start.elapsed()));
    // For people and programs: no value contains a blank, times are in milliseconds.
    host.log(
        Level::Info,
        format_args!(
            "job {}: created: namespaces={} directories={} base_path={} uid={} holder={} ms={ms}",
            job.header.id,
            crate::job::record::namespaces::describe(record.namespaces, ","),
            listed(settings.dirs.iter().map(|dir| dir.path.as_str())),
            listed(std::iter::once(settings.base_path.as_str())),
            record.header.uid,
            record.holder.map_or(0, |holder| holder.pid.as_raw_nonzero().get()),
        ),
    );
    *CREATED.lock().unwrap_or_else(PoisonError::into_inner) = Some(created);
    Ok(())
}

/// Paths as one word of a line.
fn listed<'a>(paths: impl Iterator<Item = &'a str>) -> String {
    paths.map(|path| path.replace(' ', "\\x20")).collect::<Vec<_>>().join(",")
}

fn job_of(imports: &Imports, step: Step, settings: &Settings) -> Result<Job, Failure> {
    let daemon = daemon(imports)?;
    let id = step.step_id();
    let user = String::from_utf8(step.user_name().unwrap_or_default()).unwrap_or_default();
    if user.chars().any(char::is_control) {
        return Err(format!("job {}: the name of its user contains control characters", id.job_id));
    }
    let sluid_text = if id.sluid == 0 { String::new() } else { imports.sluid_text(id.sluid) };
    // The variables, and the conditions for each, are those of Slurm's plugin.
    let slurm_conf = Some(daemon.slurm_conf.as_str());
    let mut environment = Environment::of_job(id.job_id, step.uid(), step.gid(), &user, &daemon.node, slurm_conf);
    let number = |value: u64| Some(value).filter(|value| *value != 0).map(|value| value.to_string().into_bytes());
    let gres = gres::of_step(step, imports);
    let het = Some(step.het_job_id()).filter(|het| *het != NO_VAL).unwrap_or(0);
    for (name, value) in [
        ("SLURM_HET_JOB_ID", number(het.into())),
        ("SLURM_JOB_SLUID", Some(sluid_text.clone().into_bytes()).filter(|text| !text.is_empty())),
        ("SLURM_NODE_ALIASES", step.alias_list()),
        ("SLURM_JOB_WORK_DIR", step.cwd()),
        ("SLURM_JOB_MEM", number(step.job_mem())),
        ("SLURM_JOB_CPUS", number(step.cpus().into())),
        ("SLURM_JOB_NUM_NODES", number(step.nnodes().into())),
        ("SLURM_JOB_GRES", gres::text(&gres)),
    ] {
        if let Some(value) = value {
            environment = environment.with(name, value);
        }
    }
    Ok(Job {
        header: Header {
            id: id.job_id,
            sluid: id.sluid,
            uid: step.uid(),
            gid: step.gid(),
            user,
            node: daemon.node.clone(),
        },
        sluid_text,
        environment,
        has: if settings.dirs.iter().any(|dir| dir.size.is_some()) { has(step, gres) } else { JobHas::default() },
        slurm_conf: Some(daemon.slurm_conf.clone()),
        boot: daemon.boot,
    })
}

/// What the job has on this node.
fn has(step: Step, gres: Vec<Gres>) -> JobHas {
    let megabytes = Some(step.job_mem()).filter(|memory| *memory != 0);
    let gres = gres.into_iter().filter_map(|gres| Some((String::from_utf8(gres.name).ok()?, gres.here?)));
    JobHas {
        // What Slurm has no limit for has none, or one of its values for none, which are too large for bytes.
        memory: megabytes.and_then(|memory| memory.checked_mul(1 << 20)),
        cores: step.cores().and_then(|cores| count_of_list(&cores)),
        gres: gres.collect(),
    }
}

/// Deletes what this extern slurmstepd has made, at its end. If it has made nothing, a directory of the job
/// belongs to another instance.
pub fn stepd_delete() -> Result<(), Failure> {
    let imports = loaded()?;
    let Some(settings) = settings()? else { return Ok(()) };
    DELETED.store(true, Ordering::Release);
    drop(SetUp);
    let Some(created) = CREATED.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
    let host = SlurmHost { imports };
    let daemon = daemon(imports)?;
    let Created { record, pins } = created;
    // A thread that still answers a login may send the numbers that it was given.
    let pins = pins
        .with_other_numbers()
        .inspect_err(|error| host.log(Level::Error, format_args!("job {}: {error}", record.header.id)))
        .ok();
    // Without a PID namespace, other steps may still run, for example if the user has killed only the extern step.
    if !record.namespaces.contains(NamespaceFlags::PROCESS_ID) && other_steps_run(&host, daemon, record.header.id) {
        host.log(
            Level::Warning,
            format_args!(
                "job {}: its other steps still run; its directories stay until they have ended",
                record.header.id
            ),
        );
        delete::notify(&record);
        return Ok(());
    }
    let removal = delete::Removal::at_end_of_job(settings);
    let epilog = delete::Epilog::new(settings, Some(&daemon.slurm_conf));
    if delete::delete(&host, &record, epilog, pins, removal).is_gone() {
        Ok(())
    } else {
        Err(format!("job {}: not all of it was removed; see above", record.header.id))
    }
}

/// Do other slurmstepds of the job still answer after a moment? Those that end with the job may take a moment.
fn other_steps_run(host: &SlurmHost, daemon: &Daemon, job: u32) -> bool {
    let begin = Instant::now();
    loop {
        match has_other_steps(&daemon.spooldir, &daemon.node, job, SLURM_EXTERN_CONT) {
            Ok(false) => return false,
            Ok(true) if begin.elapsed() < STEPS_TIMEOUT => std::thread::sleep(STEPS_PAUSE),
            Ok(true) => return true,
            Err(error) => {
                host.log(Level::Error, format_args!("job {job}: {error}"));
                return true;
            }
        }
    }
}

/// The namespaces for pam_slurm_adopt, in the order in which it enters them. A login that cannot enter the job gets
/// a list that ends it. After an error it would continue in the node's namespaces. Several threads may call this at
/// once.
pub fn join_external(step: &StepId) -> Result<&'static [NsFdMap], Failure> {
    let imports = loaded()?;
    let stepd = imports.stepd.as_ref().ok_or("join_external was called outside of slurmstepd")?;
    let own = stepd.step().ok_or("this slurmstepd has no step yet")?.step_id();
    let host = SlurmHost { imports };
    match external(step, own) {
        Ok([]) => Ok(&[]),
        Ok(entries) => Ok(logins::with_dead_end(entries).unwrap_or_else(|error| {
            if !WARNED.swap(true, Ordering::Relaxed) {
                host.log(
                    Level::Warning,
                    format_args!(
                        "job {}: {error}; a login that cannot enter all of the job's namespaces continues without them",
                        own.job_id
                    ),
                );
            }
            entries
        })),
        Err(why) => {
            let list = logins::dead_end().map_err(|error| format!("{why}; {error}"))?;
            host.log(Level::Error, format_args!("{why}; {}", logins::ENDS));
            Ok(list)
        }
    }
}

/// The entries for all namespaces of the job, none if the plugin is disabled, or an error.
///
/// A login waits for the end of the job's set-up. Slurm has already adopted its process then.
fn external(step: &StepId, own: StepId) -> Result<&'static [NsFdMap], Failure> {
    let is_extern = own.step_id == SLURM_EXTERN_CONT;
    let settings = settings()?;
    if is_extern && settings.is_none() {
        return Ok(&[]);
    }
    if is_extern {
        let mut over = SET_UP_IS_OVER.lock().unwrap_or_else(PoisonError::into_inner);
        while !*over {
            over = SET_UP_ENDED.wait(over).unwrap_or_else(PoisonError::into_inner);
        }
    }
    // Only one thread fills EXTERNAL. The lock also prevents a deletion meanwhile.
    let created = CREATED.lock().unwrap_or_else(PoisonError::into_inner);
    if DELETED.load(Ordering::Acquire) {
        return Err(format!("job {}: its namespaces are being deleted", step.job_id));
    }
    if let Some(entries) = EXTERNAL.get() {
        return Ok(entries);
    }
    let of_job = |pins: &Pins, namespaces, process: &dyn Fn() -> Result<OwnedFd, Error>| {
        logins::of_job(pins, namespaces, process).map_err(|error| format!("job {}: {error}", own.job_id))
    };
    if is_extern {
        let Created { record, pins } = created
            .as_ref()
            .ok_or_else(|| format!("job {}: its namespaces were not set up; see the error above", own.job_id))?;
        let found = of_job(pins, record.namespaces, &|| holder_of(record))?;
        return Ok(EXTERNAL.get_or_init(|| found));
    }
    // Any other slurmstepd is in the job's namespaces itself, or only its tasks are. This depends on the settings when
    // the job started, which may have changed.
    let entered = entered()?;
    let (pins, found) = if entered.contains(NamespaceFlags::MOUNT) {
        let pins = Pins::open("self", entered).map_err(|error| error.to_string())?;
        let found = of_job(&pins, entered, &|| {
            let intention = || "open this slurmstepd, which is in the job's user namespace".to_owned();
            rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).doing("pidfd_open", intention)
        })?;
        (pins, found)
    } else {
        let bases =
            settings.map(|settings| &settings.base_path).into_iter().chain(OLD_BASES.get().into_iter().flatten());
        let Some(job) = record_of(bases, step.job_id)? else {
            return match settings {
                None => Ok(&[]),
                Some(_) => Err(format!("job {}: it has no namespaces on this node", step.job_id)),
            };
        };
        let pins = job.pins().map_err(|error| error.to_string())?;
        let found = of_job(&pins, job.record.namespaces, &|| holder_of(&job.record))?;
        (pins, found)
    };
    // They are handed out from now on, so they stay open for as long as this process lives.
    for fd in [Some(pins.mount), pins.pid, pins.user, pins.ipc].into_iter().flatten() {
        let _ = fd.into_raw_fd();
    }
    Ok(EXTERNAL.get_or_init(|| found))
}

/// A pidfd of the process that holds the job's namespaces.
fn holder_of(record: &job::Record) -> Result<OwnedFd, Error> {
    let intention = || "open the process that holds the job's user namespace".to_owned();
    record.holder.ok_or(Errno::SRCH).and_then(|holder| holder.open()).doing("pidfd_open", intention)
}

/// The record of a job under one of `bases`.
fn record_of<'b>(bases: impl Iterator<Item = &'b String>, job: u32) -> Result<Option<job::Found>, Failure> {
    for base in bases {
        match job::of_job(base, job) {
            Err(error) if error.errno() == Some(Errno::NOENT) => {}
            result => return result.map(Some).map_err(|error| error.to_string()),
        }
    }
    Ok(None)
}

/// Can this slurmstepd load BPF programs itself? It can if it is not in a user namespace.
pub fn can_bpf(step: Step) -> Result<bool, Failure> {
    Ok(step.step_id().step_id == SLURM_EXTERN_CONT || !entered()?.contains(NamespaceFlags::USER))
}

/// Gets a BPF token from the extern slurmstepd, for a slurmstepd in a user namespace.
pub fn setup_bpf_token(step: Step) -> Result<(), Failure> {
    let imports = loaded()?;
    let stepd = imports.stepd.as_ref().ok_or("setup_bpf_token was called outside of slurmstepd")?;
    if settings()?.is_some_and(|settings| settings.disable_bpf_token) || can_bpf(step)? || stepd.has_bpf_token() {
        return Ok(());
    }
    let daemon = daemon(imports)?;
    let id = StepId { step_id: SLURM_EXTERN_CONT, step_het_comp: NO_VAL, ..step.step_id() };
    let text = |text: &str| CString::new(text).unwrap_or_default();
    stepd.fetch_bpf_token(imports, &text(&daemon.spooldir), &text(&daemon.node), &id).map_err(|why| {
        let hint = match why {
            NoToken::NotConnected => "the job's extern step has ended: submit the job again",
            NoToken::NotBuiltIn => {
                "build Slurm with the headers of Linux 6.9 or newer (HAVE_BPF_TOKENS), or set disable_bpf_token: true (devices are then constrained for each job, not for each step)"
            }
            NoToken::None => {
                "BPF tokens need Linux 6.9, and SELinux must allow slurmd bpf { map_create_as prog_load_as }; or set disable_bpf_token: true (devices are then constrained for each job, not for each step)"
            }
        };
        format!("job {}: cannot constrain devices in a user namespace: {}; hint: {hint}", id.job_id, why.words())
    })
}

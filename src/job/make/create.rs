//! Makes the namespaces of a job, from the parent's side.
//!
//! Runs in the extern slurmstepd, which is root in the host's namespaces and has several threads. If
//! possible, what can fail is done before the clone. Every mount is made detached, and nothing is ever
//! mounted on the host. The journal announces everything before it is made.

use crate::base::base_dir::{make_private_dir, open_base};
use crate::base::errno_hints;
use crate::base::error::{Doing, Error, TryingTo};
use crate::base::io::write_all;
use crate::base::log::{Level, Log};
use crate::base::trusted_path::{BENEATH, c_path, open_beneath};
use crate::config::settings::{Script, Settings};
use crate::job::make::child;
use crate::job::make::child::{ChildPlan, Target};
use crate::job::make::job_dir::{JobDir, planned};
use crate::job::make::ns_limits::{JobLimits, Lowered, NodeLimits};
use crate::job::make::plan::{Plan, Source};
use crate::job::make::proc_keep::Kept;
use crate::job::make::told::PlanOf;
use crate::job::make::{handshake, holder, id_maps, private_dirs, proc_keep};
use crate::job::record::mark::Mark;
use crate::job::record::namespaces::Pins;
use crate::job::record::process::Identity;
use crate::job::record::state::{Header, Line, MAX_SIZE};
use crate::job::remove::delete;
use crate::job::remove::delete::{Epilog, Record};
use crate::job::remove::earlier_instance;
use crate::job::remove::lost;
use crate::job::remove::mounts;
use crate::job::script::Environment;
use crate::job::{Job, inside, script};
use crate::sys::clone::{NamespaceFlags, SharingChild, SignalsBlocked, spawn_sharing_memory};
use crate::sys::exec::{CStringArray, Inherited};
use crate::sys::process::{reap, wait_ended};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::fmt::Write as _;

/// Something to be done in the job's mount namespace.
pub type InsideWork<'a> = Box<dyn FnOnce() -> Result<(), Error> + Send + 'a>;

/// The program that makes a job's namespaces.
pub trait StepHost: Log {
    /// The name of the holder process. `top` shows at most 15 bytes.
    fn holder_name(&self) -> &str;

    /// Is `$SLURM_JOB_MOUNTPOINT_SRC` made before init_script runs? In namespace/tmpfs it is made after the script,
    /// which may make it itself.
    fn makes_source_first(&self) -> bool {
        true
    }

    /// Lets the host track the holder with the job's processes. If this fails, the job fails.
    fn track(&self, _holder: Pid) -> Result<(), Error> {
        Ok(())
    }

    /// The work to do before clone_ns_script, on a thread that has entered the job's mount namespace. If it fails, the
    /// job fails.
    fn work_inside(&self) -> Option<InsideWork<'_>> {
        None
    }
}

/// A job whose namespaces exist.
#[derive(Debug)]
pub struct Created {
    pub record: Record,
    pub pins: Pins,
}

/// Makes directories and namespaces for `job`, and returns the descriptors that keep them alive. After a
/// failure everything that was made is undone.
///
/// `removal` says who removes what a failure or an earlier instance of the job leaves behind.
pub fn create(host: &dyn StepHost, settings: &Settings, job: &Job, removal: delete::Removal) -> Result<Created, Error> {
    let limits = NodeLimits::read(settings).map_err(errno_hints::of_call)?;
    let plan = Plan::new(settings, job, limits.as_ref())?;
    host.log(Level::Debug, format_args!("job {}: {}", job.header.id, PlanOf(job.header.id, &plan)));
    let mut making = Making::begin(host, settings, job, &plan, removal).map_err(errno_hints::of_call)?;
    match making.everything() {
        Ok(pins) => {
            let record = making.record();
            host.log(Level::Debug, format_args!("job {}: {record}", job.header.id));
            Ok(Created { record, pins })
        }
        Err(error) => {
            making.undo();
            Err(errno_hints::of_call(error))
        }
    }
}

/// The things that exist so far.
struct Making<'a> {
    host: &'a dyn StepHost,
    settings: &'a Settings,
    job: &'a Job,
    plan: &'a Plan,
    /// The directory in `base_path`, which contains the state file.
    main: JobDir,
    /// The directories in other bases.
    others: Vec<JobDir>,
    journal: Journal,
    child: Option<SharingChild<ChildPlan>>,
    holder: Option<Identity>,
    /// A script that could have changed something outside has been started.
    script_started: bool,
    removal: delete::Removal,
}

struct Journal {
    file: OwnedFd,
    written: usize,
}

impl Journal {
    fn write(&mut self, lines: &[Line<'_>]) -> Result<(), Error> {
        let intention = || "write the job's state file".to_owned();
        let mut text = String::new();
        for line in lines {
            let _ = write!(text, "{line}");
        }
        self.written = self.written.saturating_add(text.len());
        if self.written >= MAX_SIZE {
            return Err(Error::because(intention(), "the base_paths of dir_confs are too many or too long"));
        }
        write_all(self.file.as_fd(), text.as_bytes()).doing("write", intention)
    }
}

/// Sends the byte that the child waits for.
fn tell(channel: &OwnedFd, what: &str) -> Result<(), Error> {
    rustix::io::retry_on_intr(|| rustix::net::send(channel, b"m", rustix::net::SendFlags::NOSIGNAL))
        .doing("send", || format!("tell the job's namespace process {what}"))?;
    Ok(())
}

impl<'a> Making<'a> {
    /// Makes the job's directory and starts its journal. From here on [`Making::undo`] cleans up.
    ///
    /// The directory gets its name only when it contains the journal, so a job's directory that is found
    /// after a crash always has one.
    fn begin(
        host: &'a dyn StepHost,
        settings: &'a Settings,
        job: &'a Job,
        plan: &'a Plan,
        removal: delete::Removal,
    ) -> Result<Self, Error> {
        let path = format!("{}/{}", settings.base_path, job.header.id);
        let (main, journal) = JobDir::make((settings, job, plan), &settings.base_path, |main, publish| {
            let ns = make_private_dir(main.fd.as_fd(), c".ns").trying_to(|| format!("make {path}/.ns"))?;
            let file = rustix::fs::openat(
                &ns,
                c"state",
                OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o600),
            )
            .doing("openat", || format!("make {path}/.ns/state"))?;
            let me = rustix::process::getpid();
            let stepd = rustix::process::pidfd_open(me, PidfdFlags::empty())
                .and_then(|pidfd| Identity::of(me, pidfd.as_fd()))
                .doing("pidfd_open", || "identify this process".to_owned())?;
            let mut journal = Journal { file, written: 0 };
            let header =
                Line::Job { header: job.header.with_texts(), boot: job.boot, stepd, namespaces: plan.namespaces };
            let others = plan.other_bases.iter().map(|base| planned(base));
            journal.write(&std::iter::once(header).chain(main.lines()).chain(others).collect::<Vec<_>>())?;
            match publish() {
                Err(failed) if failed.errno == Errno::EXIST => {
                    earlier_instance::delete_earlier_instance(host, settings, job, removal)?;
                    publish()
                }
                result => result,
            }
            .trying_to(|| format!("make {path}"))?;
            Ok(journal)
        })?;
        Ok(Self {
            host,
            settings,
            job,
            plan,
            main,
            others: Vec::new(),
            journal,
            child: None,
            holder: None,
            script_started: false,
            removal,
        })
    }

    /// The record of what has been made so far.
    fn record(&self) -> Record {
        Record {
            header: self.job.header.clone(),
            namespaces: self.plan.namespaces,
            holder: self.holder,
            of_this_boot: true,
            trees: std::iter::once(&self.main).chain(&self.others).map(|dir| dir.record.clone()).collect(),
        }
    }

    fn everything(&mut self) -> Result<Pins, Error> {
        self.make_others()?;
        let early = self.host.makes_source_first().then(|| self.make_source(false)).transpose()?;
        if let Some(init_script) = &self.settings.init_script {
            self.run_script("init_script", init_script, self.environment())?;
            self.check_not_covered()?;
        }
        let source = match early {
            None => self.make_source(true)?,
            Some(source) if self.settings.init_script.is_none() => source,
            // The script may have mounted something on it.
            Some(_) => self.open_source()?,
        };
        let kept = proc_keep::keep(&self.plan.proc_keep)?;
        let after_script = self.settings.init_script.is_some();
        let mut attach = private_dirs::make(
            self.plan,
            self.job,
            (&source, self.main.record.project, &self.others),
            after_script,
            self.host,
        )?;
        drop(source);
        self.make_links()?;
        if !self.has_mounting_script() {
            for base in &self.plan.hidden {
                attach.push(Some((inside::cover(base)?, Target::Path(c_path(base)?))));
            }
        }
        let (channel, childs_end) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .doing("socketpair", || "make a channel to the job's namespace process".to_owned())?;
        let holder = holder::program(self.host.holder_name())?;
        let sharing = self.clone_child(&channel, childs_end, (kept, attach), holder)?;
        let sharing = self.child.insert(sharing);
        let child = &sharing.child;
        if self.plan.namespaces.contains(NamespaceFlags::USER) {
            self.script_started |= self.settings.user_ns_script.is_some();
            id_maps::write(self.host, self.settings.user_ns_script.as_ref(), self.job, child)?;
            tell(&channel, "that its id maps are written")?;
        }
        // Meanwhile the child mounts.
        let identity = Identity::of(child.pid, child.pidfd.as_fd())
            .doing("fstat", || "identify the job's namespace process".to_owned())?;
        self.holder = Some(identity);
        self.journal.write(&[Line::Holder(identity)])?;
        // Only now may the child become the holder, which only SIGKILL can end.
        tell(&channel, "that it is recorded")?;
        handshake::wait_until_ready(self.plan, child, &channel)?;
        let pins = Pins::open(&child.pid.as_raw_nonzero().to_string(), self.plan.namespaces)?;
        let pid = child.pid;
        handshake::wait_for_exec(self.plan, sharing, &channel)?;
        self.host.track(pid)?;
        self.finish_inside(&pins, pid)?;
        self.journal.write(&[Line::Pins(pins.numbers()), Line::Ready])?;
        Ok(pins)
    }

    /// The directories in the other bases.
    fn make_others(&mut self) -> Result<(), Error> {
        for base in &self.plan.other_bases {
            let (dir, ()) = JobDir::make((self.settings, self.job, self.plan), base, |dir, publish| {
                self.journal.write(&dir.lines().collect::<Vec<_>>())?;
                let Header { id, node, .. } = &self.job.header;
                let intention = || format!("make {base}/{id}");
                Mark::put(dir.fd.as_fd(), self.job.boot, node).trying_to(intention)?;
                let named = match publish() {
                    Err(failed)
                        if failed.errno == Errno::EXIST
                            && lost::move_away(open_base(base)?.as_fd(), base, &id.to_string(), node)? =>
                    {
                        publish()
                    }
                    result => result,
                };
                let named = named.trying_to(intention);
                if named.is_err() {
                    self.journal.write(&[planned(base)])?;
                }
                named.map_err(|error| match error.errno() {
                    Some(Errno::EXIST) => {
                        error.with_hint("it was not made for this job; inspect it and remove it by hand")
                    }
                    _ => error,
                })
            })?;
            self.others.push(dir);
        }
        Ok(())
    }

    /// Makes `$SLURM_JOB_MOUNTPOINT_SRC`, which belongs to the job's user. `after_script`: a script may have made it,
    /// or mounted something on it.
    fn make_source(&self, after_script: bool) -> Result<OwnedFd, Error> {
        let intention = || format!("make {}", self.mount_point_source());
        let name = c_path(&format!(".{}", self.job.header.id))?;
        match rustix::fs::mkdirat(&self.main.fd, name.as_c_str(), Mode::RWXU) {
            Err(Errno::EXIST) if after_script => {}
            result => result.doing("mkdirat", intention)?,
        }
        let source = self.open_source()?;
        rustix::fs::fchown(&source, Some(Uid::from_raw(self.job.header.uid)), None).doing("fchown", intention)?;
        Ok(source)
    }

    /// Opens `$SLURM_JOB_MOUNTPOINT_SRC`, or what a script has mounted on it.
    fn open_source(&self) -> Result<OwnedFd, Error> {
        let intention = || format!("open {}", self.mount_point_source());
        let name = c_path(&format!(".{}", self.job.header.id))?;
        let resolve = BENEATH.difference(ResolveFlags::NO_XDEV);
        open_beneath(self.main.fd.as_fd(), &name, OFlags::RDONLY | OFlags::DIRECTORY, resolve)
            .doing("openat2", intention)
    }

    /// Fails if a script has mounted something over the job's directory, which would hide the state file from steps.
    fn check_not_covered(&self) -> Result<(), Error> {
        let intention = || format!("open {}", self.mount_point_source());
        let base = open_base(&self.settings.base_path)?;
        open_beneath(base.as_fd(), &c_path(&self.job.header.id.to_string())?, OFlags::PATH | OFlags::DIRECTORY, BENEATH)
            .map(drop)
            .map_err(|errno| {
                let error = Error::call(intention(), "openat2", errno);
                match errno {
                    Errno::XDEV => error.with_hint(
                        "init_script has mounted something over the directory of the job; mount it on $SLURM_JOB_MOUNTPOINT_SRC",
                    ),
                    _ => error,
                }
            })
    }

    /// The documented paths of the private directories, `<base>/<job>/_tmp` and others.
    fn make_links(&self) -> Result<(), Error> {
        for dir in &self.plan.dirs {
            let Source::Directory { base, name } = &dir.source else { continue };
            if *base != self.settings.base_path {
                continue;
            }
            let target = format!(".{}/{name}", self.job.header.id);
            let made = rustix::fs::symlinkat(target.as_str(), &self.main.fd, name.as_str());
            // init_script has made something there itself.
            if made != Err(Errno::EXIST) {
                made.doing("symlinkat", || format!("make {}/{}/{name}", self.settings.base_path, self.job.header.id))?;
            }
        }
        Ok(())
    }

    /// Is there a script that may mount something for the job on this node?
    const fn has_mounting_script(&self) -> bool {
        self.settings.init_script.is_some() || self.settings.clone_ns_script.is_some()
    }

    /// `$SLURM_JOB_MOUNTPOINT_SRC`, as Slurm's plugin spells it.
    fn mount_point_source(&self) -> String {
        format!("{}/{}/.{}", self.settings.base_path, self.job.header.id, self.job.header.id)
    }

    fn run_script(&mut self, key: &str, script: &Script, environment: Environment) -> Result<(), Error> {
        self.script_started = true;
        script::run(self.host, self.job.header.id, key, script, environment)
    }

    /// The environment of scripts that work with the job's directories.
    fn environment(&self) -> Environment {
        self.job.environment.clone().with("SLURM_JOB_MOUNTPOINT_SRC", self.mount_point_source())
    }

    fn clone_child(
        &self,
        channel: &OwnedFd,
        childs_end: OwnedFd,
        (kept, attach): (Vec<Kept>, Vec<Option<(OwnedFd, Target)>>),
        holder: OwnedFd,
    ) -> Result<SharingChild<ChildPlan>, Error> {
        let namespaces = self.plan.namespaces;
        let title = format!("{}: [{}.namespace]", self.host.holder_name(), self.job.header.id);
        let plan = ChildPlan {
            channel: childs_end,
            parents_end: Inherited::new(channel),
            wait_for_maps: namespaces.contains(NamespaceFlags::USER),
            limits: self.plan.limits.as_ref().map_or(Ok(Vec::new()), JobLimits::lay_out)?,
            propagation: self.plan.propagation,
            fresh_proc: self.plan.proc,
            kept: kept
                .into_iter()
                .map(|kept| match kept {
                    Kept::Mount(mount, target) => Some((mount, target)),
                    Kept::WithAnother | Kept::NotMounted | Kept::Missing => None,
                })
                .collect(),
            fresh_mqueue: namespaces.contains(NamespaceFlags::INTER_PROCESS_COMMUNICATION),
            attach,
            holder,
            argv: CStringArray::new(vec![c_path(&title)?]),
            envp: CStringArray::new(Vec::new()),
        };
        let intention =
            || format!("create the job's namespaces ({})", crate::job::record::namespaces::describe(namespaces, ", "));
        let _blocked = SignalsBlocked::new().doing("rt_sigprocmask", intention)?;
        // It sends SIGCHLD, as with Slurm's own plugin: slurmstepd kills and reaps the holder with the step.
        let lowered = self.plan.limits.as_ref().map(Lowered::new).transpose()?;
        let child = spawn_sharing_memory(namespaces, Box::new(plan), child::run);
        drop(lowered);
        child.map_err(|errno| errno_hints::clone_error(intention(), errno))
    }

    /// Does the work in the job's mount namespace, and runs clone_ns_script.
    fn finish_inside(&mut self, pins: &Pins, holder: Pid) -> Result<(), Error> {
        if self.has_mounting_script() {
            let holder = holder.as_raw_nonzero().to_string();
            let bases: Vec<&str> = self.plan.bases().collect();
            mounts::detach_those_of_others(pins.mount.as_fd(), &holder, &bases, self.job.header.id)?;
        }
        if let Some(work) = self.host.work_inside() {
            inside::on_thread_inside(pins.mount.as_fd(), work)?;
        }
        if let Some(script) = &self.settings.clone_ns_script {
            // A descriptor of this process, since the holder's pid could be reused.
            let me = rustix::process::getpid().as_raw_nonzero();
            let ns = format!("/proc/{me}/fd/{}", pins.mount.as_raw_fd());
            self.run_script("clone_ns_script", script, self.environment().with("SLURM_NS", ns))?;
        }
        // Only now, because the script may need these directories. Without a script the child has hidden them.
        if self.has_mounting_script() { inside::hide(pins.mount.as_fd(), &self.plan.hidden) } else { Ok(()) }
    }

    /// Undoes everything that was made, after a failure.
    fn undo(self) {
        let mut pinned = None;
        if let Some(SharingChild { child, .. }) = &self.child {
            pinned = Pins::open(&child.pid.as_raw_nonzero().to_string(), self.plan.namespaces).ok();
            let _ = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
            match wait_ended(child.pidfd.as_fd(), delete::HOLDER_TIMEOUT_MS) {
                Ok(true) => {
                    let _ = reap(child.pidfd.as_fd());
                }
                _ => self.host.log(
                    Level::Error,
                    format_args!(
                        "job {}: the namespace process {} does not end after SIGKILL; what is left is removed later",
                        self.job.header.id,
                        child.pid.as_raw_nonzero()
                    ),
                ),
            }
        }
        let record = self.record();
        // Closing the descriptors releases the locks.
        drop((self.main, self.others));
        let epilog = Epilog::new(self.settings, self.job.slurm_conf.as_deref()).filter(|_| self.script_started);
        delete::delete(self.host, &record, epilog, pinned, self.removal);
    }
}

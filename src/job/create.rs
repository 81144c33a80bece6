//! Makes the namespaces of a job, from the parent's side.
//!
//! Runs in the extern slurmstepd: host namespaces, root, several threads. What can fail is done
//! before the clone where possible, every mount is made detached, and nothing is ever mounted on
//! the host's side. The journal says what is about to exist before it does.

use super::child::{self, ChildPlan, Report, Step};
use super::delete::{self, Record, TreeRecord};
use super::error::{Doing, Error};
use super::identity::{Identity, read_file};
use super::plan::{Plan, PlannedDir, Source, environment};
use super::state::{Line, MAX_SIZE, PinNumbers, Tree};
use super::trusted::{BENEATH, NO_LINKS, c_path, is_trusted_owner, open_beneath};
use super::{Host, Job, Level, inside, script};
use crate::config::{Script, Settings};
use crate::sys::clone::{Child, NamespaceFlags, SharingChild, SignalsBlocked, spawn_sharing_memory};
use crate::sys::exec::{CStringArray, Inherited};
use crate::sys::holder_image;
use crate::sys::mount::set_attributes;
use crate::sys::process::{Ended, reap, timespec, wait_ended};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::{CStr, CString};
use std::fmt::Write as _;

/// How long the child may take for its dozen system calls. A mount can wait for an automounter.
const CHILD_TIMEOUT_MS: u32 = 60_000;

/// Descriptors of the job's namespaces, which keep them alive when the holder has ended. They are
/// close-on-exec, and nothing but nsfs: a directory kept open here could be reached from the job.
#[derive(Debug)]
pub struct Pins {
    pub mount: OwnedFd,
    pub pid: Option<OwnedFd>,
    pub user: Option<OwnedFd>,
    pub ipc: Option<OwnedFd>,
}

impl Pins {
    /// The namespaces of process `pid`, which must be alive and not recycled: our unreaped child,
    /// or ourselves.
    ///
    /// # Errors
    ///
    /// `open(2)`.
    pub fn open(process: &str, namespaces: NamespaceFlags) -> Result<Self, Error> {
        let open = |name: &str| {
            let path = format!("/proc/{process}/ns/{name}");
            rustix::fs::openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .doing("openat", || format!("keep the job's namespace {path}"))
        };
        let optional = |flag, name| namespaces.contains(flag).then(|| open(name)).transpose();
        Ok(Self {
            mount: open("mnt")?,
            pid: optional(NamespaceFlags::PID, "pid")?,
            user: optional(NamespaceFlags::USER, "user")?,
            ipc: optional(NamespaceFlags::IPC, "ipc")?,
        })
    }

    fn numbers(&self) -> PinNumbers {
        let number = |fd: &Option<OwnedFd>| fd.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        PinNumbers {
            mount: self.mount.as_raw_fd(),
            pid: number(&self.pid),
            user: number(&self.user),
            ipc: number(&self.ipc),
        }
    }
}

/// A job whose namespaces exist.
#[derive(Debug)]
pub struct Created {
    pub record: Record,
    pub pins: Pins,
}

/// Makes directories and namespaces for `job` and returns what holds them.
///
/// # Errors
///
/// The first thing that failed. Everything made until then is undone.
pub fn create(host: &dyn Host, settings: &Settings, job: &Job) -> Result<Created, Error> {
    let plan = Plan::new(settings, job)?;
    let mut making = Making::begin(host, settings, job, &plan)?;
    match making.everything() {
        Ok(pins) => Ok(Created { record: making.record, pins }),
        Err(error) => {
            making.undo();
            Err(error)
        }
    }
}

/// What exists so far.
struct Making<'a> {
    host: &'a dyn Host,
    settings: &'a Settings,
    job: &'a Job,
    plan: &'a Plan,
    /// `<base>/<job>` for each base of the plan.
    trees: Vec<OwnedFd>,
    journal: Journal,
    record: Record,
    child: Option<SharingChild<ChildPlan>>,
    /// The first script that could have changed something outside has been started.
    script_started: bool,
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
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let n = rustix::io::retry_on_intr(|| rustix::io::write(&self.file, rest)).doing("write", intention)?;
            rest = rest.get(n..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Opens a base directory that was found trusted when slurmd started, and makes sure that it still
/// is what it was.
pub(super) fn open_base(path: &str) -> Result<OwnedFd, Error> {
    let intention = || format!("open base_path {path}");
    let base =
        open_beneath(CWD, &c_path(path)?, OFlags::RDONLY | OFlags::DIRECTORY, NO_LINKS).doing("openat2", intention)?;
    let stat = rustix::fs::fstat(&base).doing("fstat", intention)?;
    if !is_trusted_owner(stat.st_uid) || stat.st_mode & 0o002 != 0 {
        return Err(Error::because(
            intention(),
            format!(
                "it belongs to uid {} with mode {:04o}; it was root's alone when slurmd started",
                stat.st_uid,
                stat.st_mode & 0o7777
            ),
        ));
    }
    Ok(base)
}

/// Makes `<base>/<name>`, which must not exist, and opens it.
fn make_private_dir(parent: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode))?;
    open_beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH)
}

impl<'a> Making<'a> {
    /// Makes the job's directory and starts its journal: from here on [`Making::undo`] cleans up.
    fn begin(host: &'a dyn Host, settings: &'a Settings, job: &'a Job, plan: &'a Plan) -> Result<Self, Error> {
        let name = c_path(&job.id.to_string())?;
        let path = format!("{}/{}", settings.base_path, job.id);
        let intention = || format!("make {path}");
        let base = open_base(&settings.base_path)?;
        let tree = match make_private_dir(base.as_fd(), &name, 0o700) {
            Err(Errno::EXIST) => {
                delete::dispose_of_stale(host, settings, &base, job)?;
                make_private_dir(base.as_fd(), &name, 0o700)
            }
            result => result,
        }
        .doing("mkdirat", intention)?;
        let begin = || -> Result<(Journal, Record), Error> {
            let ns = make_private_dir(tree.as_fd(), c".ns", 0o700).doing("mkdirat", || format!("make {path}/.ns"))?;
            let file = rustix::fs::openat(
                &ns,
                c"state",
                OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o600),
            )
            .doing("openat", || format!("make {path}/.ns/state"))?;
            let stat = rustix::fs::fstat(&tree).doing("fstat", intention)?;
            let me = rustix::process::getpid();
            let stepd = rustix::process::pidfd_open(me, PidfdFlags::empty())
                .and_then(|pidfd| Identity::of(me, pidfd.as_fd()))
                .doing("pidfd_open", || "identify this process".to_owned())?;
            let mut journal = Journal { file, written: 0 };
            let mut lines = vec![Line::Job {
                job: job.id,
                sluid: job.sluid,
                uid: job.uid,
                gid: job.gid,
                user: &job.user,
                node: &job.node,
                boot: job.boot,
                stepd,
                namespaces: plan.namespaces,
            }];
            let mut trees = Vec::new();
            for (index, base) in plan.bases.iter().enumerate() {
                let (device, inode) = if index == 0 { (stat.st_dev, stat.st_ino) } else { (0, 0) };
                lines.push(Line::Tree(Tree { device, inode, base }));
                trees.push(TreeRecord { base: base.clone(), device, inode });
            }
            journal.write(&lines)?;
            let record = Record {
                job: job.id,
                sluid: job.sluid,
                uid: job.uid,
                gid: job.gid,
                user: job.user.clone(),
                node: job.node.clone(),
                namespaces: plan.namespaces,
                holder: None,
                trees,
            };
            Ok((journal, record))
        };
        match begin() {
            Ok((journal, record)) => Ok(Self {
                host,
                settings,
                job,
                plan,
                trees: vec![tree],
                journal,
                record,
                child: None,
                script_started: false,
            }),
            Err(error) => {
                // Nothing but ours can be in it yet.
                delete::remove_unrecorded(&base, &tree, &name);
                Err(error)
            }
        }
    }

    fn everything(&mut self) -> Result<Pins, Error> {
        self.make_trees()?;
        if let Some(init_script) = &self.settings.init_script {
            self.run_script(
                "init_script",
                init_script,
                &[("SLURM_JOB_MOUNTPOINT_SRC", self.mount_point_source().as_bytes())],
            )?;
        }
        let mut attach = self.make_sources()?;
        if self.settings.clone_ns_script.is_none() {
            for base in &self.plan.hidden {
                attach.push((inside::cover(base)?, c_path(base)?));
            }
        }
        let (channel, childs_end) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .doing("socketpair", || "make a channel to the job's namespace process".to_owned())?;
        let holder = self.holder_program()?;
        self.clone_child(&channel, childs_end, attach, holder)?;
        let sharing = self.child.as_ref().ok_or_else(|| Error::because("make namespaces", "no child"))?;
        let child = &sharing.child;
        if self.plan.namespaces.contains(NamespaceFlags::USER) {
            self.write_id_maps(child)?;
            rustix::io::retry_on_intr(|| rustix::net::send(&channel, b"m", rustix::net::SendFlags::NOSIGNAL))
                .doing("send", || "tell the job's namespace process that its id maps are written".to_owned())?;
        }
        // While the child mounts:
        let identity = Identity::of(child.pid, child.pidfd.as_fd())
            .doing("fstat", || "identify the job's namespace process".to_owned())?;
        self.record.holder = Some(identity);
        self.journal.write(&[Line::Holder(identity)])?;
        self.make_links(child.pid)?;
        self.wait_until_ready(child, &channel)?;
        let pins = Pins::open(&child.pid.as_raw_nonzero().to_string(), self.plan.namespaces)?;
        let pid = child.pid;
        self.wait_for_exec(sharing, &channel)?;
        self.host.track(pid)?;
        self.finish_inside(&pins)?;
        self.journal.write(&[Line::Pins(pins.numbers()), Line::Ready])?;
        Ok(pins)
    }

    /// `<base>/<job>` in the other bases, and the link that keeps C-plugin paths working.
    fn make_trees(&mut self) -> Result<(), Error> {
        let name = c_path(&self.job.id.to_string())?;
        for (index, base) in self.plan.bases.iter().enumerate().skip(1) {
            let intention = || format!("make {base}/{}", self.job.id);
            let tree = make_private_dir(open_base(base)?.as_fd(), &name, 0o700).map_err(|errno| {
                let error = Error::call(intention(), "mkdirat", errno);
                if errno == Errno::EXIST {
                    error.with_hint("it was not made for this job; look at it and remove it by hand")
                } else {
                    error
                }
            })?;
            let stat = rustix::fs::fstat(&tree).doing("fstat", intention)?;
            let (device, inode) = (stat.st_dev, stat.st_ino);
            self.journal.write(&[Line::Tree(Tree { device, inode, base })])?;
            if let Some(record) = self.record.trees.get_mut(index) {
                (record.device, record.inode) = (device, inode);
            }
            self.trees.push(tree);
        }
        let link = c_path(&format!(".{}", self.job.id))?;
        rustix::fs::symlinkat(c".", self.main_tree()?, link.as_c_str())
            .doing("symlinkat", || format!("make {}", self.mount_point_source()))
    }

    fn main_tree(&self) -> Result<BorrowedFd<'_>, Error> {
        self.trees.first().map(AsFd::as_fd).ok_or_else(|| Error::because("make namespaces", "no job directory"))
    }

    /// `$SLURM_JOB_MOUNTPOINT_SRC`, as Slurm's plugin spells it.
    fn mount_point_source(&self) -> String {
        format!("{}/{}/.{}", self.settings.base_path, self.job.id, self.job.id)
    }

    fn run_script(&mut self, key: &str, script: &Script, more: &[(&str, &[u8])]) -> Result<(), Error> {
        self.script_started = true;
        let pairs: Vec<(&str, &[u8])> =
            self.job.environment.iter().map(|(n, v)| (*n, v.as_slice())).chain(more.iter().copied()).collect();
        let output = script::run(key, script, environment(&pairs))?;
        self.host.log(Level::Debug, format_args!("job {}: {key} {} succeeded: {output}", self.job.id, script.path));
        Ok(())
    }

    /// A detached mount for every private directory, with its final flags.
    fn make_sources(&self) -> Result<Vec<(OwnedFd, CString)>, Error> {
        self.plan
            .dirs
            .iter()
            .map(|dir| {
                let mount = match &dir.source {
                    Source::Directory { base, name } => self.clone_directory(dir, *base, name)?,
                    Source::Tmpfs(_) => make_tmpfs(dir)?,
                };
                Ok((mount, c_path(&dir.target)?))
            })
            .collect()
    }

    fn clone_directory(&self, dir: &PlannedDir, base: usize, name: &str) -> Result<OwnedFd, Error> {
        let base_path = self.plan.bases.get(base).map_or("", String::as_str);
        let intention = || format!("make {base_path}/{}/{name} for {}", self.job.id, dir.target);
        let tree = self.trees.get(base).ok_or_else(|| Error::because(intention(), "no job directory"))?;
        let name = c_path(name)?;
        let fd = match make_private_dir(tree.as_fd(), &name, 0o700) {
            // init_script may have made it, or mounted something there: only root can have, the
            // directory around it is ours and 0700.
            Err(Errno::EXIST) if self.settings.init_script.is_some() => open_beneath(
                tree.as_fd(),
                &name,
                OFlags::RDONLY | OFlags::DIRECTORY,
                BENEATH.difference(rustix::fs::ResolveFlags::NO_XDEV),
            ),
            result => result,
        }
        .doing("mkdirat", intention)?;
        rustix::fs::fchown(&fd, Some(Uid::from_raw(self.job.uid)), None).doing("fchown", intention)?;
        if dir.mode != 0o700 {
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(dir.mode)).doing("fchmod", intention)?;
        }
        let mount = rustix::mount::open_tree(
            fd.as_fd(),
            c"",
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH,
        )
        .doing("open_tree", intention)?;
        set_attributes(mount.as_fd(), dir.attributes).doing("mount_setattr", intention)?;
        Ok(mount)
    }

    /// The holder's program in a memfd: nothing on disk that could be exchanged or missing.
    fn holder_program(&self) -> Result<OwnedFd, Error> {
        let intention = || "prepare the program that holds the job's namespaces".to_owned();
        let flags = MemfdFlags::CLOEXEC;
        let memfd = match rustix::fs::memfd_create(c"jobns-holder", flags | MemfdFlags::EXEC) {
            // Before Linux 6.3 every memfd may be executed, and nobody knows the flag.
            Err(Errno::INVAL) => rustix::fs::memfd_create(c"jobns-holder", flags),
            result => result,
        }
        .map_err(|errno| {
            let error = Error::call(intention(), "memfd_create", errno);
            if errno == Errno::ACCESS { error.with_hint("the sysctl vm.memfd_noexec must be 0 or 1") } else { error }
        })?;
        let image = holder_image::image(self.host.holder_name().as_bytes());
        match rustix::io::write(&memfd, &image).doing("write", intention)? {
            n if n == image.len() => Ok(memfd),
            _ => Err(Error::because(intention(), "a short write to a memfd")),
        }
    }

    fn clone_child(
        &mut self,
        channel: &OwnedFd,
        childs_end: OwnedFd,
        attach: Vec<(OwnedFd, CString)>,
        holder: OwnedFd,
    ) -> Result<(), Error> {
        let namespaces = self.plan.namespaces;
        let title = format!("{}: [{}.namespace]", self.host.holder_name(), self.job.id);
        let plan = ChildPlan {
            channel: childs_end,
            parents_end: Inherited::new(channel),
            wait_for_maps: namespaces.contains(NamespaceFlags::USER),
            propagation: self.plan.propagation,
            fresh_proc: namespaces.contains(NamespaceFlags::PID),
            fresh_mqueue: namespaces.contains(NamespaceFlags::IPC),
            attach,
            holder,
            argv: CStringArray::new(vec![c_path(&title)?]),
            envp: CStringArray::new(Vec::new()),
        };
        let intention = || format!("create the job's namespaces ({})", describe(namespaces));
        let _blocked = SignalsBlocked::new().doing("rt_sigprocmask", intention)?;
        // With SIGCHLD, as Slurm's own plugin: slurmstepd kills and reaps the holder with the step.
        let child = spawn_sharing_memory(namespaces, Box::new(plan), child::run);
        self.child = Some(child.map_err(|errno| clone_error(intention(), errno))?);
        Ok(())
    }

    /// With no script, every id that we have is mapped to itself.
    fn write_id_maps(&self, child: &Child) -> Result<(), Error> {
        let pid = child.pid.as_raw_nonzero().to_string();
        if let Some(script) = &self.settings.user_ns_script {
            let pairs: Vec<(&str, &[u8])> = self
                .job
                .environment
                .iter()
                .map(|(n, v)| (*n, v.as_slice()))
                .chain([("SLURM_NS_PID", pid.as_bytes())])
                .collect();
            let output = script::run("user_ns_script", script, environment(&pairs))?;
            self.host.log(
                Level::Debug,
                format_args!("job {}: user_ns_script {} succeeded: {output}", self.job.id, script.path),
            );
            return Ok(());
        }
        for map in ["uid_map", "gid_map"] {
            let path = format!("/proc/{pid}/{map}");
            let intention = || format!("write {path}");
            let ours = identity_map(map)?;
            let file = rustix::fs::openat(CWD, path.as_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .doing("openat", intention)?;
            // The kernel takes a map in one write or not at all (user_namespaces(7)).
            rustix::io::write(&file, ours.as_bytes()).doing("write", intention)?;
        }
        Ok(())
    }

    /// `.ns/mnt` and the like, for scripts and administrators (`nsenter --mount=…`).
    fn make_links(&self, holder: Pid) -> Result<(), Error> {
        let ns = open_beneath(self.main_tree()?, c".ns", OFlags::PATH | OFlags::DIRECTORY, BENEATH)
            .doing("openat2", || "open .ns".to_owned())?;
        for (flag, name) in [
            (NamespaceFlags::MOUNT, "mnt"),
            (NamespaceFlags::PID, "pid"),
            (NamespaceFlags::USER, "user"),
            (NamespaceFlags::IPC, "ipc"),
        ] {
            if self.plan.namespaces.contains(flag) {
                let target = format!("/proc/{}/ns/{name}", holder.as_raw_nonzero());
                rustix::fs::symlinkat(target.as_str(), &ns, name).doing("symlinkat", || format!("make .ns/{name}"))?;
            }
        }
        Ok(())
    }

    /// Waits until the child has mounted everything.
    fn wait_until_ready(&self, child: &Child, channel: &OwnedFd) -> Result<(), Error> {
        let intention = || "wait for the job's namespace process".to_owned();
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(child.pidfd.as_fd(), PollFlags::IN),
            ];
            let polled = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timespec(CHILD_TIMEOUT_MS))));
            if polled.doing("poll", intention)? == 0 {
                return Err(Error::because(
                    "set up the job's namespaces",
                    format!("the namespace process did not answer for {} seconds", CHILD_TIMEOUT_MS / 1000),
                )
                .with_hint("does one of the directories wait for an automounter or a dead server?"));
            }
            let ended = !fds[1].revents().is_empty();
            // Always the channel first: a child that has reported and died must be heard.
            match receive(channel).doing("recv", intention)? {
                Message::Report(Report { step: Step::Ready, .. }) => return Ok(()),
                Message::Report(report) => return Err(self.child_error(report)),
                Message::Garbage => return Err(Error::because(intention(), "it sent what is no report")),
                Message::Nothing if !ended => {}
                Message::Nothing | Message::End => return Err(gone_early(child)),
            }
        }
    }

    /// Waits until the child is the holder, which has nothing of our memory.
    fn wait_for_exec(&self, sharing: &SharingChild<ChildPlan>, channel: &OwnedFd) -> Result<(), Error> {
        if !sharing.wait_for_exec(CHILD_TIMEOUT_MS) {
            return Err(Error::because(
                "set up the job's namespaces",
                "the namespace process does not become the holder",
            ));
        }
        match receive(channel).doing("recv", || "hear from the job's namespace process".to_owned())? {
            Message::Report(report) => Err(self.child_error(report)),
            Message::Nothing | Message::End | Message::Garbage => Ok(()),
        }
    }

    /// The child speaks in records; here they become sentences.
    fn child_error(&self, report: Report) -> Error {
        let errno = Errno::from_raw_os_error(report.errno);
        let index = usize::from(report.index);
        let hidden = index.checked_sub(self.plan.dirs.len()).and_then(|index| self.plan.hidden.get(index));
        let dir = self.plan.dirs.get(index).map(|dir| &dir.target).or(hidden).map_or("?", String::as_str);
        match report.step {
            Step::WaitForMaps => Error::call("wait for the id maps", "read", errno),
            Step::Propagation => Error::call("make the job's mounts private", "mount_setattr", errno),
            Step::MakeProc => {
                let error = Error::call("mount a fresh /proc", "fsmount", errno);
                if errno == Errno::PERM {
                    error.with_hint("something is mounted over a part of the host's /proc, which the kernel then will not show anew in a user namespace")
                } else {
                    error
                }
            }
            Step::AttachProc => Error::call("mount a fresh /proc", "move_mount", errno),
            Step::MakeMqueue => Error::call("mount a fresh /dev/mqueue", "fsmount", errno),
            Step::AttachMqueue => Error::call("mount a fresh /dev/mqueue", "move_mount", errno),
            Step::OpenTarget => {
                let error = Error::call(format!("open the private directory {dir} on this node"), "openat2", errno);
                match errno {
                    Errno::NOENT => error.with_hint("it must exist on the node before jobs run"),
                    Errno::LOOP => error.with_hint("name the directory itself, not a symbolic link to it"),
                    _ => error,
                }
            }
            Step::Attach => Error::call(format!("mount the private directory {dir}"), "move_mount", errno),
            Step::Ready => Error::because("set up the job's namespaces", "an unexpected report"),
            Step::DropPrivileges => Error::call("take the privileges from the namespace process", "prctl", errno),
            Step::Exec => Error::call("start the program that holds the namespaces", "execveat", errno),
        }
    }

    /// What runs in the job's mount namespace, and the script that runs beside it.
    fn finish_inside(&mut self, pins: &Pins) -> Result<(), Error> {
        inside::set_up_inside(self.host, pins.mount.as_fd())?;
        let Some(script) = &self.settings.clone_ns_script else { return Ok(()) };
        let ns = format!("{}/{}/.ns/mnt", self.settings.base_path, self.job.id);
        let source = self.mount_point_source();
        self.run_script(
            "clone_ns_script",
            script,
            &[("SLURM_JOB_MOUNTPOINT_SRC", source.as_bytes()), ("SLURM_NS", ns.as_bytes())],
        )?;
        // Only now: the script may have had business there. With no script the child has done it.
        inside::hide(pins.mount.as_fd(), &self.plan.hidden)
    }

    /// Takes back all that was made, after a failure.
    fn undo(&mut self) {
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
                        "job {}: the namespace process {} does not end after SIGKILL; the next start of slurmd cleans up",
                        self.job.id,
                        child.pid.as_raw_nonzero()
                    ),
                ),
            }
        }
        self.trees.clear();
        let epilog = if self.script_started { self.settings.clone_ns_epilog.as_ref() } else { None };
        let pairs = self.job.environment.clone();
        delete::delete(self.host, &self.record, epilog, &pairs, pinned, delete::Removal::Now);
    }
}

/// What the child's end of the channel holds now.
enum Message {
    Report(Report),
    Garbage,
    Nothing,
    /// The child has closed it: by exec, or by its end.
    End,
}

fn receive(channel: &OwnedFd) -> Result<Message, Errno> {
    let mut bytes = [0_u8; Report::SIZE];
    let received =
        rustix::io::retry_on_intr(|| rustix::net::recv(channel, &mut bytes[..], rustix::net::RecvFlags::DONTWAIT));
    match received {
        Err(Errno::AGAIN) => Ok(Message::Nothing),
        Err(errno) => Err(errno),
        Ok((0, _)) => Ok(Message::End),
        Ok((Report::SIZE, _)) => Ok(Report::from_bytes(bytes).map_or(Message::Garbage, Message::Report)),
        Ok(_) => Ok(Message::Garbage),
    }
}

fn gone_early(child: &Child) -> Error {
    // The channel closes a moment before the pidfd says so.
    let _ = wait_ended(child.pidfd.as_fd(), 1000);
    let how = match reap(child.pidfd.as_fd()) {
        Ok(Ended::Killed(signal)) => format!("it was killed by signal {signal}"),
        Ok(Ended::Exited(status)) => format!("it ended with status {status}"),
        Err(_) => "it ended".to_owned(),
    };
    Error::because("set up the job's namespaces", format!("the namespace process was gone before it was ready: {how}"))
}

/// A fresh tmpfs with its parameters, detached.
pub(crate) fn make_tmpfs(dir: &PlannedDir) -> Result<OwnedFd, Error> {
    let intention = || format!("make a tmpfs for {}", dir.target);
    let fs = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).doing("fsopen", intention)?;
    let set = |key: &str, value: Option<&str>| {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(fs.as_fd(), key, value),
            None => rustix::mount::fsconfig_set_flag(fs.as_fd(), key),
        }
        .doing("fsconfig", || format!("set {key}={} for the tmpfs on {}", value.unwrap_or_default(), dir.target))
    };
    set("source", Some("tmpfs"))?;
    let mut has_mode = false;
    if let Source::Tmpfs(params) = &dir.source {
        for param in params {
            has_mode |= param.key == "mode";
            set(&param.key, param.value.as_deref())?;
        }
    }
    if !has_mode {
        set("mode", Some(&format!("{:o}", dir.mode)))?;
    }
    rustix::mount::fsconfig_create(fs.as_fd()).doing("fsconfig(CREATE)", intention)?;
    let mount = rustix::mount::fsmount(
        fs.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(dir.attributes.bits()),
    )
    .doing("fsmount", intention)?;
    Ok(mount)
}

/// Our own map with every id mapped to itself: `0 0 4294967295` outside of any user namespace, as
/// Slurm's plugin writes it.
fn identity_map(map: &str) -> Result<String, Error> {
    let path = CString::new(format!("/proc/self/{map}")).unwrap_or_default();
    let mut buffer = [0_u8; 16 * 1024];
    let text = read_file(&path, &mut buffer).doing("read", || format!("read /proc/self/{map}"))?;
    let text = String::from_utf8_lossy(text);
    let mut out = String::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [inside, _, count] = fields.as_slice() {
            let _ = writeln!(out, "{inside} {inside} {count}");
        }
    }
    Ok(out)
}

/// The namespaces in words.
#[must_use]
pub fn describe(namespaces: NamespaceFlags) -> String {
    let mut names = vec!["mount"];
    for (flag, name) in [(NamespaceFlags::PID, "PID"), (NamespaceFlags::USER, "user"), (NamespaceFlags::IPC, "IPC")] {
        if namespaces.contains(flag) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// clone3's errnos mislead: ENOSPC has nothing to do with a disk.
pub(crate) fn clone_error(intention: String, errno: Errno) -> Error {
    let error = Error::call(intention, "clone3", errno);
    match errno {
        Errno::NOSPC | Errno::USERS => error.with_hint(
            "a limit on namespaces was reached: user.max_mnt_namespaces, user.max_pid_namespaces, user.max_user_namespaces or user.max_ipc_namespaces (sysctl), or 32 levels of nesting",
        ),
        Errno::PERM => error.with_hint("root with CAP_SYS_ADMIN is needed; or a policy (AppArmor, SELinux, a container) forbids new namespaces"),
        Errno::NOSYS => error.with_hint("the kernel is older than 5.5, or a system call filter hides clone3"),
        _ => error,
    }
}

//! The cloned child, until it becomes the holder.
//!
//! It runs as root in the job's new namespaces (as PID 1 of a new PID namespace), on its own stack in the
//! memory of a threaded slurmstepd, whose threads continue to run. They would see whatever it writes there,
//! and a thread that waits for the child could have a lock that the child needs. So nothing here allocates,
//! locks, logs or panics. The child makes system calls with the values in [`ChildPlan`], writes only to its
//! own stack, tells the parent in one [`Report`] how far it came, and ends only by `execveat` or
//! `exit_group`. No process of the job exists before the exec, so none can read that memory.
//!
//! `tests/no_alloc.rs` runs this with an allocator that ends the process.

#![deny(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use crate::sys::exec::{CStringArray, Inherited, cloexec_from, execveat, exit_group};
use crate::sys::mount::{attach_to, set_propagation_of_root};
use crate::sys::process::drop_privileges_at_exec;
use core::ffi::CStr;
use core::fmt;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags};
use std::ffi::CString;

/// Everything that the child needs. The parent prepares it before the clone and does not touch it until the
/// child has exec'd or ended. The child has copies of the parent's descriptors under the same numbers.
#[derive(Debug)]
pub struct ChildPlan {
    /// The child's end of the socket pair, and the parent's, which the child closes.
    pub channel: OwnedFd,
    pub parents_end: Inherited,
    /// Wait for one byte before the first step: the parent writes the id maps first.
    pub wait_for_maps: bool,
    /// Files in /proc/sys/user, which limit this process's user namespace, and the values to write.
    #[allow(clippy::disallowed_types, reason = "made and freed by the parent")]
    pub limits: Vec<(CString, CString)>,
    pub propagation: MountPropagationFlags,
    /// Mount a fresh /proc: there is a new PID namespace.
    pub fresh_proc: Option<ProcParameters>,
    /// Detached mounts and where they go on the fresh /proc; None for paths without anything to keep.
    #[allow(clippy::disallowed_types, reason = "made and freed by the parent")]
    pub kept: Vec<Option<(OwnedFd, CString)>>,
    /// Mount a fresh /dev/mqueue, if there is one: there is a new IPC namespace.
    pub fresh_mqueue: bool,
    /// Detached mounts and where they go, in this order; None where there is nothing to attach.
    #[allow(clippy::disallowed_types, reason = "made and freed by the parent")]
    pub attach: Vec<Option<(OwnedFd, Target)>>,
    /// The holder's program, and its arguments and (empty) environment.
    pub holder: OwnedFd,
    pub argv: CStringArray,
    pub envp: CStringArray,
}

/// The mount options of a fresh /proc (proc(5)).
#[derive(Clone, Copy, Debug)]
pub struct ProcParameters {
    pub hide_pid: Option<&'static CStr>,
}

impl fmt::Display for ProcParameters {
    /// The words after "a fresh /proc".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hide_pid.map(CStr::to_str) {
            Some(Ok(value)) => write!(f, " with hidepid={value}"),
            _ => Ok(()),
        }
    }
}

/// Where a detached mount goes.
#[derive(Debug)]
#[allow(clippy::disallowed_types, reason = "made and freed by the parent")]
pub enum Target {
    /// A directory that the child opens.
    Path(CString),
    /// A directory in a mount that is attached earlier. The parent opened it while the mount was detached.
    /// The child may not be able to reach it by path, because the mount belongs to the job's user.
    Within(OwnedFd),
}

/// The step that the child reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The parent went away, or failed, before the id maps were written.
    WaitForMaps = 1,
    /// The parent went away, or failed, before it had recorded this process.
    WaitForRecord,
    /// Opening the file of `limits[index]`.
    OpenLimit,
    /// Writing to it.
    SetLimit,
    Propagation,
    /// Making the fresh /proc. The index is that of the call in [`FILE_SYSTEM_CALLS`].
    MakeProc,
    AttachProc,
    /// Opening the target of `kept[index]`.
    OpenKept,
    /// Attaching `kept[index]`.
    AttachKept,
    /// Making the fresh /dev/mqueue. The index is as for `MakeProc`.
    MakeMqueue,
    AttachMqueue,
    /// Opening the target of `attach[index]`.
    OpenTarget,
    /// Attaching `attach[index]`.
    Attach,
    /// Everything is mounted. With errno 0, this is the only report of success.
    Ready,
    ChangeDirectory,
    DropPrivileges,
    CloseOnExec,
    Exec,
}

/// The calls that make a file system, in order.
pub const FILE_SYSTEM_CALLS: [&str; 4] = ["fsopen", "fsconfig", "fsconfig(CREATE)", "fsmount"];

impl Step {
    const ALL: [Self; 18] = [
        Self::WaitForMaps,
        Self::WaitForRecord,
        Self::OpenLimit,
        Self::SetLimit,
        Self::Propagation,
        Self::MakeProc,
        Self::AttachProc,
        Self::OpenKept,
        Self::AttachKept,
        Self::MakeMqueue,
        Self::AttachMqueue,
        Self::OpenTarget,
        Self::Attach,
        Self::Ready,
        Self::ChangeDirectory,
        Self::DropPrivileges,
        Self::CloseOnExec,
        Self::Exec,
    ];
}

/// A message from the child: eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub step: Step,
    /// The index in `attach`, `kept` or `limits`, or of the call for a file system.
    pub index: u16,
    /// 0 if everything is mounted.
    pub errno: i32,
}

impl Report {
    pub const SIZE: usize = 8;

    const fn to_bytes(self) -> [u8; Self::SIZE] {
        let [i0, i1] = self.index.to_ne_bytes();
        let [e0, e1, e2, e3] = self.errno.to_ne_bytes();
        [self.step as u8, 0, i0, i1, e0, e1, e2, e3]
    }

    /// None if the bytes are not a report.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Option<Self> {
        let [step, _, i0, i1, e0, e1, e2, e3] = bytes;
        Some(Self {
            step: Step::ALL.into_iter().find(|s| *s as u8 == step)?,
            index: u16::from_ne_bytes([i0, i1]),
            errno: i32::from_ne_bytes([e0, e1, e2, e3]),
        })
    }
}

struct Failed {
    step: Step,
    index: usize,
    errno: Errno,
}

const fn at(step: Step) -> impl FnOnce(Errno) -> Failed {
    move |errno| Failed { step, index: 0, errno }
}

/// Entry point of the child.
///
/// It is in a new mount namespace, and in new PID, user and IPC namespaces as planned. It has all
/// capabilities in the user namespace that owns them. A new user namespace has no id maps yet.
pub extern "C" fn run(plan: &ChildPlan) -> ! {
    let failed = match set_up(plan) {
        Ok(()) => become_holder(plan),
        Err(failed) => failed,
    };
    // If this fails as well, the parent sees only that the process has ended.
    let _ = send(plan, failed.step, failed.index, failed.errno.raw_os_error());
    exit_group(1)
}

fn set_up(plan: &ChildPlan) -> Result<(), Failed> {
    // If this copy stayed open, the child would not notice that the parent is gone.
    plan.parents_end.close_in_child();
    if plan.wait_for_maps {
        wait_for_parent(plan.channel.as_fd()).map_err(at(Step::WaitForMaps))?;
    }
    let proc = match plan.fresh_proc {
        Some(parameters) => Some(fresh_proc(parameters)?),
        None => None,
    };
    set_limits(&plan.limits, proc.as_ref())?;
    // Before any mount is attached, since none may reach the host.
    set_propagation_of_root(plan.propagation).map_err(at(Step::Propagation))?;
    if let Some(mount) = &proc {
        attach(mount, c"/proc", OFlags::DIRECTORY, Step::AttachProc, Step::AttachProc, 0)?;
    }
    for (index, kept) in plan.kept.iter().enumerate() {
        if let Some((mount, target)) = kept {
            attach(mount, target, OFlags::empty(), Step::OpenKept, Step::AttachKept, index)?;
        }
    }
    if plan.fresh_mqueue {
        attach_mqueue()?;
    }
    for (index, attached) in plan.attach.iter().enumerate() {
        match attached {
            Some((mount, Target::Path(path))) => {
                attach(mount, path, OFlags::DIRECTORY, Step::OpenTarget, Step::Attach, index)?;
            }
            Some((mount, Target::Within(target))) => {
                attach_to(mount.as_fd(), target.as_fd()).map_err(|errno| Failed {
                    step: Step::Attach,
                    index,
                    errno,
                })?;
            }
            None => {}
        }
    }
    Ok(())
}

/// Sets the limits of the user namespace that this process is in. It uses the fresh /proc if there is one: the
/// node's /proc has the names of all those namespaces in one list, which each lookup walks.
#[allow(clippy::disallowed_types, reason = "made and freed by the parent")]
fn set_limits(limits: &[(CString, CString)], proc: Option<&OwnedFd>) -> Result<(), Failed> {
    if limits.is_empty() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::io::retry_on_intr(|| match proc {
        Some(proc) => rustix::fs::openat(proc, c"sys/user", flags, Mode::empty()),
        None => rustix::fs::openat(CWD, c"/proc/sys/user", flags, Mode::empty()),
    })
    .map_err(at(Step::OpenLimit))?;
    for (index, limit) in limits.iter().enumerate() {
        set_limit(&directory, limit).map_err(|failed| Failed { index, ..failed })?;
    }
    Ok(())
}

fn set_limit(directory: &OwnedFd, (name, value): &(CString, CString)) -> Result<(), Failed> {
    let file = rustix::io::retry_on_intr(|| {
        rustix::fs::openat(directory, name.as_c_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
    })
    .map_err(at(Step::OpenLimit))?;
    match rustix::io::retry_on_intr(|| rustix::io::write(&file, value.to_bytes())) {
        Ok(written) if written == value.to_bytes().len() => Ok(()),
        Ok(_) => Err(at(Step::SetLimit)(Errno::IO)),
        Err(errno) => Err(at(Step::SetLimit)(errno)),
    }
}

/// The limits that the child of a trial sets in a new user namespace, as in [`ChildPlan::limits`].
#[derive(Debug)]
#[allow(clippy::disallowed_types, reason = "made and freed by the parent")]
pub struct LimitsTrial(pub Vec<(CString, CString)>);

/// Entry point of that child. Exits with the errno, like [`try_fresh_proc`].
pub extern "C" fn try_limits(LimitsTrial(limits): &LimitsTrial) -> ! {
    if let Err(failed) = set_limits(limits, None) {
        exit_group(failed.errno.raw_os_error());
    }
    exit_group(0)
}

/// The program of a trial, to be executed as the holder is.
#[derive(Debug)]
pub struct HolderTrial {
    /// A close-on-exec pipe: it gets an errno, or nothing if the program has started.
    pub result: OwnedFd,
    pub holder: OwnedFd,
    pub argv: CStringArray,
    pub envp: CStringArray,
}

/// Entry point of the child that tries to become the holder.
pub extern "C" fn try_holder(plan: &HolderTrial) -> ! {
    let failed = exec_holder(&plan.holder, &plan.argv, &plan.envp);
    let errno = failed.errno.raw_os_error().to_ne_bytes();
    let _ = rustix::io::retry_on_intr(|| rustix::io::write(&plan.result, &errno));
    exit_group(1)
}

/// Entry point of the child that tries to make a fresh /proc, in new namespaces that end with it. Exits with
/// the errno, which is less than 256; 0 is success.
pub extern "C" fn try_fresh_proc(parameters: &ProcParameters) -> ! {
    exit_group(fresh_proc(*parameters).map_or_else(|failed| failed.errno.raw_os_error(), |_| 0))
}

/// Waits for one byte from the parent. The error is EPIPE if the parent has ended.
fn wait_for_parent(channel: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut byte = [0_u8; 1];
    match rustix::io::retry_on_intr(|| rustix::io::read(channel, &mut byte[..]))? {
        0 => Err(Errno::PIPE),
        _ => Ok(()),
    }
}

/// A new instance of a file system. It belongs to the namespaces of this process, so the parent cannot make
/// it beforehand.
fn fresh_filesystem(kind: &CStr, parameter: Option<(&CStr, &CStr)>, step: Step) -> Result<OwnedFd, Failed> {
    let call = |index| move |errno| Failed { step, index, errno };
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(call(0))?;
    // Otherwise mountinfo shows the source as "none".
    rustix::mount::fsconfig_set_string(fs.as_fd(), c"source", kind).map_err(call(1))?;
    if let Some((key, value)) = parameter {
        rustix::mount::fsconfig_set_string(fs.as_fd(), key, value).map_err(call(1))?;
    }
    rustix::mount::fsconfig_create(fs.as_fd()).map_err(call(2))?;
    rustix::mount::fsmount(
        fs.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
    .map_err(call(3))
}

fn fresh_proc(parameters: ProcParameters) -> Result<OwnedFd, Failed> {
    fresh_filesystem(c"proc", parameters.hide_pid.map(|value| (c"hidepid", value)), Step::MakeProc)
}

fn attach_mqueue() -> Result<(), Failed> {
    let mount = match fresh_filesystem(c"mqueue", None, Step::MakeMqueue) {
        // The kernel has no POSIX message queues, so there are none to hide.
        Err(Failed { errno: Errno::NODEV, .. }) => return Ok(()),
        result => result?,
    };
    match attach(&mount, c"/dev/mqueue", OFlags::DIRECTORY, Step::OpenTarget, Step::AttachMqueue, 0) {
        Ok(()) | Err(Failed { step: Step::OpenTarget, errno: Errno::NOENT, .. }) => Ok(()),
        Err(failed) => Err(Failed { step: Step::AttachMqueue, ..failed }),
    }
}

/// Attaches a detached mount to a directory of this mount namespace (or to a file, with an empty `kind`),
/// fd to fd. The target is opened here, because one that was opened before the clone belongs to the host's
/// mount namespace. Links are not followed, because a job's user may own a directory above it.
fn attach(
    mount: &OwnedFd,
    target: &CStr,
    kind: OFlags,
    opening: Step,
    attaching: Step,
    index: usize,
) -> Result<(), Failed> {
    let target = rustix::fs::openat2(
        CWD,
        target,
        OFlags::PATH | kind | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(|errno| Failed { step: opening, index, errno })?;
    attach_to(mount.as_fd(), target.as_fd()).map_err(|errno| Failed { step: attaching, index, errno })
}

/// Reports that everything is mounted, and becomes the program of `sys/holder_image.rs`, which has no
/// memory, descriptor, capability or environment of slurmstepd. Returns only on failure.
fn become_holder(plan: &ChildPlan) -> Failed {
    // If the parent were killed before it has recorded this process, nobody would know of it.
    if let Err(errno) = wait_for_parent(plan.channel.as_fd()) {
        return at(Step::WaitForRecord)(errno);
    }
    // After this report the parent opens the namespaces and continues. A second report tells of a failure.
    // Without this one the parent would wait for a minute, and then kill this process.
    if let Err(errno) = send(plan, Step::Ready, 0, 0) {
        return at(Step::Ready)(errno);
    }
    exec_holder(&plan.holder, &plan.argv, &plan.envp)
}

/// Executes the holder's program without privileges and descriptors. Returns only on failure.
fn exec_holder(holder: &OwnedFd, argv: &CStringArray, envp: &CStringArray) -> Failed {
    let prepare = || {
        // The working directory is slurmd's spool directory, which the holder would keep busy.
        rustix::process::chdir(c"/").map_err(at(Step::ChangeDirectory))?;
        drop_privileges_at_exec().map_err(at(Step::DropPrivileges))?;
        // Including the standard descriptors: 0 and 1 of slurmstepd are its pipes to slurmd.
        cloexec_from(0).map_err(at(Step::CloseOnExec))
    };
    match prepare() {
        Ok(()) => {
            let errno = execveat(holder.as_fd(), c"", argv, envp);
            Failed { step: Step::Exec, index: 0, errno }
        }
        Err(failed) => failed,
    }
}

/// Sends a report. SIGPIPE is blocked.
fn send(plan: &ChildPlan, step: Step, index: usize, errno: i32) -> Result<(), Errno> {
    let report = Report { step, index: u16::try_from(index).unwrap_or(u16::MAX), errno };
    rustix::io::retry_on_intr(|| rustix::io::write(&plan.channel, &report.to_bytes())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_survives_the_channel() {
        for step in Step::ALL {
            let report = Report { step, index: 513, errno: 28 };
            assert_eq!(Report::from_bytes(report.to_bytes()), Some(report));
        }
        assert_eq!(Report::from_bytes([0; 8]), None);
        assert_eq!(Report::from_bytes([99; 8]), None);
    }
}

//! The parent's side of the conversation with the namespace child. Turns the child's reports into errors.
//! Every wait has a time limit.

use crate::base::errno_hints;
use crate::base::error::{Doing, Error};
use crate::job::make::child::{ChildPlan, FILE_SYSTEM_CALLS, ProcParameters, Report, Step};
use crate::job::make::ns_limits;
use crate::job::make::plan::Plan;
use crate::sys::clone::{Child, SharingChild};
use crate::sys::process::{Ended, reap, timespec, wait_ended};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// The time limit for the child's system calls, about a dozen. A mount can wait for an automounter.
const CHILD_TIMEOUT_MS: u32 = 60_000;

/// Waits until the child has mounted everything.
pub fn wait_until_ready(plan: &Plan, child: &Child, channel: &OwnedFd) -> Result<(), Error> {
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
        // Read the channel first: a child that has ended may have sent a report.
        match receive(channel).doing("recv", intention)? {
            Message::Report(Report { step: Step::Ready, errno: 0, .. }) => return Ok(()),
            Message::Report(report) => return Err(child_error(plan, report)),
            Message::Garbage => return Err(Error::because(intention(), "it sent something that is not a report")),
            Message::Nothing if !ended => {}
            Message::Nothing => return Err(gone_early(child)),
        }
    }
}

/// Waits until the child is the holder, which shares no memory with this process.
pub fn wait_for_exec(plan: &Plan, sharing: &SharingChild<ChildPlan>, channel: &OwnedFd) -> Result<(), Error> {
    if !sharing.wait_for_exec(CHILD_TIMEOUT_MS) {
        return Err(Error::because("set up the job's namespaces", "the namespace process did not become the holder"));
    }
    match receive(channel).doing("recv", || "hear from the job's namespace process".to_owned())? {
        Message::Report(report) => Err(child_error(plan, report)),
        Message::Garbage => Err(Error::because(
            "set up the job's namespaces",
            "the namespace process sent something that is not a report",
        )),
        Message::Nothing
            if wait_ended(sharing.child.pidfd.as_fd(), 0).doing("poll", || "look at the holder".to_owned())? =>
        {
            Err(gone_early(&sharing.child))
        }
        Message::Nothing => Ok(()),
    }
}

/// The error for a report of the child.
fn child_error(plan: &Plan, report: Report) -> Error {
    let errno = Errno::from_raw_os_error(report.errno);
    let index = usize::from(report.index);
    let dirs = plan.dirs.iter().map(|dir| &dir.target);
    let mut attached = dirs.chain(plan.keep.iter().map(|keep| &keep.kept.path)).chain(&plan.hidden);
    let dir = attached.nth(index).map_or("?", String::as_str);
    // The only limit that the child's calls can reach with this errno.
    let mounting = |intention: String| match (errno, Error::call(intention, "move_mount", errno)) {
        (Errno::NOSPC, error) => error.with_hint(errno_hints::of_mounts()),
        (_, error) => error,
    };
    match report.step {
        Step::WaitForMaps => Error::call("wait for the id maps", "read", errno),
        Step::WaitForRecord => Error::call("wait until the namespace process is recorded", "read", errno),
        Step::OpenLimit => limit_error(plan, index, "openat", errno),
        Step::SetLimit => limit_error(plan, index, "write", errno),
        Step::Propagation => Error::call("make the job's mounts private", "mount_setattr", errno),
        Step::MakeProc => proc_error(plan.proc, file_system_call(index), errno),
        Step::OpenKept | Step::AttachKept => {
            let path = plan.proc_keep.get(index).map_or("?", String::as_str);
            let intention = format!("keep what is mounted over {path} on the job's own /proc");
            match (report.step, errno) {
                (Step::OpenKept, Errno::NOENT) => Error::call(intention, "openat2", errno).with_hint(
                    "the job's /proc has no such file: remove it from proc_keep, or name a directory above it",
                ),
                (Step::OpenKept, _) => Error::call(intention, "openat2", errno),
                _ => mounting(intention),
            }
        }
        Step::AttachProc => mounting("mount a fresh /proc".to_owned()),
        Step::MakeMqueue => {
            errno_hints::of_call(Error::call("mount a fresh /dev/mqueue", file_system_call(index), errno))
        }
        Step::AttachMqueue => mounting("mount a fresh /dev/mqueue".to_owned()),
        Step::OpenTarget => {
            let error = Error::call(format!("open the private directory {dir} on this node"), "openat2", errno);
            match errno {
                Errno::NOENT => error.with_hint("it must exist on the node before jobs run"),
                Errno::LOOP => error.with_hint("name the directory itself, not a symbolic link to it"),
                _ => error,
            }
        }
        Step::Attach if (plan.dirs.len()..plan.dirs.len() + plan.keep.len()).contains(&index) => {
            mounting(format!("keep {dir} in a private directory"))
        }
        Step::Attach => mounting(format!("mount the private directory {dir}")),
        Step::Ready => Error::call("report that the job's namespaces are set up", "write", errno),
        Step::ChangeDirectory => Error::call("change the namespace process's directory to /", "chdir", errno),
        Step::DropPrivileges => Error::call("drop the privileges of the namespace process", "prctl", errno),
        Step::CloseOnExec => Error::call("close the descriptors of the namespace process", "close_range", errno),
        Step::Exec => Error::call("start the program that holds the namespaces", "execveat", errno),
    }
}

fn limit_error(plan: &Plan, index: usize, call: &'static str, errno: Errno) -> Error {
    let limit = plan.limits.as_ref().and_then(|limits| limits.files.get(index));
    let (path, value) = limit.map_or(("?", 0), |(path, value)| (path.as_str(), *value));
    Error::call(format!("limit the job's user namespace: write {value} to {path}"), call, errno)
        .with_hint(ns_limits::WITHOUT)
}

fn file_system_call(index: usize) -> &'static str {
    FILE_SYSTEM_CALLS.get(index).unwrap_or(&"fsmount")
}

/// The error if a PID namespace could not get a fresh /proc.
#[must_use]
pub fn proc_error(parameters: Option<ProcParameters>, call: &'static str, errno: Errno) -> Error {
    let parameters = parameters.map(|parameters| parameters.to_string()).unwrap_or_default();
    let error = Error::call(format!("mount a fresh /proc{parameters}"), call, errno);
    if errno == Errno::PERM { error.with_hint(errno_hints::of_proc()) } else { errno_hints::of_call(error) }
}

/// The content of the channel. It does not tell whether the child has ended: this process's copy of the
/// child's end stays open with the child's plan.
enum Message {
    Report(Report),
    Garbage,
    Nothing,
}

fn receive(channel: &OwnedFd) -> Result<Message, Errno> {
    let mut bytes = [0_u8; Report::SIZE];
    let received =
        rustix::io::retry_on_intr(|| rustix::net::recv(channel, &mut bytes[..], rustix::net::RecvFlags::DONTWAIT));
    match received {
        Err(Errno::AGAIN) => Ok(Message::Nothing),
        Err(errno) => Err(errno),
        Ok((Report::SIZE, _)) => Ok(Report::from_bytes(bytes).map_or(Message::Garbage, Message::Report)),
        Ok(_) => Ok(Message::Garbage),
    }
}

fn gone_early(child: &Child) -> Error {
    let how = match reap(child.pidfd.as_fd()) {
        Ok(Ended::Killed(signal)) => format!("it was killed by signal {signal}"),
        Ok(Ended::Exited(status)) => format!("it ended with status {status}"),
        Err(_) => "it ended".to_owned(),
    };
    Error::because("set up the job's namespaces", format!("the namespace process was gone before it was ready: {how}"))
}

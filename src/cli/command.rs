//! Runs a command in the namespaces of a job. `jobns enter` does this in its own process, `jobns run` in a child.

use crate::base::error::{Doing, Error};
use crate::cli::{OWN_FAILURE, complain, words};
use crate::sys::clone::{NamespaceFlags, set_signal_mask};
use crate::sys::exec::with_signal_mask;
use crate::sys::process::{Ended, reap, setns};
use crate::sys::signals::EndSignals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The command that runs by default.
pub(super) fn shell() -> Vec<OsString> {
    vec![std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into())]
}

/// Moves this process, which has one thread, into the namespaces of `holder`, and runs the command there as a child. The
/// command starts in `directory` if that exists there, otherwise in /. Without `holder`, this process is already there.
///
/// # Errors
///
/// If the namespaces cannot be entered. If the command cannot be run, that is reported, and the status is that of env(1).
pub(super) fn run(
    holder: Option<BorrowedFd<'_>>,
    namespaces: NamespaceFlags,
    command: &[OsString],
    directory: Option<&Path>,
    signals: &EndSignals,
) -> Result<Ended, Error> {
    // Only future children enter the PID namespace (setns(2)).
    if let Some(holder) = holder {
        setns(holder, namespaces).doing("setns", || "enter the namespaces".to_owned())?;
    }
    if let Some(directory) = directory
        && let Err(error) = std::env::set_current_dir(directory)
    {
        warn_of_directory(directory, &error);
    }
    let Some((name, arguments)) = command.split_first() else { return Ok(Ended::Exited(0)) };
    let child = match with_signal_mask(Command::new(name).args(arguments), signals.mask_before).spawn() {
        Ok(child) => child,
        Err(error) => return Ok(Ended::Exited(report_failure(name, &error))),
    };
    // Nobody else reaps this child, so the number is still its own.
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap_or(Pid::INIT);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .doing("pidfd_open", || format!("wait for {}", name.display()))?;
    wait(&pidfd, signals)
}

fn warn_of_directory(directory: &Path, error: &io::Error) {
    let directory = directory.display();
    if matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR)) {
        complain(&format!("jobns: {directory} is not visible in the job; starting in /\n"));
    } else {
        let why = words(error);
        complain(&format!("jobns: {directory} cannot be entered in the job: {why}; starting in /\n"));
    }
}

/// Reports why the command cannot be run. Returns the exit status.
fn report_failure(name: &OsStr, error: &io::Error) -> i32 {
    let name = name.display().to_string();
    if matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR)) {
        let private = if name.starts_with("/tmp/") { " (the job has its own /tmp)" } else { "" };
        complain(&format!("jobns: {name}: command not found{private}\n"));
        return 127;
    }
    complain(&format!("jobns: cannot run {name}: execve: {}\n", words(error)));
    126
}

/// Waits for a child, and passes on to it the signals that ask this process to end.
pub(super) fn wait(child: &OwnedFd, signals: &EndSignals) -> Result<Ended, Error> {
    let intention = || "wait for the command".to_owned();
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(child.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut fds, None)).doing("poll", intention)?;
        let ended = !fds[0].revents().is_empty();
        while let Some(signal) = signals.next_sent().doing("read", intention)? {
            if let Some(signal) = Signal::from_named_raw(signal) {
                let _ = rustix::process::pidfd_send_signal(child, signal);
            }
        }
        if ended {
            return reap(child.as_fd()).doing("waitid", intention);
        }
    }
}

/// The exit status of the command. If a signal ended the command, this process ends by the same signal here, so that its
/// parent sees it.
pub(super) fn end_as(ended: Ended) -> u8 {
    let status = match ended {
        Ended::Exited(status) => status,
        Ended::Killed(signal) => {
            // The core dump, if any, is that of the command.
            let _ = crate::sys::process::forbid_dump();
            let _ = set_signal_mask(0);
            if let Some(signal) = Signal::from_named_raw(signal) {
                let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
            }
            // The signal does not end this process.
            128 + signal
        }
    };
    u8::try_from(status).unwrap_or(OWN_FAILURE)
}

/// [`end_as`] for the end of `main`.
pub(super) fn exit_code(ended: Ended) -> ExitCode {
    ExitCode::from(end_as(ended))
}

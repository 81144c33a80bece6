//! A command in the namespaces of a job, as a child of `jobns`: started, waited for, and passed the
//! signals that `jobns` gets.

use crate::base::error::{Doing, Error, Words};
use crate::base::fixed_text::FixedText;
use crate::sys::clone::{ExitSignal, NamespaceFlags, SignalsBlocked, set_signal_mask, spawn};
use crate::sys::exec::{CStringArray, execveat, exit_group};
use crate::sys::process::{Ended, reap, setns};
use crate::sys::signals::EndSignals;
use core::fmt::Write as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::ExitCode;

struct CommandPlan<'a> {
    holder: BorrowedFd<'a>,
    namespaces: NamespaceFlags,
    signal_mask: u64,
    /// Where the command may be, in the order of PATH.
    candidates: &'a [CString],
    name: &'a CString,
    argv: &'a CStringArray,
    envp: &'a CStringArray,
    /// Where it starts, if not in /.
    directory: Option<&'a CString>,
    /// The process id of the command is written here.
    pid_channel: BorrowedFd<'a>,
}

/// The first child: enters the namespaces, of which a PID namespace is about future children only
/// (setns(2)), and makes the command as our child and not its own.
extern "C" fn enter(plan: &CommandPlan<'_>) -> ! {
    if let Err(errno) = setns(plan.holder, plan.namespaces) {
        complain(plan, "setns", errno);
        exit_group(1);
    }
    match spawn(NamespaceFlags::empty(), ExitSignal::Parents, plan, become_command) {
        Ok(child) => {
            let pid = child.pid.as_raw_nonzero().get().to_ne_bytes();
            let _ = rustix::io::write(plan.pid_channel, &pid);
            exit_group(0)
        }
        Err(errno) => {
            complain(plan, "clone3", errno);
            exit_group(1)
        }
    }
}

/// The second child, in all namespaces of the job.
extern "C" fn become_command(plan: &CommandPlan<'_>) -> ! {
    let _ = set_signal_mask(plan.signal_mask);
    if let Some(directory) = plan.directory
        && let Err(errno) = rustix::process::chdir(directory.as_c_str())
    {
        tell_of_directory(directory, errno);
    }
    let mut errno = Errno::NOENT;
    for path in plan.candidates {
        match execveat(CWD, path, plan.argv, plan.envp) {
            // Not here; what another place of PATH said counts more.
            Errno::NOENT | Errno::NOTDIR => {}
            other => errno = other,
        }
    }
    complain(plan, "execve", errno);
    exit_group(if errno == Errno::NOENT { 127 } else { 126 })
}

fn complain(plan: &CommandPlan<'_>, call: &str, errno: Errno) {
    let mut line = FixedText::<512>::new();
    let name = plan.name.as_bytes();
    if call == "execve" && errno == Errno::NOENT {
        let _ = line.push(b"jobns: ");
        let _ = line.push(name);
        let _ = line.push(b": command not found");
        if name.starts_with(b"/tmp/") {
            let _ = line.push(b" (the job's /tmp is its own)");
        }
        let _ = line.push(b"\n");
    } else {
        let _ = line.push(b"jobns: cannot run ");
        let _ = line.push(name);
        let _ = writeln!(line, ": {call}: {}", Words(errno));
    }
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_log_text().to_bytes());
}

fn tell_of_directory(directory: &CString, errno: Errno) {
    let mut line = FixedText::<512>::new();
    let _ = line.push(b"jobns: ");
    let _ = line.push(directory.as_bytes());
    if matches!(errno, Errno::NOENT | Errno::NOTDIR) {
        let _ = line.push(b" is not visible in the job; starting in /\n");
    } else {
        let _ = writeln!(line, " cannot be entered in the job: {}; starting in /", Words(errno));
    }
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_log_text().to_bytes());
}

/// What runs when no command is named.
pub(super) fn shell() -> Vec<OsString> {
    vec![std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into())]
}

/// Starts the command as a child in the namespaces of `holder`, in `directory` if that is there, else in /.
///
/// # Errors
///
/// When it does not run; why not may be on standard error already.
pub(super) fn start(
    holder: BorrowedFd<'_>,
    namespaces: NamespaceFlags,
    command: &[OsString],
    signal_mask: u64,
    directory: Option<&Path>,
) -> Result<OwnedFd, Error> {
    let name = command.first().map(OsString::as_os_str).unwrap_or_default();
    let intention = || format!("run {}", name.display());
    let c_string = |bytes: &[u8]| CString::new(bytes).map_err(|_| Error::because(intention(), "a NUL byte in it"));
    let candidates = candidates(name).iter().map(|path| c_string(path)).collect::<Result<Vec<_>, _>>()?;
    let argv = command.iter().map(|argument| c_string(argument.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let envp = std::env::vars_os()
        .map(|(name, value)| c_string(&[name.into_vec(), b"=".to_vec(), value.into_vec()].concat()))
        .collect::<Result<Vec<_>, _>>()?;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing("pipe2", intention)?;
    let directory = directory.map(|path| c_string(path.as_os_str().as_bytes())).transpose()?;
    let plan = CommandPlan {
        holder,
        namespaces,
        signal_mask,
        candidates: &candidates,
        name: &c_string(name.as_bytes())?,
        argv: &CStringArray::new(argv),
        envp: &CStringArray::new(envp),
        directory: directory.as_ref(),
        pid_channel: writer.as_fd(),
    };
    let first = {
        let _blocked = SignalsBlocked::new().doing("rt_sigprocmask", intention)?;
        spawn(NamespaceFlags::empty(), ExitSignal::Sigchld, &plan, enter).doing("clone3", intention)?
    };
    // It has ended before anything is read, so an empty pipe is its failure, of which it has told.
    reap(first.pidfd.as_fd()).doing("waitid", intention)?;
    drop(writer);
    let mut pid = [0_u8; 4];
    let n = rustix::io::retry_on_intr(|| rustix::io::read(&reader, &mut pid[..])).doing("read", intention)?;
    let pid = Some(i32::from_ne_bytes(pid)).filter(|_| n == 4).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Error::because(intention(), "the line above says why"))?;
    // Our child, which nobody else reaps: the number is its own.
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).doing("pidfd_open", intention)
}

/// The paths at which a command may be (execvp(3)).
fn candidates(name: &OsStr) -> Vec<Vec<u8>> {
    if name.as_bytes().contains(&b'/') {
        return vec![name.as_bytes().to_vec()];
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|dir| dir.join(name).into_os_string().into_vec()).collect()
}

/// Waits for the command and passes on to it the signals that ask us to end.
///
/// # Errors
///
/// When it cannot be waited for.
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

/// Ends as the command did: whoever started us sees the same signal.
pub(super) fn die_of(signal: i32) -> ExitCode {
    // The core, if any, was the command's.
    let _ = crate::sys::process::forbid_dump();
    let _ = set_signal_mask(0);
    if let Some(signal) = Signal::from_named_raw(signal) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
    }
    // A signal that does not end us (or SIGKILL's twin in a shell's terms).
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(super::OWN_FAILURE))
}

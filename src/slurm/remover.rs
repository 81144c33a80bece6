//! The thread of slurmd that keeps the removal program running and logs its output.
//!
//! The program is in the directory of the plugin. Its standard input is a pidfd of slurmd, which tells it when slurmd
//! ends. It then finishes what it has begun.

#![forbid(unsafe_code)]

use crate::base::error::{Doing, Error, FailedCall, Named, TryingTo};
use crate::base::log::{Level, Log};
use crate::base::trusted_path::{c_path, check_program};
use crate::job::script;
use crate::remover::{Options, PROGRAM, parse_line};
use crate::slurm::host::SlurmHost;
use crate::slurm::imports::{Imports, own_file};
use crate::slurm::plugin::Failure;
use crate::sys::clone::{Child, SignalsBlocked};
use crate::sys::process::{Ended, reap, timespec};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::PidfdFlags;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The pause before a program that has ended is started again. It is doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The longest line.
const MAX_LINE: usize = 16 * 1024;

static KEEPER: Mutex<Option<(JoinHandle<()>, Arc<OwnedFd>)>> = Mutex::new(None);

/// The path of the program.
fn path() -> Result<String, Failure> {
    let hint = "hint: PluginDir in slurm.conf must contain absolute paths";
    let plugin =
        own_file().ok_or_else(|| format!("cannot find {PROGRAM}: the path of the plugin's file is unknown; {hint}"))?;
    let plugin = std::fs::canonicalize(&plugin)
        .map_err(|error| format!("cannot find {PROGRAM} beside {plugin}: {error}; {hint}"))?;
    Ok(plugin.with_file_name(PROGRAM).to_string_lossy().into_owned())
}

/// Checks that the program exists and that only root can change it.
pub fn check() -> Result<(), Failure> {
    let hint = "the program is installed beside the plugin: install both from the same build";
    check_program(PROGRAM, &path()?).map_err(|error| error.with_hint(hint).to_string())
}

/// Starts the thread.
pub fn start(imports: &'static Imports, options: Options) -> Result<(), Failure> {
    stop();
    let path = path()?;
    let begin = || -> Result<_, FailedCall> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).named("eventfd2")?);
        // The thread inherits the mask, so that slurmd's other threads get its signals.
        let blocked = SignalsBlocked::new().named("rt_sigprocmask")?;
        let stops = Arc::clone(&stop);
        let keeper = std::thread::Builder::new()
            .name(PROGRAM.to_owned())
            .spawn(move || keep(&SlurmHost { imports }, &path, &options, stops.as_fd()))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))
            .named("clone")?;
        drop(blocked);
        Ok((keeper, stop))
    };
    let started = begin().trying_to(|| format!("start {PROGRAM}")).map_err(|error| error.to_string())?;
    *KEEPER.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    Ok(())
}

/// Ends the thread, not the program.
pub fn stop() {
    let keeper = KEEPER.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((thread, stop)) = keeper {
        let _ = rustix::io::write(&*stop, &1_u64.to_ne_bytes());
        let _ = thread.join();
    }
}

fn keep(host: &SlurmHost, path: &str, options: &Options, stop: BorrowedFd<'_>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let start = Instant::now();
        let why = match begin(path, options) {
            Ok((child, output)) => match relay(host, &child, &output, stop) {
                None => return,
                Some(Ended::Exited(status)) => format!("it ended with status {status}"),
                Some(Ended::Killed(signal)) => format!("it was killed by signal {signal}"),
            },
            Err(error) => error.to_string(),
        };
        if start.elapsed() >= LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        host.log(
            Level::Error,
            format_args!("{path}: {why}; nothing is removed until it is started again in {} s", pause.as_secs()),
        );
        let mut fds = [PollFd::from_borrowed_fd(stop, PollFlags::IN)];
        let milliseconds = u32::try_from(pause.as_millis()).unwrap_or(u32::MAX);
        if matches!(poll(&mut fds, Some(&timespec(milliseconds))), Ok(1..)) {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn begin(path: &str, options: &Options) -> Result<(Child, OwnedFd), Error> {
    let intention = || format!("start {path}");
    // Checked each time: the file may have changed.
    check_program(PROGRAM, path)?;
    let program = c_path(path)?;
    let mut argv = vec![program.clone()];
    for argument in options.arguments() {
        argv.push(CString::new(argument).unwrap_or_default());
    }
    let (reader, writer) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).doing("pipe2", intention)?;
    let slurmd =
        rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).doing("pidfd_open", intention)?;
    let child = script::start(&program, argv, Vec::new(), slurmd.as_fd(), writer.as_fd()).trying_to(intention)?;
    Ok((child, reader))
}

/// Logs the program's output until the program has ended. None: the thread must end.
fn relay(host: &SlurmHost, child: &Child, output: &OwnedFd, stop: BorrowedFd<'_>) -> Option<Ended> {
    let mut unread = Vec::new();
    let mut is_open = true;
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
            PollFd::from_borrowed_fd(child.pidfd.as_fd(), PollFlags::IN),
            PollFd::new(output, if is_open { PollFlags::IN } else { PollFlags::empty() }),
        ];
        let fds = if is_open { &mut fds[..] } else { fds.split_at_mut(2).0 };
        if poll(fds, None).is_err() {
            continue;
        }
        let [stops, ended, ..] = fds else { return None };
        let (stops, ended) = (!stops.revents().is_empty(), !ended.revents().is_empty());
        if is_open {
            is_open = read(host, output, &mut unread);
        }
        if stops {
            return None;
        }
        // Its workers may keep the pipe open for longer.
        if ended {
            return Some(reap(child.pidfd.as_fd()).unwrap_or(Ended::Exited(0)));
        }
    }
}

/// Logs the available output. Returns false at the end of file.
fn read(host: &SlurmHost, output: &OwnedFd, unread: &mut Vec<u8>) -> bool {
    let mut buffer = [0_u8; 4096];
    // Limited, because more may be written meanwhile.
    for _ in 0..32 {
        match rustix::io::read(output, &mut buffer[..]) {
            Ok(0) => return false,
            Ok(n) => unread.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(_) => return false,
        }
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let (level, text) = parse_line(line.trim_end_matches('\n'));
            host.log(level, format_args!("{text}"));
        }
        if unread.len() > MAX_LINE {
            unread.clear();
        }
    }
    true
}

//! A worker from the supervisor's side: a child and the socket to it.

use crate::base::error::Error;
use crate::remover::queue::{Outcome, Task};
use crate::remover::survivors::Directory;
use crate::remover::worker::{Reply, Request};
use crate::remover::{Options, PROGRAM};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A worker process.
#[derive(Debug)]
pub(super) struct Worker {
    pub child: Child,
    pub socket: UnixStream,
    /// None: it names survivors, or waits.
    pub task: Option<Task>,
    pub unread: Vec<u8>,
    pub directories: Vec<Directory>,
    pub moved: Instant,
    pub removed: u64,
    pub is_stuck: bool,
    /// The user whose survivors it names.
    pub names_for: Option<u32>,
    /// When it switches to the lowest priority.
    pub polite_at: Option<Instant>,
}

/// The replies of a worker.
pub(super) enum Heard {
    /// It continues.
    Nothing,
    /// Its turn has ended. None: the process has ended without a reply.
    Ended(Option<Outcome>),
}

impl Worker {
    /// Starts a worker, which waits for a request.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let intention = "start a process that removes a tree";
        let failed = |error: std::io::Error| match Errno::from_io_error(&error) {
            Some(errno) => Error::call(intention, "clone", errno),
            None => Error::because(intention, error.to_string()),
        };
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        // The file that this process runs. An update may have replaced the one at its path.
        let child = Command::new("/proc/self/exe")
            .arg0(PROGRAM)
            .args(Options { worker: true, ..options.clone() }.arguments())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .map_err(failed)?;
        Ok(Self::of(child, socket))
    }

    /// A worker that waits for a request on this socket.
    pub(super) fn of(child: Child, socket: UnixStream) -> Self {
        Self {
            child,
            socket,
            task: None,
            unread: Vec::new(),
            directories: Vec::new(),
            moved: Instant::now(),
            removed: 0,
            is_stuck: false,
            polite_at: None,
            names_for: None,
        }
    }

    /// Sends a request. Returns false if the worker has ended.
    pub fn ask(&mut self, request: &Request) -> bool {
        self.moved = Instant::now();
        self.socket.write_all(request.line().as_bytes()).is_ok()
    }

    /// Forgets its former turn.
    pub fn be_spare(&mut self) {
        self.unread.clear();
        self.removed = 0;
        self.is_stuck = false;
        self.names_for = None;
    }

    /// Reads its replies.
    pub fn hear(&mut self) -> Heard {
        let mut buffer = [0_u8; 4096];
        let is_over = match self.socket.read(&mut buffer) {
            Ok(0) => true,
            Ok(n) => {
                self.unread.extend_from_slice(buffer.get(..n).unwrap_or_default());
                false
            }
            Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted),
        };
        let mut outcome = None;
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            match Reply::parse(String::from_utf8_lossy(&line).trim_end_matches('\n')) {
                Some(Reply::Directories(directories)) => self.directories = directories,
                Some(Reply::Progress(removed)) if removed > self.removed => {
                    self.removed = removed;
                    self.moved = Instant::now();
                    self.is_stuck = false;
                }
                Some(Reply::Ended(ended)) => outcome = Some(ended),
                Some(Reply::Progress(_)) | None => {}
            }
        }
        if outcome.is_some() || is_over { Heard::Ended(outcome) } else { Heard::Nothing }
    }
}

/// Where a process waits in the kernel, if this is known (`proc_pid_wchan(5)`).
pub(super) fn waits_in(pid: u32) -> String {
    let wchan = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    match wchan.trim() {
        "" | "0" => "it runs".to_owned(),
        function => format!("it waits in the kernel function {}", function.escape_default()),
    }
}

//! Runs `--here` in a child process, and gives up if a file system does not answer. A process that waits for a dead file
//! server may not end even after SIGKILL.
//!
//! The child writes to standard error what it checks next, so the parent can name it. The parent passes on all other
//! output.

use crate::cli::check::{ERRORS, Options};
use crate::cli::{answer, complain, json};
use crate::config::problem::escape;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Shorter than the 60 seconds after which Slurm kills a `HealthCheckProgram`.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Set in the child.
const VARIABLE: &str = "JOBNS_CHECK_CHILD";

/// The first byte of a line in which the child names what it checks.
const MARK: u8 = 1;

/// Whether this process is the child.
pub(super) fn is_child() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Tells the parent what this process checks next.
pub(super) fn checking(what: &str) {
    if is_child() {
        let mut line = vec![MARK];
        line.extend(escape(what).into_bytes());
        line.push(b'\n');
        let _ = std::io::stderr().lock().write_all(&line);
    }
}

enum FromChild {
    Output(Vec<u8>),
    Checking(String),
    /// The end of standard error.
    End,
}

/// Runs the check in a child. `None` if the child cannot be started; this process then runs the check itself.
pub(super) fn run(options: &Options, arguments: &[OsString]) -> Option<Result<ExitCode, String>> {
    // An update may have replaced the file at the path of this program.
    let mut child = Command::new("/proc/self/exe")
        .arg("check")
        .args(arguments)
        .env(VARIABLE, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let (sender, receiver) = channel();
    listen(&mut child, &sender);
    drop(sender);
    let deadline = Instant::now() + TIMEOUT;
    let (mut output, mut at, mut open) = (None, options.file.to_string_lossy().into_owned(), true);
    while output.is_none() || open {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(FromChild::Output(text)) => output = Some(text),
            Ok(FromChild::Checking(what)) => at = what,
            Ok(FromChild::End) => open = false,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                // Do not wait for the child: it may never end.
                let _ = child.kill();
                return Some(answer(&gave_up(options, &at)).map(|()| ExitCode::from(ERRORS)));
            }
        }
    }
    if let Err(error) = answer(&String::from_utf8_lossy(&output.unwrap_or_default())) {
        return Some(Err(error));
    }
    let code = child.wait().ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    Some(Ok(ExitCode::from(code.unwrap_or(ERRORS))))
}

/// Starts a thread for each output stream of the child. The threads end with the child or with this process.
fn listen(child: &mut Child, sender: &Sender<FromChild>) {
    if let Some(mut out) = child.stdout.take() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = out.read_to_end(&mut text);
            let _ = sender.send(FromChild::Output(text));
        });
    }
    if let Some(err) = child.stderr.take() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(err);
            let mut line = Vec::new();
            while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
                match line.strip_prefix(&[MARK]) {
                    Some(what) => {
                        let what = String::from_utf8_lossy(what).trim_end().to_owned();
                        let _ = sender.send(FromChild::Checking(what));
                    }
                    None => complain(&String::from_utf8_lossy(&line)),
                }
                line.clear();
            }
            let _ = sender.send(FromChild::End);
        });
    }
}

fn gave_up(options: &Options, at: &str) -> String {
    let file = options.file.to_string_lossy();
    let line = format!(
        "{at}: no answer for {} seconds; hint: its file system or file server may be dead: see mount and the kernel log",
        TIMEOUT.as_secs()
    );
    if options.json {
        let none = || json::list([]);
        let here = json::object([("errors", json::list([json::text(&line)])), ("warnings", none()), ("notes", none())]);
        return json::object([
            ("file", json::text(&file)),
            ("errors", "1".to_owned()),
            ("warnings", "0".to_owned()),
            ("problems", none()),
            ("settings", json::or_null(None)),
            ("here", here),
            ("unchecked", json::list([json::text("everything after that")])),
        ]) + "\n";
    }
    let line = format!("error: {}\n", escape(&line));
    if options.quiet {
        return line;
    }
    format!("{line}{}: 1 error: it does not work on this machine\n", escape(&file))
}

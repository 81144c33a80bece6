//! `--here` in a process of its own, which is given up when it hears nothing from a file system. A process that
//! waits for a dead file server may not end even after SIGKILL.
//!
//! The child says on its standard error what it looks at next, so that the answer can name it. All else that
//! it says is passed on.

use crate::cli::check::{ERRORS, Options};
use crate::cli::{answer, complain, json};
use crate::config::problem::escape;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Less than the 60 seconds after which Slurm kills a `HealthCheckProgram`.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Set in the child.
const VARIABLE: &str = "JOBNS_CHECK_CHILD";

/// Begins a line of the child that names what it looks at.
const MARK: u8 = 1;

/// Is this the child?
pub(super) fn is_child() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Says what is looked at next.
pub(super) fn looking_at(what: &str) {
    if is_child() {
        let mut line = vec![MARK];
        line.extend(escape(what).into_bytes());
        line.push(b'\n');
        let _ = std::io::stderr().lock().write_all(&line);
    }
}

enum Heard {
    Output(Vec<u8>),
    LookingAt(String),
    /// The end of standard error.
    End,
}

/// Runs the check in a child. None: there can be no child, and this process does it.
pub(super) fn run(options: &Options, arguments: &[OsString]) -> Option<Result<ExitCode, String>> {
    // The very file that this process runs, which an update may have replaced.
    let mut child = Command::new("/proc/self/exe")
        .arg("check")
        .args(arguments)
        .env(VARIABLE, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let (sender, heard) = channel();
    listen(&mut child, &sender);
    drop(sender);
    let deadline = Instant::now() + TIMEOUT;
    let (mut output, mut at, mut open) = (None, options.file.to_string_lossy().into_owned(), true);
    while output.is_none() || open {
        match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Heard::Output(text)) => output = Some(text),
            Ok(Heard::LookingAt(what)) => at = what,
            Ok(Heard::End) => open = false,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                // It is not waited for: where it hangs, it may do so for ever.
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

/// A thread for each of its streams. They end with it, or with this process.
fn listen(child: &mut Child, sender: &Sender<Heard>) {
    if let Some(mut out) = child.stdout.take() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = out.read_to_end(&mut text);
            let _ = sender.send(Heard::Output(text));
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
                        let _ = sender.send(Heard::LookingAt(what));
                    }
                    None => complain(&String::from_utf8_lossy(&line)),
                }
                line.clear();
            }
            let _ = sender.send(Heard::End);
        });
    }
}

fn gave_up(options: &Options, at: &str) -> String {
    let file = options.file.to_string_lossy();
    let line = format!(
        "{at}: no answer for {} seconds; hint: its file system, or the server behind it, may be dead: see mount and the kernel's log",
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
            ("unchecked", json::list([json::text("all that would have come after that")])),
        ]) + "\n";
    }
    let line = format!("error: {}\n", escape(&line));
    if options.quiet {
        return line;
    }
    format!("{line}{}: 1 error: it does not work on this machine\n", escape(&file))
}

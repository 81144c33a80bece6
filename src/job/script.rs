//! Runs an administrator's script: as root, with only the given environment, with a time limit for the
//! script and the processes that it starts, and with a limit on the output that is kept.

use crate::base::error::{Doing, Error, FailedCall, Named, TryingTo};
use crate::base::log::{Level, Log};
use crate::config::settings::Script;
use crate::config::spelling;
use crate::job::Milliseconds;
use crate::job::kill::Started;
use crate::sys::clone::{Child, NamespaceFlags, SignalsBlocked, set_signal_mask, spawn};
use crate::sys::exec::{CStringArray, cloexec_from, execveat, exit_group};
use crate::sys::process::{Ended, reap, timespec, wait_ended};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::Signal;
use std::ffi::CString;
use std::num::NonZeroI32;
use std::time::{Duration, Instant};

/// How much of a script's output is kept for the log. The rest is read and dropped.
const MAX_OUTPUT: usize = 16 * 1024;

/// The time from SIGTERM to SIGKILL. It is enough to unmount and remove what the script has made, and short
/// compared with the 10 seconds that a job waits for a script by default. Slurm's plugins give a script 10 ms, in
/// which a shell barely starts the first command of its trap.
const GRACE: Duration = Duration::from_secs(2);

/// The whole environment of a script. Nothing is inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(Vec<CString>);

impl Environment {
    /// The variables that every script gets. The epilog gets no others: nothing else is recorded of the job.
    #[must_use]
    pub(crate) fn of_job(job: u32, uid: u32, gid: u32, user: &str, node: &str, slurm_conf: Option<&str>) -> Self {
        let new = Self::default()
            .with("SLURM_JOB_ID", job.to_string())
            .with("SLURM_JOB_UID", uid.to_string())
            .with("SLURM_JOB_GID", gid.to_string())
            .with("SLURM_JOB_USER", user)
            .with("SLURMD_NODENAME", node);
        match slurm_conf {
            Some(slurm_conf) => new.with("SLURM_CONF", slurm_conf),
            None => new,
        }
    }

    /// A value is cut at a NUL. No C caller can pass one.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref().split(|&byte| byte == 0).next().unwrap_or_default();
        let variable = [name.as_bytes(), b"=", value].concat();
        self.0.push(CString::new(variable).unwrap_or_default());
        self
    }
}

struct ProgramPlan<'a> {
    path: &'a CString,
    argv: &'a CStringArray,
    envp: &'a CStringArray,
    input: BorrowedFd<'a>,
    output: BorrowedFd<'a>,
}

/// Entry point of the child. It is root in the host's namespaces and a copy of a threaded process, so it only makes
/// system calls.
extern "C" fn exec_program(plan: &ProgramPlan<'_>) -> ! {
    let prepare = || -> Result<(), Errno> {
        // A new session, so that the time limit applies to all processes in it.
        rustix::process::setsid()?;
        rustix::stdio::dup2_stdin(plan.input)?;
        rustix::stdio::dup2_stdout(plan.output)?;
        rustix::stdio::dup2_stderr(plan.output)?;
        cloexec_from(3)?;
        set_signal_mask(0)?;
        Ok(())
    };
    if prepare().is_ok() {
        execveat(CWD, plan.path, plan.argv, plan.envp);
    }
    // The status that a shell returns for a command that cannot be executed (sh(1p)).
    exit_group(127)
}

/// Starts a program in a new session, with these standard descriptors and no others. A program that cannot be executed
/// ends with status 127.
pub(crate) fn start(
    path: &CString,
    argv: Vec<CString>,
    environment: Vec<CString>,
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
) -> Result<Child, FailedCall> {
    let (argv, envp) = (&CStringArray::new(argv), &CStringArray::new(environment));
    let plan = ProgramPlan { path, argv, envp, input, output };
    let _blocked = SignalsBlocked::new().named("rt_sigprocmask")?;
    spawn(NamespaceFlags::empty(), &plan, exec_program).named("clone3")
}

/// Runs `script` for a job. It fails if the script cannot be started, ends with a status other than 0, or takes too
/// long and is killed.
pub(crate) fn run(host: &dyn Log, job: u32, key: &str, script: &Script, environment: Environment) -> Result<(), Error> {
    let begin = Instant::now();
    let path = &script.path;
    let result = run_to_end(key, script, environment.0, &|pid| {
        let wait = script.wait_seconds;
        host.log(Level::Script, format_args!("job {job}: {key} {path}: started: pid={pid} wait={wait}"));
    });
    let ms = Milliseconds(begin.elapsed());
    match &result {
        Ok(output) => {
            host.log(Level::ScriptEnd, format_args!("job {job}: {key} {path}: ended: status=0 ms={ms}: {output}"));
        }
        // The error has the reason.
        Err(_) => host.log(Level::Script, format_args!("job {job}: {key} {path}: failed: ms={ms}")),
    }
    result.map(drop)
}

/// Returns what the script printed.
fn run_to_end(
    key: &str,
    script: &Script,
    environment: Vec<CString>,
    started: &dyn Fn(NonZeroI32),
) -> Result<String, Error> {
    let wait_key = format!("{key}_wait");
    let (key, wait_key) = (spelling::key(key), spelling::key(&wait_key));
    let intention = || format!("run {key} {}", script.path);
    // Checked at every run: the file may have changed since slurmd started.
    crate::base::trusted_path::check_script(key, &script.path)?;
    let path = crate::base::trusted_path::c_path(&script.path)?;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing("pipe2", intention)?;
    rustix::io::ioctl_fionbio(&reader, true).doing("ioctl(FIONBIO)", intention)?;
    let dev_null = rustix::fs::openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .doing("openat", || "open /dev/null".to_owned())?;
    let child = start(&path, vec![path.clone()], environment, dev_null.as_fd(), writer.as_fd()).trying_to(intention)?;
    drop(writer);
    started(child.pid.as_raw_nonzero());

    let deadline = Instant::now() + Duration::from_secs(script.wait_seconds.into());
    let mut output = Vec::new();
    let in_time = collect(&reader, child.pidfd.as_fd(), deadline, &mut output);
    if !matches!(in_time, Ok(true)) {
        let started = Started::by(child.pid);
        // Its pid is the number of its group, and stays its own until it is reaped.
        let _ = rustix::process::kill_process_group(child.pid, Signal::TERM);
        let _ = collect(&reader, child.pidfd.as_fd(), Instant::now() + GRACE, &mut output);
        // The processes that it started can be found only while it exists.
        started.kill();
        let _ = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
        // A script in uninterruptible sleep cannot be killed. Do not wait longer.
        let _ = wait_ended(child.pidfd.as_fd(), 1000);
    }
    let printed = || {
        let text = printable(&output);
        if text.is_empty() { "it printed nothing".to_owned() } else { format!("it printed: {text}") }
    };
    match in_time {
        Err(errno) => return Err(Error::call(intention(), "poll", errno)),
        Ok(false) => {
            if matches!(wait_ended(child.pidfd.as_fd(), 0), Ok(true)) {
                let _ = reap(child.pidfd.as_fd());
            }
            return Err(Error::because(
                intention(),
                format!("it took longer than {} seconds and was killed; {}", script.wait_seconds, printed()),
            )
            .with_hint(format!("raise {wait_key}")));
        }
        Ok(true) => {}
    }
    match reap(child.pidfd.as_fd()).doing("waitid", intention)? {
        Ended::Exited(0) => Ok(printable(&output)),
        Ended::Exited(127) => {
            Err(Error::because(intention(), format!("it cannot be executed, or ended with status 127; {}", printed()))
                .with_hint("does its first line name an interpreter that exists?"))
        }
        Ended::Exited(status) => {
            Err(Error::because(intention(), format!("it ended with status {status}; {}", printed())))
        }
        Ended::Killed(signal) => {
            Err(Error::because(intention(), format!("it was killed by signal {signal}; {}", printed())))
        }
    }
}

/// Reads output until the script has ended (true) or the deadline has passed (false). Processes that the
/// script leaves behind may keep the pipe open.
fn collect(reader: &OwnedFd, pidfd: BorrowedFd<'_>, deadline: Instant, output: &mut Vec<u8>) -> Result<bool, Errno> {
    let mut pipe_open = true;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let milliseconds = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let events = if pipe_open { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = [
            PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(if pipe_open { reader.as_fd() } else { pidfd }, events),
        ];
        match poll(&mut fds, Some(&timespec(milliseconds))) {
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
            Ok(0) => return Ok(false),
            Ok(_) => {}
        }
        let ended = !fds[0].revents().is_empty();
        if pipe_open {
            pipe_open = drain(reader, output);
        }
        if ended {
            return Ok(true);
        }
        // A script that prints without end must not prevent the timeout.
        if left.is_zero() {
            return Ok(false);
        }
    }
}

/// Reads the output that is available, up to a limit. Returns false at the end of file.
fn drain(reader: &OwnedFd, output: &mut Vec<u8>) -> bool {
    let mut buffer = [0_u8; 4096];
    // The size of a pipe is 64 KiB. The writer may fill it again meanwhile, so stop after two.
    for _ in 0..32 {
        match rustix::io::read(reader, &mut buffer[..]) {
            Ok(0) => return false,
            Ok(n) => {
                let room = MAX_OUTPUT.saturating_sub(output.len());
                output.extend_from_slice(buffer.get(..n.min(room)).unwrap_or_default());
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
    true
}

/// One line for the log. Control characters are escaped, and bytes that are not UTF-8 are replaced.
fn printable(output: &[u8]) -> String {
    String::from_utf8_lossy(output.trim_ascii())
        .chars()
        .flat_map(|c| {
            let escaped: Vec<char> = if c == '\n' {
                " | ".chars().collect()
            } else if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            };
            escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::log::Lines;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_environment_value_ends_at_a_nul() {
        let environment = Environment::default().with("A", b"x\0y").with("B", "");
        assert_eq!(environment.0, [c"A=x".to_owned(), c"B=".to_owned()]);
    }

    /// The result, and the lines for `DebugFlags=Script`.
    fn run_logged(script: &Script, environment: Environment) -> (Result<(), Error>, Vec<(Level, String)>) {
        let lines = Lines::default();
        let result = super::run(&lines, 7, "init_script", script, environment);
        (result, lines.into_inner())
    }

    /// The output of the script.
    fn run(script: &Script, environment: Environment) -> Result<String, Error> {
        run_to_end("init_script", script, environment.0, &|_| {})
    }

    #[test]
    fn sigterm_comes_first_and_sigkill_after_the_grace() {
        let (dir, cleans) = script(
            "#!/bin/sh\ntrap '/bin/sleep 0.5; echo cleaned; exit 0' TERM\n/bin/sleep 78.125 & echo $! >$0.pid\nwait\n",
            1,
        );
        let start = Instant::now();
        let (result, lines) = run_logged(&cleans, Environment::default());
        let text = result.unwrap_err().to_string();
        assert!(text.contains("longer than 1 seconds") && text.contains("it printed: cleaned"), "{text}");
        let took_to_clean = start.elapsed();
        let is_script = |level| level == Level::Script;
        assert!(is_script(lines[0].0) && lines[0].1.contains(": started: pid="), "{lines:?}");
        assert!(lines[0].1.starts_with("job 7: init_script /"), "{lines:?}");
        let ms = lines[1].1.split(": failed: ms=").nth(1).and_then(|ms| ms.parse::<f64>().ok()).unwrap_or_default();
        let told = Duration::from_secs_f64(ms / 1000.0);
        assert!(is_script(lines[1].0) && (Duration::from_secs(1)..took_to_clean).contains(&told), "{lines:?}");
        assert!(!lines[1].1.contains("cleaned"), "the error says it: {lines:?}");
        let pid = std::fs::read_to_string(dir.path().join("script.pid")).unwrap();
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "its group got SIGTERM: {state}");

        let (_dir, stays) = script("#!/bin/sh\ntrap '' TERM\nwhile :; do /bin/sleep 0.1; done\n", 1);
        let start = Instant::now();
        assert!(run(&stays, Environment::default()).is_err());
        let took_to_stay = start.elapsed();
        assert!(took_to_stay >= Duration::from_secs(3), "it was killed before its grace had passed: {took_to_stay:?}");
        assert!(
            took_to_clean < took_to_stay,
            "{took_to_clean:?} although it ended by itself, {took_to_stay:?} otherwise"
        );
    }

    #[test]
    fn start_end_and_output_are_logged() {
        let (_dir, ok) = script("#!/bin/sh\necho hello\n", 10);
        let (result, lines) = run_logged(&ok, Environment::default());
        result.unwrap();
        let (level, line) = &lines[1];
        assert_eq!((lines.len(), *level), (2, Level::ScriptEnd), "with both flags once: {lines:?}");
        assert!(line.contains(": ended: status=0 ms=") && line.ends_with(": hello"), "{lines:?}");
    }

    fn script(text: &str, wait_seconds: u32) -> (tempfile::TempDir, Script) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (dir, Script { path, wait_seconds })
    }

    #[test]
    fn output_environment_and_status_arrive() {
        let (_dir, ok) =
            script("#!/bin/sh\necho \"$A\"; /usr/bin/env | /usr/bin/wc -l; exec 2>&1; read x || echo eof\n", 10);
        let text = run(&ok, Environment::default().with("A", "1 2")).unwrap();
        // A, and what sh itself sets (PWD, and in some shells SHLVL and _).
        assert!(text.starts_with("1 2 | ") && text.ends_with("| eof"), "{text}");
        let (_dir, bad) = script("#!/bin/sh\nprintf 'no\\033disk\\n' >&2; exit 3\n", 10);
        let text = run(&bad, Environment::default()).unwrap_err().to_string();
        assert!(text.contains("it ended with status 3; it printed: no\\u{1b}disk"), "{text}");
        let (_dir, none) = script("#!/no/such/shell\n", 10);
        assert!(run(&none, Environment::default()).unwrap_err().to_string().contains("interpreter"));
    }

    #[test]
    fn the_time_limit_reaches_its_children_and_a_daemon_does_not_hold_us() {
        let start = Instant::now();
        let (dir, hung) = script(
            "#!/bin/sh\n/bin/sleep 77.125 & echo $! >$0.pid\n\
             (setsid sh -c 'echo $$ >$0.own; sleep 77.25 & wait' $0 & wait) &\n\
             set -m; sh -c 'sleep 77.5 & echo $! >$0.group; wait' $0 & wait\n",
            1,
        );
        let text = run(&hung, Environment::default()).unwrap_err().to_string();
        assert!(text.contains("longer than 1 seconds"), "{text}");
        std::thread::sleep(Duration::from_millis(100));
        // A child, a grandchild in a new session, one in a new process group.
        for name in ["script.pid", "script.own", "script.group"] {
            let pid = std::fs::read_to_string(dir.path().join(name)).unwrap();
            let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            assert!(state.is_empty() || state.contains(") Z "), "{name}: {state}");
        }

        let (dir, daemon) = script("#!/bin/sh\n/usr/bin/setsid /bin/sleep 30 & echo $! >$0.pid\n", 20);
        run(&daemon, Environment::default()).unwrap();
        assert!(start.elapsed() < Duration::from_secs(15));
        let pid = std::fs::read_to_string(dir.path().join("script.pid")).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }

    #[test]
    fn endless_output_is_bounded() {
        let (_dir, yes) = script("#!/bin/sh\nexec /usr/bin/yes\n", 5);
        let text = run(&yes, Environment::default()).unwrap_err().to_string();
        assert!(text.len() < 4 * MAX_OUTPUT && text.contains("y | y"), "{}", text.len());
    }
}

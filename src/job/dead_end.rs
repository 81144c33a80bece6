//! A PID namespace in which nobody can be born: its init has ended.
//!
//! A process that has entered it with `setns(2)` cannot fork any more: `fork(2)` gives ENOMEM, until it
//! enters another PID namespace. That is the one way to end a login whose sshd ignores that it could not
//! be brought into its job.

use crate::base::errno_hints::clone_error;
use crate::base::error::{Doing, Error};
use crate::sys::clone::{ExitSignal, NamespaceFlags, SignalsBlocked, spawn};
use crate::sys::exec::exit_group;
use crate::sys::process::reap;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};

/// Makes one, and returns a descriptor of it, which keeps it. It is a child of this process's PID
/// namespace: a process that may enter its parent may enter it.
pub fn make() -> Result<OwnedFd, Error> {
    let intention = || "make a PID namespace without a process, which logins need".to_owned();
    let child = {
        let _blocked = SignalsBlocked::new().doing("rt_sigprocmask", intention)?;
        spawn(NamespaceFlags::PROCESS_ID, ExitSignal::Silent, &(), end)
            .map_err(|errno| clone_error(intention(), errno))?
    };
    // A process has its PID namespace until it is reaped, whether it has ended or not.
    let path = format!("/proc/{}/ns/pid", child.pid.as_raw_nonzero());
    let namespace = rustix::fs::openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing("openat", || format!("open {path} of a process that has ended"));
    reap(child.pidfd.as_fd()).doing("waitid", intention)?;
    namespace
}

/// The namespace's init.
extern "C" fn end((): &()) -> ! {
    exit_group(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::setns;
    use rustix::io::Errno;

    #[test]
    fn who_enters_it_cannot_fork_before_leaving_it() {
        // Other users have no PID namespace of their own without a user namespace.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let here = rustix::fs::openat(CWD, "/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let dead = make().unwrap();
        // setns(CLONE_NEWPID) is for the calling thread's children only.
        let fork = || spawn(NamespaceFlags::empty(), ExitSignal::Silent, &(), end);
        setns(dead.as_fd(), NamespaceFlags::PROCESS_ID).unwrap();
        assert_eq!(fork().unwrap_err(), Errno::NOMEM);
        setns(here.unwrap().as_fd(), NamespaceFlags::PROCESS_ID).unwrap();
        reap(fork().unwrap().pidfd.as_fd()).unwrap();
    }
}

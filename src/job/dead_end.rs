//! A PID namespace whose init has ended, so that no process can be made in it.
//!
//! A process that has entered it with `setns(2)` cannot fork: `fork(2)` fails with ENOMEM until the process
//! enters another PID namespace. This is the only way to end a login whose sshd ignores that the login could
//! not be moved into its job.

use crate::base::errno_hints::clone_error;
use crate::base::error::{Doing, Error};
use crate::sys::clone::{NamespaceFlags, SignalsBlocked, spawn};
use crate::sys::exec::exit_group;
use crate::sys::process::reap;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};

/// Makes one, and returns a descriptor that keeps it alive. Its parent is this process's PID namespace: a
/// process that may enter the parent may enter it.
pub fn make() -> Result<OwnedFd, Error> {
    let intention = || "make the empty PID namespace that logins need".to_owned();
    let child = {
        let _blocked = SignalsBlocked::new().doing("rt_sigprocmask", intention)?;
        spawn(NamespaceFlags::PROCESS_ID, &(), end).map_err(|errno| clone_error(intention(), errno))?
    };
    // An ended process still has its PID namespace until it is reaped.
    let path = format!("/proc/{}/ns/pid", child.pid.as_raw_nonzero());
    let namespace = rustix::fs::openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing("openat", || format!("open {path} of an ended process"));
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
    fn a_process_in_it_cannot_fork_before_it_leaves() {
        // Other users need a user namespace to make a PID namespace.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let here = rustix::fs::openat(CWD, "/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let dead = make().unwrap();
        // setns(CLONE_NEWPID) affects only the children of the calling thread.
        let fork = || spawn(NamespaceFlags::empty(), &(), end);
        setns(dead.as_fd(), NamespaceFlags::PROCESS_ID).unwrap();
        assert_eq!(fork().unwrap_err(), Errno::NOMEM);
        setns(here.unwrap().as_fd(), NamespaceFlags::PROCESS_ID).unwrap();
        reap(fork().unwrap().pidfd.as_fd()).unwrap();
    }
}

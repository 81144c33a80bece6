//! Finds the jobs that have a live slurmstepd on this node.
//!
//! Every slurmstepd listens on a socket `<node>_<job>.<step>[.<het component>]` in slurmd's spool
//! directory (src/common/stepd_api.c). Slurm's own function returns no steps if the directory cannot be
//! read. This one returns an error, because files are removed if there are no steps.

use crate::base::error::{Doing, Error};
use crate::base::listing::visit;
use crate::job::LiveJobs;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The jobs of `node` with a socket in `spooldir` on which a process listens, or may listen.
pub fn live_jobs(spooldir: &str, node: &str) -> Result<LiveJobs, Error> {
    let mut live = LiveJobs::default();
    visit_sockets(spooldir, node, |job, _, is_dead| {
        if !live.0.contains(&job) && !is_dead() {
            live.0.insert(job);
        }
        true
    })?;
    Ok(live)
}

/// Does a slurmstepd of `job` answer, other than that of its step `but`?
pub fn has_other_steps(spooldir: &str, node: &str, job: u32, but: u32) -> Result<bool, Error> {
    let own = format!("{node}_{job}.{but}");
    let mut found = false;
    visit_sockets(spooldir, node, |of, name, is_dead| {
        found = of == job && name != own && !is_dead();
        !found
    })?;
    Ok(found)
}

/// Calls `see` for the socket of each step of `node`, until it returns false. Its arguments are the job, the name of
/// the socket, and a function that tells whether the socket is dead.
fn visit_sockets(
    spooldir: &str,
    node: &str,
    mut see: impl FnMut(u32, &str, &dyn Fn() -> bool) -> bool,
) -> Result<(), Error> {
    let intention = || format!("list the live job steps in {spooldir}");
    let dir = rustix::fs::openat(CWD, spooldir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing("openat", intention)?;
    visit(dir.as_fd(), spooldir, |name| {
        // The path goes through the directory's descriptor: a socket address has room for 108 bytes.
        let is_dead = || is_dead(&format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()));
        job_of_socket(name, node).is_none_or(|job| see(job, name, &is_dead))
    })
}

/// The job in a socket's name; None if it is not the socket of a step of this node.
fn job_of_socket(name: &str, node: &str) -> Option<u32> {
    let step = name.strip_prefix(node)?.strip_prefix('_')?;
    let mut numbers = step.split('.');
    let job = numbers.next()?.parse().ok()?;
    numbers.next()?.parse::<u32>().ok()?;
    if let Some(component) = numbers.next() {
        component.parse::<u32>().ok()?;
    }
    numbers.next().is_none().then_some(job)
}

/// Is there proof that no process listens? The kernel refuses the connection, or the socket is gone. Any
/// other error (a full queue, no descriptor left) proves nothing.
fn is_dead(path: &str) -> bool {
    let connect = || {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
    };
    matches!(connect(), Err(Errno::CONNREFUSED | Errno::NOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_names_are_read_as_slurm_writes_them() {
        assert_eq!(job_of_socket("n1_7.0", "n1"), Some(7));
        assert_eq!(job_of_socket("n1_7.4294967292", "n1"), Some(7));
        assert_eq!(job_of_socket("n1_7.0.1", "n1"), Some(7));
        for other in ["n1_7", "n1_x.0", "n11_7.0", "n1_7.0.1.2", "cred_state", "n1_7.", "job00007"] {
            assert_eq!(job_of_socket(other, "n1"), None, "{other}");
        }
    }

    #[test]
    fn a_listener_is_live_a_left_socket_is_not_and_an_unreadable_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let _live = std::os::unix::net::UnixListener::bind(dir.path().join("n_1.0")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(dir.path().join("n_2.0")).unwrap());
        std::fs::write(dir.path().join("cred_state"), "").unwrap();
        let live = live_jobs(path, "n").unwrap();
        assert_eq!(live.0.into_iter().collect::<Vec<_>>(), [1]);
        assert!(live_jobs(&format!("{path}/none"), "n").is_err());
        assert!(has_other_steps(path, "n", 1, 7).unwrap());
        assert!(!has_other_steps(path, "n", 1, 0).unwrap());
        assert!(!has_other_steps(path, "n", 2, 7).unwrap());
    }
}

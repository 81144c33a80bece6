//! Descriptors that keep a job's namespaces alive.

#![forbid(unsafe_code)]

use super::error::{Doing, Error};
use super::state::PinNumbers;
use crate::sys::clone::NamespaceFlags;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};

/// Descriptors of the job's namespaces, which keep them alive when the holder has ended. They are
/// close-on-exec, and nothing but nsfs: a directory kept open here could be reached from the job.
#[derive(Debug)]
pub struct Pins {
    pub mount: OwnedFd,
    pub pid: Option<OwnedFd>,
    pub user: Option<OwnedFd>,
    pub ipc: Option<OwnedFd>,
}

impl Pins {
    /// The namespaces of process `pid`, which must be alive and not recycled: our unreaped child,
    /// or ourselves.
    ///
    /// # Errors
    ///
    /// `open(2)`.
    pub fn open(process: &str, namespaces: NamespaceFlags) -> Result<Self, Error> {
        let open = |name: &str| {
            let path = format!("/proc/{process}/ns/{name}");
            rustix::fs::openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .doing("openat", || format!("keep the job's namespace {path}"))
        };
        let optional = |flag, name| namespaces.contains(flag).then(|| open(name)).transpose();
        Ok(Self {
            mount: open("mnt")?,
            pid: optional(NamespaceFlags::PID, "pid")?,
            user: optional(NamespaceFlags::USER, "user")?,
            ipc: optional(NamespaceFlags::IPC, "ipc")?,
        })
    }

    /// As the state file has them.
    #[must_use]
    pub fn numbers(&self) -> PinNumbers {
        let number = |fd: &Option<OwnedFd>| fd.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        PinNumbers {
            mount: self.mount.as_raw_fd(),
            pid: number(&self.pid),
            user: number(&self.user),
            ipc: number(&self.ipc),
        }
    }
}

//! The namespaces of a process, and the descriptors that keep those of a job alive.

use crate::base::error::{Doing, Error};
use crate::config::settings::NamespaceInodes;
use crate::job::record::state::PinNumbers;
use crate::sys::clone::NamespaceFlags;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::DupFlags;
use std::mem::ManuallyDrop;

/// The inodes of this process's namespaces.
pub fn own_namespaces() -> Result<NamespaceInodes, Error> {
    let inode = |name: &str| {
        let path = format!("/proc/self/ns/{name}");
        rustix::fs::stat(path.as_str())
            .map(|stat| stat.st_ino)
            .doing("stat", || format!("identify the namespace {path}"))
    };
    Ok(NamespaceInodes { mount: inode("mnt")?, pid: inode("pid")?, user: inode("user")?, ipc: inode("ipc")? })
}

/// The kinds of namespaces that differ.
#[must_use]
pub fn different(one: &NamespaceInodes, other: &NamespaceInodes) -> NamespaceFlags {
    [
        (one.mount != other.mount, NamespaceFlags::MOUNT),
        (one.pid != other.pid, NamespaceFlags::PROCESS_ID),
        (one.user != other.user, NamespaceFlags::USER),
        (one.ipc != other.ipc, NamespaceFlags::INTER_PROCESS_COMMUNICATION),
    ]
    .into_iter()
    .filter_map(|(differs, kind)| differs.then_some(kind))
    .collect()
}

/// Descriptors of the job's namespaces, which keep them alive after the holder has ended. They are
/// close-on-exec. They are only of namespaces: the job could reach a directory that is kept open here.
#[derive(Debug)]
pub struct Pins {
    pub mount: OwnedFd,
    pub pid: Option<OwnedFd>,
    pub user: Option<OwnedFd>,
    pub ipc: Option<OwnedFd>,
}

impl Pins {
    /// Opens the namespaces of `process`, a pid or `self`. The pid must not be reused meanwhile: it is that of
    /// an unreaped child, or of a process of which a pidfd is open and checked afterwards.
    pub fn open(process: &str, namespaces: NamespaceFlags) -> Result<Self, Error> {
        let open = |name: &str| {
            let path = format!("/proc/{process}/ns/{name}");
            rustix::fs::openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .doing("openat", || format!("keep the job's namespace {path}"))
        };
        let optional = |flag, name| namespaces.contains(flag).then(|| open(name)).transpose();
        Ok(Self {
            mount: open("mnt")?,
            pid: optional(NamespaceFlags::PROCESS_ID, "pid")?,
            user: optional(NamespaceFlags::USER, "user")?,
            ipc: optional(NamespaceFlags::INTER_PROCESS_COMMUNICATION, "ipc")?,
        })
    }

    /// The same namespaces under other descriptor numbers. The old numbers lead to /dev/null for as long as this
    /// process lives: a process that was given them and uses them late gets no other file.
    pub fn with_other_numbers(self) -> Result<Self, Error> {
        let intention = || "revoke the descriptors of the job's namespaces".to_owned();
        let null = rustix::fs::openat(CWD, c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .doing("openat", intention)?;
        let renumber = |fd: OwnedFd| -> Result<OwnedFd, Error> {
            let other = rustix::io::fcntl_dupfd_cloexec(&fd, 3).doing("fcntl", intention)?;
            let mut old = ManuallyDrop::new(fd);
            rustix::io::dup3(&null, &mut old, DupFlags::CLOEXEC).doing("dup3", intention)?;
            Ok(other)
        };
        let Self { mount, pid, user, ipc } = self;
        Ok(Self {
            mount: renumber(mount)?,
            pid: pid.map(renumber).transpose()?,
            user: user.map(renumber).transpose()?,
            ipc: ipc.map(renumber).transpose()?,
        })
    }

    /// The numbers for the state file.
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

/// The namespaces in words, separated by `between`.
#[must_use]
pub fn describe(namespaces: NamespaceFlags, between: &str) -> String {
    let mut names = vec!["mount"];
    for (flag, name) in [
        (NamespaceFlags::PROCESS_ID, "PID"),
        (NamespaceFlags::USER, "user"),
        (NamespaceFlags::INTER_PROCESS_COMMUNICATION, "IPC"),
    ] {
        if namespaces.contains(flag) {
            names.push(name);
        }
    }
    names.join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_numbers_lead_to_dev_null() {
        let link = |number: i32| std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        let pins = Pins::open("self", NamespaceFlags::MOUNT | NamespaceFlags::INTER_PROCESS_COMMUNICATION).unwrap();
        let (mount, ipc) = (pins.numbers().mount, pins.numbers().ipc);
        let (old_mount, old_ipc) = (link(mount), link(ipc));
        let pins = pins.with_other_numbers().unwrap();
        assert_eq!((link(pins.numbers().mount), link(pins.numbers().ipc)), (old_mount, old_ipc));
        assert_eq!((pins.numbers().pid, pins.numbers().user), (-1, -1));
        drop(pins);
        for number in [mount, ipc] {
            assert_eq!(link(number).to_str(), Some("/dev/null"));
        }
    }

    #[test]
    fn namespaces_are_told_apart() {
        let own = own_namespaces().unwrap();
        assert_eq!(different(&own, &own), NamespaceFlags::empty());
        let other = NamespaceInodes { user: own.user + 1, ..own };
        assert_eq!(different(&own, &other), NamespaceFlags::USER);
    }
}

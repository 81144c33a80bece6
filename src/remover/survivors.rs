//! Finds the processes that use a tree: they have a directory in it open, or as their working directory.
//!
//! It reads `/proc` and goes up by `..`, which does not wait for the lock of any directory.

use crate::base::listing::visit;
use crate::base::log::{Level, Log};
use crate::job::kill::real_uid;
use core::fmt;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::process::Pid;
use std::time::{Duration, Instant};

/// The time limit of the search.
const LONGEST: Duration = Duration::from_secs(2);

/// The most processes that are named.
const MOST: usize = 10;

/// A directory, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directory {
    pub device: u64,
    pub inode: u64,
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}

impl Directory {
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (device, inode) = text.split_once(':')?;
        Some(Self { device: device.parse().ok()?, inode: inode.parse().ok()? })
    }

    /// Identifies a directory without a request to a file server, which may not answer.
    fn of(fd: &OwnedFd) -> Option<Self> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = rustix::fs::statx(fd, c"", flags, StatxFlags::INO).ok()?;
        Some(Self { device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino })
    }
}

/// Logs which processes of `uid` use the tree at `path`, which contains these directories.
pub fn name(host: &dyn Log, path: &str, uid: u32, directories: &[Directory]) {
    let end = Instant::now() + LONGEST;
    let found = find(uid, directories, end);
    if !found.is_empty() {
        let what = if found.len() > MOST { "at least " } else { "" };
        let list: Vec<String> = found.into_iter().take(MOST).collect();
        host.log(
            Level::Warning,
            format_args!("{path}: {what}{} processes of uid {uid} still use it: {}", list.len(), list.join(", ")),
        );
    }
}

fn find(uid: u32, directories: &[Directory], end: Instant) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(proc) =
        rustix::fs::openat(CWD, c"/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    else {
        return found;
    };
    let _ = visit(proc.as_fd(), "/proc", |pid| {
        if is_of(pid, uid) && uses(pid, directories, end) {
            let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.push(format!("{pid} ({})", command.trim_end().escape_default()));
        }
        found.len() <= MOST && Instant::now() < end
    });
    found
}

/// Is this name in `/proc` a process of `uid`?
fn is_of(name: &str, uid: u32) -> bool {
    name.parse().ok().and_then(Pid::from_raw).and_then(real_uid) == Some(uid)
}

fn uses(pid: &str, directories: &[Directory], end: Instant) -> bool {
    let mut links = vec![format!("/proc/{pid}/cwd"), format!("/proc/{pid}/root")];
    let numbers = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links.extend(numbers.map(|entry| entry.path().to_string_lossy().into_owned()));
    links.iter().any(|link| leads_up_to(link, directories, end))
}

/// Does this link of `/proc` lead to one of these directories, or to a directory in one?
fn leads_up_to(link: &str, directories: &[Directory], end: Instant) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(mut here) = rustix::fs::openat(CWD, link, flags, Mode::empty()) else { return false };
    let mut last = None;
    while let Some(directory) = Directory::of(&here) {
        if directories.contains(&directory) {
            return true;
        }
        // The parent of the root of a detached mount is the root itself.
        if last == Some(directory) || Instant::now() >= end {
            return false;
        }
        last = Some(directory);
        match rustix::fs::openat(&here, c"..", flags, Mode::empty()) {
            Ok(parent) => here = parent,
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsRawFd;

    #[test]
    fn a_process_that_has_a_directory_of_the_tree_open_is_found() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("a/b/c")).unwrap();
        let fd = |name: &str| rustix::fs::open(top.path().join(name), OFlags::PATH, Mode::empty()).unwrap();
        let directory = |name: &str| Directory::of(&fd(name)).unwrap();
        let (a, b) = (directory("a"), directory("a/b"));
        let mut child =
            std::process::Command::new("sleep").arg("60").current_dir(top.path().join("a/b")).spawn().unwrap();
        let pid = child.id().to_string();
        assert!(is_of(&pid, rustix::process::getuid().as_raw()));
        let is_found = |directories: &[Directory]| uses(&pid, directories, Instant::now() + LONGEST);
        let (in_a, in_b, in_c) = (is_found(&[a]), is_found(&[b]), is_found(&[directory("a/b/c")]));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(in_a && in_b && !in_c, "{in_a} {in_b} {in_c}");
    }

    #[test]
    #[ignore = "needs root"]
    fn a_file_server_that_does_not_answer_is_not_asked() {
        use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let top = tempfile::tempdir().unwrap();
        let (device, point) = (top.path().join("fuse"), top.path().join("mnt"));
        let number = rustix::fs::makedev(10, 229);
        rustix::fs::mknodat(CWD, &device, rustix::fs::FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, number)
            .unwrap();
        std::fs::create_dir(&point).unwrap();
        let server = rustix::fs::open(&device, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let options = std::ffi::CString::new(options).unwrap();
        mount("none", &point, "fuse", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str())).unwrap();
        let inside = rustix::fs::open(&point, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        unmount(&point, UnmountFlags::DETACH).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let asks = std::thread::spawn(move || tell.send(Directory::of(&inside)));
        let found = told.recv_timeout(Duration::from_secs(10));
        // A thread that waits gets an error now.
        drop(server);
        let _ = asks.join();
        assert!(found.is_ok_and(|found| found.is_some_and(|found| found.inode == 1)));
    }
}

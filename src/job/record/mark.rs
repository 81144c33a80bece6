//! The mark in a job's directory in a base path of `dir_confs`, which has no state file.
//!
//! The job's state file is in another base path, perhaps on another file system, and a power cut may destroy it. The mark
//! is a link that leads nowhere: a file system writes a link together with the directory that contains it, and the
//! content of a file seconds later. It says what is needed to remove the directory after a reboot:
//!
//! ```text
//! .job -> slurm-jobns 1 131 0d6f1ac5-… n1        inode of the directory, boot id, node
//! ```

use crate::base::error::{FailedCall, Named};
use crate::base::trusted_path::{is_trusted_owner, mode_of};
use crate::config::lines::Fields;
use crate::job::record::process::BootId;
use crate::job::record::state::HEADER;
use rustix::fd::BorrowedFd;
use rustix::fs::AtFlags;

/// The name of the mark in the directory.
pub(crate) const MARK: &core::ffi::CStr = c".job";

/// Whose directory it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    node: String,
    boot: Vec<u8>,
}

impl Mark {
    /// Marks a directory of this boot that no job's user can see.
    pub(crate) fn put(dir: BorrowedFd<'_>, boot: BootId, node: &str) -> Result<(), FailedCall> {
        let inode = rustix::fs::fstat(dir).named("fstat")?.st_ino;
        let boot = core::str::from_utf8(boot.as_bytes()).unwrap_or_default();
        rustix::fs::symlinkat(format!("{HEADER} {inode} {boot} {node}"), dir, MARK).named("symlinkat")
    }

    /// The mark of an open directory. None: it has none, or is a copy, or not root's alone.
    #[must_use]
    pub fn of(dir: BorrowedFd<'_>) -> Option<Self> {
        let stat = rustix::fs::fstat(dir).ok()?;
        let link = rustix::fs::statat(dir, MARK, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if !is_trusted_owner(stat.st_uid) || mode_of(&stat) != 0o700 || !is_trusted_owner(link.st_uid) {
            return None;
        }
        let text = rustix::fs::readlinkat(dir, MARK, Vec::new()).ok()?;
        let mut fields = Fields(text.as_bytes().strip_prefix(HEADER.as_bytes())?.strip_prefix(b" ")?);
        let inode: u64 = fields.number()?;
        let boot = fields.word().to_owned();
        let node = fields.text()?.to_owned();
        (inode == stat.st_ino).then_some(Self { node, boot })
    }

    /// It was made on this node before this boot, so its job has ended.
    #[must_use]
    pub fn is_of_earlier_boot(&self, boot: BootId, node: &str) -> bool {
        self.node == node && self.boot != boot.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use rustix::fs::{Mode, OFlags};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_tells_whose_it_is_and_a_copy_does_not() {
        let top = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = top.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
        };
        let dir = make("7");
        assert_eq!(Mark::of(dir.as_fd()), None);
        let boot = BootId::current().unwrap();
        Mark::put(dir.as_fd(), boot, "n 1").unwrap();
        let mark = Mark::of(dir.as_fd()).unwrap();
        assert!(!mark.is_of_earlier_boot(boot, "n 1"));
        let earlier = Mark { boot: b"00000000-0000-4000-8000-000000000000".to_vec(), ..mark };
        assert!(earlier.is_of_earlier_boot(boot, "n 1") && !earlier.is_of_earlier_boot(boot, "n1"));
        let copy = make("8");
        std::os::unix::fs::symlink(std::fs::read_link(top.path().join("7/.job")).unwrap(), top.path().join("8/.job"))
            .unwrap();
        assert_eq!(Mark::of(copy.as_fd()), None);
        std::fs::set_permissions(top.path().join("7"), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(Mark::of(dir.as_fd()), None);
    }
}

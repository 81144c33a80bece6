//! The record of a job's namespaces, in the slurmstepd that made them or read from the job's state file.

use crate::base::base_dir::open_base;
use crate::base::error::{Doing, Error};
use crate::base::file_system;
use crate::base::io::read_all;
use crate::base::listing::names;
use crate::base::trusted_path::{BENEATH, is_roots_file, is_trusted_owner, mode_of, open_beneath};
use crate::job::record::namespaces::Pins;
use crate::job::record::process::{BootId, Identity};
use crate::job::record::state::{Header, MAX_SIZE, State};
use crate::sys::clone::NamespaceFlags;
use crate::sys::process::has_ended;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::CString;
use std::time::SystemTime;

/// The mode of the directory of an ended job that could not be moved to the trash. A change of mode needs no space on a
/// full disk.
pub const DEAD_MODE: u32 = 0o500;

/// Everything that is needed to delete a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub header: Header<String>,
    pub namespaces: NamespaceFlags,
    pub holder: Option<Identity>,
    /// It was made since this boot, so its device numbers are still valid.
    pub of_this_boot: bool,
    /// The directories of the job. The one under `base_path` comes first.
    pub trees: Vec<TreeRecord>,
}

impl Record {
    /// Does `stat` describe the directory of `tree`? Device numbers may change with a reboot: disks appear in
    /// another order, and some file systems get a new number with each mount.
    #[must_use]
    pub fn is_at(&self, tree: &TreeRecord, stat: &Stat) -> bool {
        tree.inode == stat.st_ino && (tree.device == stat.st_dev || !self.of_this_boot)
    }
}

/// Can `dir`, which contains the state file that names it, be the directory of `main`? When a file system is mounted again,
/// its device number can change, even within one boot: that of a loop device, or of btrfs or NFS, which have no device. In
/// an overlay of several file systems the inode numbers of directories change as well.
fn can_be_main(main: &TreeRecord, dir: BorrowedFd<'_>, stat: &Stat) -> bool {
    main.inode == stat.st_ino || is_overlay(dir)
}

fn is_overlay(dir: BorrowedFd<'_>) -> bool {
    file_system::kind(dir) == Ok(file_system::OVERLAY)
}

/// The directory `<base>/<job>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeRecord {
    pub base: String,
    pub device: u64,
    /// 0: it was not made yet.
    pub inode: u64,
    /// The project by which what is in it is limited; 0: it has none.
    pub project: u32,
}

/// A record as found on disk, with the facts that tell whether its job can be alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub record: Record,
    /// The extern slurmstepd that made it.
    pub stepd: Identity,
    /// The directory is marked as dead ([`DEAD_MODE`]).
    pub is_marked: bool,
}

impl Found {
    /// The job's namespaces, from its holder, which must be alive.
    pub fn pins(&self) -> Result<Pins, Error> {
        let intention = || format!("find the namespaces of job {}", self.record.header.id);
        let gone = || Error::because(intention(), "the process that holds them has ended");
        let holder = self.record.holder.ok_or_else(|| Error::because(intention(), "they are still being set up"))?;
        // While this is open, the pid is known to be the holder's.
        let pidfd = holder.open().map_err(|_| gone())?;
        let pins = Pins::open(&holder.pid.as_raw_nonzero().to_string(), self.record.namespaces)?;
        if has_ended(pidfd.as_fd()).unwrap_or(true) { Err(gone()) } else { Ok(pins) }
    }

    /// Is the slurmstepd or the holder alive?
    #[must_use]
    pub fn has_live_process(&self) -> bool {
        self.record.of_this_boot
            && (self.stepd.is_alive() || self.record.holder.is_some_and(|holder| holder.is_alive()))
    }
}

/// Is `name` a job directory whose state file was destroyed by a power cut?
///
/// The state file is not fsynced, which would cost each job milliseconds: after a reboot it is only needed to
/// tell that the directory may be removed. If the file system had written its metadata but not the data, the
/// file is empty or contains zeros. A directory gets its name only after its state file was written, so no
/// live job has such a file. Everything else must be as the plugin makes it, and older than this boot.
#[must_use]
pub fn is_lost(base: BorrowedFd<'_>, name: &str, booted: i64) -> bool {
    let check = || -> Result<bool, Errno> {
        let name_c = CString::new(name).unwrap_or_default();
        let dir = open_beneath(base, &name_c, OFlags::RDONLY | OFlags::DIRECTORY, BENEATH)?;
        let ns = open_beneath(dir.as_fd(), c".ns", OFlags::RDONLY | OFlags::DIRECTORY, BENEATH)?;
        let file = open_beneath(ns.as_fd(), c"state", OFlags::RDONLY | OFlags::NONBLOCK, BENEATH)?;
        let is_ours = |fd: &OwnedFd, kind: FileType, mode: u32| {
            rustix::fs::fstat(fd).is_ok_and(|stat| {
                FileType::from_raw_mode(stat.st_mode) == kind
                    && is_trusted_owner(stat.st_uid)
                    && mode_of(&stat) == mode
                    && stat.st_ctime < booted
            })
        };
        let link = format!(".{name}");
        let only_ours = names(dir.as_fd(), name)
            .is_ok_and(|names| names.iter().all(|entry| entry == ".ns" || *entry == link || entry.starts_with('_')));
        let mut buffer = vec![0_u8; MAX_SIZE];
        let is_empty = read_all(file.as_fd(), &mut buffer)?.iter().all(|byte| *byte == 0);
        Ok(is_empty
            && only_ours
            && (is_ours(&dir, FileType::Directory, 0o700) || is_ours(&dir, FileType::Directory, DEAD_MODE))
            && is_ours(&ns, FileType::Directory, 0o700)
            && is_ours(&file, FileType::RegularFile, 0o600))
    };
    check().unwrap_or(false)
}

/// When this system was booted, in seconds, by its present clock (`sysinfo(2)`).
#[must_use]
pub fn boot_time() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(rustix::system::sysinfo().uptime)
}

/// Reads the record of a job under `base_path`, like [`read`].
pub fn of_job(base_path: &str, job: u32) -> Result<Found, Error> {
    read(open_base(base_path)?.as_fd(), base_path, &job.to_string())
}

/// Reads the record of the job directory `name` in `base`.
///
/// # Errors
///
/// The directory is not provably a job directory that this code has made: owner, mode, place, state file and
/// job id must agree. It must then be left alone.
pub fn read(base: BorrowedFd<'_>, base_path: &str, name: &str) -> Result<Found, Error> {
    let intention = || format!("recognise {base_path}/{name} as a job's directory");
    let name_c = CString::new(name).unwrap_or_default();
    let dir = open_beneath(base, &name_c, OFlags::PATH | OFlags::DIRECTORY, BENEATH).doing("openat2", intention)?;
    let stat = rustix::fs::fstat(&dir).doing("fstat", intention)?;
    if !is_trusted_owner(stat.st_uid) || !matches!(mode_of(&stat), 0o700 | DEAD_MODE) {
        return Err(Error::because(
            intention(),
            format!(
                "it belongs to uid {} and has mode {:04o}; a job's directory belongs to root and has mode 0700",
                stat.st_uid,
                stat.st_mode & 0o7777
            ),
        ));
    }
    let file = open_beneath(dir.as_fd(), c".ns/state", OFlags::RDONLY | OFlags::NONBLOCK, BENEATH)
        .doing("openat2(.ns/state)", intention)?;
    if !is_roots_file(&rustix::fs::fstat(&file).doing("fstat", intention)?, 0o077) {
        return Err(Error::because(intention(), "its state file is not root's alone"));
    }
    let mut buffer = vec![0_u8; MAX_SIZE];
    let text = read_all(file.as_fd(), &mut buffer).doing("read", intention)?;
    let state = State::parse(text).map_err(|why| Error::because(intention(), why.to_string()))?;
    if state.header.id.to_string() != name {
        return Err(Error::because(intention(), format!("its state file belongs to job {}", state.header.id)));
    }
    let mut trees: Vec<TreeRecord> = Vec::new();
    for tree in state.trees() {
        let of_tree = state.projects().filter(|(_, base)| *base == tree.base).last();
        let project = of_tree.filter(|_| tree.inode != 0).map_or(0, |(id, _)| id);
        let new = TreeRecord { base: tree.base.to_owned(), device: tree.device, inode: tree.inode, project };
        match trees.iter_mut().find(|known| known.base == new.base) {
            Some(known) => *known = new,
            None => trees.push(new),
        }
    }
    let boot = BootId::current().doing("read", || "read the boot id".to_owned())?;
    let record = Record {
        header: state.header.with_texts(),
        namespaces: state.namespaces,
        holder: state.holder,
        of_this_boot: state.boot == boot.as_bytes(),
        trees,
    };
    match record.trees.first() {
        Some(main) if main.base == base_path && can_be_main(main, dir.as_fd(), &stat) => {}
        _ => return Err(Error::because(intention(), "it is a copy: its state file names another directory")),
    }
    Ok(Found { record, stepd: state.stepd, is_marked: mode_of(&stat) == DEAD_MODE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, create_dir, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_device_may_have_another_number_and_an_inode_may_not() {
        use std::os::unix::fs::MetadataExt;
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name);
        for dir in ["7", "7/.ns"] {
            create_dir(path(dir)).unwrap();
            set_permissions(path(dir), Permissions::from_mode(0o700)).unwrap();
        }
        let base = rustix::fs::open(top.path(), OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty()).unwrap();
        let base_path = top.path().to_str().unwrap();
        let stat = std::fs::metadata(path("7")).unwrap();
        let read_with = |device: u64, inode: u64| {
            let boot = BootId::current().unwrap();
            let boot = core::str::from_utf8(boot.as_bytes()).unwrap();
            let header =
                format!("{}\njob 7\nsluid 0\nuid 1\ngid 1\nuser u\nnode n\n", crate::job::record::state::HEADER);
            let rest = format!("boot {boot}\nstepd 1 1 1\nnamespaces 131072\ntree {device} {inode} {base_path}\n");
            write(path("7/.ns/state"), header + &rest).unwrap();
            set_permissions(path("7/.ns/state"), Permissions::from_mode(0o600)).unwrap();
            read(base.as_fd(), base_path, "7")
        };
        read_with(stat.dev(), stat.ino()).unwrap();
        read_with(stat.dev() + 1, stat.ino()).unwrap();
        if !is_overlay(base.as_fd()) {
            let text = read_with(stat.dev(), stat.ino() + 1).unwrap_err().to_string();
            assert!(text.contains("it is a copy"), "{text}");
        }
    }

    #[test]
    fn an_empty_state_file_from_before_this_boot_is_what_a_power_cut_leaves() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join("77").join(name);
        let chmod = |name: &str, mode| set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
        for (dir, mode) in [("", 0o700), (".ns", 0o700), ("_tmp", 0o700)] {
            create_dir(path(dir)).unwrap();
            chmod(dir, mode);
        }
        symlink(".", path(".77")).unwrap();
        write(path(".ns/state"), b"").unwrap();
        chmod(".ns/state", 0o600);
        let base = rustix::fs::open(top.path(), OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty()).unwrap();
        let lost = |booted| is_lost(base.as_fd(), "77", booted);
        assert!(lost(i64::MAX));
        assert!(!lost(boot_time()), "it was made since this boot");
        chmod("", DEAD_MODE);
        assert!(lost(i64::MAX), "its job had ended");
        chmod("", 0o700);
        write(path(".ns/state"), [0; 300]).unwrap();
        assert!(lost(i64::MAX));
        write(path(".ns/state"), b"\0\0slurm-jobns").unwrap();
        assert!(!lost(i64::MAX), "something is known");
        write(path(".ns/state"), b"").unwrap();
        for (name, mode) in [("", 0o755), (".ns", 0o711), (".ns/state", 0o644)] {
            let before = std::fs::metadata(path(name)).unwrap().permissions();
            chmod(name, mode);
            assert!(!lost(i64::MAX), "{name:?} is not as we make it");
            set_permissions(path(name), before).unwrap();
        }
        write(path("thesis.tex"), b"").unwrap();
        assert!(!lost(i64::MAX), "somebody else's file is in it");
    }
}

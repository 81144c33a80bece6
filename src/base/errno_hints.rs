//! Explains misleading errnos: which limit of the system was reached, its value, and where it is
//! set. Reads the values only after a failure.

use crate::base::error::Error;
use crate::base::mountinfo::{mounts, table_of};
use rustix::io::Errno;

fn sysctl(name: &str) -> String {
    let value = std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")));
    format!("{name} = {}", value.as_deref().unwrap_or("?").trim_end())
}

/// For ENOSPC of `clone3(2)` and of calls that make mounts, which has nothing to do with a disk: a detached mount
/// is in a mount namespace of its own.
#[must_use]
pub fn of_namespaces() -> String {
    let limits = ["mnt", "pid", "user", "ipc"].map(|kind| sysctl(&format!("user.max_{kind}_namespaces")));
    format!("a limit on namespaces was reached: {} (sysctl), or 32 levels of nesting", limits.join(", "))
}

/// For ENOSPC of `move_mount(2)`.
#[must_use]
pub fn of_mounts() -> String {
    let mounts = table_of("self").map_or(0, |table| table.lines().count());
    format!(
        "the limit on mounts in a mount namespace was reached: {} (sysctl); a job starts with the node's {mounts} mounts",
        sysctl("fs.mount-max")
    )
}

/// Adds a hint to an error that has none: the limit that was reached, derived from the call and its errno.
#[must_use]
pub fn of_call(error: Error) -> Error {
    match error.errno() {
        _ if error.has_hint() => error,
        Some(Errno::NOSPC | Errno::USERS)
            if matches!(
                error.name_of_call(),
                Some("open_tree" | "fsopen" | "fsconfig(CREATE)" | "fsmount" | "clone3" | "unshare")
            ) =>
        {
            error.with_hint(of_namespaces())
        }
        Some(Errno::NOSPC) if error.name_of_call() == Some("move_mount") => error.with_hint(of_mounts()),
        Some(Errno::NOSPC) => error.with_hint("the file system has no space or no inodes left: see df and df -i"),
        Some(Errno::DQUOT) => error.with_hint("root's quota on that file system, or that of a project, is used up: see quota"),
        // A local file system never denies root access by itself.
        Some(Errno::ACCESS) if rustix::process::geteuid().is_root() => error.with_hint(
            "the file server maps root to another user (NFS: export it with no_root_squash, or choose a local file system), or a policy such as SELinux or AppArmor denies it (see the kernel's audit log)",
        ),
        Some(Errno::STALE) => error.with_hint("the file server no longer has it: mount the file system again"),
        Some(Errno::ROFS) => {
            error.with_hint("the file system is mounted read-only: see findmnt -T and the kernel's log")
        }
        _ => error,
    }
}

/// Why the kernel refuses a fresh /proc in a user namespace: it would show what is covered now
/// (`mount_too_revealing`, `fs/namespace.c`).
#[must_use]
pub fn of_proc() -> String {
    let hint = "in a user namespace the kernel allows a fresh /proc only if nothing is mounted over a part of the old \
                one or makes a part read-only; ";
    let table = table_of("self").unwrap_or_default();
    let points = mounts(&table).map(|mount| mount.point).filter(|point| point.starts_with("/proc/"));
    let found: Vec<_> = points.take(8).collect();
    if found.is_empty() {
        return format!("{hint}this node has no such mount, so look for a policy (AppArmor, SELinux, a container)");
    }
    format!("{hint}unmount {}, or remove CLONE_NEWUSER or CLONE_NEWPID from clone_ns_flags", found.join(", "))
}

/// The error of a failed `clone3(2)`, with a hint: ENOSPC, for example, has nothing to do with a disk.
#[must_use]
pub fn clone_error(intention: String, errno: Errno) -> Error {
    let error = Error::call(intention, "clone3", errno);
    match errno {
        Errno::PERM => error.with_hint(
            "root with CAP_SYS_ADMIN is needed; or a policy (AppArmor, SELinux, a container) forbids new namespaces",
        ),
        Errno::NOSYS => error.with_hint("the kernel is older than 5.5, or a system call filter hides clone3"),
        _ => of_call(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_space_means_the_disk_only_where_a_file_is_made() {
        let hint = |call| of_call(Error::call("try", call, Errno::NOSPC)).to_string();
        for call in ["open_tree", "fsopen", "fsmount", "clone3", "unshare"] {
            assert!(hint(call).contains("user.max_mnt_namespaces = "), "{}", hint(call));
            assert!(!hint(call).contains("df -i"), "{}", hint(call));
        }
        for call in ["mkdirat", "write", "symlinkat", "openat", "renameat2"] {
            assert!(hint(call).ends_with("no space or no inodes left: see df and df -i"), "{}", hint(call));
        }
        assert!(hint("move_mount").contains("fs.mount-max = "), "{}", hint("move_mount"));
    }
}

//! Trees that a user could make, and what is left of them.

use crate::job::remove::tree::*;
use rustix::fs::{CWD, Mode};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn dir_fd(path: &Path) -> rustix::fd::OwnedFd {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn until(deadline: Option<Instant>) -> Terms<'static> {
    Terms { deadline, ..Terms::default() }
}

#[test]
fn odd_names_types_and_links_go_and_what_they_point_to_stays() {
    let top = tempfile::tempdir().unwrap();
    let tree = top.path().join("trash/7");
    std::fs::create_dir_all(tree.join("a/b/c")).unwrap();
    std::fs::create_dir(top.path().join("outside")).unwrap();
    std::fs::write(top.path().join("outside/keep"), "x").unwrap();
    for name in [&b"new\nline"[..], b"\xff\xfe", b" ", b"-rf", b"*"] {
        std::fs::write(tree.join("a").join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    std::os::unix::fs::symlink("../../../outside", tree.join("a/link")).unwrap();
    std::fs::hard_link(top.path().join("outside/keep"), tree.join("hard")).unwrap();
    rustix::fs::mknodat(CWD, tree.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();

    let summary = remove_tree(dir_fd(&top.path().join("trash")).as_fd(), c"7", &Terms::default());
    assert!(summary.complete(), "{summary}");
    assert_eq!((summary.files, summary.directories), (9, 4));
    assert!(!tree.exists());
    assert_eq!(std::fs::read(top.path().join("outside/keep")).unwrap(), b"x");
}

fn make_chain(trash: &rustix::fd::OwnedFd, levels: usize) {
    let open = |dir: &rustix::fd::OwnedFd, name: &CStr| {
        rustix::fs::mkdirat(dir, name, Mode::RWXU).unwrap();
        rustix::fs::openat(dir, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    };
    let mut here = open(trash, c"9");
    for _ in 0..levels {
        here = open(&here, c"d");
    }
}

#[test]
fn depth_is_no_limit_and_descriptors_stay_few() {
    let top = tempfile::tempdir().unwrap();
    let trash = dir_fd(top.path());
    let stretch = deep::Descriptors::of_this_process().stretch;
    for levels in [stretch + MAX_DEPTH - 1, stretch + MAX_DEPTH, stretch + MAX_DEPTH + 1, 3000] {
        make_chain(&trash, levels);
        let summary = remove_tree(trash.as_fd(), c"9", &Terms::default());
        assert!(summary.complete(), "{levels} levels: {summary}");
        assert_eq!(summary.directories, levels as u64 + 1);
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    }
}

#[test]
#[ignore = "needs root"]
fn depth_takes_no_longer_on_a_bind_mount() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    // The removal program has the same limit.
    let rlimit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let rlimit = rustix::process::Rlimit { current: rlimit.maximum, ..rlimit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, rlimit).unwrap();
    let top = tempfile::tempdir().unwrap();
    let nothing = None::<&CStr>;
    rustix::mount::mount("tmpfs", top.path(), "tmpfs", rustix::mount::MountFlags::empty(), nothing).unwrap();
    let (below, bind) = (top.path().join("below"), top.path().join("bind"));
    for dir in [&below, &bind] {
        std::fs::create_dir(dir).unwrap();
    }
    rustix::mount::mount_bind(&below, &bind).unwrap();
    let round = |_| {
        [&below, &bind].map(|path| {
            let trash = dir_fd(path);
            make_chain(&trash, 30_000);
            let summary = remove_tree(trash.as_fd(), c"9", &Terms::default());
            assert!(summary.complete(), "{summary}");
            summary.took
        })
    };
    // The shortest of a few: other processes take time from some.
    let [plain, bound] = (0..4).map(round).reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1])]).unwrap();
    for mount in [bind.as_path(), top.path()] {
        rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
    // With `..` on the way up it would take ten times as long.
    assert!(bound < plain * 3, "{bound:?} on a bind mount, {plain:?} elsewhere");
}

#[test]
fn branches_at_every_level_of_a_deep_tree_are_all_found() {
    let top = tempfile::tempdir().unwrap();
    let trash = dir_fd(top.path());
    rustix::fs::mkdirat(&trash, c"9", Mode::RWXU).unwrap();
    let mut here = rustix::fs::openat(&trash, c"9", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let levels = 3 * deep::Descriptors::of_this_process().stretch;
    for _ in 0..levels {
        for name in [c"a", c"d", c"z", c"z/empty"] {
            rustix::fs::mkdirat(&here, name, Mode::RWXU).unwrap();
        }
        rustix::fs::mknodat(&here, c"a/file", FileType::RegularFile, Mode::RWXU, 0).unwrap();
        here = rustix::fs::openat(&here, c"d", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
    drop(here);
    let summary = remove_tree(trash.as_fd(), c"9", &Terms::default());
    assert!(summary.complete(), "{summary}");
    assert_eq!((summary.files, summary.directories), (levels as u64, 4 * levels as u64 + 1));
    assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
}

#[test]
fn a_large_tree_is_removed_by_several_threads() {
    let top = tempfile::tempdir().unwrap();
    for directory in 0..60 {
        let path = top.path().join(format!("9/a/{directory}/b"));
        std::fs::create_dir_all(&path).unwrap();
        for file in 0..80 {
            std::fs::write(path.join(file.to_string()), "").unwrap();
        }
    }
    let summary = remove_tree(dir_fd(top.path()).as_fd(), c"9", &Terms::default());
    assert!(summary.complete(), "{summary}");
    assert_eq!((summary.files, summary.directories), (4800, 122));
    assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root"]
fn a_mount_inside_is_left_alone_with_what_is_on_it() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let top = tempfile::tempdir().unwrap();
    let (tree, outside) = (top.path().join("9"), top.path().join("outside"));
    std::fs::create_dir_all(tree.join("a/mount")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("keep"), "x").unwrap();
    std::fs::write(tree.join("a/file"), "x").unwrap();
    // A bind mount of the same file system has the same device number.
    rustix::mount::mount_bind(&outside, tree.join("a/mount")).unwrap();
    let summary = remove_tree(dir_fd(top.path()).as_fd(), c"9", &Terms::default());
    rustix::mount::unmount(tree.join("a/mount"), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!((summary.mounts, summary.failed, summary.files), (1, 0, 1));
    assert!(outside.join("keep").exists() && !tree.join("a/file").exists());
}

#[test]
#[ignore = "needs root"]
fn flags_that_forbid_removal_are_taken_from_the_jobs_files_only() {
    let top = tempfile::tempdir_in("/var/tmp").unwrap();
    let tree = top.path().join("9");
    std::fs::create_dir_all(tree.join("d/e")).unwrap();
    for file in ["i", "a", "d/i", "twice"] {
        std::fs::write(tree.join(file), "x").unwrap();
    }
    std::fs::hard_link(tree.join("twice"), top.path().join("other")).unwrap();
    let set = |path: &Path, flag| {
        let fd = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let now = rustix::fs::ioctl_getflags(&fd).unwrap().difference(IFlags::IMMUTABLE | IFlags::APPEND);
        rustix::fs::ioctl_setflags(&fd, now | flag).unwrap();
    };
    for (path, flag) in [
        ("i", IFlags::IMMUTABLE),
        ("a", IFlags::APPEND),
        ("d/i", IFlags::IMMUTABLE),
        ("d/e", IFlags::APPEND),
        ("d", IFlags::IMMUTABLE),
        ("twice", IFlags::IMMUTABLE),
    ] {
        set(&tree.join(path), flag);
    }
    set(&tree, IFlags::IMMUTABLE);
    let summary = remove_tree(dir_fd(top.path()).as_fd(), c"9", &Terms::default());
    // The file that has a name outside keeps its flag, so the tree stays.
    assert_eq!((summary.failed, summary.first_failure), (1, Some(Errno::PERM)), "{summary}");
    assert_eq!(std::fs::read_dir(&tree).unwrap().count(), 1);
    set(&top.path().join("other"), IFlags::empty());
    assert!(remove_tree(dir_fd(top.path()).as_fd(), c"9", &Terms::default()).complete());
}

#[test]
#[ignore = "needs root"]
fn deep_branches_of_a_directory_are_all_found_and_what_stays_does_not_keep_the_rest() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let top = tempfile::tempdir().unwrap();
    let deep = top.path().join("9/1/2/3/4/5/6/7/8/9/10");
    for branch in 0..50 {
        std::fs::create_dir_all(deep.join(format!("{branch}/a/b/c"))).unwrap();
        std::fs::write(deep.join(format!("{branch}/a/file")), "x").unwrap();
    }
    let mount = deep.join("7/a/b/c");
    rustix::mount::mount_bind(top.path(), &mount).unwrap();
    let summary = remove_tree(dir_fd(top.path()).as_fd(), c"9", &Terms::default());
    rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!((summary.mounts, summary.failed, summary.files), (1, 0, 50), "{summary}");
    assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 1);
    assert!(remove_tree(dir_fd(top.path()).as_fd(), c"9", &Terms::default()).complete());
    assert!(!top.path().join("9").exists());
}

#[test]
#[ignore = "needs root"]
fn a_descriptor_of_the_user_makes_nothing_in_a_directory_that_was_taken() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let top = tempfile::tempdir().unwrap();
    std::fs::create_dir(top.path().join("d")).unwrap();
    std::os::unix::fs::chown(top.path().join("d"), Some(65534), Some(65534)).unwrap();
    let fd = dir_fd(&top.path().join("d"));
    take(fd.as_fd());
    let stat = rustix::fs::fstat(&fd).unwrap();
    assert_eq!((stat.st_uid, stat.st_mode & 0o7777), (0, 0o700));
    let made = std::thread::spawn(move || {
        rustix::thread::set_thread_res_uid(Uid::from_raw(65534), Uid::from_raw(65534), Uid::from_raw(65534)).unwrap();
        rustix::fs::mkdirat(&fd, c"x", Mode::RWXU)
    });
    assert_eq!(made.join().unwrap(), Err(Errno::ACCESS));
}

#[test]
#[ignore = "needs root"]
fn the_state_goes_last_and_stays_with_what_stays() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let top = tempfile::tempdir().unwrap();
    for name in ["9/.ns", "9/_tmp/mount"] {
        std::fs::create_dir_all(top.path().join(name)).unwrap();
    }
    std::fs::write(top.path().join("9/.ns/state"), "x").unwrap();
    let mount = top.path().join("9/_tmp/mount");
    rustix::mount::mount_bind(top.path(), &mount).unwrap();
    let summary = remove_tree(dir_fd(top.path()).as_fd(), c"9", &Terms::default());
    rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!((summary.mounts, summary.files), (1, 0), "{summary}");
    assert!(top.path().join("9/.ns/state").exists());
    // The mark of a dead job stays as well. Otherwise its epilog would run again.
    let mark = std::os::unix::fs::PermissionsExt::from_mode(0o500);
    std::fs::set_permissions(top.path().join("9"), mark).unwrap();
    rustix::mount::mount_bind(top.path(), &mount).unwrap();
    assert_eq!(remove_tree(dir_fd(top.path()).as_fd(), c"9", &Terms::default()).mounts, 1);
    rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH).unwrap();
    let mode = std::fs::metadata(top.path().join("9")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o7777, 0o500);
    assert!(remove_tree(dir_fd(top.path()).as_fd(), c"9", &Terms::default()).complete());
}

#[test]
fn out_of_time_it_stops_and_goes_on_when_called_again() {
    let top = tempfile::tempdir().unwrap();
    for name in ["9/a/b", "9/c"] {
        std::fs::create_dir_all(top.path().join(name)).unwrap();
    }
    std::fs::write(top.path().join("9/a/file"), "x").unwrap();
    let late = remove_tree(dir_fd(top.path()).as_fd(), c"9", &until(Some(Instant::now())));
    assert!(late.out_of_time && !late.complete() && late.failed == 0, "{late}");
    assert!(top.path().join("9/a/file").exists());
    let later = Instant::now().checked_add(Duration::from_secs(3600));
    assert!(remove_tree(dir_fd(top.path()).as_fd(), c"9", &until(later)).complete());
    assert!(!top.path().join("9").exists());
}

//! Tests how the supervisor reacts to events and replies, without slurmd.

use crate::remover::supervisor::*;
use rustix::fs::{CWD, Mode, OFlags};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

const ALICE: u32 = 1001;
const BOB: u32 = 1002;

/// A base path of its own, with a supervisor that has its trash open.
fn supervisor(top: &tempfile::TempDir) -> Supervisor {
    let base = top.path().to_str().unwrap().to_owned();
    make_trash(top);
    let now = Instant::now();
    // Nothing can be started with such a name.
    let options = Options { node: "\0".into(), ..Options::default() };
    let me = Identity { pid: rustix::process::getpid(), start_time: 0, pidfs_inode: 0 };
    let place = Place { trash: Some(trash(top)), base, has_jobs: false, try_again: now };
    Supervisor::at_start(options, Once::new(false), me, (None, vec![place]), now)
}

fn make_trash(top: &tempfile::TempDir) {
    rustix::fs::mkdirat(CWD, top.path().join(".trash"), Mode::RWXU).unwrap();
}

fn trash(top: &tempfile::TempDir) -> OwnedFd {
    rustix::fs::openat(CWD, top.path().join(".trash"), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn tree(top: &tempfile::TempDir, name: &str) -> Task {
    Task { kind: Kind::Tree, base: top.path().to_str().unwrap().to_owned(), name: name.into() }
}

/// A worker that says nothing, and the other end of its socket.
fn worker() -> (Worker, UnixStream) {
    let (socket, theirs) = UnixStream::pair().unwrap();
    let child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
    let worker = Worker::of(child, socket);
    (worker, theirs)
}

/// Its turn has begun.
fn begin(supervisor: &mut Supervisor, task: &Task, uid: u32) {
    supervisor.queue.add(task.clone(), uid, true, Instant::now());
    assert_eq!(supervisor.queue.take().as_ref(), Some(task));
}

#[test]
fn a_tree_that_has_the_name_of_one_that_is_gone_is_not_forgotten() {
    let top = tempfile::tempdir().unwrap();
    let mut supervisor = supervisor(&top);
    let task = tree(&top, "7.1001.0");
    begin(&mut supervisor, &task, ALICE);
    // The event of the second tree came while the first was known, and said nothing new.
    std::fs::create_dir(top.path().join(".trash/7.1001.0")).unwrap();
    supervisor.ended(&task, Outcome::Gone, Instant::now());
    assert_eq!(supervisor.queue.take().as_ref(), Some(&task));
    std::fs::remove_dir(top.path().join(".trash/7.1001.0")).unwrap();
    supervisor.ended(&task, Outcome::Gone, Instant::now());
    assert!(supervisor.queue.is_empty());
}

#[test]
fn a_tree_whose_process_has_died_is_held_up_and_comes_again() {
    let top = tempfile::tempdir().unwrap();
    let mut supervisor = supervisor(&top);
    let task = tree(&top, "7.1001.0");
    begin(&mut supervisor, &task, ALICE);
    let (mut worker, theirs) = worker();
    worker.task = Some(task.clone());
    supervisor.workers.push(worker);
    drop(theirs);
    supervisor.hear(0);
    assert!(supervisor.workers.is_empty() && supervisor.spare.is_none());
    let entry = supervisor.queue.get(&task).unwrap();
    assert_eq!(entry.reason.as_deref(), Some("its worker was killed or has crashed"));
    assert!(entry.is_told && !entry.is_running());
    // Not at once, where the next one may die as well.
    assert!(supervisor.queue.take().is_none());
    supervisor.queue.wake(supervisor.queue.next_wake().unwrap());
    assert_eq!(supervisor.queue.take().as_ref(), Some(&task));
}

#[test]
fn where_no_process_can_be_started_it_is_tried_once_a_second() {
    let top = tempfile::tempdir().unwrap();
    let mut supervisor = supervisor(&top);
    let tasks = [tree(&top, "7.1001.0"), tree(&top, "8.1002.0")];
    let now = Instant::now();
    supervisor.queue.add(tasks[0].clone(), ALICE, true, now);
    supervisor.queue.add(tasks[1].clone(), BOB, true, now);
    supervisor.give_out(now);
    assert!(supervisor.workers.is_empty() && supervisor.spare.is_none());
    assert_eq!((supervisor.start_after, supervisor.spare_at), (now + START_AGAIN, now + START_AGAIN));
    // That is no fault of the trees: nothing is said of them, and no turn of theirs is lost.
    for task in &tasks {
        let entry = supervisor.queue.get(task).unwrap();
        assert_eq!((entry.turns, &entry.reason, entry.is_running()), (0, &None, false));
    }
    supervisor.give_out(now + START_AGAIN / 2);
    assert_eq!(supervisor.queue.take().as_ref(), Some(&tasks[1]), "no turn begins before");
}

#[test]
fn one_process_of_a_user_names_survivors_at_a_time() {
    let top = tempfile::tempdir().unwrap();
    let mut supervisor = supervisor(&top);
    let trees = [("7.1001.0", ALICE), ("8.1001.0", ALICE), ("9.1002.0", BOB)].map(|(name, uid)| {
        let task = tree(&top, name);
        supervisor.queue.add(task.clone(), uid, true, Instant::now());
        supervisor.queue.get_mut(&task).unwrap().directories =
            vec![super::super::survivors::Directory { device: 1, inode: 2 }];
        task
    });
    let mut others = Vec::new();
    let mut tell = |supervisor: &mut Supervisor, task| {
        let (worker, theirs) = worker();
        supervisor.spare = Some(worker);
        others.push(theirs);
        supervisor.tell(task, Some("it takes long".to_owned()));
        supervisor.workers.iter().filter_map(|worker| worker.names_for).collect::<Vec<_>>()
    };
    assert_eq!(tell(&mut supervisor, &trees[0]), [ALICE]);
    assert_eq!(tell(&mut supervisor, &trees[1]), [ALICE]);
    assert_eq!(tell(&mut supervisor, &trees[2]), [ALICE, BOB]);
}

#[test]
#[ignore = "needs root"]
fn a_trash_that_was_replaced_is_opened_anew() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let top = tempfile::tempdir().unwrap();
    let mut supervisor = supervisor(&top);
    supervisor.open_trash_anew();
    assert!(supervisor.places[0].trash.is_some());
    std::fs::rename(top.path().join(".trash"), top.path().join("old")).unwrap();
    make_trash(&top);
    std::fs::create_dir(top.path().join(".trash/7.1001.0")).unwrap();
    supervisor.open_trash_anew();
    supervisor.open_places(Instant::now(), true);
    let stat = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_ino).unwrap();
    assert_eq!(supervisor.places[0].trash.as_ref().map(stat), Some(stat(&trash(&top))));
    assert_eq!(supervisor.queue.take(), Some(tree(&top, "7.1001.0")), "what is in it is found");
}

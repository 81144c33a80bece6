//! Decides whose turn it is. No system call: the caller passes the time.
//!
//! Users take turns, and so do the trees of a user. A user has at most [`PER_USER`] processes at a time, including
//! stuck ones, so that trees that never end delay only the files of their own user. Stuck processes do not count for
//! the limit of the node.

use crate::remover::survivors::Directory;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// The most processes of one user at a time.
pub const PER_USER: usize = 2;

/// The most processes, including stuck ones.
pub const MAX_PROCESSES: usize = 64;

/// The most trees of one user in the queue. The rest stays in the trash and is found when these are done.
pub const MAX_KNOWN: usize = 10_000;

/// The length of a turn. It is doubled each time.
const FIRST_TURN: Duration = Duration::from_secs(10);
const LONGEST_TURN: Duration = Duration::from_secs(320);

/// How long a tree that is held up is left alone. It is doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// A directory to remove.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Task {
    pub kind: Kind,
    pub base: String,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `<base>/.trash/<name>`
    Tree,
    /// `<base>/<name>`, of a dead job.
    Job,
}

/// The result of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left.
    Gone,
    /// The time of the turn was used up.
    More,
    /// Another process has locked it.
    Busy,
    /// It cannot be removed now: how many entries are known to be left, and why.
    Held { left: u64, why: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Running,
    Paused(Instant),
}

/// The state of a task.
#[derive(Clone, Debug)]
pub struct Entry {
    pub uid: u32,
    /// When it was first seen.
    pub since: Instant,
    /// The end of its job may wait for it.
    pub is_new: bool,
    /// The number of turns that it has had.
    pub turns: u32,
    /// The number of entries that are known to be left.
    pub left: u64,
    /// Why it is held up.
    pub reason: Option<String>,
    /// It was logged that it is held up.
    pub is_told: bool,
    /// The known directories of the user in it.
    pub directories: Vec<Directory>,
    pub turn: Duration,
    pause: Duration,
    state: State,
}

impl Entry {
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }
}

/// Everything that must be removed.
#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<Task, Entry>,
    ready: BTreeMap<u32, VecDeque<Task>>,
    /// Users with ready tasks, in the order of their turns.
    turns: VecDeque<u32>,
    running: HashMap<u32, usize>,
    known: HashMap<u32, usize>,
    /// Users with more trees than are in the queue.
    more: HashSet<u32>,
}

impl Queue {
    /// Adds a task, unless it is in the queue. `is_new`: it came while this program ran.
    pub fn add(&mut self, task: Task, uid: u32, is_new: bool, now: Instant) {
        if self.entries.contains_key(&task) {
            return;
        }
        let known = self.known.entry(uid).or_default();
        if *known >= MAX_KNOWN && !is_new {
            self.more.insert(uid);
            return;
        }
        *known += 1;
        let entry = Entry {
            uid,
            since: now,
            is_new,
            turns: 0,
            left: 0,
            reason: None,
            is_told: false,
            directories: Vec::new(),
            turn: FIRST_TURN,
            pause: Duration::ZERO,
            state: State::Ready,
        };
        self.entries.insert(task.clone(), entry);
        self.make_ready(uid, task);
    }

    fn make_ready(&mut self, uid: u32, task: Task) {
        let ready = self.ready.entry(uid).or_default();
        ready.push_back(task);
        if !self.turns.contains(&uid) {
            self.turns.push_back(uid);
        }
    }

    /// The task whose turn it is, if a process may be started for it. It counts as running from now on.
    pub fn take(&mut self) -> Option<Task> {
        for _ in 0..self.turns.len() {
            let uid = self.turns.pop_front()?;
            let running = self.running.entry(uid).or_default();
            if *running >= PER_USER {
                self.turns.push_back(uid);
                continue;
            }
            let Some(task) = self.ready.get_mut(&uid).and_then(VecDeque::pop_front) else {
                self.ready.remove(&uid);
                continue;
            };
            *running += 1;
            if self.ready.get(&uid).is_some_and(|ready| !ready.is_empty()) {
                self.turns.push_back(uid);
            } else {
                self.ready.remove(&uid);
            }
            if let Some(entry) = self.entries.get_mut(&task) {
                entry.state = State::Running;
                entry.turns += 1;
            }
            return Some(task);
        }
        None
    }

    /// Records the end of a turn. Returns the entry if nothing is left of its task.
    pub fn ended(&mut self, task: &Task, outcome: Outcome, now: Instant) -> Option<Entry> {
        let entry = self.entries.get_mut(task)?;
        let uid = entry.uid;
        if let Some(running) = self.running.get_mut(&uid) {
            *running = running.saturating_sub(1);
        }
        match outcome {
            Outcome::Gone => {
                let gone = self.entries.remove(task);
                if let Some(known) = self.known.get_mut(&uid) {
                    *known -= 1;
                    if *known == 0 {
                        self.known.remove(&uid);
                        self.running.remove(&uid);
                    }
                }
                return gone;
            }
            Outcome::More => {
                entry.turn = (entry.turn * 2).min(LONGEST_TURN);
                entry.pause = Duration::ZERO;
                entry.state = State::Ready;
                self.make_ready(uid, task.clone());
            }
            Outcome::Busy => {
                // This was no turn.
                entry.turns -= 1;
                entry.state = State::Paused(now + FIRST_PAUSE);
            }
            Outcome::Held { left, why } => {
                entry.left = left;
                entry.pause = (entry.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                entry.turn = (entry.turn * 2).min(LONGEST_TURN);
                entry.reason = Some(why);
                entry.state = State::Paused(now + entry.pause);
            }
        }
        None
    }

    /// Makes tasks ready whose pause is over.
    pub fn wake(&mut self, now: Instant) {
        let due: Vec<(u32, Task)> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.state, State::Paused(until) if until <= now))
            .map(|(task, entry)| (entry.uid, task.clone()))
            .collect();
        for (uid, task) in due {
            if let Some(entry) = self.entries.get_mut(&task) {
                entry.state = State::Ready;
            }
            self.make_ready(uid, task);
        }
    }

    /// When the next pause ends.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let pauses = self.entries.values().filter_map(|entry| match entry.state {
            State::Paused(until) => Some(until),
            _ => None,
        });
        pauses.min()
    }

    /// Should the trash be listed again? There is a user with few tasks left in the queue and more trees in the trash.
    pub fn wants_more(&mut self) -> bool {
        let known = &self.known;
        let done = |uid: &u32| known.get(uid).copied().unwrap_or(0) < MAX_KNOWN / 2;
        if self.more.iter().any(done) {
            self.more.clear();
            return true;
        }
        false
    }

    #[must_use]
    pub fn get(&self, task: &Task) -> Option<&Entry> {
        self.entries.get(task)
    }

    pub fn get_mut(&mut self, task: &Task) -> Option<&mut Entry> {
        self.entries.get_mut(task)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Task, &Entry)> {
        self.entries.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Task, &mut Entry)> {
        self.entries.iter_mut()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Is a task running or ready?
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.entries.values().any(|entry| matches!(entry.state, State::Ready | State::Running))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str) -> Task {
        Task { kind: Kind::Tree, base: "/b".into(), name: name.into() }
    }

    #[test]
    fn users_take_turns_and_one_has_a_few_processes_only() {
        let mut queue = Queue::default();
        let now = Instant::now();
        for name in ["a1", "a2", "a3", "a4"] {
            queue.add(task(name), 1001, true, now);
        }
        queue.add(task("b1"), 1002, true, now);
        queue.add(task("b1"), 1002, true, now);
        let next = |queue: &mut Queue| queue.take().map(|task| task.name);
        assert_eq!(next(&mut queue).as_deref(), Some("a1"));
        assert_eq!(next(&mut queue).as_deref(), Some("b1"));
        assert_eq!(next(&mut queue).as_deref(), Some("a2"));
        assert_eq!(next(&mut queue), None, "two of one user run");
        queue.add(task("b2"), 1002, true, now);
        assert_eq!(next(&mut queue).as_deref(), Some("b2"));
        // The tree needs more than one turn. The next turn is another tree's.
        queue.ended(&task("a1"), Outcome::More, now);
        assert_eq!(next(&mut queue).as_deref(), Some("a3"));
        queue.ended(&task("a3"), Outcome::Gone, now);
        assert_eq!(next(&mut queue).as_deref(), Some("a4"));
    }

    #[test]
    fn what_is_held_up_comes_again_later_and_later() {
        let mut queue = Queue::default();
        let now = Instant::now();
        queue.add(task("x"), 1, true, now);
        let mut moment = now;
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert!(queue.take().is_some());
            queue.ended(&task("x"), Outcome::Held { left: 1, why: "no".into() }, moment);
            assert!(queue.take().is_none());
            let wake = queue.next_wake().unwrap();
            pauses.push((wake - moment).as_secs());
            queue.wake(moment);
            assert!(queue.take().is_none());
            moment = wake;
            queue.wake(moment);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert!(queue.take().is_some());
        assert!(queue.ended(&task("x"), Outcome::Gone, moment).is_some_and(|entry| entry.turns == 13));
        assert!(queue.is_empty());
    }

    #[test]
    fn of_a_million_trees_some_are_kept_in_mind_and_others_come_in_between() {
        let mut queue = Queue::default();
        let now = Instant::now();
        for number in 0..MAX_KNOWN + 500 {
            queue.add(task(&format!("a{number}")), 1001, false, now);
        }
        assert_eq!(queue.iter().count(), MAX_KNOWN);
        queue.add(task("b"), 1002, false, now);
        assert_eq!(queue.take().map(|task| task.name).as_deref(), Some("a0"));
        assert_eq!(queue.take().map(|task| task.name).as_deref(), Some("b"));
        // A job that ends now is not forgotten.
        queue.add(task("new"), 1001, true, now);
        assert!(queue.get(&task("new")).is_some());
        assert!(!queue.wants_more());
        queue.ended(&task("a0"), Outcome::Gone, now);
        for _ in 1..=MAX_KNOWN / 2 + 2 {
            let next = queue.take().unwrap();
            queue.ended(&next, Outcome::Gone, now);
        }
        assert!(queue.wants_more());
        assert!(!queue.wants_more(), "until the trash was listed again");
    }
}

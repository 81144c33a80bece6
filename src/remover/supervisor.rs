//! The process that slurmd starts. It finds what must be removed and assigns it to workers.
//!
//! It waits only for events. It opens `.trash` and the directories of jobs, which belong to root, and never anything in
//! a tree, because a user could make it wait.

mod jobs;
mod report;

use self::report::Report;
use crate::base::base_dir::open_base;
use crate::base::error::{Doing, Error};
use crate::base::listing::{job_id, visit};
use crate::base::log::{Level, Log};
use crate::job::record::process::Identity;
use crate::job::remove::trash::{TRASH, announce, open_trash};
use crate::remover::log::Once;
use crate::remover::process::{Heard, Worker, waits_in};
use crate::remover::queue::{Kind, MAX_PROCESSES, Outcome, Queue, Task};
use crate::remover::status::Status;
use crate::remover::worker::{Request, uid_of_tree};
use crate::remover::{Options, PROGRAM};
use crate::sys::process::timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::inotify;
use rustix::process::PidfdFlags;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::process::Child;
use std::time::{Duration, Instant};

/// How often all job directories are inspected. If all slurmstepds of a job were killed, nothing announces its end.
const LOOK: Duration = Duration::from_secs(600);
/// The same if a job has started since, or slurmd has ended.
const LOOK_SOON: Duration = Duration::from_secs(10);

/// The pause before a job that is about to end is inspected again. It is doubled each time.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// How often `.trash` is listed if root has no inotify instance or watch left.
const LOOK_WITHOUT_EVENTS: Duration = Duration::from_secs(1);

/// How often a base path that could not be opened is tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(60);

/// A worker that has removed nothing for this long makes way for others.
const STUCK: Duration = Duration::from_secs(10);

/// A tree that is still there after this many turns (10, 20 and 40 s) is logged.
const MANY_TURNS: u32 = 4;

/// The pause before a spare worker that was used is replaced.
const SPARE: Duration = Duration::from_millis(20);

/// The pause after a worker could not be started.
const START_AGAIN: Duration = Duration::from_secs(1);

/// The most processes that name survivors.
const MAX_NAMING: usize = 8;

/// The number of workers that are not stuck, at the same time, on a node with few CPUs.
const AT_LEAST: usize = 4;

/// Entry point of the supervisor. If it fails, slurmd starts the program again.
pub fn run(options: Options) -> Result<(), String> {
    let mut supervisor = Supervisor::new(options).map_err(|error| format!("{PROGRAM}: {error}"))?;
    while !supervisor.is_over() {
        supervisor.turn();
    }
    Ok(())
}

/// The directory of a watch.
#[derive(Clone, Debug)]
enum Watched {
    /// Job directories.
    Base(String),
    /// The trash of this base.
    Trash(String),
}

/// A base path, and its open trash.
#[derive(Debug)]
struct Place {
    base: String,
    has_jobs: bool,
    /// Locked as long as this process lives: see [`announce`].
    trash: Option<OwnedFd>,
    try_again: Instant,
}

/// A job that is about to end.
#[derive(Debug)]
struct Awaited {
    at: Instant,
    pause: Duration,
}

#[derive(Debug)]
struct Supervisor {
    options: Options,
    host: Once,
    me: Identity,
    queue: Queue,
    events: Option<OwnedFd>,
    watches: HashMap<i32, Watched>,
    places: Vec<Place>,
    workers: Vec<Worker>,
    /// A worker that waits for a request, so that the end of a job need not wait until one has started.
    spare: Option<Worker>,
    spare_at: Instant,
    /// No turn begins before this time.
    start_after: Instant,
    /// Processes that have ended and are not reaped yet.
    ended: Vec<Child>,
    awaited: HashMap<(String, String), Awaited>,
    /// When all job directories are inspected again.
    look_at: Instant,
    looked: Instant,
    jobs: usize,
    /// When slurmd was seen to have ended.
    slurmd_ended: Option<Instant>,
    report: Report,
    is_superseded: bool,
}

impl Supervisor {
    fn new(options: Options) -> Result<Self, Error> {
        let me = rustix::process::getpid();
        let identity = rustix::process::pidfd_open(me, PidfdFlags::empty())
            .and_then(|pidfd| Identity::of(me, pidfd.as_fd()))
            .doing("pidfd_open", || "identify this process".to_owned())?;
        // A slurmd that does not read must not stop a removal.
        let _ = rustix::io::ioctl_fionbio(rustix::stdio::stdout(), true);
        let now = Instant::now();
        let place = |has_jobs| move |base: &String| Place { base: base.clone(), has_jobs, trash: None, try_again: now };
        let places =
            options.bases.iter().map(place(true)).chain(options.trash.iter().map(place(false))).collect::<Vec<_>>();
        let host = Once::new(options.debug);
        let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .inspect_err(|errno| {
                let error = Error::call("watch the base paths", "inotify_init1", *errno);
                host.log(Level::Warning, format_args!("{error}; they are polled once a second"));
            })
            .ok();
        let mut supervisor = Self::at_start(options, host, identity, (events, places), now);
        let former = Status::read(&supervisor.options.spool, &supervisor.options.status).ok().flatten();
        supervisor.open_places(now, false);
        supervisor.inherit(former.unwrap_or_default(), now);
        // A former program sees this and ends.
        supervisor.write_status(now);
        Ok(supervisor)
    }

    /// A supervisor that has not inspected anything yet.
    fn at_start(
        options: Options,
        host: Once,
        me: Identity,
        (events, places): (Option<OwnedFd>, Vec<Place>),
        now: Instant,
    ) -> Self {
        Self {
            options,
            host,
            me,
            queue: Queue::default(),
            events,
            watches: HashMap::new(),
            places,
            workers: Vec::new(),
            spare: None,
            spare_at: now,
            start_after: now,
            ended: Vec::new(),
            awaited: HashMap::new(),
            look_at: now,
            looked: now,
            jobs: 0,
            slurmd_ended: None,
            report: Report::default(),
            is_superseded: false,
        }
    }

    /// Does everything that is due, and waits once.
    fn turn(&mut self) {
        let now = Instant::now();
        self.queue.wake(now);
        self.open_places(now, true);
        if self.events.is_none() || self.queue.wants_more() {
            self.list_all_trash(self.events.is_none());
        }
        if now >= self.look_at {
            self.look_at_all(now);
        }
        self.look_at_awaited(now);
        self.find_stuck(now);
        self.give_out(now);
        self.write_status(now);
        self.ended.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        self.wait(now);
    }

    /// Has slurmd ended, with nothing left to do here? Or has another program taken over?
    fn is_over(&self) -> bool {
        // The number of jobs is known when they were inspected after the end of slurmd.
        let has_nothing = || self.jobs == 0 && !self.queue.is_active() && self.awaited.is_empty();
        self.is_superseded || (self.slurmd_ended.is_some_and(|ended| self.looked > ended) && has_nothing())
    }

    /// Opens, watches and lists the base paths that are not open yet.
    fn open_places(&mut self, now: Instant, is_new: bool) {
        for index in 0..self.places.len() {
            let Some(place) =
                self.places.get_mut(index).filter(|place| place.trash.is_none() && now >= place.try_again)
            else {
                continue;
            };
            place.try_again = now + OPEN_AGAIN;
            let (base, has_jobs) = (place.base.clone(), place.has_jobs);
            match self.open_place(&base, has_jobs) {
                Ok(trash) => {
                    if let Some(place) = self.places.get_mut(index) {
                        place.trash = Some(trash);
                    }
                    self.list_trash(&base, is_new);
                    self.look_at = now;
                }
                Err(error) => {
                    self.host.log(Level::Error, format_args!("{error}; it is tried again every minute"));
                }
            }
        }
    }

    /// Closes each trash that is no longer the one at its path, for example because a file system was mounted there.
    fn open_trash_anew(&mut self) {
        let now = Instant::now();
        let id = |fd: rustix::fd::BorrowedFd<'_>| rustix::fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino));
        for place in &mut self.places {
            let Some(trash) = &place.trash else { continue };
            let now_there = open_base(&place.base)
                .ok()
                .and_then(|base| rustix::fs::statat(&base, TRASH, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).ok());
            if now_there.map(|stat| (stat.st_dev, stat.st_ino)) != id(trash.as_fd()) {
                (place.trash, place.try_again) = (None, now);
            }
        }
    }

    fn open_place(&mut self, base: &str, has_jobs: bool) -> Result<OwnedFd, Error> {
        use inotify::WatchFlags;
        let fd = open_base(base)?;
        if has_jobs {
            // A job that starts, and one that ends or is marked as dead: see delete::mark_dead and delete::notify.
            let flags = WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::ATTRIB;
            self.watch(&fd, flags, Watched::Base(base.to_owned()));
        }
        let trash = open_trash(fd.as_fd(), base)?;
        self.watch(&trash, WatchFlags::MOVED_TO, Watched::Trash(base.to_owned()));
        announce(trash.as_fd());
        Ok(trash)
    }

    fn watch(&mut self, directory: &OwnedFd, flags: inotify::WatchFlags, what: Watched) {
        let Some(events) = &self.events else { return };
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        match inotify::add_watch(events, path.as_str(), flags | inotify::WatchFlags::ONLYDIR) {
            Ok(number) => {
                self.watches.insert(number, what);
            }
            Err(errno) => {
                let error = Error::call("watch the base paths", "inotify_add_watch", errno);
                self.host.log(Level::Warning, format_args!("{error}; they are polled once a second"));
                self.events = None;
            }
        }
    }

    fn list_all_trash(&mut self, is_new: bool) {
        for index in 0..self.places.len() {
            if let Some(Place { base, trash: Some(_), .. }) = self.places.get(index) {
                let base = base.clone();
                self.list_trash(&base, is_new);
            }
        }
    }

    fn list_trash(&mut self, base: &str, is_new: bool) {
        let Some(trash) = trash_of(&self.places, base) else { return };
        let (now, queue) = (Instant::now(), &mut self.queue);
        let listed = visit(trash.as_fd(), &format!("{base}/.trash"), |name| {
            if let Some(uid) = uid_of_tree(name) {
                queue.add(Task { kind: Kind::Tree, base: base.to_owned(), name: name.to_owned() }, uid, is_new, now);
            }
            true
        });
        if let Err(error) = listed {
            self.host.log(Level::Error, format_args!("{error}"));
        }
    }

    /// Marks the workers that are stuck.
    fn find_stuck(&mut self, now: Instant) {
        let mut stuck = Vec::new();
        for worker in &mut self.workers {
            if worker.is_stuck || now.duration_since(worker.moved) < STUCK {
                continue;
            }
            worker.is_stuck = true;
            // Other workers may be stuck while they name survivors or run an epilog.
            if let Some(task) = worker.task.clone().filter(|task| is_removal(&self.queue, task)) {
                stuck.push((task, worker.child.id()));
            }
        }
        for (task, pid) in stuck {
            let why = format!("worker {pid} has removed nothing for {} s ({})", STUCK.as_secs(), waits_in(pid));
            self.tell(&task, Some(why));
        }
    }

    /// Logs once why a tree is not removed yet, and the processes that use it.
    fn tell(&mut self, task: &Task, why: Option<String>) {
        let Some(entry) = self.queue.get_mut(task) else { return };
        entry.reason = why.or(entry.reason.take());
        if std::mem::replace(&mut entry.is_told, true) {
            return;
        }
        let path = path_of(task);
        let (uid, reason, directories) =
            (entry.uid, entry.reason.clone().unwrap_or_default(), entry.directories.clone());
        self.host.relay.log(
            Level::Warning,
            format_args!("{path} of uid {uid} is not removed yet: {reason}; jobns-remover tries again: see jobns list"),
        );
        // One for each user and a few in all, because the file systems of the user may hold it up.
        let others = || self.workers.iter().filter_map(|worker| worker.names_for);
        if directories.is_empty() || others().count() >= MAX_NAMING || others().any(|other| other == uid) {
            return;
        }
        match self.take_worker() {
            Ok(mut worker) => {
                (worker.polite_at, worker.names_for) = (None, Some(uid));
                if worker.ask(&Request::Survivors { path, uid, directories }) {
                    self.workers.push(worker);
                } else {
                    self.ended.push(worker.child);
                }
            }
            Err(error) => self.host.log(Level::Error, format_args!("{error}")),
        }
    }

    /// Starts the turns that may be started.
    fn give_out(&mut self, now: Instant) {
        let limit = std::thread::available_parallelism().map_or(AT_LEAST, |cpus| cpus.get().max(AT_LEAST));
        while now >= self.start_after
            && self.workers.iter().filter(|worker| worker.task.is_some()).count() < MAX_PROCESSES
            && self.workers.iter().filter(|worker| !worker.is_stuck).count() < limit
        {
            let Some(task) = self.queue.take() else { break };
            let Some(entry) = self.queue.get(&task) else { continue };
            let wait = Duration::from_secs(self.options.wait.into());
            // It is sent as whole seconds.
            let waited_for =
                if entry.is_new { wait.saturating_sub(now.duration_since(entry.since)).as_secs() } else { 0 };
            let waited_for = Duration::from_secs(waited_for);
            let request =
                Request::Turn { task: task.clone(), turn: entry.turns, slice: entry.turn, polite_after: waited_for };
            match self.take_worker() {
                Ok(mut worker) => {
                    if worker.ask(&request) {
                        worker.task = Some(task);
                        worker.polite_at = Some(now + waited_for);
                        self.workers.push(worker);
                    } else {
                        // The spare one was killed.
                        self.ended.push(worker.child);
                        self.queue.ended(&task, Outcome::Busy, now);
                    }
                }
                // The task is not to blame.
                Err(error) => {
                    self.host.log(Level::Error, format_args!("{error}; it is tried again every second"));
                    self.queue.ended(&task, Outcome::Busy, now);
                    self.start_after = now + START_AGAIN;
                }
            }
        }
        // Not at once: the end of a job may wait for a worker that has just got a request and needs the CPU.
        if self.spare.is_none() && now >= self.spare_at {
            self.spare = Worker::start(&self.options).ok();
            self.spare_at = now + START_AGAIN;
        }
    }

    fn take_worker(&mut self) -> Result<Worker, Error> {
        match self.spare.take() {
            Some(worker) => {
                self.spare_at = Instant::now() + SPARE;
                Ok(worker)
            }
            None => Worker::start(&self.options),
        }
    }

    fn wait(&mut self, now: Instant) {
        let due = [
            Some(self.look_at),
            self.queue.next_wake(),
            self.spare.is_none().then_some(self.spare_at),
            self.awaited.values().map(|awaited| awaited.at).min(),
            self.workers.iter().filter(|worker| !worker.is_stuck).map(|worker| worker.moved + STUCK).min(),
            self.places.iter().filter(|place| place.trash.is_none()).map(|place| place.try_again).min(),
            (self.events.is_none() || self.slurmd_ended.is_some() || !self.ended.is_empty())
                .then_some(now + LOOK_WITHOUT_EVENTS),
            self.status_is_due(),
        ];
        let until = due.into_iter().flatten().min().unwrap_or(now + LOOK);
        let milliseconds = until.saturating_duration_since(now).as_millis().clamp(1, LOOK.as_millis());
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        for worker in &self.workers {
            fds.push(PollFd::from_borrowed_fd(worker.socket.as_fd(), PollFlags::IN));
        }
        let workers = fds.len();
        fds.extend(self.events.iter().map(|events| PollFd::new(events, PollFlags::IN)));
        let others = fds.len();
        // After slurmd has ended, its pidfd would end each wait at once.
        if self.slurmd_ended.is_none() {
            fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
        if poll(&mut fds, Some(&timespec(u32::try_from(milliseconds).unwrap_or(1000)))).is_err() {
            return;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let is_ready = |index: usize| ready.get(index).copied().unwrap_or_default();
        // This is first, because another program may have started.
        if is_ready(others) {
            self.slurmd_ended = Some(now);
            // If no job is alive, end soon: an administrator may want to unmount a base path.
            self.look_at = now + FIRST_LOOK;
        }
        if others > workers && is_ready(workers) {
            self.read_events();
        }
        // Backwards, because workers that have ended are removed from the list.
        for index in (0..workers).rev().filter(|index| is_ready(*index)) {
            self.hear(index);
        }
    }

    fn read_events(&mut self) {
        let Some(events) = self.events.take() else { return };
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = inotify::Reader::new(&events, &mut buffer);
        let now = Instant::now();
        let mut all = false;
        while let Ok(event) = reader.next() {
            if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                all = true;
                continue;
            }
            let Some(name) = event.file_name().and_then(|name| name.to_str().ok()) else { continue };
            match self.watches.get(&event.wd()).cloned() {
                Some(Watched::Trash(base)) => {
                    if let Some(uid) = uid_of_tree(name) {
                        self.queue.add(Task { kind: Kind::Tree, base, name: name.to_owned() }, uid, true, now);
                    }
                }
                Some(Watched::Base(base)) if job_id(name).is_some() => {
                    if event.events().contains(inotify::ReadFlags::ATTRIB) {
                        self.await_end(&base, name, now);
                    } else {
                        self.look_at = self.look_at.min((self.looked + LOOK_SOON).max(now + FIRST_LOOK));
                    }
                }
                // The trash was made, or made again.
                Some(Watched::Base(base)) if name.as_bytes() == TRASH.to_bytes() => {
                    for place in self.places.iter_mut().filter(|place| place.base == base) {
                        (place.trash, place.try_again) = (None, now);
                    }
                }
                _ => {}
            }
        }
        self.events = Some(events);
        if all {
            self.list_all_trash(true);
            self.look_at = now;
        }
    }

    /// Reads the replies of a worker.
    fn hear(&mut self, index: usize) {
        let Some(worker) = self.workers.get_mut(index) else { return };
        let heard = worker.hear();
        if let Some(entry) = worker.task.as_ref().and_then(|task| self.queue.get_mut(task))
            && !worker.directories.is_empty()
        {
            entry.directories = std::mem::take(&mut worker.directories);
        }
        let Heard::Ended(outcome) = heard else { return };
        let mut worker = self.workers.swap_remove(index);
        let task = worker.task.take();
        let now = Instant::now();
        // A worker at low priority is not used again.
        if outcome.is_some() && self.spare.is_none() && worker.polite_at.is_none_or(|polite_at| now < polite_at) {
            worker.be_spare();
            self.spare = Some(worker);
        } else {
            self.ended.push(worker.child);
        }
        if let Some(task) = task {
            let died = || Outcome::Held { left: 0, why: "its worker was killed or has crashed".to_owned() };
            self.ended(&task, outcome.unwrap_or_else(died), now);
        }
    }

    fn is_in_trash(&self, task: &Task) -> bool {
        trash_of(&self.places, &task.base).is_some_and(|trash| {
            rustix::fs::statat(trash, task.name.as_str(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
        })
    }

    fn ended(&mut self, task: &Task, outcome: Outcome, now: Instant) {
        let (is_held, is_busy) = (matches!(outcome, Outcome::Held { .. }), outcome == Outcome::Busy);
        let gone = self.queue.ended(task, outcome, now);
        if let Some(entry) = gone {
            // Meanwhile a tree of the next job with this number may have got the name.
            if task.kind == Kind::Tree && self.is_in_trash(task) {
                self.queue.add(task.clone(), entry.uid, true, now);
            }
            if entry.is_told {
                self.host.relay.log(
                    Level::Info,
                    format_args!("{} of uid {} is removed after {} turns", path_of(task), entry.uid, entry.turns),
                );
            }
            return;
        }
        let (turns, age) = self
            .queue
            .get(task)
            .map_or_else(Default::default, |entry| (entry.turns, now.saturating_duration_since(entry.since)));
        if !is_removal(&self.queue, task) {
            // The worker has logged the reason.
            if let Some(entry) = self.queue.get_mut(task) {
                entry.is_told = true;
            }
        } else if is_held {
            self.tell(task, None);
        } else if is_busy && age >= STUCK {
            self.tell(task, Some("another process has been removing it for a while".to_owned()));
        } else if turns == MANY_TURNS && !is_busy {
            self.tell(task, Some(format!("{turns} turns were not enough")));
        }
    }
}

/// Is a tree removed in these turns? For a dead job this is so, in its place, once its worker has named the
/// directories.
fn is_removal(queue: &Queue, task: &Task) -> bool {
    task.kind == Kind::Tree || queue.get(task).is_some_and(|entry| !entry.directories.is_empty())
}

fn trash_of<'a>(places: &'a [Place], base: &str) -> Option<&'a OwnedFd> {
    places.iter().find(|place| place.base == base)?.trash.as_ref()
}

fn path_of(task: &Task) -> String {
    match task.kind {
        Kind::Tree => format!("{}/.trash/{}", task.base, task.name),
        Kind::Job => format!("{}/{}", task.base, task.name),
    }
}

#[cfg(test)]
mod tests;

//! Writes the status file, and reads that of a former program.

use crate::base::log::{Level, Log};
use crate::remover::status::{Status, Tree, TreeState};
use crate::remover::supervisor::{Options, Supervisor, Task, path_of};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The shortest time between two writes of the file.
const WRITE: Duration = Duration::from_secs(1);

/// How often it is written if nothing has changed: a former program that ended at the same time may have written last.
const WRITE_AGAIN: Duration = Duration::from_secs(20);

/// The status that was written last.
#[derive(Debug, Default)]
pub(super) struct Report {
    compared: Option<Instant>,
    written: Option<Instant>,
    status: Status,
}

impl Supervisor {
    /// Takes over what a former program knew about trees that still exist.
    pub(super) fn inherit(&mut self, former: Status, now: Instant) {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut known: HashMap<String, Tree> = former.trees.into_iter().map(|tree| (tree.path.clone(), tree)).collect();
        for (task, entry) in self.queue.iter_mut() {
            if let Some(tree) = known.remove(&path_of(task)) {
                let age = Duration::from_secs(epoch.saturating_sub(tree.since));
                entry.since = now.checked_sub(age).unwrap_or(now);
                (entry.left, entry.reason) = (tree.left, tree.reason);
                (entry.is_told, entry.directories) = (tree.is_told, tree.directories);
            }
        }
    }

    pub(super) fn status_is_due(&self) -> Option<Instant> {
        let has_changed = self.slurmd_ended.is_some()
            || self.report.status.trees.len() != self.queue.iter().count()
            || self.queue.is_active();
        if has_changed { Some(self.report.compared? + WRITE) } else { Some(self.report.written? + WRITE_AGAIN) }
    }

    pub(super) fn write_status(&mut self, now: Instant) {
        if self.report.compared.is_some_and(|at| now.duration_since(at) < WRITE) {
            return;
        }
        self.report.compared = Some(now);
        let Options { spool, status: name, .. } = &self.options;
        if self.slurmd_ended.is_some()
            && let Ok(Some(Status { program: Some(other), .. })) = Status::read(spool, name)
            && other != self.me
            && other.is_alive()
        {
            self.is_superseded = true;
            return;
        }
        let status = self.status(now);
        let is_recent = self.report.written.is_some_and(|at| now.duration_since(at) < WRITE_AGAIN);
        if is_recent && status == self.report.status {
            return;
        }
        if let Err(error) = status.write(spool, name) {
            self.host.log(Level::Error, format_args!("{error}; jobns list cannot show what is being removed"));
        }
        (self.report.written, self.report.status) = (Some(now), status);
    }

    fn status(&self, now: Instant) -> Status {
        let stuck: HashSet<&Task> =
            self.workers.iter().filter(|worker| worker.is_stuck).filter_map(|worker| worker.task.as_ref()).collect();
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut trees: Vec<Tree> = self
            .queue
            .iter()
            .map(|(task, entry)| Tree {
                uid: entry.uid,
                since: epoch.saturating_sub(now.saturating_duration_since(entry.since)).as_secs(),
                state: match (entry.is_running(), &entry.reason) {
                    (true, _) if stuck.contains(task) => TreeState::Stuck,
                    (true, _) => TreeState::Runs,
                    (false, Some(_)) => TreeState::Held,
                    (false, None) => TreeState::Waits,
                },
                left: entry.left,
                path: path_of(task),
                reason: entry.reason.clone(),
                is_told: entry.is_told,
                directories: entry.directories.clone(),
            })
            .collect();
        trees.sort_by(|a, b| (a.since, &a.path).cmp(&(b.since, &b.path)));
        Status { program: Some(self.me), trees }
    }
}

//! Finds dead jobs.

use crate::base::base_dir::open_base;
use crate::base::error::Error;
use crate::base::log::{Level, Log};
use crate::job::record::live_jobs::live_jobs;
use crate::job::record::project;
use crate::job::remove::dead_jobs;
use crate::job::remove::dead_jobs::{Live, Verdict};
use crate::job::remove::lost;
use crate::remover::queue::{Kind, Task};
use crate::remover::supervisor::{Awaited, FIRST_LOOK, LONGEST_LOOK, LOOK, LOOK_SOON, Supervisor};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::time::Instant;

impl Supervisor {
    /// Inspects all job directories.
    pub(super) fn look_at_all(&mut self, now: Instant) {
        self.looked = now;
        self.look_at = now + if self.slurmd_ended.is_some() { LOOK_SOON } else { LOOK };
        self.jobs = 0;
        self.open_trash_anew();
        // Not as new, because there is no limit on new ones.
        self.list_all_trash(false);
        let asked = self.options.clone();
        let ask = || live_jobs(&asked.spool, &asked.node).ok();
        let live = Live::new(&ask);
        for base in &asked.bases {
            for path in dead_jobs::places(base, &asked.node) {
                let mut look = || -> Result<(), Error> {
                    let fd = open_base(&path)?;
                    dead_jobs::remove_all_unfinished(&self.host, fd.as_fd(), &path, &live)?;
                    for entry in dead_jobs::job_entries(&self.host, fd.as_fd(), &path, &asked.node, &live)? {
                        self.see(&path, &entry, now);
                    }
                    Ok(())
                };
                match look() {
                    Err(error) if error.errno() != Some(Errno::NOENT) => {
                        self.host.log(Level::Error, format_args!("{error}"));
                    }
                    _ => {}
                }
            }
        }
        self.look_for_strays(&live, now);
        let bases = asked.bases.iter().chain(&asked.trash);
        for base in bases.filter(|_| asked.project_ids.is_some()) {
            if let Err(error) = project::release_unused(base, asked.project_ids) {
                self.host.log(Level::Error, format_args!("{error}"));
            }
        }
    }

    /// Inspects the base paths of `dir_confs` for directories that no state file names.
    fn look_for_strays(&mut self, live: &Live<'_>, now: Instant) {
        let options = self.options.clone();
        for path in &options.trash {
            let mut look = || -> Result<(), Error> {
                let strays = lost::find(path, &options.node, &options.bases)?;
                for job in strays.jobs {
                    let task = Task { kind: Kind::Job, base: path.clone(), name: job.to_string() };
                    self.queue.add(task, 0, true, now);
                }
                if strays.some_wait {
                    self.look_at = self.look_at.min(now + LOOK_SOON);
                }
                dead_jobs::remove_all_unfinished(&self.host, open_base(path)?.as_fd(), path, live)
            };
            match look() {
                Err(error) if error.errno() != Some(Errno::NOENT) => {
                    self.host.log(Level::Error, format_args!("{error}"));
                }
                _ => {}
            }
        }
    }

    fn see(&mut self, path: &str, entry: &dead_jobs::JobEntry, now: Instant) {
        let name = entry.job.id().to_string();
        if entry.verdict == Verdict::Dead {
            let task = Task { kind: Kind::Job, base: path.to_owned(), name };
            return self.queue.add(task, entry.job.uid(), true, now);
        }
        self.jobs += usize::from(entry.verdict == Verdict::Alive);
        if entry.awaits_end {
            self.await_end(path, &name, now);
        }
        dead_jobs::log_why_it_stays(&self.host, path, entry);
    }

    pub(super) fn await_end(&mut self, base: &str, name: &str, now: Instant) {
        self.awaited
            .entry((base.to_owned(), name.to_owned()))
            .or_insert(Awaited { at: now + FIRST_LOOK, pause: FIRST_LOOK });
    }

    pub(super) fn look_at_awaited(&mut self, now: Instant) {
        let due: Vec<(String, String)> =
            self.awaited.iter().filter(|(_, awaited)| awaited.at <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            let (base, name) = &key;
            let live = || live_jobs(&self.options.spool, &self.options.node).ok();
            let look = || -> Result<Option<dead_jobs::JobEntry>, Error> {
                let fd = open_base(base)?;
                dead_jobs::job_entry(&self.host, fd.as_fd(), base, name, &self.options.node, &Live::new(&live))
            };
            let entry = look();
            let pause = self.awaited.get(&key).map_or(FIRST_LOOK, |awaited| awaited.pause);
            let goes_on = match entry {
                Ok(Some(entry)) if entry.verdict == Verdict::Dead => {
                    let task = Task { kind: Kind::Job, base: base.clone(), name: name.clone() };
                    self.queue.add(task, entry.job.uid(), true, now);
                    false
                }
                // Its slurmstepd has announced its end and may still be ending.
                Ok(Some(entry)) => entry.awaits_end || pause < LONGEST_LOOK,
                Ok(None) => false,
                Err(error) => error.errno() != Some(Errno::NOENT) && pause < LONGEST_LOOK,
            };
            if goes_on {
                let pause = (pause * 2).min(LONGEST_LOOK);
                self.awaited.insert(key, Awaited { at: now + pause, pause });
            } else {
                self.awaited.remove(&key);
            }
        }
    }
}

//! What the threads that remove one tree share.

use super::{REPORT, Summary, Terms};
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What the threads that remove one tree share.
pub(super) struct Shared<'a> {
    pub terms: &'a Terms<'a>,
    pub start: Instant,
    pub pool: Mutex<Pool>,
    pub changed: Condvar,
    /// Threads that wait and for whom there is no directory yet; a copy of the pool's numbers, without its lock.
    pub idle: AtomicUsize,
    pub files: AtomicU64,
    pub directories: AtomicU64,
    /// Reports that were due so far, and what the last one said.
    pub reports: AtomicU64,
    pub reported: AtomicU64,
}

#[derive(Default)]
pub(super) struct Pool {
    pub waiting: usize,
    pub handed: VecDeque<Handed>,
    pub closing: bool,
    /// What the threads that have ended removed.
    pub summary: Summary,
}

/// A directory that another thread is to remove.
pub(super) struct Handed {
    pub parent: Arc<OwnedFd>,
    pub name: CString,
    pub depth: usize,
    /// Of the directory that it is in: how many such are not done.
    pub outstanding: Arc<AtomicUsize>,
}

impl<'a> Shared<'a> {
    pub fn new(terms: &'a Terms<'a>) -> Self {
        Self {
            terms,
            start: Instant::now(),
            pool: Mutex::default(),
            changed: Condvar::new(),
            idle: AtomicUsize::new(0),
            files: AtomicU64::new(0),
            directories: AtomicU64::new(0),
            reports: AtomicU64::new(0),
            reported: AtomicU64::new(0),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count_idle(&self, pool: &Pool) {
        self.idle.store(pool.waiting.saturating_sub(pool.handed.len()), Ordering::Relaxed);
    }

    /// Hands a directory to a thread that waits; false when there is no such thread.
    pub fn hand_over(&self, parent: &Arc<OwnedFd>, name: &CStr, depth: usize, outstanding: &Arc<AtomicUsize>) -> bool {
        if self.idle.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut pool = self.lock();
        if pool.waiting <= pool.handed.len() {
            return false;
        }
        outstanding.fetch_add(1, Ordering::Relaxed);
        pool.handed.push_back(Handed {
            parent: Arc::clone(parent),
            name: name.to_owned(),
            depth,
            outstanding: Arc::clone(outstanding),
        });
        self.count_idle(&pool);
        drop(pool);
        self.changed.notify_all();
        true
    }

    /// The next directory that was handed over; None when there will be no more.
    pub fn take(&self) -> Option<Handed> {
        let mut pool = self.lock();
        pool.waiting += 1;
        loop {
            if let Some(handed) = pool.handed.pop_front() {
                pool.waiting -= 1;
                self.count_idle(&pool);
                return Some(handed);
            }
            if pool.closing {
                return None;
            }
            self.count_idle(&pool);
            pool = self.changed.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn wait_for(&self, outstanding: &AtomicUsize) {
        let mut pool = self.lock();
        while outstanding.load(Ordering::Acquire) > 0 {
            pool = self.changed.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Reports progress when it is time, and there is some.
    pub fn report(&self) {
        let Some(progress) = self.terms.progress else { return };
        let due = self.start.elapsed().as_secs() / REPORT.as_secs();
        if self.reports.load(Ordering::Relaxed) >= due || self.reports.swap(due, Ordering::Relaxed) >= due {
            return;
        }
        let (files, directories) = (self.files.load(Ordering::Relaxed), self.directories.load(Ordering::Relaxed));
        if self.reported.swap(files + directories, Ordering::Relaxed) != files + directories {
            progress(files, directories);
        }
    }
}

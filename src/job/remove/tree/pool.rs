//! The data that the threads that remove one tree share.

use crate::job::remove::tree::{REPORT, Summary, Terms};
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(super) struct Shared<'a> {
    pub terms: &'a Terms<'a>,
    pub start: Instant,
    pub pool: Mutex<Pool>,
    pub changed: Condvar,
    /// How many directories may be handed over now. It can be read without the lock of the pool.
    pub room: AtomicUsize,
    pub files: AtomicU64,
    pub directories: AtomicU64,
    /// The number of reports that were due so far, and the sum in the last one.
    pub reports: AtomicU64,
    pub reported: AtomicU64,
}

#[derive(Default)]
pub(super) struct Pool {
    /// The number of threads besides the first.
    pub helpers: usize,
    /// Directories that were handed over: at most one for each helper, so that each finds its next one at once.
    pub handed: VecDeque<Handed>,
    pub closing: bool,
    /// The results of the threads that have ended.
    pub summary: Summary,
}

/// A directory that another thread is to remove.
pub(super) struct Handed {
    pub parent: Arc<OwnedFd>,
    pub name: CString,
    pub depth: usize,
    /// How many directories of the same parent were handed over and are not done.
    pub outstanding: Arc<AtomicUsize>,
}

impl<'a> Shared<'a> {
    pub fn new(terms: &'a Terms<'a>) -> Self {
        Self {
            terms,
            start: Instant::now(),
            pool: Mutex::default(),
            changed: Condvar::new(),
            room: AtomicUsize::new(0),
            files: AtomicU64::new(0),
            directories: AtomicU64::new(0),
            reports: AtomicU64::new(0),
            reported: AtomicU64::new(0),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_room(&self, pool: &Pool) {
        self.room.store(pool.helpers.saturating_sub(pool.handed.len()), Ordering::Relaxed);
    }

    pub fn add_helper(&self) {
        let mut pool = self.lock();
        pool.helpers += 1;
        self.count_room(&pool);
    }

    /// Hands a directory to the next idle thread. Returns false if enough directories are waiting for one.
    pub fn hand_over(&self, parent: &Arc<OwnedFd>, name: &CStr, depth: usize, outstanding: &Arc<AtomicUsize>) -> bool {
        if self.room.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut pool = self.lock();
        if pool.helpers <= pool.handed.len() {
            return false;
        }
        outstanding.fetch_add(1, Ordering::Relaxed);
        pool.handed.push_back(Handed {
            parent: Arc::clone(parent),
            name: name.to_owned(),
            depth,
            outstanding: Arc::clone(outstanding),
        });
        self.count_room(&pool);
        drop(pool);
        self.changed.notify_all();
        true
    }

    /// The next directory that was handed over; None if there will be no more.
    pub fn take(&self) -> Option<Handed> {
        self.next(|pool| {
            let next = pool.handed.pop_front();
            if next.is_none() && pool.closing { None } else { Some(next) }
        })
    }

    /// A directory of this parent that was handed over and that no thread has taken, so that the caller does not wait
    /// for it. None: all are done.
    pub fn take_of(&self, outstanding: &Arc<AtomicUsize>) -> Option<Handed> {
        self.next(|pool| {
            if outstanding.load(Ordering::Acquire) == 0 {
                return None;
            }
            let own = pool.handed.iter().position(|handed| Arc::ptr_eq(&handed.outstanding, outstanding));
            Some(own.and_then(|position| pool.handed.remove(position)))
        })
    }

    /// Waits until `find` has found a directory, or gives up.
    fn next(&self, mut find: impl FnMut(&mut Pool) -> Option<Option<Handed>>) -> Option<Handed> {
        let mut pool = self.lock();
        loop {
            if let Some(handed) = find(&mut pool)? {
                self.count_room(&pool);
                return Some(handed);
            }
            pool = self.changed.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Records that a directory that was handed over is done.
    pub fn done(&self, outstanding: &AtomicUsize) {
        let pool = self.lock();
        outstanding.fetch_sub(1, Ordering::Release);
        drop(pool);
        self.changed.notify_all();
    }

    /// Reports progress if a report is due and there was some.
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

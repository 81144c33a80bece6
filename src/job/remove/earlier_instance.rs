//! Deletes what an earlier instance of a new job has left: a requeued job has the same number.

use crate::base::base_dir::open_base;
use crate::base::error::Error;
use crate::base::log::{Level, Log};
use crate::config::settings::Settings;
use crate::config::spelling;
use crate::job::Job;
use crate::job::record::job::{self, Found};
use crate::job::remove::delete::{Epilog, HOLDER_TIMEOUT_MS, LOCK_PAUSE, Removal, delete, lock_job};
use crate::job::remove::lost;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// The earlier instance of a job.
enum Earlier {
    /// It has no directory.
    Gone,
    Alive,
    /// With the lock of [`lock_job`], if its directory has what is locked.
    Dead(Option<OwnedFd>, Found),
}

/// Deletes the earlier instance of `job` if it is dead. Slurm can start a requeued job when the extern step of its last
/// run has ended, before stepd_delete has: this waits for the other process, and for its epilog.
///
/// # Errors
///
/// The job is alive, or the directory with its number is not provably that of a job.
pub(crate) fn delete_earlier_instance(
    host: &dyn Log,
    settings: &Settings,
    job: &Job,
    removal: Removal,
) -> Result<(), Error> {
    let base = open_base(&settings.base_path)?;
    let epilog_wait = settings.clone_ns_epilog.as_ref().map_or(0, |epilog| epilog.wait_seconds);
    let wait = Duration::from_millis(HOLDER_TIMEOUT_MS.into()) + Duration::from_secs(epilog_wait.into());
    let start = Instant::now();
    loop {
        match earlier_instance(base.as_fd(), settings, job, wait.saturating_sub(start.elapsed()))? {
            Earlier::Gone => return Ok(()),
            Earlier::Alive if start.elapsed() < wait => std::thread::sleep(LOCK_PAUSE),
            Earlier::Alive => {
                return Err(Error::because(
                    intention(settings, job),
                    "another instance of this job is still alive on this node",
                ));
            }
            Earlier::Dead(_lock, found) => {
                host.log(
                    Level::Info,
                    format_args!("job {}: removing the directory of an earlier instance", job.header.id),
                );
                // The epilog has already run for a job that is marked as dead.
                let epilog = Epilog::new(settings, job.slurm_conf.as_deref()).filter(|_| !found.is_marked);
                // If it cannot be moved, that is logged, and the new directory cannot be made.
                delete(host, &found.record, epilog, None, removal);
                return Ok(());
            }
        }
    }
}

fn intention(settings: &Settings, job: &Job) -> String {
    format!("make {}/{}", settings.base_path, job.header.id)
}

/// Another process may be deleting it: this waits for the lock.
fn earlier_instance(base: BorrowedFd<'_>, settings: &Settings, job: &Job, wait: Duration) -> Result<Earlier, Error> {
    let base_path = &settings.base_path;
    let name = job.header.id.to_string();
    let gone = || matches!(rustix::fs::statat(base, name.as_str(), AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT));
    let lock = match lock_job(base, job.header.id, wait) {
        Err(failed) if failed.errno == Errno::WOULDBLOCK => {
            return Err(Error::because(intention(settings, job), "an earlier instance of the job is being deleted")
                .with_hint("see jobns list"));
        }
        lock => lock.ok(),
    };
    if gone() {
        return Ok(Earlier::Gone);
    }
    let found = match job::read(base, base_path, &name) {
        // It was moved just now, or it is from an earlier boot, and not removed yet.
        Err(_) if gone() || lost::move_away(base, base_path, &name, &job.header.node)? => return Ok(Earlier::Gone),
        result => result.map_err(|why| {
            Error::because(intention(settings, job), format!("it exists: {why}"))
                .with_hint("inspect it, and move it away if nobody needs it")
        })?,
    };
    let node = &found.record.header.node;
    if *node != job.header.node {
        return Err(Error::because(intention(settings, job), format!("it belongs to node {node}"))
            .with_hint(spelling::one_node_per_base()));
    }
    Ok(if found.has_live_process() { Earlier::Alive } else { Earlier::Dead(lock, found) })
}

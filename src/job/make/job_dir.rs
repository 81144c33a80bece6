//! The directory of a job in one base. It is made, limited, recorded, and then named.

use crate::base::base_dir::{UNFINISHED, make_unfinished, open_base_for_job, remove_unfinished, rename_new};
use crate::base::error::{Doing, Error, FailedCall, TryingTo};
use crate::base::trusted_path::c_path;
use crate::config::settings::Settings;
use crate::config::spelling;
use crate::job::Job;
use crate::job::make::plan::Plan;
use crate::job::record::job::TreeRecord;
use crate::job::record::project;
use crate::job::record::state::{Line, Tree};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// The directory `<base>/<job>`, open.
pub(super) struct JobDir {
    pub(super) fd: OwnedFd,
    pub(super) record: TreeRecord,
}

impl JobDir {
    /// Makes it under a temporary name. From then on its contents are limited. `finish` records it, fills it, and renames
    /// it with the function that is passed to it. A directory of that name with another inode is not ours. After a
    /// failure nothing is left.
    pub(super) fn make<T>(
        (settings, job, plan): (&Settings, &Job, &Plan),
        base_path: &str,
        finish: impl FnOnce(&Self, &dyn Fn() -> Result<(), FailedCall>) -> Result<T, Error>,
    ) -> Result<(Self, T), Error> {
        let intention = || format!("make {base_path}/{}", job.header.id);
        let (name, unfinished) =
            (c_path(&job.header.id.to_string())?, c_path(&format!("{UNFINISHED}{}", job.header.id))?);
        let base = open_base_for_job(base_path, settings.auto_base_path)?;
        let base = base.as_fd();
        let fd = match make_unfinished(base, &unfinished) {
            Err(failed) if failed.errno == Errno::WOULDBLOCK => {
                return Err(Error::because(intention(), "another process is making it, perhaps on another node")
                    .with_hint(spelling::one_node_per_base()));
            }
            made => made.trying_to(intention)?,
        };
        let mut project = 0;
        let make = || {
            let stat = rustix::fs::fstat(&fd).doing("fstat", intention)?;
            if let Some((ids, limit)) = settings.project_ids.zip(plan.limit_of(base_path)) {
                let given = project::give(fd.as_fd(), job.header.id, ids, limit)?;
                project = given.ok_or_else(|| {
                    Error::because(intention(), format!("all project ids from {ids} are in use on the file system"))
                        .with_hint("see jobns list for what is still being removed, or make project_ids larger")
                })?;
            }
            let record = TreeRecord { base: base_path.to_owned(), device: stat.st_dev, inode: stat.st_ino, project };
            let dir = Self { fd, record };
            let finished = finish(&dir, &|| rename_new(base, &unfinished, base, &name))?;
            Ok((dir, finished))
        };
        let made = make();
        // The descriptor is closed, so the lock is released. If this fails, the removal program removes the directory.
        if made.is_err() {
            let _ = remove_unfinished(base, &unfinished);
            if project != 0 {
                let _ = project::release(base, project);
            }
        }
        made
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let TreeRecord { base, device, inode, project } = &self.record;
        let project = (*project != 0).then_some(Line::Project { id: *project, base });
        std::iter::once(Line::Tree(Tree { device: *device, inode: *inode, base })).chain(project)
    }
}

/// The line that says that `<base>/<job>` will be made, or was not made.
pub(super) const fn planned(base: &str) -> Line<'_> {
    Line::Tree(Tree { device: 0, inode: 0, base })
}

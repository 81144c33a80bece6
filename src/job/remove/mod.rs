//! Ends a job and removes its files.
//!
//! | file | runs in | what it does |
//! |---|---|---|
//! | [`delete`] | extern slurmstepd, the removal program | ends the holder, runs the epilog, moves the directories |
//! | [`earlier_instance`] | the extern slurmstepd of a new job | deletes the one that had its number |
//! | [`dead_jobs`] | the removal program; slurmd, which only looks | finds dead jobs and deletes them |
//! | [`lost`] | both | finds and moves directories whose state file a power cut has destroyed |
//! | [`slurms_leftovers`] | the removal program | does the same for jobs of Slurm's own plugin |
//! | [`mounts`] | both, and while a job is made | detaches what root's scripts have mounted for jobs |
//! | [`trash`] | both | the directory `.trash` of a base path |
//! | [`tree`] | the removal program | removes a tree that a user made |

pub(crate) mod dead_jobs;
pub mod delete;
pub(crate) mod earlier_instance;
pub(crate) mod lost;
pub(crate) mod mounts;
pub(crate) mod slurms_leftovers;
pub(crate) mod trash;
pub(crate) mod tree;

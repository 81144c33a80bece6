//! How a job ends, and how its files go.
//!
//! | file | runs in | what it does |
//! |---|---|---|
//! | [`delete`] | extern slurmstepd, the removal program | end of the holder, epilog, directories to the trash |
//! | [`dead_jobs`] | the removal program | finds jobs that are dead and deletes them |
//! | [`slurms_leftovers`] | the removal program | does so with what Slurm's own plugin has left |
//! | [`mounts`] | both, and as copies in each new job | what root's scripts have mounted for jobs |
//! | [`trash`] | both | the directory `.trash` of a base path |
//! | [`tree`] | the removal program | removes a tree that a user made |

pub(crate) mod dead_jobs;
pub mod delete;
pub(crate) mod mounts;
pub(crate) mod slurms_leftovers;
pub(crate) mod trash;
pub(crate) mod tree;

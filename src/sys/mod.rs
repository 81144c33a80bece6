//! System calls: those that rustix lacks, a few lines each, and some of rustix in the form that the other rooms need.
//!
//! # Safety
//!
//! `unsafe` is allowed only in this folder and in `slurm/`. Every block here makes a system call whose
//! number, argument order and argument types are those of the manual page that is named beside it.
//! So each comment only says which memory the kernel reads or writes, how long it lives, and why
//! nothing else sees it change.
//!
//! Nothing here allocates, locks or panics, so it may be used in the `clone3` child and in `join`. The exceptions are
//! `clone::spawn_sharing_memory`, `exec::CStringArray::new`, `exec::with_signal_mask` and `holder_image::image`, which
//! only the parent calls.

#![allow(unsafe_code)]
#![allow(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a register takes any integer"
)]
#![allow(clippy::must_use_candidate, reason = "a system call is made for its effect")]

pub(crate) mod btrfs;
pub mod clone;
pub mod exec;
pub(crate) mod holder_image;
pub(crate) mod mount;
pub mod process;
pub(crate) mod project;
pub(crate) mod quota;
pub(crate) mod signals;
pub(crate) mod syscall;

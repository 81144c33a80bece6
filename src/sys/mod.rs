//! The syscalls that rustix does not have, each a few lines.
//!
//! # Safety
//!
//! This folder and `slurm/` are the only places where `unsafe` is allowed. Every block here is of
//! one kind: a register-level system call whose number, argument order and argument types are
//! those of the manual page named beside it. The argument for each is therefore short: which
//! memory the kernel reads or writes, how long it lives, and why nobody else sees it change.
//!
//! Nothing here allocates, locks or panics, so it may be used in the `clone3` child and in `join`,
//! but for two constructors that only the parent calls: `exec::CStringArray::new` and
//! `holder_image::image`.

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
pub(crate) mod signals;
mod syscall;

//! slurm-jobns: Slurm's `namespace/linux` and `namespace/tmpfs` plugins in Rust.
//!
//! # The map
//!
//! ```text
//! slurmd ── init ── config: namespace.yaml → Settings ── node::prepare: can this node do it?
//!    │       └ restore: start jobns-remover (remover)      └ send_stepd: config::wire ──pipe──┐
//!    │                                                                                        ▼
//!    │                                    slurmstepd (extern) ── recv_stepd: config::wire → Settings
//!    │                                      stepd_create: job::make::{plan, create} ─ clone3 ─┐
//!    │                                        job::inside: a thread in the job's mounts       ▼
//!    │                                                         job::make::child: attach, then the holder
//!    │                                      join_external: hand out namespace fds   (sys::holder_image)
//!    │                                      stepd_delete: job::remove::delete → base_path/.trash
//!    │                                                              (remover → job::remove::tree)
//!    └ fork ── job::join: setns by pidfd ── exec slurmstepd (batch, steps)
//! ```
//!
//! | room | content | may use |
//! |---|---|---|
//! | [`slurm_version`] | versions of Slurm | nothing |
//! | [`sys`] | system calls, most of which rustix lacks | `unsafe`, system calls |
//! | [`config`] | turns text into checked settings; the pipe format. Fuzzed | no system call, no `unsafe` |
//! | [`base`] | errors, paths, small files | system calls |
//! | [`job`] | the life of a job's namespaces, behind the trait [`job::make::create::StepHost`] | system calls |
//! | [`node`] | slurmd's checks of the node before the first job | system calls |
//! | [`remover`] | `jobns-remover`: removes the files of ended jobs, in separate processes | system calls |
//! | [`slurm`] | the plugin's C ABI: the only code that accesses Slurm's memory | `unsafe`, Slurm's functions |
//! | [`cli`] | `jobns`, the command | standard streams |
//!
//! A room uses only rooms above it in this table. `tests/rooms` checks this.
//!
//! # Reading lists for an audit
//!
//! They are in SECURITY.md, with their lengths. `tests/audit` compares them with the source.

#![deny(unsafe_code)]

pub mod base;
pub mod cli;
pub mod config;
pub mod job;
pub mod node;
pub mod remover;
pub mod slurm;
pub mod slurm_version;
pub mod sys;

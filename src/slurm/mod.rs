//! The plugin as Slurm sees it. The only code that knows Slurm's memory and calls its functions.
//!
//! # Safety
//!
//! Besides `sys/` the only place where `unsafe` is allowed. What it rests on:
//!
//! * Slurm loads a plugin only if its `plugin_version` equals its own version exactly
//!   (`_verify_syms`, src/common/plugin.c), so the layout chosen at build time ([`layout`]) is that
//!   of the running daemon;
//! * prototypes of imported functions are those of Slurm's headers for these versions (`imports`);
//! * pointers that an entry point gets are valid for the call, as for any C plugin ([`entry`]).
//!
//! | file | what it contains |
//! |---|---|
//! | [`entry`] | the exported symbols: take C values, call the core, convert; catch panics |
//! | `flavour` | which of Slurm's two plugins this is; the other is not on for the same node |
//! | `in_slurmd`, `in_slurmstepd` | what each entry point does, in safe code |
//! | `logins` | the order in which a login enters its job's namespaces |
//! | `plugin` | what they share, and `join` |
//! | `step`, `gres` | slurmstepd's step record |
//! | [`version`] | the version of Slurm that the plugin is for |
//! | `imports` | Slurm's functions, looked up by name when the plugin is loaded |
//! | [`layout`] | where the fields of Slurm's structures lie, by release |
//! | `host` | Slurm as the core's host: log, process tracking, switch set-up |
//! | `remover` | the thread of slurmd that keeps the removal program running |

#![allow(unsafe_code)]
#![allow(clippy::cast_ptr_alignment, reason = "fields lie where the C compiler aligned them")]

pub(crate) mod entry;
mod flavour;
mod gres;
mod host;
mod imports;
mod in_slurmd;
mod in_slurmstepd;
pub mod layout;
mod logins;
mod plugin;
mod remover;
mod step;
pub(crate) mod version;

//! The plugin as Slurm sees it. Only this code accesses Slurm's memory and calls its functions.
//!
//! # Safety
//!
//! Besides `sys/` this is the only place where `unsafe` is allowed. It relies on these facts:
//!
//! * Slurm loads a plugin only if its `plugin_version` is exactly Slurm's version
//!   (`_verify_syms`, src/common/plugin.c), so the layout chosen at build time ([`layout`]) is that
//!   of the running daemon;
//! * the prototypes of imported functions are those of Slurm's headers for these versions (`imports`);
//! * pointers that Slurm passes to an entry point are valid for the call, as for any C plugin ([`entry`]).
//!
//! | file | content |
//! |---|---|
//! | [`entry`] | the exported symbols: convert C values and results, catch panics |
//! | `flavour` | which of Slurm's two plugins this is; refuses to run if the other is enabled for the node |
//! | `in_slurmd`, `in_slurmstepd` | the work of each entry point, in safe code |
//! | `logins` | the order in which a login enters its job's namespaces |
//! | `plugin` | the state that they share, and `join` |
//! | `step`, `gres` | slurmstepd's step record |
//! | [`version`] | the version of Slurm that the plugin is for |
//! | `imports` | Slurm's functions, looked up by name when the plugin is loaded |
//! | [`layout`] | the offsets of the fields of Slurm's structures, by release |
//! | `host` | Slurm as the host of `job/`: log, process tracking, switch set-up |
//! | `remover` | the thread of slurmd that keeps the removal program running |

#![allow(unsafe_code)]
#![allow(clippy::cast_ptr_alignment, reason = "the C compiler has aligned the fields")]

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

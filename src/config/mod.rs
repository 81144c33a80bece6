//! Text to checked settings, and settings to bytes and back.
//!
//! Everything here is pure: no system call, no clock, no environment, no global state. What comes in
//! is text from an administrator or bytes from a pipe; what comes out is either [`Settings`](settings::Settings) that hold
//! every promise listed there, or sentences that say what is wrong. No input makes it panic, and time
//! and memory are bounded by the constants in [`limits`].
//!
//! Reading order, which is also the way the data flows:
//!
//! | file | what it does |
//! |---|---|
//! | [`settings`], [`outcome`] | the types: what a file says about one node, and what reading it comes to |
//! | [`keys`] | the table of keys: names, types, defaults |
//! | [`flavour`] | which of Slurm's two plugins this is |
//! | [`spelling`] | how the file that was read spells a key |
//! | [`yaml`] | text to a small tree, each node with its place in the text |
//! | [`namespace_yaml`] | the top level of the tree, and the entry of this node |
//! | `mapping` | one mapping of options (`defaults`, `options` of an entry) to a layer |
//! | [`job_container_conf`] | the file of namespace/tmpfs: its lines to layers |
//! | `layer` | what a mapping or a line sets, each value with its place |
//! | `values` | one scalar to a value, by Slurm's rules for the file |
//! | `merge` | layers to settings; directories against base paths |
//! | [`proc`] | `proc_options` |
//! | [`mount_options`] | `nosuid,size=4g` to flags and tmpfs parameters, from closed lists |
//! | `pasted` | paths that look as if something else was meant |
//! | [`path`], [`pattern`] | absolute normalised paths; `%h %n` and `%j %S %u` |
//! | [`hostlist`] | does `n[1-3,7]` contain this node |
//! | [`cluster`] | do the names of nodes in the file fit any node |
//! | [`short`] | short lists, sorted without much code |
//! | [`check`] | the promises of [`Settings`](settings::Settings), checked as a whole |
//! | [`slurm_conf`] | single values of slurm.conf |
//! | [`lines`] | lines of a word and its value: what the plugin writes down for itself |
//! | [`wire`] | settings to lines for `send_stepd`, and back for `recv_stepd` |
//! | [`problem`] | errors and warnings with file, line, column and a mark under the text |

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod check;
pub mod cluster;
pub mod flavour;
pub mod hostlist;
pub mod job_container_conf;
pub mod keys;
mod layer;
pub mod limits;
pub mod lines;
mod mapping;
mod merge;
pub mod mount_options;
pub mod namespace_yaml;
pub mod outcome;
mod pasted;
pub mod path;
pub mod pattern;
pub mod problem;
pub mod proc;
pub mod settings;
pub mod short;
pub mod slurm_conf;
pub mod spelling;
pub(crate) mod suggest;
mod values;
pub mod wire;
pub mod yaml;

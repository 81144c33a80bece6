//! Text to checked settings, and settings to bytes and back.
//!
//! Everything here is pure: no system call, no clock, no environment. The only global state is the flag in
//! [`spelling`]. The input is text from an administrator or bytes from a pipe. The output is either
//! [`Settings`](settings::Settings) that keep every promise listed there, or sentences that say what is wrong. No input
//! causes a panic, and the constants in [`limits`] bound time and memory.
//!
//! Reading order, which is also the way the data flows:
//!
//! | file | what it does |
//! |---|---|
//! | [`settings`], [`outcome`] | the types: the settings of one node, and the outcome of reading a file |
//! | [`keys`] | the table of keys: names, types, defaults |
//! | [`flavour`] | which of Slurm's two plugins this build replaces |
//! | [`spelling`] | the name of a key in the file that was read |
//! | [`yaml`] | text to a small tree, each node with its place in the text |
//! | [`namespace_yaml`] | the top level of the tree, and the entry for this node |
//! | `mapping` | one mapping of options (`defaults`, `options` of an entry) to a layer |
//! | [`job_container_conf`] | the file of namespace/tmpfs: its lines to layers |
//! | `layer` | the values that a mapping or a line sets, each with its place |
//! | `values` | one scalar to a value, by Slurm's rules for the file |
//! | `merge` | layers to settings; directories against base paths |
//! | [`proc`] | `proc_options` |
//! | [`mount_options`] | `nosuid,size=4g` to flags and tmpfs parameters, from closed lists |
//! | `suspicious` | paths that were probably meant differently |
//! | [`path`], [`pattern`] | absolute normalised paths; `%h %n` and `%j %S %u` |
//! | [`hostlist`] | whether `n[1-3,7]` contains this node |
//! | [`cluster`] | whether the node names in the file exist in slurm.conf |
//! | [`size`] | `50%mem max 64G` to bytes, for what a job has |
//! | `short_list` | sorting short lists with little code |
//! | [`check`] | the promises of [`Settings`](settings::Settings), checked as a whole |
//! | [`slurm_conf`] | single values of slurm.conf |
//! | [`lines`] | lines of a word and its value: the format of the plugin's own files |
//! | [`wire`] | settings to lines for `send_stepd`, and back for `recv_stepd` |
//! | [`problem`] | errors and warnings with file, line, column and a mark under the text |

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod check;
pub(crate) mod cluster;
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
pub mod path;
pub mod pattern;
pub mod problem;
mod proc;
pub mod settings;
mod short_list;
pub mod size;
pub(crate) mod slurm_conf;
pub(crate) mod spelling;
pub(crate) mod suggest;
mod suspicious;
mod values;
pub mod wire;
mod yaml;

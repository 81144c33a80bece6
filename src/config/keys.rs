//! The table of the keys of both files, one row for each key. The readers, the merge, `jobns check` and the messages use
//! this table. `tests/keys.rs` compares it with the manual pages and the fuzz dictionaries.

use crate::config::flavour::Flavour;
use crate::config::settings::{Script, Settings};

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name in the program, which is that in namespace.yaml if there is one.
    pub name: &'static str,
    /// Its name in namespace.yaml.
    pub yaml: Option<&'static str>,
    /// Its name in job_container.conf.
    pub conf: Option<&'static str>,
    pub kind: Kind,
    /// The default as the manual pages write it.
    pub default: &'static str,
    /// Slurm's own plugin does not have it.
    pub is_ours: bool,
    pub meaning: &'static str,
}

/// The type of a key's value. If a key sets one field of [`Settings`], also that field.
#[derive(Debug)]
pub enum Kind {
    Flag(Field<bool>),
    Seconds(Field<u32>),
    Percent(Field<u32>),
    Script(Field<Option<Script>>),
    /// The time limit of the script in this field, in seconds. It comes after the row of the script.
    Wait(Field<Option<Script>>),
    BasePath,
    /// `CLONE_NEW…`
    Namespaces,
    /// `hidepid=…`
    HidePid,
    /// Paths below `/proc`.
    ProcPaths,
    /// Paths inside private directories, each alone or in a mapping.
    Keep,
    /// Permission bits.
    Mode,
    /// How much can be in a directory.
    Size,
    /// How many files can be in a directory.
    Inodes,
    /// A range of project ids.
    ProjectIds,
    /// Private directories in one string.
    Dirs,
    /// Private directories, a mapping for each.
    DirConfs,
    /// The nodes that a line is for.
    Nodes,
}

/// A field of [`Settings`].
#[derive(Debug)]
pub struct Field<T: 'static> {
    pub of: fn(&Settings) -> &T,
    pub of_mut: fn(&mut Settings) -> &mut T,
}

macro_rules! field {
    ($name:ident) => {
        Field { of: |settings| &settings.$name, of_mut: |settings| &mut settings.$name }
    };
}

/// A key of namespace.yaml that Slurm's plugin also has.
const fn slurms(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { name, yaml: Some(name), conf: None, kind, default, is_ours: false, meaning }
}

/// A key of namespace.yaml that only this plugin has.
const fn ours(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { is_ours: true, ..slurms(name, kind, default, meaning) }
}

impl Key {
    /// Makes it a key of job_container.conf as well, under this name.
    const fn in_conf(self, name: &'static str) -> Self {
        Self { conf: Some(name), ..self }
    }

    /// Makes it a key of job_container.conf only.
    const fn not_in_yaml(self) -> Self {
        Self { yaml: None, ..self }
    }

    /// Its name in this file; `None` if the file has no such key.
    pub(crate) const fn spelled(&self, format: Flavour) -> Option<&'static str> {
        match format {
            Flavour::Linux => self.yaml,
            Flavour::Tmpfs => self.conf,
        }
    }
}

/// All keys that can be set for a node, in the order in which `jobns check` prints them.
pub static KEYS: [Key; 28] = [
    slurms("node_name", Kind::Nodes, "", "the nodes that the line is for").in_conf("NodeName").not_in_yaml(),
    slurms("base_path", Kind::BasePath, "not set", "the directory for the files of jobs").in_conf("BasePath"),
    slurms("auto_base_path", Kind::Flag(field!(auto_base_path)), "false", "make base_path when slurmd starts")
        .in_conf("AutoBasePath"),
    ours("hide_base_path", Kind::Flag(field!(hide_base_path)), "false", "jobs see an empty base_path")
        .in_conf("HideBasePath"),
    slurms("clone_ns_flags", Kind::Namespaces, "CLONE_NEWNS", "the namespaces that a job gets"),
    slurms("shared", Kind::Flag(field!(shared)), "false", "later mounts of the node appear in the job")
        .in_conf("Shared"),
    slurms("disable_bpf_token", Kind::Flag(field!(disable_bpf_token)), "false", "do without a BPF token"),
    ours("user_ns_limits", Kind::Percent(field!(user_ns_limits)), "10", "percent of the node's limits for one job"),
    slurms("entire_step_in_ns", Kind::Flag(field!(entire_step_in_ns)), "false", "slurmstepd also enters the namespace")
        .in_conf("EntireStepInNS")
        .not_in_yaml(),
    slurms("init_script", Kind::Script(field!(init_script)), "not set", "runs before the namespaces are made")
        .in_conf("InitScript"),
    ours("init_script_wait", Kind::Wait(field!(init_script)), "10", "its time limit, in seconds")
        .in_conf("InitScriptWait"),
    slurms("user_ns_script", Kind::Script(field!(user_ns_script)), "not set", "writes the job's id maps"),
    ours("user_ns_script_wait", Kind::Wait(field!(user_ns_script)), "10", "its time limit, in seconds"),
    slurms("clone_ns_script", Kind::Script(field!(clone_ns_script)), "not set", "runs after the namespaces are made")
        .in_conf("CloneNSScript"),
    slurms("clone_ns_script_wait", Kind::Wait(field!(clone_ns_script)), "10", "its time limit, in seconds")
        .in_conf("CloneNSScript_Wait"),
    slurms("clone_ns_epilog", Kind::Script(field!(clone_ns_epilog)), "not set", "runs at the end of the job")
        .in_conf("CloneNSEpilog"),
    slurms("clone_ns_epilog_wait", Kind::Wait(field!(clone_ns_epilog)), "10", "its time limit, in seconds")
        .in_conf("CloneNSEpilog_Wait"),
    ours(
        "scripts_may_be_missing",
        Kind::Flag(field!(scripts_may_be_missing)),
        "false",
        "slurmd starts even if a script is missing",
    )
    .in_conf("ScriptsMayBeMissing"),
    ours(
        "removal_timeout",
        Kind::Seconds(field!(removal_timeout)),
        "60",
        "how long the end of a job waits for the removal of its files",
    )
    .in_conf("RemovalTimeout"),
    ours("proc_options", Kind::HidePid, "not set", "options of the /proc of a PID namespace"),
    ours("proc_keep", Kind::ProcPaths, "not set", "mounts on the node's /proc that jobs keep"),
    ours("dir_mode", Kind::Mode, "0700", "permission bits of the private directories").in_conf("DirMode").not_in_yaml(),
    ours("dir_size", Kind::Size, "not set", "how much can be in each of them"),
    ours("dir_inodes", Kind::Inodes, "not set", "how many files can be in each of them"),
    ours("project_ids", Kind::ProjectIds, "not set", "projects of ext4 or XFS for those in a base path"),
    slurms("dirs", Kind::Dirs, "/tmp,/dev/shm", "the private directories").in_conf("Dirs"),
    slurms("dir_confs", Kind::DirConfs, "not set", "the private directories, each with its options"),
    ours("keep", Kind::Keep, "not set", "paths of the node that stay visible inside private directories"),
];

/// The keys of namespace.yaml at its top level.
pub const TOP_KEYS: [&str; 3] = ["defaults", "node_confs", "strict"];

/// The keys of an entry of `node_confs`.
pub const ENTRY_KEYS: [&str; 2] = ["nodes", "options"];

/// The keys of an entry of `dir_confs`.
pub const DIR_KEYS: [&str; 9] = ["path", "base_path", "options", "tmpfs", "create", "owner", "mode", "size", "inodes"];

/// Those of an entry of `keep`.
pub const KEEP_KEYS: [&str; 3] = ["path", "mode", "missing"];

/// The keys of a file, each with its name there.
pub fn of(format: Flavour) -> impl Iterator<Item = (&'static str, &'static Key)> {
    KEYS.iter().filter_map(move |key| Some((key.spelled(format)?, key)))
}

/// The names of the keys of a file.
pub fn names(format: Flavour) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(move |key| key.spelled(format))
}

/// The key with this name in a file. Letter case matters in namespace.yaml only.
#[must_use]
pub fn find(word: &str, format: Flavour) -> Option<&'static Key> {
    let is_same = |name: &str| match format {
        Flavour::Linux => name == word,
        Flavour::Tmpfs => name.eq_ignore_ascii_case(word),
    };
    of(format).find(|(name, _)| is_same(name)).map(|(_, key)| key)
}

/// The name in a file of the key with this name in the program.
pub(crate) fn spelled(name: &str, format: Flavour) -> Option<&'static str> {
    KEYS.iter().find(|key| key.name == name)?.spelled(format)
}

/// The scripts of the settings, each with its key.
pub(crate) fn scripts(settings: &Settings) -> impl Iterator<Item = (&'static str, &Script)> {
    KEYS.iter().filter_map(move |key| match &key.kind {
        Kind::Script(field) => Some((key.name, (field.of)(settings).as_ref()?)),
        _ => None,
    })
}

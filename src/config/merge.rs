//! `defaults` and the entry of this node to the settings of this node.
//!
//! The rules are Slurm's: what an entry sets wins; empty text sets nothing; `dir_confs` wins over
//! `dirs` wherever each of them was set. Here is checked what needs the merged values and the names
//! of the node: the private directories against the base paths, above all.

use crate::config::layer::{BasePath, Layer, SCRIPTS, ScriptKeys, Set};
use crate::config::limits::{DEFAULT_REMOVAL_TIMEOUT, MAX_BASE_PATH};
use crate::config::namespace_yaml::File;
use crate::config::outcome::{Origin, Source};
use crate::config::path::{CLEANED, CLEANED_HINT, Clash, bases_clash, clash, is_cleaned};
use crate::config::pattern::expand_node;
use crate::config::private_dirs::DirSpec;
use crate::config::problem::{Report, Span, quote};
use crate::config::settings::{
    Backing, DEFAULT_DIRS, DEFAULT_USER_NS_LIMITS, DEFAULT_WAIT_SECONDS, DEV_SHM, Dir, DisabledWhy, HidePid,
    MountFlags, Namespaces, Node, NodeSettings, Script, Settings,
};
use crate::config::{check, wire};

/// Builds the settings of the node from `defaults` and its entry.
pub(super) struct Merge<'r, 't, 'n> {
    pub(super) report: &'r mut Report<'t>,
    pub(super) node: &'n Node<'n>,
    pub(super) sources: Vec<Source>,
}

impl Merge<'_, '_, '_> {
    pub(super) fn file(mut self, file: &File) -> Option<(NodeSettings, Vec<Source>)> {
        let nothing = Layer::default();
        let (defaults, entry) = (&file.defaults, file.entry.as_ref().unwrap_or(&nothing));
        self.warn_of_empty(defaults, entry);
        if let (Some(Set { value: true, at }), None) = (&file.strict, &file.entry) {
            let what = format!("no entry of node_confs names node {}, and strict is set", quote(self.node.name));
            let hint = "add one, with options: {} for the defaults or base_path: none if jobs are to get nothing";
            self.report.error(*at, what, hint);
        }
        let base = self.pick("base_path", entry.base_path.as_ref(), defaults.base_path.as_ref());
        let Some(base) = base else {
            return Some((NodeSettings::Disabled(DisabledWhy::NotConfigured), self.sources));
        };
        let pattern = match &base.value {
            BasePath::None => return Some((NodeSettings::Disabled(DisabledWhy::SetToNone), self.sources)),
            BasePath::Pattern(pattern) => pattern,
        };
        let base_path = self.base("base_path", pattern, base.at);
        let mut flag = |key, entry: &Option<Set<bool>>, defaults: &Option<Set<bool>>, built_in| {
            self.pick(key, entry.as_ref(), defaults.as_ref()).map_or(built_in, |set| set.value)
        };
        let auto_base_path = flag("auto_base_path", &entry.auto_base_path, &defaults.auto_base_path, false);
        let hide_base_path = flag("hide_base_path", &entry.hide_base_path, &defaults.hide_base_path, false);
        let shared = flag("shared", &entry.shared, &defaults.shared, false);
        let scripts_may_be_missing =
            flag("scripts_may_be_missing", &entry.scripts_may_be_missing, &defaults.scripts_may_be_missing, false);
        let disable_bpf_token = flag("disable_bpf_token", &entry.disable_bpf_token, &defaults.disable_bpf_token, false);
        let namespaces = self.pick("clone_ns_flags", entry.namespaces.as_ref(), defaults.namespaces.as_ref());
        let namespaces = namespaces.map_or_else(Namespaces::default, |set| set.value);
        if !namespaces.user {
            self.warn_of_idle_script(entry, defaults);
            self.warn_of_idle_limits(entry, defaults);
        }
        let limits = self.pick("user_ns_limits", entry.user_ns_limits.as_ref(), defaults.user_ns_limits.as_ref());
        let user_ns_limits = limits.map_or(DEFAULT_USER_NS_LIMITS, |set| set.value);
        let mut scripts = SCRIPTS.into_iter().zip(entry.scripts.iter().zip(&defaults.scripts));
        let mut script = || {
            let (keys, (entry, defaults)) = scripts.next()?;
            self.script(keys, entry, defaults)
        };
        let (init_script, user_ns_script, clone_ns_script, clone_ns_epilog) = (script(), script(), script(), script());
        let timeout = self.pick("removal_timeout", entry.removal_timeout.as_ref(), defaults.removal_timeout.as_ref());
        let removal_timeout = timeout.map_or(DEFAULT_REMOVAL_TIMEOUT, |set| set.value);
        let hide_pid = self.hide_pid(entry, defaults, namespaces);
        let keep = self.pick("proc_keep", entry.proc_keep.as_ref(), defaults.proc_keep.as_ref());
        let proc_keep = keep.map_or_else(Vec::new, |set| set.value.clone());
        let dirs = self.dirs(entry, defaults, base_path.as_deref(), base.at);
        let settings = Settings {
            auto_base_path,
            base_path: base_path?,
            hide_base_path,
            namespaces,
            shared,
            disable_bpf_token,
            user_ns_limits,
            entire_step_in_ns: true,
            init_script,
            user_ns_script,
            clone_ns_script,
            clone_ns_epilog,
            scripts_may_be_missing,
            removal_timeout,
            hide_pid,
            proc_keep,
            dirs,
        };
        if self.report.errors() == 0
            && let Err(sentence) = check::settings(&settings).and_then(|()| wire::fits(&settings))
        {
            // Everything that can be wrong has a message with a place above; this is the net below.
            self.report.error_without_place(sentence, "please report this: the message should name a line");
        }
        Some((NodeSettings::Enabled(settings), self.sources))
    }

    /// The entry's value, else that of `defaults`; notes where it comes from.
    fn pick<'v, T>(
        &mut self,
        key: &'static str,
        entry: Option<&'v Set<T>>,
        defaults: Option<&'v Set<T>>,
    ) -> Option<&'v Set<T>> {
        let line = |set: &Set<T>| self.report.line_of(set.at.start);
        let (value, origin) = match (entry, defaults) {
            (Some(set), _) => (Some(set), Origin::NodeEntry { line: line(set) }),
            (None, Some(set)) => (Some(set), Origin::Defaults { line: line(set) }),
            (None, None) => (None, Origin::BuiltIn),
        };
        self.sources.push(Source { key, origin });
        value
    }

    /// Empty text does not clear what `defaults` sets, which people may expect.
    fn warn_of_empty(&mut self, defaults: &Layer, entry: &Layer) {
        for (key, at) in &entry.empty {
            let script = SCRIPTS.iter().position(|(path, _)| path == key);
            let is_inherited = match *key {
                "base_path" => defaults.base_path.is_some(),
                "clone_ns_flags" => defaults.namespaces.is_some(),
                "dirs" => defaults.dirs.is_some() || defaults.dir_confs.is_some(),
                "proc_options" => defaults.proc_options.is_some(),
                "proc_keep" => defaults.proc_keep.is_some(),
                _ => script.and_then(|index| defaults.scripts.get(index)).is_some_and(|script| script.path.is_some()),
            };
            if is_inherited {
                let hint = match *key {
                    "base_path" => "write none to switch the plugin off here",
                    "clone_ns_flags" => "write CLONE_NEWNS for a mount namespace only",
                    "proc_options" => "write hidepid=off for a /proc without restrictions",
                    "proc_keep" => "write [] to keep nothing",
                    _ => "remove it here, or set it per entry and not in defaults",
                };
                self.report.warning(*at, format!("an empty {key} keeps the one of defaults"), hint);
            }
        }
    }

    /// Without a user namespace nobody runs user_ns_script. An entry may do without one that others
    /// have: then what stands in `defaults` is for those.
    fn warn_of_idle_script(&mut self, entry: &Layer, defaults: &Layer) {
        let index = SCRIPTS.iter().position(|(path, _)| *path == "user_ns_script");
        let path = |layer: &'_ Layer| index.and_then(|index| layer.scripts.get(index)?.path.as_ref().map(|set| set.at));
        let idle = path(entry).or(path(defaults).filter(|_| entry.namespaces.is_none()));
        if let Some(at) = idle {
            let what = "user_ns_script has no effect: clone_ns_flags has no CLONE_NEWUSER";
            self.report.warning(at, what, "add CLONE_NEWUSER, or remove the script");
        }
    }

    /// The same of user_ns_limits.
    fn warn_of_idle_limits(&mut self, entry: &Layer, defaults: &Layer) {
        let inherited = defaults.user_ns_limits.as_ref().filter(|_| entry.namespaces.is_none());
        if let Some(Set { at, .. }) = entry.user_ns_limits.as_ref().or(inherited) {
            let what = "user_ns_limits has no effect: clone_ns_flags has no CLONE_NEWUSER";
            self.report.warning(*at, what, "add CLONE_NEWUSER, or remove user_ns_limits");
        }
    }

    fn script(
        &mut self,
        keys: (&'static str, &'static str),
        entry: &ScriptKeys,
        defaults: &ScriptKeys,
    ) -> Option<Script> {
        let path = self.pick(keys.0, entry.path.as_ref(), defaults.path.as_ref())?;
        let wait = self.pick(keys.1, entry.wait.as_ref(), defaults.wait.as_ref()).map_or(0, |set| set.value);
        let wait_seconds = if wait == 0 { DEFAULT_WAIT_SECONDS } else { wait };
        Some(Script { path: path.value.clone(), wait_seconds })
    }

    /// `hidepid` of the fresh `/proc`. One that nothing would have is refused.
    fn hide_pid(&mut self, entry: &Layer, defaults: &Layer, namespaces: Namespaces) -> HidePid {
        let set = self.pick("proc_options", entry.proc_options.as_ref(), defaults.proc_options.as_ref());
        let Some(Set { value, at }) = set else { return HidePid::Off };
        if *value != HidePid::Off && !namespaces.pid {
            let what = "proc_options is for the /proc of a PID namespace, and there is none";
            self.report.error(*at, what, "add CLONE_NEWPID to clone_ns_flags, or write hidepid=off");
        }
        *value
    }

    /// A base path with the names of this node filled in.
    fn base(&mut self, key: &str, pattern: &str, at: Span) -> Option<String> {
        match expand_node(pattern, self.node) {
            Ok(path) if path.len() <= MAX_BASE_PATH => {
                if let Some(top) = is_cleaned(&path) {
                    let what = format!("{key} {} lies in {top}, {}", quote(&path), CLEANED);
                    self.report.warning(at, what, CLEANED_HINT);
                }
                Some(path)
            }
            Ok(path) => {
                let what = format!("{key} has {} bytes with the names of this node", path.len());
                self.report.error(at, what, format!("it can have {MAX_BASE_PATH}"));
                None
            }
            Err(error) => {
                self.report.error(at, format!("{key} {} {}", quote(pattern), error.what), error.hint);
                None
            }
        }
    }

    /// The private directories, checked against each other and the base paths, in mount order.
    fn dirs(&mut self, entry: &Layer, defaults: &Layer, base_path: Option<&str>, base_at: Span) -> Vec<Dir> {
        let confs = entry.dir_confs.as_ref().or(defaults.dir_confs.as_ref());
        let list = entry.dirs.as_ref().or(defaults.dirs.as_ref());
        if let (Some(confs), Some(list)) = (confs, list) {
            // Not when the entry's dir_confs replace the dirs of defaults: that is what they are for.
            if entry.dirs.is_some() || entry.dir_confs.is_none() {
                let line = self.report.line_of(confs.at.start);
                let what = format!("dirs has no effect, as dir_confs in line {line} takes its place");
                self.report.warning(list.at, what, "write the directories in dir_confs");
            }
        }
        let specs = match confs {
            Some(_) => self.pick("dir_confs", entry.dir_confs.as_ref(), defaults.dir_confs.as_ref()),
            None => self.pick("dirs", entry.dirs.as_ref(), defaults.dirs.as_ref()),
        };
        let Some(specs) = specs else {
            return self.built_in_dirs(base_path, base_at);
        };
        let mut dirs: Vec<Dir> = Vec::with_capacity(specs.value.len());
        let mut bases: Vec<(&'static str, String, Span)> = Vec::new();
        for spec in &specs.value {
            dirs.push(self.dir(spec, base_path, &mut bases));
        }
        for spec in &specs.value {
            if let Some(base) = base_path {
                self.clash(spec, "base_path", base, false);
            }
            for (name, base, _) in &bases {
                self.clash(spec, name, base, true);
            }
        }
        check::sort_dirs(&mut dirs);
        dirs
    }

    fn dir(&mut self, spec: &DirSpec, base_path: Option<&str>, bases: &mut Vec<(&'static str, String, Span)>) -> Dir {
        let mut flags = spec.options.flags;
        let backing = if spec.is_tmpfs {
            flags.nosuid = true;
            flags.nodev = true;
            Backing::Tmpfs(spec.options.params.clone())
        } else {
            let other = spec.other_base.as_ref();
            match other.and_then(|set| Some((self.base("base_path", &set.value, set.at)?, set.at))) {
                Some((other, at)) if base_path != Some(other.as_str()) => {
                    if base_path.is_some_and(|base| bases_clash(base, &other)) {
                        let what = format!("base_path {} would be among the job directories of another", quote(&other));
                        self.report.error(at, what, "do not nest base paths in a name of digits or a hidden name");
                    }
                    if !bases.iter().any(|(_, base, _)| *base == other) {
                        bases.push(("the base_path of a directory", other.clone(), at));
                    }
                    Backing::OtherBase(other)
                }
                _ => Backing::BasePath,
            }
        };
        Dir { path: spec.path.clone(), backing, flags, mode: spec.mode }
    }

    /// A private directory cannot be, or lie in, a base path; the reverse works, but is said.
    fn clash(&mut self, spec: &DirSpec, name: &str, base: &str, is_other: bool) {
        let dir = quote(&spec.path);
        match clash(&spec.path, base) {
            None => {}
            Some(Clash::Same) => {
                let what = format!("private directory {dir} is {name} itself");
                self.report.error(spec.at, what, "use another directory for one of the two");
            }
            Some(Clash::DirBelowBase) => {
                let what = format!("private directory {dir} lies inside {name} {}", quote(base));
                self.report.error(spec.at, what, "use another directory for one of the two");
            }
            Some(Clash::BaseBelowDir) if is_other => {}
            Some(Clash::BaseBelowDir) => {
                let what = format!("{name} {} lies inside the private directory {dir}", quote(base));
                self.report.warning(spec.at, what, "it works, but a base_path elsewhere is easier to look after");
            }
        }
    }

    fn built_in_dirs(&mut self, base_path: Option<&str>, base_at: Span) -> Vec<Dir> {
        let mut dirs = Vec::new();
        for path in DEFAULT_DIRS {
            let is_tmpfs = path == DEV_SHM;
            let path = path.to_owned();
            let how = match base_path.and_then(|base| clash(&path, base)) {
                Some(Clash::Same) => "is",
                Some(Clash::DirBelowBase) => "contains",
                Some(Clash::BaseBelowDir) | None => "",
            };
            if !how.is_empty() {
                let what = format!(
                    "base_path {how} {}, which is a private directory unless dirs says otherwise",
                    quote(&path)
                );
                self.report.error(base_at, what, "use another base_path, or set dirs");
            }
            let mut dir = Dir { path, backing: Backing::BasePath, flags: MountFlags::default(), mode: None };
            if is_tmpfs {
                dir.backing = Backing::Tmpfs(Vec::new());
                dir.flags.nosuid = true;
                dir.flags.nodev = true;
            }
            dirs.push(dir);
        }
        check::sort_dirs(&mut dirs);
        dirs
    }
}

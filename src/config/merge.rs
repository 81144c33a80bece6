//! Merges the layers for one node into its settings, for both files.
//!
//! The rules are Slurm's: the most specific layer takes precedence, key by key; an empty value sets nothing; `dir_confs`
//! takes precedence over `dirs`, no matter where each of them is set. This file also contains the checks that need the
//! merged values and the names of the node, above all those of the private directories against the base paths.

use crate::config::check;
use crate::config::flavour::Flavour;
use crate::config::keys;
use crate::config::keys::{Key, Kind};
use crate::config::layer::{DirSpec, Layer, Set, Value};
use crate::config::limits::{MAX_BASE_PATH, MAX_DIRS};
use crate::config::mount_options;
use crate::config::outcome::{Origin, Source};
use crate::config::path::{CLEANED, CLEANED_HINT, Clash, bases_clash, clash, depth, is_at_or_below, is_cleaned};
use crate::config::pattern::{expand_node, fixed_part};
use crate::config::problem::{Level, Place, Refusal, Report, quote};
use crate::config::settings::{
    Backing, DEFAULT_DIRS, DEFAULT_WAIT_SECONDS, Dir, DisabledWhy, HidePid, Node, NodeSettings, Script, Settings,
};
use crate::config::{short_list, wire};

/// Merges the layers for the node. The layer with the highest precedence comes first.
pub(super) fn settings(
    layers: &[Layer],
    format: Flavour,
    node: &Node<'_>,
    report: &mut Report,
) -> (NodeSettings, Vec<Source>) {
    let mut merge = Merge { layers, format, node, report, sources: Vec::new() };
    let settings = merge.settings().map_or_else(NodeSettings::Disabled, NodeSettings::Enabled);
    (settings, merge.sources)
}

struct Merge<'a> {
    layers: &'a [Layer],
    format: Flavour,
    node: &'a Node<'a>,
    report: &'a mut Report,
    sources: Vec<Source>,
}

impl<'a> Merge<'a> {
    fn settings(&mut self) -> Result<Settings, DisabledWhy> {
        self.warn_of_unset();
        let base = self.pick("base_path").ok_or(DisabledWhy::NotConfigured)?;
        let Value::Base(Some(pattern)) = &base.value else { return Err(DisabledWhy::SetToNone) };
        let base_path = self.base(pattern, base.at);
        let mut settings = Settings::new(base_path.clone().unwrap_or_default());
        // This is a key of job_container.conf only.
        settings.entire_step_in_ns = self.format == Flavour::Linux;
        for (_, key) in keys::of(self.format) {
            self.one_key(key, &mut settings);
        }
        if !settings.namespaces.user {
            self.warn_of_idle("user_ns_script");
            self.warn_of_idle("user_ns_limits");
        }
        if settings.hide_pid != HidePid::Off
            && !settings.namespaces.pid
            && let Some((_, set)) = self.find("proc_options")
        {
            let what = "proc_options needs the /proc of a PID namespace, but clone_ns_flags has no CLONE_NEWPID";
            self.report.error(set.at, what, "add CLONE_NEWPID to clone_ns_flags, or write hidepid=off");
        }
        settings.dirs = self.dirs(base_path.as_deref(), base.at, settings.project_ids.is_some());
        if let (Some(_), Some((_, Set { value: Value::Keep(paths), .. }))) = (&base_path, self.find("keep")) {
            for (index, Set { value, at }) in paths.iter().enumerate() {
                if let Err(Refusal { what, hint }) = check::keep(value, settings.keep.get(..index), &settings) {
                    self.report.error(*at, format!("the path {} in keep {what}", quote(&value.path)), hint);
                }
            }
        }
        if self.report.errors() == 0
            && let Err(sentence) = check::settings(&settings).and_then(|()| wire::fits(&settings))
        {
            // Every mistake should have been reported above, with its place. This is the safety net.
            self.report.error_in_file(0, sentence, "please report this: the message should name a line");
        }
        Ok(settings)
    }

    /// Sets the field of a key that has one field of its own.
    fn one_key(&mut self, key: &'static Key, settings: &mut Settings) {
        if matches!(
            key.kind,
            Kind::Nodes | Kind::BasePath | Kind::Dirs | Kind::DirConfs | Kind::Mode | Kind::Size | Kind::Inodes
        ) {
            return;
        }
        match (&key.kind, self.pick(key.name).map(|set| &set.value)) {
            (Kind::Flag(field), Some(Value::Flag(flag))) => *(field.of_mut)(settings) = *flag,
            (Kind::Seconds(field) | Kind::Percent(field), Some(Value::Number(number))) => {
                *(field.of_mut)(settings) = *number;
            }
            (Kind::Script(field), Some(Value::Path(path))) => {
                *(field.of_mut)(settings) = Some(Script { path: path.clone(), wait_seconds: DEFAULT_WAIT_SECONDS });
            }
            (Kind::Wait(field), Some(Value::Number(seconds))) => {
                if let Some(script) = (field.of_mut)(settings) {
                    script.wait_seconds = *seconds;
                }
            }
            (_, Some(Value::Namespaces(namespaces))) => settings.namespaces = *namespaces,
            (_, Some(Value::HidePid(hide_pid))) => settings.hide_pid = *hide_pid,
            (_, Some(Value::ProjectIds(ids))) => settings.project_ids = Some(*ids),
            (_, Some(Value::Paths(paths))) => settings.proc_keep.clone_from(paths),
            // What is wrong with them only the private directories show.
            (_, Some(Value::Keep(paths))) => settings.keep.extend(paths.iter().map(|set| set.value.clone())),
            _ => {}
        }
    }

    /// The value that takes precedence, and the index of its layer.
    fn find(&self, name: &str) -> Option<(usize, &'a Set<Value>)> {
        self.layers.iter().enumerate().find_map(|(index, layer)| Some((index, layer.get(name)?)))
    }

    /// The value that takes precedence. Records its source.
    fn pick(&mut self, name: &'static str) -> Option<&'a Set<Value>> {
        let found = self.find(name);
        let origin = match found {
            None => Origin::BuiltIn,
            Some((index, set)) => {
                let line = self.report.top_line_of(set.at);
                let is_of_node = self.layers.get(index).is_some_and(|layer| layer.is_of_node);
                if is_of_node { Origin::NodeEntry { line } } else { Origin::Defaults { line } }
            }
        };
        self.sources.push(Source { key: name, origin });
        found.map(|(_, set)| set)
    }

    /// The name of a key in the file.
    fn spelled(&self, name: &'static str) -> &'static str {
        keys::spelled(name, self.format).unwrap_or(name)
    }

    /// Warns of an empty value in the first layer, since it does not override that of another layer.
    fn warn_of_unset(&mut self) {
        let Some((first, rest)) = self.layers.split_first() else { return };
        for (key, set) in first.sets.iter().filter(|(_, set)| matches!(set.value, Value::Unset)) {
            let is_set = |name| rest.iter().any(|layer| layer.get(name).is_some());
            if is_set(key.name) || key.name == "dirs" && is_set("dir_confs") {
                let hint = match key.kind {
                    Kind::BasePath => "write none to disable the plugin here",
                    Kind::Namespaces => "write CLONE_NEWNS for a mount namespace only",
                    Kind::HidePid => "write hidepid=off for a /proc without restrictions",
                    Kind::ProcPaths | Kind::Keep => "write [] to keep nothing",
                    _ => "remove it here, or set it in each entry instead of in defaults",
                };
                self.report.warning(
                    set.at,
                    format!("an empty {} does not override the one in defaults", key.name),
                    hint,
                );
            }
        }
    }

    /// Warns of a key that has no effect without a user namespace, unless `defaults` sets it and only the entry for this
    /// node omits the user namespace.
    fn warn_of_idle(&mut self, name: &str) {
        let of_flags = self.find("clone_ns_flags").map_or(usize::MAX, |(index, _)| index);
        if let Some((index, set)) = self.find(name)
            && index <= of_flags
        {
            let what = format!("{name} has no effect: clone_ns_flags has no CLONE_NEWUSER");
            self.report.warning(set.at, what, format!("add CLONE_NEWUSER, or remove {name}"));
        }
    }

    /// Fills in the names of this node in a base path, and checks the result.
    fn base(&mut self, pattern: &str, at: Place) -> Option<String> {
        let name = self.spelled("base_path");
        let path = match expand_node(pattern, self.node) {
            Ok(path) => path,
            Err(refusal) => {
                self.report.of_value(Level::Error, at, name, pattern, refusal);
                return None;
            }
        };
        if path.len() > MAX_BASE_PATH {
            let what = format!("{name} has {} bytes with the names of this node filled in", path.len());
            self.report.error(at, what, format!("it can have at most {MAX_BASE_PATH}"));
            return None;
        }
        if let Some(top) = is_cleaned(&path) {
            self.report.warning(at, format!("{name} {} is in {top}, {CLEANED}", quote(&path)), CLEANED_HINT);
        }
        Some(path)
    }

    /// The private directories in mount order, checked against each other and against the base paths.
    fn dirs(&mut self, base_path: Option<&str>, base_at: Place, has_ids: bool) -> Vec<Dir> {
        let (confs, list) = (self.find("dir_confs"), self.find("dirs"));
        if let (Some((of_confs, confs)), Some((of_list, list))) = (confs, list)
            // The dir_confs of an entry may replace the dirs of defaults.
            && of_confs >= of_list
        {
            let line = self.report.line_of(confs.at);
            let what = format!("dirs has no effect because dir_confs is set on line {line}");
            self.report.warning(list.at, what, "write the directories in dir_confs");
        }
        let set = self.pick(if confs.is_some() { "dir_confs" } else { "dirs" });
        let mode = match self.pick("dir_mode") {
            Some(Set { value: Value::Number(mode), .. }) => Some(*mode),
            _ => None,
        };
        let size = match self.pick("dir_size") {
            Some(Set { value: Value::Size(size), .. }) => Some(size),
            _ => None,
        };
        let inodes = match self.pick("dir_inodes") {
            Some(Set { value: Value::Amount(inodes), .. }) => Some(*inodes),
            _ => None,
        };
        let built_in = DEFAULT_DIRS.map(|path| DirSpec::new(path.to_owned(), base_at));
        let (specs, is_built_in) = match set {
            Some(Set { value: Value::Dirs(specs), .. }) => (specs.as_slice(), false),
            _ => (built_in.as_slice(), true),
        };
        let mut others: Vec<String> = Vec::new();
        let mut dirs: Vec<Dir> = Vec::with_capacity(specs.len());
        for spec in specs {
            let mut dir = self.dir(spec, base_path, &mut others);
            // /dev/shm is for all users in the job, as on the node.
            dir.mode = dir.mode.or(mode.filter(|_| !spec.is_tmpfs));
            // What the options of a tmpfs say is nearer.
            let lacks = |names: &[&str]| !spec.options.params.iter().any(|param| names.contains(&param.key.as_str()));
            dir.size = dir.size.or_else(|| size.filter(|_| lacks(mount_options::SIZES)).cloned());
            dir.inodes = dir.inodes.or(inodes.filter(|_| lacks(mount_options::INODES)));
            dirs.push(dir);
        }
        let covers = self.covers(specs);
        dirs.extend(covers.iter().map(|spec| Dir::cover(spec.path.clone())));
        self.limits(specs, &dirs, has_ids);
        for spec in specs.iter().chain(&covers) {
            match base_path {
                Some(base) if is_built_in => self.built_in_clash(&spec.path, base, base_at),
                Some(base) => self.clash(spec, self.spelled("base_path"), base, false),
                None => {}
            }
            for other in &others {
                self.clash(spec, "the base_path of a directory", other, true);
            }
        }
        check::sort_dirs(&mut dirs);
        dirs
    }

    fn dir(&mut self, spec: &DirSpec, base_path: Option<&str>, others: &mut Vec<String>) -> Dir {
        let mut dir = Dir {
            path: spec.path.clone(),
            backing: Backing::BasePath,
            flags: spec.options.flags,
            mode: spec.mode,
            size: spec.size.clone(),
            inodes: spec.inodes,
            ..Dir::default()
        };
        if spec.is_tmpfs {
            dir.make_tmpfs(spec.options.params.clone());
        } else if let Some(Set { value, at }) = &spec.other_base
            && let Some(other) = self.base(value, *at)
            && base_path != Some(other.as_str())
        {
            if base_path.is_some_and(|base| bases_clash(base, &other)) {
                let what =
                    format!("base_path {} would be among the job directories of another base_path", quote(&other));
                self.report.error(*at, what, "between nested base paths, no name may be a number or start with a dot");
            }
            if !others.contains(&other) {
                others.push(other.clone());
            }
            dir.backing = Backing::OtherBase(other);
        }
        dir.owned_by_root = spec.is_users.map_or(dir.owned_by_root, |is_users| !is_users);
        dir
    }

    /// The directories to hide, so that those of `create` can be made in their place. None is in another private directory:
    /// there it can be made anyway.
    fn covers(&mut self, specs: &[DirSpec]) -> Vec<DirSpec> {
        let around = |spec: &DirSpec| DirSpec::new(fixed_part(&spec.path).0.to_owned(), spec.at);
        let mut all: Vec<DirSpec> = specs.iter().filter(|spec| spec.create).map(around).collect();
        short_list::sort_by_key(&mut all, |spec| depth(&spec.path));
        let mut covers: Vec<DirSpec> = Vec::new();
        for spec in all {
            if specs.iter().chain(&covers).any(|outer| is_at_or_below(&spec.path, &outer.path)) {
                continue;
            }
            if specs.len() + covers.len() >= MAX_DIRS {
                let what = format!("there are more than {MAX_DIRS} private directories, with those around them");
                self.report.error(spec.at, what, "make fewer directories private");
                break;
            }
            covers.push(spec);
        }
        covers
    }

    /// Reports a private directory that is a base path or is inside one. Warns of a base path inside a private directory,
    /// which works.
    fn clash(&mut self, spec: &DirSpec, name: &str, base: &str, is_other: bool) {
        let dir = quote(&spec.path);
        let what = match clash(&spec.path, base) {
            Some(Clash::Same) => format!("private directory {dir} is {name} itself"),
            Some(Clash::DirBelowBase) => format!("private directory {dir} is inside {name} {}", quote(base)),
            Some(Clash::BaseBelowDir) if !is_other => {
                let what = format!("{name} {} is inside the private directory {dir}", quote(base));
                let hint = format!("this works, but a {name} elsewhere is easier to manage");
                return self.report.warning(spec.at, what, hint);
            }
            Some(Clash::BaseBelowDir) | None => return,
        };
        self.report.error(spec.at, what, "use another directory for one of the two");
    }

    /// The directories of a job in one base path have one limit: the sum of what each of them says.
    fn limits(&mut self, specs: &[DirSpec], dirs: &[Dir], has_ids: bool) {
        let has = |dir: &Dir| [("size", dir.size.is_some()), ("inodes", dir.inodes.is_some())];
        let mut lacks_ids = !has_ids;
        for (spec, dir) in specs.iter().zip(dirs).filter(|(spec, _)| !spec.is_tmpfs) {
            for other in dirs.iter().filter(|other| other.backing == dir.backing) {
                for ((key, is_there), (_, is_other)) in has(dir).into_iter().zip(has(other)) {
                    if is_other && !is_there {
                        let (dir, other) = (quote(&dir.path), quote(&other.path));
                        let what = format!("{dir} has no {key}, unlike {other} in the same base_path");
                        let hint = format!("add {key}, or dir_{key} for all: the directories share one limit");
                        return self.report.error(spec.at, what, hint);
                    }
                }
            }
            if dir.is_limited() && std::mem::take(&mut lacks_ids) {
                let what = format!("{} in base_path is limited, and there are no project_ids", quote(&dir.path));
                let hint = "add project_ids: 100000-199999, or another range that nothing else on the file system uses";
                self.report.error(spec.at, what, hint);
            }
        }
    }

    fn built_in_clash(&mut self, dir: &str, base: &str, at: Place) {
        let how = match clash(dir, base) {
            Some(Clash::Same) => "is",
            Some(Clash::DirBelowBase) => "contains",
            Some(Clash::BaseBelowDir) | None => return,
        };
        let (name, dirs) = (self.spelled("base_path"), self.spelled("dirs"));
        let what = format!("{name} {how} {}, which is a private directory unless {dirs} says otherwise", quote(dir));
        self.report.error(at, what, format!("use another {name}, or set {dirs}"));
    }
}

//! Shows the settings, the plan for a job and its result, for `DebugFlags=Namespace` and `jobns run --verbose`.

use crate::config::keys;
use crate::config::keys::{KEYS, Kind};
use crate::config::settings::{Backing, HidePid, Script, Settings};
use crate::job::make::plan::{Plan, PlannedDir, Source};
use crate::job::record::job::Record;
use crate::job::record::namespaces::describe;
use crate::job::record::state::Header;
use crate::sys::quota::Amounts;
use core::fmt;
use rustix::mount::MountPropagationFlags;

/// `(nosuid,nodev)`, or nothing.
fn in_brackets(words: &[String]) -> String {
    if words.is_empty() { String::new() } else { format!("({})", words.join(",")) }
}

/// The plan for the job with this number.
#[derive(Debug)]
pub struct PlanOf<'a>(pub u32, pub &'a Plan);

impl fmt::Display for PlanOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(job, plan) = self;
        write!(f, "plan: namespaces={}", describe(plan.namespaces, ","))?;
        if plan.propagation == MountPropagationFlags::DOWNSTREAM {
            write!(f, " shared=true")?;
        }
        if let Some(hide_pid) = plan.proc.as_ref().and_then(|proc| proc.hide_pid) {
            write!(f, " /proc=hidepid={}", hide_pid.to_string_lossy())?;
        }
        for PlannedDir { target, source, flags, owned_by_root, mode } in &plan.dirs {
            let mut options: Vec<String> = flags.names().map(str::to_owned).collect();
            let from = match source {
                Source::Directory { base, name } => {
                    options.extend(owned_by_root.then(|| "owner=root".to_owned()));
                    format!("{base}/{job}/{name}")
                }
                Source::Tmpfs(params) => {
                    options.extend(params.iter().map(ToString::to_string));
                    "tmpfs".to_owned()
                }
            };
            options.extend(mode.map(|mode| format!("mode={mode:04o}")));
            write!(f, " {target}={from}{}", in_brackets(&options))?;
        }
        if !plan.proc_keep.is_empty() {
            write!(f, " proc_keep={}", plan.proc_keep.join(","))?;
        }
        plan.keep.iter().try_for_each(|kept| write!(f, " keep={}", kept.kept))?;
        if let Some(limits) = &plan.limits {
            let files = limits.files.iter();
            let limits: Vec<String> = files
                .map(|(path, value)| format!("{}={value}", path.rsplit('/').next().unwrap_or_default()))
                .chain([
                    format!("pending_signals={}", limits.pending_signals),
                    format!("message_bytes={}", limits.message_bytes),
                ])
                .collect();
            write!(f, " limits={}", limits.join(","))?;
        }
        for (base, Amounts { bytes, inodes }) in &plan.in_bases {
            write!(f, " limit={base}:{bytes}:{inodes}")?;
        }
        if !plan.hidden.is_empty() {
            write!(f, " hidden={}", plan.hidden.join(","))?;
        }
        Ok(())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { header: Header { id, sluid, uid, gid, user, node }, namespaces, holder, trees, .. } = self;
        write!(f, "made: user={user} uid={uid} gid={gid} node={node}")?;
        if *sluid != 0 {
            write!(f, " sluid={sluid:#x}")?;
        }
        write!(f, " namespaces={}", describe(*namespaces, ","))?;
        if let Some(holder) = holder {
            write!(f, " holder={}", holder.pid.as_raw_nonzero())?;
        }
        let trees: Vec<String> = trees.iter().map(|tree| format!("{}/{id}", tree.base)).collect();
        write!(f, " directories={}", trees.join(","))
    }
}

/// The keys as namespace.yaml spells them. Keys that are off are left out.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "settings: base_path={}", self.base_path)?;
        let flags: Vec<&str> = self.namespaces.names().collect();
        if !flags.is_empty() {
            write!(f, " clone_ns_flags={}", flags.join(","))?;
        }
        for key in &KEYS {
            if let Kind::Flag(field) = &key.kind
                && *(field.of)(self)
            {
                write!(f, " {}=true", key.yaml.or(key.conf).unwrap_or(key.name))?;
            }
        }
        if self.namespaces.user {
            write!(f, " user_ns_limits={}", self.user_ns_limits)?;
        }
        for (key, Script { path, wait_seconds }) in keys::scripts(self) {
            write!(f, " {key}={path}({wait_seconds} s)")?;
        }
        write!(f, " removal_timeout={}", self.removal_timeout)?;
        if self.hide_pid != HidePid::Off {
            write!(f, " proc_options=hidepid={}", self.hide_pid.name())?;
        }
        if !self.proc_keep.is_empty() {
            write!(f, " proc_keep={}", self.proc_keep.join(","))?;
        }
        self.keep.iter().try_for_each(|kept| write!(f, " keep={kept}"))?;
        for dir in &self.dirs {
            let mut options: Vec<String> = dir.flags.names().map(str::to_owned).collect();
            let backing = match &dir.backing {
                Backing::BasePath => "base_path",
                Backing::OtherBase(path) | Backing::SameAs(path) => path,
                Backing::Tmpfs(params) => {
                    options.extend(params.iter().map(ToString::to_string));
                    "tmpfs"
                }
            };
            options.extend(dir.mode.map(|mode| format!("mode={mode:04o}")));
            write!(f, " {}={backing}{}", dir.path, in_brackets(&options))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::settings::NodeSettings;
    use crate::job::Job;
    use crate::job::make::plan;
    use crate::job::record::job::TreeRecord;
    use crate::job::record::process::BootId;

    #[test]
    fn plan_and_settings_read_as_their_author_wrote_them() {
        let yaml = "defaults:\n  base_path: /nvme/%n\n  clone_ns_flags: CLONE_NEWPID\n  shared: true\n  proc_options: hidepid=invisible\n  clone_ns_script: /s\n  hide_base_path: true\n  dir_confs:\n  - {path: /tmp, mode: 01777}\n  - {path: /fast, base_path: /ssd}\n  - {path: /dev/shm, tmpfs: true, options: \"size=4g,noexec\"}\n";
        let node = config::settings::Node { name: "n1", hostname: "n1" };
        let parsed = config::namespace_yaml::parse_namespace_yaml("x", yaml.as_bytes(), &node);
        let Some(NodeSettings::Enabled(settings)) = parsed.settings else { panic!("{:?}", parsed.problems) };
        assert_eq!(
            settings.to_string(),
            "settings: base_path=/nvme/n1 clone_ns_flags=CLONE_NEWPID hide_base_path=true shared=true EntireStepInNS=true clone_ns_script=/s(10 s) removal_timeout=60 proc_options=hidepid=invisible /tmp=base_path(mode=1777) /fast=/ssd /dev/shm=tmpfs(nosuid,nodev,noexec,size=4g)"
        );
        let job = Job {
            header: Header { id: 17, sluid: 0, uid: 7, gid: 8, user: "alice".to_owned(), node: "n1".to_owned() },
            sluid_text: String::new(),
            environment: crate::job::script::Environment::default(),
            has: crate::config::size::JobHas::default(),
            slurm_conf: None,
            boot: BootId::current().unwrap(),
        };
        let plan = Plan::new(&settings, &job, None).unwrap();
        assert_eq!(
            PlanOf(17, &plan).to_string(),
            "plan: namespaces=mount,PID shared=true /proc=hidepid=invisible /tmp=/nvme/n1/17/_tmp(mode=1777) /fast=/ssd/17/_fast /dev/shm=tmpfs(nosuid,nodev,noexec,size=4g) hidden=/nvme/n1,/ssd"
        );
        let record = Record {
            header: Header { id: 17, sluid: 0, uid: 7, gid: 8, user: "alice".to_owned(), node: "n1".to_owned() },
            namespaces: plan::namespaces(&settings),
            holder: None,
            of_this_boot: true,
            trees: ["/nvme/n1", "/ssd"]
                .map(|base| TreeRecord { base: base.to_owned(), device: 1, inode: 2, project: 0 })
                .to_vec(),
        };
        assert_eq!(
            record.to_string(),
            "made: user=alice uid=7 gid=8 node=n1 namespaces=mount,PID directories=/nvme/n1/17,/ssd/17"
        );
    }
}

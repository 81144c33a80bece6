//! The work of the entry points in slurmd: reads the configuration, starts the removal program, sends the settings to
//! each slurmstepd.

#![forbid(unsafe_code)]

use crate::base::error::Error;
use crate::base::io::write_all;
use crate::base::log::{Level, Log};
use crate::base::trusted_path;
use crate::config;
use crate::config::flavour::Flavour;
use crate::config::limits::{DEFAULT_REMOVAL_TIMEOUT, MAX_FORMER_BASES};
use crate::config::settings::NodeSettings;
use crate::config::wire;
use crate::job::make::plan;
use crate::job::record::namespaces;
use crate::job::record::registry;
use crate::job::record::registry::Registry;
use crate::job::remove::dead_jobs;
use crate::job::remove::lost;
use crate::node;
use crate::node::Prepared;
use crate::node::config_file::config_directory;
use crate::node::surroundings::Slurm;
use crate::remover::Options;
use crate::slurm::flavour;
use crate::slurm::flavour::PREFIX;
use crate::slurm::host::SlurmHost;
use crate::slurm::imports::{Imports, own_file};
use crate::slurm::layout;
use crate::slurm::plugin::{Daemon, Failure, NODE_NAMESPACES, OLD_BASES, SETTINGS, daemon, loaded, settings, usable};
use crate::slurm::remover;
use crate::slurm::version::version;
use crate::sys::process::has_bpf_tokens;
use rustix::fd::BorrowedFd;
use std::ffi::CString;
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static HOSTNAME: OnceLock<String> = OnceLock::new();
/// The plugin's file, as it was when slurmd loaded it.
static OWN_FILE: OnceLock<Option<File>> = OnceLock::new();
/// A warning that the file was replaced was logged.
static WARNED_OF_FILE: AtomicBool = AtomicBool::new(false);

#[derive(Debug, PartialEq, Eq)]
struct File {
    path: String,
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl File {
    fn at(path: String) -> std::io::Result<Self> {
        let file = std::fs::metadata(&path)?;
        let changed = (file.mtime(), file.mtime_nsec());
        Ok(Self { path, device: file.dev(), inode: file.ino(), size: file.len(), changed })
    }

    /// A sentence if the file has changed, so that a new slurmstepd loads another one; None if it is the same.
    fn replaced(&self) -> Option<String> {
        let Self { path, .. } = self;
        match Self::at(path.clone()) {
            Ok(now) if now == *self => None,
            Ok(_) => Some(format!("{path} was replaced after slurmd had loaded it")),
            Err(error) => Some(format!("{path} can no longer be found since slurmd loaded it: {error}")),
        }
    }
}

/// The settings of this node, if it can honour them. The error contains all reasons why it cannot.
fn read_settings(host: &SlurmHost) -> Result<NodeSettings, Vec<String>> {
    let daemon = daemon(host.imports).map_err(|why| vec![why])?;
    trusted_path::trust_slurm_user(host.imports.slurm_user());
    let hostname = hostname(host.imports, daemon).map_err(|why| vec![why])?;
    let own = namespaces::own_namespaces().map_err(|error| vec![error.to_string()])?;
    let _ = NODE_NAMESPACES.set(own);
    let node = config::settings::Node { name: &daemon.node, hostname };
    let directory = config_directory(&daemon.slurm_conf);
    // Only for early warnings, so an error is ignored. Slurm itself has already read the file.
    let text = std::fs::read(&daemon.slurm_conf).unwrap_or_default();
    let slurm = Slurm::new(&text, directory, Some(&daemon.spooldir), version(), &node);
    let Prepared { file, settings, found } =
        node::prepare(flavour::FILE, directory, &node, &slurm).map_err(|error| vec![error.to_string()])?;
    found.log(host, |finding| file.line(finding))?;
    let settings = settings.ok_or_else(|| vec![format!("{}: it cannot be read", file.path)]).and_then(alone)?;
    if let NodeSettings::Enabled(settings) = &settings {
        remover::check().map_err(|why| vec![why])?;
        warn_of_build(host, settings);
    }
    Ok(settings)
}

/// Warns if Slurm was built without BPF tokens, as `node::kernel` warns of a kernel without them.
fn warn_of_build(host: &SlurmHost, settings: &config::settings::Settings) {
    let wants_token = settings.namespaces.user && !settings.disable_bpf_token && has_bpf_tokens();
    if wants_token && !host.imports.is_built_with_bpf_tokens() {
        host.log(
            Level::Warning,
            format_args!(
                "CLONE_NEWUSER: this Slurm was built without BPF tokens, so with ConstrainDevices=yes in cgroup.conf jobs will fail; hint: build Slurm with the headers of Linux 6.9 or newer (HAVE_BPF_TOKENS), or set disable_bpf_token: true (devices are then constrained for each job, not for each step)"
            ),
        );
    }
}

/// `NodeHostname` of this node, the value of `%h`.
fn hostname(imports: &Imports, daemon: &Daemon) -> Result<&'static str, Failure> {
    if let Some(name) = HOSTNAME.get() {
        return Ok(name);
    }
    let node = CString::new(daemon.node.as_str()).unwrap_or_default();
    let found = imports.hostname_of(&node).or_else(|| imports.conf_text(layout::conf::HOSTNAME));
    let found = usable(found, "host name")?;
    Ok(HOSTNAME.get_or_init(|| found))
}

/// In slurmd: reads the configuration and prepares the node. If the configuration cannot be honoured, this
/// ends slurmd. If `init` only failed, Slurm would load the next plugin of that name.
pub fn init(imports: &'static Imports) -> Result<(), Failure> {
    let host = SlurmHost { imports };
    if imports.stepd.is_some() {
        return Ok(());
    }
    let _ = OWN_FILE.set(own_file().and_then(|path| File::at(path).ok()));
    match read_settings(&host) {
        Ok(settings) => {
            if let NodeSettings::Enabled(settings) = &settings {
                host.log(
                    Level::Info,
                    format_args!(
                        "version {} for Slurm {}: jobs get {} namespaces and private {} under {}",
                        env!("CARGO_PKG_VERSION"),
                        version(),
                        namespaces::describe(plan::namespaces(settings), ", "),
                        settings.dirs.iter().map(|dir| dir.path.as_str()).collect::<Vec<_>>().join(", "),
                        settings.base_path
                    ),
                );
                host.log(Level::Debug, format_args!("{settings}"));
            }
            let _ = SETTINGS.set(settings);
            Ok(())
        }
        Err(errors) => {
            for error in &errors {
                host.log(Level::Error, format_args!("{error}"));
            }
            let last = format!(
                "{PREFIX}{} above; slurmd does not start, because jobs would get less than {} asks for",
                if errors.len() == 1 { "see the error".to_owned() } else { format!("see the {} errors", errors.len()) },
                flavour::FILE.name
            );
            imports.fatal(&CString::new(last).unwrap_or_default());
            Err("the configuration cannot be honoured".to_owned())
        }
    }
}

/// The settings, unless the other plugin is also enabled for this node.
fn alone(settings: NodeSettings) -> Result<NodeSettings, Vec<String>> {
    if let NodeSettings::Enabled(_) = settings
        && let Some(why) = flavour::claim(Flavour::OWN)
    {
        return Err(vec![why]);
    }
    Ok(settings)
}

/// Called after slurmd has started. Starts the removal program, which deletes what dead jobs have left, and does not
/// wait for it.
pub fn restore() -> Result<(), Failure> {
    let imports = loaded()?;
    let settings = settings()?;
    let daemon = daemon(imports)?;
    let host = SlurmHost { imports };
    let mut bases: Vec<String> = settings.map(|settings| settings.base_path.clone()).into_iter().collect();
    let today = bases.len();
    let trash_of_today = settings.map(dead_jobs::other_bases).unwrap_or_default();
    let mut trash: Vec<String> = trash_of_today.iter().map(|path| (*path).to_owned()).collect();
    let mut known = true;
    match Registry::read(&daemon.spooldir, Flavour::OWN.registry()) {
        Ok(registry) => {
            let registry = registry.unwrap_or_default();
            let former = registry.bases;
            trash.extend(registry.trash.into_iter().filter(|path| !trash_of_today.contains(&path.as_str())));
            bases.extend(former.into_iter().filter(|base| settings.is_none_or(|today| today.base_path != *base)));
        }
        Err(error) => {
            known = false;
            host.log(
                Level::Error,
                format_args!(
                    "{error}; jobs under a former base_path are not found and get no new steps; the file stays as it is: fix it, or remove it if there are no such jobs, and restart slurmd"
                ),
            );
        }
    }
    let in_use = dead_jobs::in_use(&host, &bases, &daemon.node);
    remover::start(
        imports,
        Options {
            node: daemon.node.clone(),
            spool: daemon.spooldir.clone(),
            status: Flavour::OWN.removal_status().to_owned(),
            slurm_conf: daemon.slurm_conf.clone(),
            trash: trash.iter().filter(|path| !bases.contains(path)).cloned().collect(),
            bases: bases.clone(),
            epilog: settings.and_then(|settings| settings.clone_ns_epilog.clone()),
            wait: settings.map_or(DEFAULT_REMOVAL_TIMEOUT, |settings| settings.removal_timeout),
            debug: imports.debug(),
            slurm_user: trusted_path::slurm_user().unwrap_or(0),
            project_ids: settings.and_then(|settings| settings.project_ids),
            ..Options::default()
        },
    )?;
    let old: Vec<String> = bases.iter().skip(today).filter(|base| in_use.contains(base)).cloned().collect();
    // A former one stays in the registry if it is not empty, or while a live job may still move its files there.
    let may_have_some = |path: &String| {
        dead_jobs::has_trash(path).unwrap_or(false)
            || lost::find(path, &daemon.node, &bases).is_ok_and(|found| found.some_wait || !found.jobs.is_empty())
    };
    trash.retain(|path| trash_of_today.contains(&path.as_str()) || !in_use.is_empty() || may_have_some(path));
    trash.extend(bases.iter().skip(today).filter(|base| !in_use.contains(base) && may_have_some(base)).cloned());
    let mut here = Registry {
        node: daemon.node.clone(),
        hostname: hostname(imports, daemon)?.to_owned(),
        slurm_conf: daemon.slurm_conf.clone(),
        bases: bases.into_iter().take(today).chain(old.iter().cloned()).collect(),
        trash,
    };
    here.tidy();
    let _ = OLD_BASES.set(old);
    if known && let Err(error) = here.write(&daemon.spooldir, Flavour::OWN.registry()) {
        host.log(
            Level::Error,
            format_args!("{error}; jobs will not be found by a slurmd that starts with another base_path"),
        );
    }
    if let Err(error) = registry::write_spool(registry::WHEREABOUTS, &daemon.node, &daemon.spooldir) {
        host.log(Level::Warning, format_args!("{error}; jobns needs --spool {} on this node", daemon.spooldir));
    }
    Ok(())
}

/// Warns if the plugin's file was replaced. The slurmstepd that has just started loads the present file. If that is
/// another version of this plugin, or Slurm's plugin, it refuses what this one sends, and the step fails.
fn warn_of_file() {
    let Some(why) = OWN_FILE.get().and_then(Option::as_ref).and_then(File::replaced) else { return };
    if let Ok(imports) = loaded()
        && !WARNED_OF_FILE.swap(true, Ordering::Relaxed)
    {
        let host = SlurmHost { imports };
        host.log(
            Level::Warning,
            format_args!("{why}; restart slurmd: until then new steps fail if the two files are not compatible"),
        );
    }
}

/// The message for every slurmstepd. After [`restore`] it does not change.
static MESSAGE: OnceLock<Vec<u8>> = OnceLock::new();

fn message() -> Result<Vec<u8>, Failure> {
    Ok(wire::encode(wire::Message {
        settings: SETTINGS.get().ok_or("send_stepd was called before init")?.clone(),
        node: *NODE_NAMESPACES.get().ok_or("send_stepd was called before init")?,
        slurm_user: trusted_path::slurm_user().unwrap_or(0),
        // There are more only if base_path was changed this often under live jobs.
        former_bases: OLD_BASES.get().into_iter().flatten().take(MAX_FORMER_BASES).cloned().collect(),
    }))
}

/// Sends the settings to a slurmstepd.
pub fn send_stepd(fd: BorrowedFd<'_>) -> Result<(), Failure> {
    let sent = match MESSAGE.get() {
        Some(message) => write_all(fd, message),
        None if OLD_BASES.get().is_some() => {
            let message = message()?;
            write_all(fd, MESSAGE.get_or_init(|| message))
        }
        None => write_all(fd, &message()?),
    };
    // Only now, since slurmstepd waits for the message.
    warn_of_file();
    sent.map_err(|errno| Error::call("send the settings to slurmstepd", "write", errno).to_string())
}

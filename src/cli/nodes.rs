//! The nodes of this machine: their names, their spool directories, and the records of their slurmds there.
//!
//! A slurmd with this plugin records the path of its spool directory in /run/slurm-jobns. Several can run on one machine.

use crate::cli::host_name;
use crate::config::flavour::Flavour;
use crate::job::record::registry;
use crate::job::record::registry::{Registry, WHEREABOUTS};
use crate::node::config_file::{File, JOB_CONTAINER_CONF, NAMESPACE_YAML};

/// The default spool directories of slurmd, in Slurm and in Debian.
const SPOOLS: [&str; 2] = ["/var/spool/slurmd", "/var/lib/slurm/slurmd"];

/// A node, with a registry for each plugin that its slurmd has loaded.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) hostname: String,
    pub(super) spool: String,
    pub(super) registries: Vec<(File, Registry)>,
}

/// Reads the registries in a spool directory. The second value contains errors.
fn read(spool: &str) -> (Option<Node>, Vec<String>) {
    let mut registries = Vec::new();
    let mut errors = Vec::new();
    for (file, name) in [NAMESPACE_YAML, JOB_CONTAINER_CONF].into_iter().zip(Flavour::ALL.map(Flavour::registry)) {
        match Registry::read(spool, name) {
            Ok(Some(registry)) => registries.push((file, registry)),
            Ok(None) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    let node = registries.first().map(|(_, registry)| Node {
        name: registry.node.clone(),
        hostname: registry.hostname.clone(),
        spool: spool.to_owned(),
        registries: Vec::new(),
    });
    (node.map(|node| Node { registries, ..node }), errors)
}

/// All nodes of this machine. The second value contains errors, which may be why a node is missing.
fn all() -> (Vec<Node>, Vec<String>) {
    let mut nodes = Vec::new();
    let mut errors = Vec::new();
    let names = registry::nodes(WHEREABOUTS).unwrap_or_else(|error| {
        errors.push(error.to_string());
        Vec::new()
    });
    for name in names {
        match registry::spool_of(WHEREABOUTS, &name) {
            Ok(Some(spool)) => {
                let (node, why) = read(&spool);
                errors.extend(why);
                // A node with another name has replaced it.
                nodes.extend(node.filter(|node| node.name == name));
            }
            Ok(None) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    if nodes.is_empty() {
        for spool in SPOOLS {
            let (node, why) = read(spool);
            // A default directory need not exist.
            errors.extend(why.into_iter().filter(|_| rustix::fs::stat(spool).is_ok()));
            nodes.extend(node);
            if !nodes.is_empty() {
                break;
            }
        }
    }
    (nodes, errors)
}

/// The nodes for a command of root: the node with this spool directory or name, or all nodes.
///
/// # Errors
///
/// If there is none.
pub(super) fn found(spool: Option<&str>, name: Option<&str>) -> Result<Vec<Node>, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can read the directories of jobs".to_owned());
    }
    let (mut nodes, errors) = match spool {
        Some(spool) => {
            let (node, errors) = read(spool);
            (node.into_iter().collect(), errors)
        }
        None => all(),
    };
    if let Some(name) = name {
        let others: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
        nodes.retain(|node| node.name == name);
        if nodes.is_empty() && !others.is_empty() {
            return Err(format!("this machine is not node {name}, but {}", others.join(", ")));
        }
    }
    if !nodes.is_empty() {
        return Ok(nodes);
    }
    let why = if errors.is_empty() { String::new() } else { format!(" ({})", errors.join("; ")) };
    Err(match spool {
        Some(spool) => format!(
            "slurm-jobns has no files in {spool}{why}; it must be the SlurmdSpoolDir of a slurmd that has started with this plugin"
        ),
        None => format!(
            "slurm-jobns has no files in {WHEREABOUTS}, {}{why}; no slurmd with this plugin has started since boot; otherwise name its SlurmdSpoolDir with --spool",
            SPOOLS.join(" or ")
        ),
    })
}

/// The node that slurmd names to the programs that it starts.
fn from_environment() -> Option<String> {
    std::env::var("SLURMD_NODENAME").ok().filter(|name| !name.is_empty())
}

/// As [`found`], for a command that needs exactly one node.
///
/// # Errors
///
/// If there is none, or there are several.
pub(super) fn only(spool: Option<&str>, name: Option<&str>) -> Result<Node, String> {
    let mut nodes = found(spool, name)?;
    if nodes.len() > 1
        && let Some(name) = from_environment()
        && nodes.iter().any(|node| node.name == name)
    {
        nodes.retain(|node| node.name == name);
    }
    if nodes.len() > 1 {
        return Err(several(nodes.iter().map(|node| node.name.as_str())));
    }
    nodes.pop().ok_or_else(|| "no node was found".to_owned())
}

fn several<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("this machine has several nodes, {}: choose one with --node", names.collect::<Vec<_>>().join(", "))
}

/// Slurm's names of a node and of its machine. The node is `name`, otherwise the one in the environment, otherwise the
/// only one that has recorded itself here. Otherwise both are the name of the machine.
///
/// # Errors
///
/// If there are several nodes to choose from.
pub(super) fn this(name: Option<&str>) -> Result<(String, String), String> {
    let wanted = name.map(str::to_owned).or_else(from_environment);
    let mut nodes: Vec<(String, String)> = all().0.into_iter().map(|node| (node.name, node.hostname)).collect();
    if nodes.is_empty() {
        // An ordinary user can read only the names.
        nodes.extend(registry::nodes(WHEREABOUTS).unwrap_or_default().into_iter().map(|node| (node, host_name())));
    }
    if let Some(wanted) = wanted {
        let machine =
            nodes.into_iter().find(|(node, _)| *node == wanted).map_or_else(host_name, |(_, machine)| machine);
        return Ok((wanted, machine));
    }
    match nodes.as_slice() {
        [] => Ok((host_name(), host_name())),
        [one] => Ok(one.clone()),
        more => Err(several(more.iter().map(|(node, _)| node.as_str()))),
    }
}

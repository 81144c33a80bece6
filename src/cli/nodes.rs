//! Which nodes this machine is: the name of each, its spool directory, and what its slurmd has written down there.
//!
//! A slurmd with this plugin leaves the path of its spool directory in /run/slurm-jobns. Several may run on one machine.

use crate::cli::host_name;
use crate::config::flavour::Flavour;
use crate::job::record::registry;
use crate::job::record::registry::{Registry, WHEREABOUTS};
use crate::node::config_file::{File, JOB_CONTAINER_CONF, NAMESPACE_YAML};

/// Where slurmd's spool directory is by default: Slurm's own default, and Debian's.
const SPOOLS: [&str; 2] = ["/var/spool/slurmd", "/var/lib/slurm/slurmd"];

/// A node as its slurmd has left it: a registry for each plugin that it loaded.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) hostname: String,
    pub(super) spool: String,
    pub(super) registries: Vec<(File, Registry)>,
}

/// What is in one spool directory. The second are errors.
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

/// All nodes of this machine. The second is why some may be missing.
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
                // Else it has another name now.
                nodes.extend(node.filter(|node| node.name == name));
            }
            Ok(None) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    if nodes.is_empty() {
        for spool in SPOOLS {
            let (node, why) = read(spool);
            // That one of the two is not there is no news.
            errors.extend(why.into_iter().filter(|_| rustix::fs::stat(spool).is_ok()));
            nodes.extend(node);
            if !nodes.is_empty() {
                break;
            }
        }
    }
    (nodes, errors)
}

/// The nodes that a command of root's is about: the one of that spool directory or of that name, or all.
///
/// # Errors
///
/// When there is none.
pub(super) fn found(spool: Option<&str>, name: Option<&str>) -> Result<Vec<Node>, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can look into the directories of jobs".to_owned());
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
            "nothing of slurm-jobns is in {spool}{why}; it must be the SlurmdSpoolDir of a slurmd that has started with this plugin"
        ),
        None => format!(
            "nothing of slurm-jobns is in {WHEREABOUTS}, {}{why}; no slurmd has started with this plugin since the machine did, or name its SlurmdSpoolDir with --spool",
            SPOOLS.join(" or ")
        ),
    })
}

/// The node that slurmd has named to whoever calls us.
fn told() -> Option<String> {
    std::env::var("SLURMD_NODENAME").ok().filter(|name| !name.is_empty())
}

/// As [`found`], for a command about one node only.
///
/// # Errors
///
/// When there is none, or there are several.
pub(super) fn only(spool: Option<&str>, name: Option<&str>) -> Result<Node, String> {
    let mut nodes = found(spool, name)?;
    if nodes.len() > 1
        && let Some(told) = told()
        && nodes.iter().any(|node| node.name == told)
    {
        nodes.retain(|node| node.name == told);
    }
    if nodes.len() > 1 {
        return Err(several(nodes.iter().map(|node| node.name.as_str())));
    }
    nodes.pop().ok_or_else(|| "no node was found".to_owned())
}

fn several<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("this machine has several nodes, {}: say which with --node", names.collect::<Vec<_>>().join(", "))
}

/// Slurm's names of the node and of its machine: of the node `name`, else of the one that slurmd has told whoever
/// calls us, else of the only one that has written itself down here, else of the machine.
///
/// # Errors
///
/// When there are several to choose from.
pub(super) fn this(name: Option<&str>) -> Result<(String, String), String> {
    let wanted = name.map(str::to_owned).or_else(told);
    let mut nodes: Vec<(String, String)> = all().0.into_iter().map(|node| (node.name, node.hostname)).collect();
    if nodes.is_empty() {
        // An ordinary user sees the names only.
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

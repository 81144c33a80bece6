//! The id maps of a job's user namespace.

use crate::base::error::{Doing, Error, TryingTo};
use crate::base::io::read_file;
use crate::base::log::Log;
use crate::config::settings::Script;
use crate::job::{Job, script};
use crate::sys::clone::Child;
use rustix::fs::{CWD, Mode, OFlags};
use std::ffi::CString;
use std::fmt::Write as _;

/// Writes the maps of `child`, or lets the script do so. Without a script, every id of this process's
/// namespace is mapped to itself.
pub fn write(host: &dyn Log, script: Option<&Script>, job: &Job, child: &Child) -> Result<(), Error> {
    let pid = child.pid.as_raw_nonzero().to_string();
    if let Some(script) = script {
        return script::run(
            host,
            job.header.id,
            "user_ns_script",
            script,
            job.environment.clone().with("SLURM_NS_PID", pid),
        );
    }
    for map in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{map}");
        let intention = || format!("write {path}");
        let ours = identity_map(map)?;
        let file = rustix::fs::openat(CWD, path.as_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .doing("openat", intention)?;
        // A map must be written with one write call (user_namespaces(7)).
        rustix::io::write(&file, ours.as_bytes()).doing("write", intention)?;
    }
    Ok(())
}

/// A map of every id to itself, for the ids of this process's map. Outside of any user namespace it is
/// `0 0 4294967295`, as Slurm's plugin writes it.
fn identity_map(map: &str) -> Result<String, Error> {
    let path = CString::new(format!("/proc/self/{map}")).unwrap_or_default();
    let mut buffer = [0_u8; 16 * 1024];
    let text = read_file(&path, &mut buffer).trying_to(|| format!("read /proc/self/{map}"))?;
    let text = String::from_utf8_lossy(text);
    let mut out = String::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [inside, _, count] = fields.as_slice() {
            let _ = writeln!(out, "{inside} {inside} {count}");
        }
    }
    Ok(out)
}

//! The configurations in `examples/` are accepted without a warning and mean what their comments say, and README.md
//! shows the first of them.
//!
//! `jobns check` reads each for its nodes, as its first lines tell a reader to do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop where they fail")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file, a node, and what `jobns check` prints about that node, with one space for several.
const EXAMPLES: [(&str, &str, &[&str]); 7] = [
    (
        "namespace.yaml",
        "n1",
        &[
            "base_path /var/spool/jobns",
            "auto_base_path true",
            "clone_ns_flags CLONE_NEWNS,CLONE_NEWPID ",
            "/tmp in base_path",
            "/dev/shm tmpfs",
        ],
    ),
    (
        "namespace-hardened.yaml",
        "cpu200",
        &[
            "base_path /nvme/jobns",
            "hide_base_path true",
            "CLONE_NEWPID,CLONE_NEWUSER,CLONE_NEWIPC ",
            "user_ns_limits 10 built in",
            "proc_options hidepid=invisible",
            "removal_timeout 300",
            "/tmp in base_path, options nosuid,nodev",
            "/var/tmp in base_path, options nosuid,nodev",
            "/dev/shm tmpfs, options nosuid,nodev,size=25%",
        ],
    ),
    (
        "namespace-hardened.yaml",
        "gpu7",
        &[
            "clone_ns_flags CLONE_NEWNS,CLONE_NEWPID,CLONE_NEWIPC ",
            "hide_base_path true",
            "proc_keep /proc/driver/nvidia/params",
        ],
    ),
    ("namespace-hardened.yaml", "login1", &["node login1 gets no private directories or namespaces"]),
    (
        "job_container.conf",
        "n1",
        &[
            "BasePath /var/spool/jobns",
            "AutoBasePath true",
            "Shared true",
            "EntireStepInNS true",
            "/var/tmp in BasePath",
            "/dev/shm tmpfs",
        ],
    ),
    (
        "job_container.conf",
        "gpu7",
        &[
            "BasePath /nvme/jobns",
            "AutoBasePath false",
            "CloneNSEpilog /etc/slurm/tell-usage",
            "CloneNSEpilog_Wait 30",
            "/var/tmp in BasePath",
        ],
    ),
    ("job_container.conf", "login1", &["node login1 gets no private directories or namespaces"]),
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The exit status of `jobns check --strict`, and what it prints, with one space for several.
fn check(file: &str, node: &str) -> (Option<i32>, String) {
    let mut jobns = Command::new(env!("CARGO_BIN_EXE_jobns"));
    let said = jobns.args(["check", "--strict", "--node", node]).arg(directory().join(file)).output().unwrap();
    let text = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
    (said.status.code(), text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn they_are_accepted_and_mean_what_they_say() {
    for (file, node, expected) in EXAMPLES {
        let (status, said) = check(file, node);
        assert_eq!(status, Some(0), "{file} for {node}: {said}");
        for part in expected {
            assert!(said.contains(part), "{file} for {node}: {part:?} is not in: {said}");
        }
    }
}

#[test]
fn a_node_that_the_hardened_one_does_not_name_is_an_error() {
    let (status, said) = check("namespace-hardened.yaml", "new1");
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("no entry of node_confs names node \"new1\""), "{said}");
}

#[test]
fn none_is_without_a_test() {
    let there = std::fs::read_dir(directory()).unwrap();
    let there: BTreeSet<String> = there.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, EXAMPLES.iter().map(|(file, ..)| (*file).to_owned()).collect());
}

#[test]
fn readme_shows_the_first_without_its_comments() {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let readme = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let shown = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let file = read(&directory().join("namespace.yaml"));
    let settings: Vec<&str> = file.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    assert_eq!(shown.lines().collect::<Vec<_>>(), settings);
}

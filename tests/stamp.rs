//! `jobns stamp` and what a linker keeps.

use std::process::Command;

/// `jobns` searches files for the mark of a plugin, and is itself a file without one. A mark in the code
/// that searches would be in the plugins as well, since they have the same code: GNU ld keeps it there.
#[test]
fn the_code_that_looks_for_the_mark_does_not_contain_it() {
    let jobns = env!("CARGO_BIN_EXE_jobns");
    let output = Command::new(jobns).args(["stamp", jobns]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, format!("jobns: {jobns}: it is not a plugin of slurm-jobns\n"));
    assert_eq!(output.status.code(), Some(125));
}

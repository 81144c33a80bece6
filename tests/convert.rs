//! `jobns convert` as its users see it.
//!
//! Each file of tests/config/convert is converted for two nodes. The output, the messages and the exit status must be
//! `NAME.expected`, and `jobns check` must find no error in the output. `UPDATE_EXPECTED=1 cargo test --test convert`
//! writes the expected files again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop where they fail")]
#![allow(clippy::format_push_string, reason = "short beats fast here")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn jobns(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_jobns"))
        .args(arguments)
        .current_dir(directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/convert")
}

#[test]
fn both_files_become_a_namespace_yaml() {
    let mut wrong = String::new();
    for (name, options) in [("tmpfs.conf", &["--tmpfs"][..]), ("linux.yaml", &[]), ("broken.conf", &["--tmpfs"])] {
        let mut said = String::new();
        for node in ["gpu1", "cpu1"] {
            let arguments = [&["convert", name, "--node", node], options].concat();
            let Output { status, stdout, stderr } = jobns(&arguments, b"");
            let (out, err) = (String::from_utf8(stdout.clone()).unwrap(), String::from_utf8(stderr).unwrap());
            said += &format!(
                "$ jobns {}\n{out}=> {}, standard error:\n{err}\n",
                arguments.join(" "),
                status.code().unwrap()
            );
            if status.success() {
                assert_eq!(jobns(&["check", "-", "--node", node], &stdout).status.code(), Some(0), "{out}");
            } else {
                assert!(out.is_empty(), "{out}");
                assert_eq!(jobns(&[&["check", name], options].concat(), b"").status.code(), status.code());
            }
        }
        let expected = directory().join(format!("{name}.expected"));
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&expected, &said).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong += &format!("--- {}\n{said}", expected.display());
        }
    }
    assert!(wrong.is_empty(), "these differ from what is expected:\n{wrong}");
}

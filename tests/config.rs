//! Configuration files with errors, and the messages about them.
//!
//! Each `tests/config/NAME.yaml` is read for node `n1`; the rendered problems must be
//! `NAME.expected`. After an intended change, `UPDATE_EXPECTED=1 cargo test --test config` writes
//! the expected files again: read the difference before you commit it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop where they fail")]

use std::fmt::Write as _;
use std::path::Path;

use slurm_jobns::config::namespace_yaml::parse_namespace_yaml;
use slurm_jobns::config::problem::{Level, Problem};
use slurm_jobns::config::settings::Node;

#[test]
fn broken_files_are_explained() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    names.sort();
    assert!(names.len() >= 15, "the files are gone");
    let mut wrong = String::new();
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let node = Node { name: "n1", hostname: "host1" };
        let parsed = parse_namespace_yaml(name, &std::fs::read(&path).unwrap(), &node);
        let errors = parsed.problems.iter().filter(|problem| problem.level == Level::Error).count();
        assert_eq!(parsed.settings.is_none(), errors > 0, "{name}");
        let mut said: String = parsed.problems.iter().map(Problem::render).collect();
        let verdict = if errors > 0 { "refused" } else { "accepted" };
        let _ = writeln!(said, "=> {verdict}, {errors} errors, {} warnings", parsed.problems.len() - errors);
        let expected = path.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&expected, &said).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != said {
            let _ = writeln!(wrong, "--- {}\n{said}", expected.display());
        }
    }
    assert!(wrong.is_empty(), "these differ from what is expected:\n{wrong}");
}

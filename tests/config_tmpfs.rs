//! Files of namespace/tmpfs with errors, the messages about them, and the meaning of valid files.
//!
//! Each `tests/config/tmpfs/NAME.conf` is read for node `n1`; the rendered problems must be
//! `NAME.expected`, which `UPDATE_EXPECTED=1 cargo test --test config_tmpfs` writes again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop where they fail")]

use std::fmt::Write as _;
use std::path::Path;

use slurm_jobns::config::job_container_conf::parse_job_container_conf;
use slurm_jobns::config::outcome::{Origin, Parsed};
use slurm_jobns::config::problem::{Level, Problem};
use slurm_jobns::config::settings::{DisabledWhy, Node, NodeSettings, Script};

const NODE: Node<'_> = Node { name: "n1", hostname: "host1" };

#[test]
fn broken_files_are_explained() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/tmpfs");
    let mut names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    names.sort();
    assert!(names.len() >= 15, "the files are gone");
    let mut wrong = String::new();
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut include = |file: &str| std::fs::read(dir.join(file)).map_err(|_| "no such file".to_owned());
        let parsed = parse_job_container_conf(name, &std::fs::read(&path).unwrap(), &NODE, &mut include);
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

#[test]
fn keys_that_only_this_plugin_has() {
    let settings = |text: &str| match read(text).settings {
        Some(NodeSettings::Enabled(settings)) => settings,
        other => panic!("{other:?}: {:?}", read(text).problems),
    };
    let plain = settings("BasePath=/b InitScript=/i");
    assert!(!plain.hide_base_path && plain.removal_timeout == 60 && plain.dirs.iter().all(|dir| dir.mode.is_none()));
    let text = "HideBasePath=yes\nDirMode=1777\nBasePath=/b InitScript=/i InitScriptWait=30 RemovalTimeout=0\n";
    let all = settings(text);
    assert!(all.hide_base_path);
    // Here 0 is no wait, and not one for ever.
    assert_eq!((all.removal_timeout, all.init_script.map(|script| script.wait_seconds)), (0, Some(30)));
    let modes: Vec<_> = all.dirs.iter().map(|dir| (dir.path.as_str(), dir.mode)).collect();
    assert_eq!(modes, [("/tmp", Some(0o1777)), ("/dev/shm", None)]);
    let named = settings("HideBasePath=1\nBasePath=/b\nNodeName=n1 BasePath=/b HideBasePath=0 DirMode=0750");
    assert!(!named.hide_base_path && named.dirs.iter().any(|dir| dir.mode == Some(0o750)));
}

#[test]
fn what_tools_generate_is_read_as_slurm_reads_it() {
    let text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/tmpfs/puppet.conf")).unwrap();
    let settings = |name: &'static str| {
        let node = Node { name, hostname: name };
        parse_job_container_conf("f", &text, &node, &mut |_| Err("no such file".to_owned()))
    };
    for (name, base, shared) in [("c05", "/nvme/jc", true), ("x1", "/local/jc", false)] {
        let parsed = settings(name);
        let Some(NodeSettings::Enabled(settings)) = parsed.settings else { panic!("{:?}", parsed.problems) };
        assert_eq!((settings.base_path.as_str(), settings.shared, settings.entire_step_in_ns), (base, shared, true));
        assert_eq!(settings.clone_ns_epilog, Some(Script { path: "/etc/slurm/cne.sh".to_owned(), wait_seconds: 30 }));
    }
    assert_eq!(settings("login1").settings, Some(NodeSettings::Disabled(DisabledWhy::SetToNone)));
}

fn read(text: &str) -> Parsed {
    let mut include = |file: &str| match file {
        "more" => Ok(b"\n\nBasePath=/included Shared=yes".to_vec()),
        _ => Err("no such file".to_owned()),
    };
    parse_job_container_conf("job_container.conf", text.as_bytes(), &NODE, &mut include)
}

/// What the file comes to, in one line.
fn verdict(text: &str) -> String {
    match read(text).settings {
        None => "refused".to_owned(),
        Some(NodeSettings::Disabled(DisabledWhy::NotConfigured)) => "off".to_owned(),
        Some(NodeSettings::Disabled(DisabledWhy::SetToNone)) => "none".to_owned(),
        Some(NodeSettings::Enabled(settings)) => {
            let mut out = settings.base_path.clone();
            for (is_set, word) in [
                (settings.auto_base_path, " auto"),
                (settings.shared, " shared"),
                (settings.entire_step_in_ns, " entire"),
            ] {
                out.push_str(if is_set { word } else { "" });
            }
            let scripts = [&settings.init_script, &settings.clone_ns_script, &settings.clone_ns_epilog];
            for Script { path, wait_seconds } in scripts.into_iter().flatten() {
                let _ = write!(out, " {path}:{wait_seconds}");
            }
            let dirs: Vec<&str> = settings.dirs.iter().map(|dir| dir.path.as_str()).collect();
            if dirs != ["/tmp", "/dev/shm"] {
                let _ = write!(out, " [{}]", dirs.join(" "));
            }
            out
        }
    }
}

/// A file, what it is to Slurm 26.05, what it is to us, and why that differs. Slurm's column is asked of a
/// real slurmd by `tests/dialect`.
struct Row(&'static str, &'static str, &'static str, &'static str);

const SAME: &str = "";

#[test]
fn files_mean_what_they_mean_to_slurm() {
    let rows = [
        Row("", "off", "off", SAME),
        Row("# nothing\n", "off", "off", SAME),
        Row("Shared=true", "off", "off", SAME),
        Row("BasePath=/b", "/b", "/b", SAME),
        Row("  basepath = /b  \n", "/b", "/b", SAME),
        Row("BASEPATH=\"/b\"", "/b", "/b", SAME),
        Row("BasePath=\"/a b\"", "/a b", "/a b", SAME),
        Row("BasePath=/a\\ b", "refused", "refused", SAME),
        Row("BasePath=/b/%h-%n", "/b/host1-n1", "/b/host1-n1", SAME),
        Row("BasePath=/b # Dirs=/x", "/b", "/b", SAME),
        Row("BasePath=/b\\#1", "/b#1", "/b#1", SAME),
        Row("BasePath=/b\\\\\n", "/b\\", "/b\\", SAME),
        Row("BasePath=/b\\\n/c", "/b/c", "/b/c", SAME),
        Row("BasePath=/b \\\n Shared=1", "/b shared", "/b shared", SAME),
        Row("BasePath=/b # \\\nShared=1", "/b shared", "/b shared", SAME),
        Row("BasePath=/b \\ # more\n Shared=1", "/b shared", "/b shared", SAME),
        Row("BasePath=none", "none", "none", SAME),
        Row("BasePath=None Shared=1", "none", "none", SAME),
        Row("BasePath=\"\"", "", "refused", "Slurm takes / for the base path, or the name of the node in it"),
        Row(
            "BasePath=/b AutoBasePath=yes Shared=Up EntireStepInNS=1",
            "/b auto shared entire",
            "/b auto shared entire",
            SAME,
        ),
        Row("AutoBasePath=true\nBasePath=/b\nEntireStepInNS=yes", "/b auto entire", "/b auto entire", SAME),
        Row("AutoBasePath=true\nBasePath=/b AutoBasePath=no", "/b", "/b", SAME),
        Row("BasePath=/b AutoBasePath=no\nAutoBasePath=true", "/b", "/b", SAME),
        Row("BasePath=/b ScriptsMayBeMissing=yes", "refused", "/b", "a key of ours"),
        Row(
            "BasePath=/b Dirs=/x,,/y/,",
            "/b [/x /y/]",
            "/b [/x /y]",
            "two spellings of one directory must not pass as two",
        ),
        Row("BasePath=/b Dirs=/x/y,/x", "/b [/x/y /x]", "/b [/x /x/y]", "a nested directory must be mounted last"),
        Row("Dirs=/x\nBasePath=/b", "/b [/x]", "/b [/x]", SAME),
        Row("BasePath=/b Dirs=\"\"", "/b []", "/b []", SAME),
        Row("BasePath=/b Dirs=/tmp,/dev/shm", "/b", "/b", SAME),
        Row(
            "BasePath=/b InitScript=/i CloneNSScript=/s CloneNSEpilog=/e",
            "/b /i:10 /s:10 /e:10",
            "/b /i:10 /s:10 /e:10",
            SAME,
        ),
        Row("BasePath=/b CloneNSScript=/s CloneNSScript_Wait=20\nCloneNSScript_Wait=5", "/b /s:20", "/b /s:20", SAME),
        Row(
            "BasePath=/b CloneNSScript=/s CloneNSEpilog=/e\nCloneNSEpilog_Wait=0x10",
            "/b /s:10 /e:16",
            "/b /s:10 /e:16",
            SAME,
        ),
        Row(
            "BasePath=/b CloneNSScript=/s CloneNSScript_Wait=0",
            "/b /s:0",
            "/b /s:4294967295",
            "0 is no limit there, as 136 years are here",
        ),
        Row("CloneNSScript=/s\nBasePath=/b", "/b", "/b", SAME),
        Row("InitScript=/i\nBasePath=/b", "refused", "refused", SAME),
        Row("NodeName=n[1-3] BasePath=/b", "/b", "/b", SAME),
        Row("NodeName=n[2-3] BasePath=/b", "off", "off", SAME),
        Row("NodeName=n[2-3] BasePath=/b\nNodeName=n1 BasePath=/c", "/c", "/c", SAME),
        Row("BasePath=/b Shared=1\nNodeName=n1 BasePath=none", "none", "none", SAME),
        Row("BasePath=/b Shared=1 InitScript=/i\nNodeName=n1 BasePath=/c", "/c shared /i:10", "/c shared /i:10", SAME),
        Row("NodeName=n1 BasePath=/c Dirs=/x\nBasePath=/b", "/b [/x]", "/b [/x]", SAME),
        Row("NodeName=n[1-2] BasePath=/b\nNodeName=n1 BasePath=/c", "/c", "/c", SAME),
        Row(
            "NodeName=n[1- BasePath=/b",
            "off",
            "refused",
            "nobody writes this on purpose, and Slurm takes it for other nodes",
        ),
        // Without a line break behind it Slurm reads on behind the end of its buffer.
        Row("Include more\n", "/included shared", "/included shared", SAME),
        Row("INCLUDE more\nNodeName=n1 BasePath=/c", "/c shared", "/c shared", SAME),
        Row("Include nothing\nBasePath=/b", "silent", "refused", "Slurm waits for a minute, and then does not start"),
        Row("Shared=1 BasePath=/b", "refused", "refused", SAME),
        Row("BasePath=/bx Dirs=/bxy", "/bx [/bxy]", "/bx [/bxy]", SAME),
    ];
    let mut wrong = String::new();
    for (index, Row(text, slurm, ours, why)) in rows.into_iter().enumerate() {
        if let Some(dir) = std::env::var_os("DIALECT_ROWS") {
            let path = Path::new(&dir).join(format!("conf-{index:03}"));
            std::fs::write(path.with_extension("conf"), text).unwrap();
            std::fs::write(path.with_extension("slurm"), slurm).unwrap();
        }
        let got = verdict(text);
        if got != ours {
            let _ = writeln!(wrong, "{text:?}: wanted {ours:?}, got {got:?} {:?}", read(text).problems);
        }
        if (slurm == ours) != why.is_empty() {
            let _ = writeln!(wrong, "{text:?}: a difference needs a reason, and only a difference");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn sources_are_lines_of_the_file_itself() {
    let text = "AutoBasePath=yes\n# more\nInclude more\nNodeName=n1 \\\n BasePath=/b\n";
    let sources = read(text).sources;
    let of = |key: &str| sources.iter().find(|source| source.key == key).unwrap().origin;
    assert_eq!(of("auto_base_path"), Origin::Defaults { line: 1 });
    assert_eq!(of("shared"), Origin::Defaults { line: 3 });
    assert_eq!(of("base_path"), Origin::NodeEntry { line: 4 });
    assert_eq!(of("dirs"), Origin::BuiltIn);
}

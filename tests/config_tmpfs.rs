//! Broken files of namespace/tmpfs and what is said about them, and what good ones mean.
//!
//! Each `tests/config/tmpfs/NAME.conf` is read for node `n1`; the rendered problems must be
//! `NAME.expected`, written anew by `UPDATE_EXPECTED=1 cargo test --test config_tmpfs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop where they fail")]

use std::fmt::Write as _;
use std::path::Path;

use namespace_linux::config::{
    DisabledWhy, Level, Node, NodeSettings, Origin, ParsedConf, Problem, Script, parse_job_container_conf,
};

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
        let ParsedConf { parsed, .. } =
            parse_job_container_conf(name, &std::fs::read(&path).unwrap(), &NODE, &mut include);
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

fn read(text: &str) -> ParsedConf {
    let mut include = |file: &str| match file {
        "more" => Ok(b"\n\nBasePath=/included Shared=yes".to_vec()),
        _ => Err("no such file".to_owned()),
    };
    parse_job_container_conf("job_container.conf", text.as_bytes(), &NODE, &mut include)
}

/// What the file comes to, in one line.
fn verdict(text: &str) -> String {
    let ParsedConf { parsed, entire_step_in_ns } = read(text);
    match parsed.settings {
        None => "refused".to_owned(),
        Some(NodeSettings::Disabled(DisabledWhy::NotConfigured)) => "off".to_owned(),
        Some(NodeSettings::Disabled(DisabledWhy::SetToNone)) => "none".to_owned(),
        Some(NodeSettings::Enabled(settings)) => {
            let mut out = settings.base_path.clone();
            for (is_set, word) in
                [(settings.auto_base_path, " auto"), (settings.shared, " shared"), (entire_step_in_ns, " entire")]
            {
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

/// As Slurm 26.05 means it (parse_config.c, read_jcconf.c).
#[test]
fn files_mean_what_they_mean_to_slurm() {
    for (text, expected) in [
        ("", "off"),
        ("# nothing\n", "off"),
        ("Shared=true", "off"),
        ("BasePath=/b", "/b"),
        ("  basepath = /b  \n", "/b"),
        ("BASEPATH=\"/b\"", "/b"),
        ("BasePath=\"/a b\"", "/a b"),
        ("BasePath=/a\\ b", "refused"),
        ("BasePath=/b/%h-%n", "/b/host1-n1"),
        ("BasePath=/b # Dirs=/x", "/b"),
        ("BasePath=/b\\#1", "/b#1"),
        ("BasePath=/b\\\\\n", "/b\\"),
        ("BasePath=/b\\\n/c", "/b/c"),
        ("BasePath=/b \\\n Shared=1", "/b shared"),
        ("BasePath=/b # \\\nShared=1", "/b shared"),
        ("BasePath=/b \\ # more\n Shared=1", "/b shared"),
        ("BasePath=none", "none"),
        ("BasePath=None Shared=1", "none"),
        ("BasePath=\"\"", "refused"),
        ("BasePath=/b AutoBasePath=yes Shared=Up EntireStepInNS=1", "/b auto shared entire"),
        ("AutoBasePath=true\nBasePath=/b\nEntireStepInNS=yes", "/b auto entire"),
        ("AutoBasePath=true\nBasePath=/b AutoBasePath=no", "/b"),
        ("BasePath=/b AutoBasePath=no\nAutoBasePath=true", "/b"),
        ("BasePath=/b Dirs=/x,,/y/,", "/b [/x /y]"),
        ("BasePath=/b Dirs=/x/y,/x", "/b [/x /x/y]"),
        ("Dirs=/x\nBasePath=/b", "/b [/x]"),
        ("BasePath=/b Dirs=\"\"", "/b []"),
        ("BasePath=/b Dirs=/tmp,/dev/shm", "/b"),
        ("BasePath=/b InitScript=/i CloneNSScript=/s CloneNSEpilog=/e", "/b /i:10 /s:10 /e:10"),
        ("BasePath=/b CloneNSScript=/s CloneNSScript_Wait=20\nCloneNSScript_Wait=5", "/b /s:20"),
        ("BasePath=/b CloneNSScript=/s CloneNSEpilog=/e\nCloneNSEpilog_Wait=0x10", "/b /s:10 /e:16"),
        ("BasePath=/b CloneNSScript=/s CloneNSScript_Wait=0", "/b /s:4294967295"),
        ("CloneNSScript=/s\nBasePath=/b", "/b"),
        ("InitScript=/i\nBasePath=/b", "refused"),
        ("NodeName=n[1-3] BasePath=/b", "/b"),
        ("NodeName=n[2-3] BasePath=/b", "off"),
        ("NodeName=n[2-3] BasePath=/b\nNodeName=n1 BasePath=/c", "/c"),
        ("BasePath=/b Shared=1\nNodeName=n1 BasePath=none", "none"),
        ("BasePath=/b Shared=1 InitScript=/i\nNodeName=n1 BasePath=/c", "/c shared /i:10"),
        ("NodeName=n1 BasePath=/c Dirs=/x\nBasePath=/b", "/b [/x]"),
        ("NodeName=n[1-2] BasePath=/b\nNodeName=n1 BasePath=/c", "/c"),
        ("NodeName=n[1- BasePath=/b", "refused"),
        ("Include more", "/included shared"),
        ("INCLUDE more\nNodeName=n1 BasePath=/c", "/c shared"),
        ("Include nothing\nBasePath=/b", "refused"),
        ("Shared=1 BasePath=/b", "refused"),
        ("BasePath=/bx Dirs=/bxy", "/bx [/bxy]"),
    ] {
        assert_eq!(verdict(text), expected, "{text:?}: {:?}", read(text).parsed.problems);
    }
}

#[test]
fn sources_are_lines_of_the_file_itself() {
    let text = "AutoBasePath=yes\n# more\nInclude more\nNodeName=n1 \\\n BasePath=/b\n";
    let sources = read(text).parsed.sources;
    let of = |key: &str| sources.iter().find(|source| source.key == key).unwrap().origin;
    assert_eq!(of("auto_base_path"), Origin::Defaults { line: 1 });
    assert_eq!(of("shared"), Origin::Defaults { line: 3 });
    assert_eq!(of("base_path"), Origin::NodeEntry { line: 4 });
    assert_eq!(of("dirs"), Origin::BuiltIn);
}

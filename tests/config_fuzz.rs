//! The properties of the fuzz targets, on their corpora and on generated inputs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop where they fail")]
#![allow(clippy::format_push_string, reason = "short beats fast here")]

use std::path::Path;

use proptest::prelude::*;
use slurm_jobns::config::limits::MAX_FORMER_BASES;
use slurm_jobns::config::namespace_yaml::parse_namespace_yaml;
use slurm_jobns::config::settings::{Node, NodeSettings};
use slurm_jobns::config::{hostlist, wire};

#[path = "../fuzz/properties.rs"]
mod properties;

fn corpus(target: &str, property: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        property(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", dir.display());
}

#[test]
fn corpora() {
    corpus("namespace_yaml", properties::namespace_yaml);
    corpus("hostlist", properties::hostlist);
    corpus("wire", properties::wire);
    corpus("pattern", properties::pattern);
    corpus("mount_options", properties::mount_options);
    corpus("job_container_conf", properties::job_container_conf);
    corpus("state", properties::state);
}

/// One of the words of a dictionary.
fn word_of(dictionary: &'static str) -> impl Strategy<Value = String> {
    let escapes = [
        ("\\x00", "\0"),
        ("\\x0a", "\n"),
        ("\\x0c", "\x0c"),
        ("\\x0d", "\r"),
        ("\\xef\\xbb\\xbf", "\u{feff}"),
        ("\\\"", "\""),
        ("\\\\", "\\"),
    ];
    let word = |line: &str| {
        let text = line.strip_prefix('"').and_then(|line| line.strip_suffix('"')).unwrap_or(line).to_owned();
        escapes.iter().fold(text, |text, (escape, character)| text.replace(escape, character))
    };
    proptest::sample::select(dictionary.lines().map(word).collect::<Vec<String>>())
}

/// Pieces of which something like a configuration file can be made.
fn yaml_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => word_of(include_str!("../fuzz/dict/namespace_yaml.dict")),
        1 => "[ -~]{0,6}",
        1 => Just("\n  ".to_owned()),
        1 => Just(" ".to_owned()),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A piece of something like job_container.conf.
fn conf_piece() -> impl Strategy<Value = String> {
    let word = word_of(include_str!("../fuzz/dict/job_container_conf.dict"));
    prop_oneof![4 => word, 1 => "[ -~]{0,4}", 2 => Just("\n".to_owned()), 2 => Just(" ".to_owned())]
}

/// A piece of something like what goes through the pipe.
fn wire_piece() -> impl Strategy<Value = String> {
    prop_oneof![8 => word_of(include_str!("../fuzz/dict/wire.dict")), 1 => "[ -~]{0,4}"]
}

/// A line of something like a state file.
fn state_piece() -> impl Strategy<Value = String> {
    "(job|sluid|uid|gid|user|node|boot|stepd|namespaces|tree|holder|pins|ready|x)( (-1|[0-9]{1,20}|/?[a-z ]{0,5})){0,5}\n?"
}

/// A valid file with odd values: most of these are accepted.
fn nearly_valid() -> impl Strategy<Value = String> {
    let path = prop_oneof![
        "/[a-z]{1,3}",
        "/tmp(/[a-z]{1,2}){0,2}",
        Just("/dev/shm".to_owned()),
        "/[a-c](/b)?/%[juUgSn%]",
        "/ns(/[0-9a]{1,2})?",
        "/[a./ -]{1,6}",
    ];
    let options = proptest::sample::select(vec![
        "",
        "noexec",
        "nosuid,nodev",
        "size=4g",
        "ro,mode=1777,noswap",
        "mpol=bind:0,1",
        "nosiud",
    ]);
    let more = proptest::sample::select(vec!["", "", ", create: true", ", owner: user", ", create: true, owner: root"]);
    let dir = (path.clone(), options, any::<bool>(), proptest::option::of(path.clone()), more).prop_map(
        |(path, options, tmpfs, base, more)| {
            let base = base.map_or(String::new(), |base| format!(", base_path: '{base}'"));
            format!("{{path: '{path}', options: '{options}', tmpfs: {tmpfs}{base}{more}}}")
        },
    );
    let flag = proptest::sample::select(vec!["CLONE_NEWPID", "clone_newuser", "CLONE_NEWIPC", "CLONE_NEWNS"]);
    (path.clone(), proptest::collection::vec(dir, 0..6), proptest::collection::vec(flag, 0..4), any::<bool>(), 0_u32..30, path).prop_map(
        |(base, dirs, flags, shared, wait, script)| {
            format!(
                "defaults:\n  base_path: '{base}'\n  shared: {shared}\n  clone_ns_flags: [{}]\n  dir_confs: [{}]\nnode_confs:\n- nodes: n[1-3]\n  options:\n    init_script: '{script}'\n    init_script_wait: {wait}\n",
                flags.join(", "),
                dirs.join(", "),
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_yaml_like_text(text in yaml_like()) {
        properties::namespace_yaml(text.as_bytes());
    }

    #[test]
    fn nearly_valid_files(text in nearly_valid()) {
        properties::namespace_yaml(text.as_bytes());
    }

    #[test]
    fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        properties::namespace_yaml(&data);
        properties::hostlist(&data);
        properties::wire(&data);
        properties::pattern(&data);
        properties::mount_options(&data);
        properties::job_container_conf(&data);
        properties::state(&data);
    }

    #[test]
    fn any_conf_like_text(pieces in proptest::collection::vec(conf_piece(), 0..40)) {
        properties::job_container_conf(pieces.concat().as_bytes());
    }

    #[test]
    fn any_state_like_text(pieces in proptest::collection::vec(state_piece(), 0..20)) {
        let text = format!("slurm-jobns 1\njob 1\nsluid 2\nuid 3\ngid 4\nuser u\nnode n\nboot b\nstepd 1 2 3\nnamespaces 131072\n{}", pieces.concat());
        properties::state(text.as_bytes());
    }

    #[test]
    fn any_pipe_like_text(pieces in proptest::collection::vec(wire_piece(), 0..40), place in any::<proptest::sample::Index>()) {
        properties::wire(pieces.concat().as_bytes());
        // And among lines that are right.
        let mut lines: Vec<&str> = include_str!("../fuzz/corpus/wire/full").split_inclusive('\n').collect();
        let place = place.index(lines.len());
        lines.splice(place..(place + pieces.len() / 8).min(lines.len()), pieces.iter().take(2).map(String::as_str));
        properties::wire(lines.concat().as_bytes());
    }

    #[test]
    fn hostlists_agree_with_expansion(
        list in "([ab]{0,2}(\\[(0{0,2}[0-9]{1,2}(-[0-9]{1,3})?,?){1,3}\\][ab]?){0,2}[, ]?){1,3}",
        node in "[ab]{0,2}[0-9]{0,3}[ab]{0,1}[0-9]{0,2}",
        pick in any::<proptest::sample::Index>(),
    ) {
        properties::hostlist(format!("{list}\n{node}").as_bytes());
        // And a name that is in it, as generated ones seldom are.
        if let Some(names) = properties::naive_hostlist(&list).filter(|names| !names.is_empty()) {
            let name: &String = pick.get(&names);
            prop_assert_eq!(hostlist::contains(&list, name), Ok(true));
        }
    }

    #[test]
    fn patterns(text in "(/{1,2}([a-c%.-]|%[juShn%0-9\\\\]){0,6}){1,3}\n[a./%-]{0,4}\n[a./%-]{0,4}") {
        properties::pattern(text.as_bytes());
    }

    #[test]
    fn options(text in "((no(suid|dev|exec|atime)|ro|rw|relatime|(size|mode|mpol|huge|uid|nr_inodes|noswap)(=[0-9a-z:%-]{0,5})?|[0-9-]{1,3}|[a-z= ]{0,4}),?){0,5}") {
        properties::mount_options(text.as_bytes());
    }
}

#[test]
fn settings_of_any_size_fit_through_the_pipe_or_are_refused() {
    let long = "x".repeat(250);
    let deep = format!("/{long}").repeat(11);
    let mut text = "defaults:\n  base_path: /b\n  dir_confs:\n".to_owned();
    for index in 0..256 {
        text.push_str(&format!("  - {{path: {deep}/{index}}}\n"));
    }
    let parsed = parse_namespace_yaml("big.yaml", text.as_bytes(), &Node { name: "n1", hostname: "host1" });
    let Some(settings) = parsed.settings else { panic!("{:?}", parsed.problems) };
    assert!(matches!(&settings, NodeSettings::Enabled(settings) if settings.dirs.len() == 256));
    let former_bases = vec![format!("{deep}/old"); MAX_FORMER_BASES];
    let message = wire::Message {
        settings,
        node: slurm_jobns::config::settings::NamespaceInodes::default(),
        former_bases,
        slurm_user: 0,
    };
    let bytes = wire::encode(message.clone());
    let (frame, rest) = bytes.split_first_chunk().unwrap();
    assert_eq!(wire::announced(*frame), Ok(rest.len()));
    assert_eq!(wire::decode(rest), Ok(message));
    // One of them needs another around it, which is one too many.
    let text = text.replace("/255}", "/%u, create: true}");
    let parsed = parse_namespace_yaml("big.yaml", text.as_bytes(), &Node { name: "n1", hostname: "host1" });
    let said: Vec<_> = parsed.problems.iter().map(|problem| (problem.line, problem.what.as_str())).collect();
    assert_eq!(said, [(259, "there are more than 256 private directories, with those around them")]);
}

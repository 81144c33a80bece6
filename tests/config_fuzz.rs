//! The properties of the fuzz targets, on their corpora and on generated inputs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop where they fail")]
#![allow(clippy::format_push_string, reason = "short beats fast here")]

use std::path::Path;
use std::time::Duration;

use namespace_linux::config::{
    Node, NodeSettings, ParsedConf, hostlist, parse_job_container_conf, parse_namespace_yaml, wire,
};
use proptest::prelude::*;

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

/// Time that this thread has had a CPU: what the input costs, however busy the machine is.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
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

/// Pieces of which something like a configuration file can be made.
fn yaml_like() -> impl Strategy<Value = String> {
    let words = include_str!("../fuzz/dict/namespace_yaml.dict")
        .lines()
        .map(|line| {
            line.trim_matches('"').replace("\\x0a", "\n").replace("\\x0d", "\r").replace("\\xef\\xbb\\xbf", "\u{feff}")
        })
        .collect::<Vec<String>>();
    let piece = prop_oneof![
        4 => proptest::sample::select(words),
        1 => "[ -~]{0,6}",
        1 => Just("\n  ".to_owned()),
        1 => Just(" ".to_owned()),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A piece of something like job_container.conf.
fn conf_piece() -> impl Strategy<Value = String> {
    let words = include_str!("../fuzz/dict/job_container_conf.dict")
        .lines()
        .map(|line| {
            line.trim_matches('"')
                .replace("\\x0a", "\n")
                .replace("\\x0c", "\x0c")
                .replace("\\\\", "\\")
                .replace("\\\"", "\"")
        })
        .collect::<Vec<String>>();
    prop_oneof![4 => proptest::sample::select(words), 1 => "[ -~]{0,4}", 2 => Just("\n".to_owned()), 2 => Just(" ".to_owned())]
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
        "/[a-c]/%[juSn%]",
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
    let dir = (path.clone(), options, any::<bool>(), proptest::option::of(path.clone())).prop_map(
        |(path, options, tmpfs, base)| {
            let base = base.map_or(String::new(), |base| format!(", base_path: '{base}'"));
            format!("{{path: '{path}', options: '{options}', tmpfs: {tmpfs}{base}}}")
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

/// Bombs: each of about the largest size that is read at all.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    const SIZE: usize = (1 << 20) - 64;
    let fill = |head: &str, piece: &str, tail: &str| {
        let mut text = head.to_owned();
        while text.len() + piece.len() + tail.len() <= SIZE {
            text.push_str(piece);
        }
        (text + tail).into_bytes()
    };
    let numbered = |head: &str, make: &dyn Fn(usize) -> String| {
        let mut text = head.to_owned();
        for index in 0.. {
            let piece = make(index);
            if text.len() + piece.len() > SIZE {
                break;
            }
            text.push_str(&piece);
        }
        text.into_bytes()
    };
    let mut laughs = "a0: &a0 lol\n".to_owned();
    for level in 1..40 {
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(",")));
    }
    vec![
        ("alias bomb", laughs.into_bytes()),
        ("open flow lists", fill("", "[", "")),
        ("open flow mappings", fill("", "{a: ", "")),
        ("open block lists", fill("", "- ", "x")),
        ("deep indentation", numbered("", &|i| format!("{}a:\n", " ".repeat(i)))),
        ("empty lists", fill("a: [", "[],", "]")),
        ("empty texts", fill("a: [", ",", "]")),
        ("one big scalar", fill("defaults: {base_path: \"/", "a", "\"}")),
        ("one big plain scalar", fill("defaults:\n  base_path: /", "a b ", "")),
        ("one big block scalar", fill("defaults:\n  base_path: |\n", "    a\n", "")),
        ("escapes", fill("defaults: {base_path: \"/", "\\u00e9", "\"}")),
        ("one big key", fill("? ", "k", "\n: v\n")),
        ("many anchors", numbered("", &|i| format!("k{i}: &a{i} x\n"))),
        ("unknown keys", numbered("defaults:\n", &|i| format!("  base_pat{i}: x\n"))),
        ("one key again and again", fill("defaults:\n", "  shared: true\n", "")),
        ("comments", fill("", "#\n", "")),
        ("comment of one line", fill("#", "x", "")),
        ("spaces", fill("", " ", "")),
        ("tabs", fill("", "\t", "")),
        ("line breaks", fill("", "\n", "")),
        ("carriage returns", fill("", "\r", "")),
        ("documents", fill("", "---\n", "")),
        ("document ends", fill("", "...\n", "")),
        ("directives", fill("", "%A b\n", "")),
        ("tags", fill("a: ", "!a", " x\n")),
        ("question marks", fill("", "? ", "")),
        ("colons", fill("", ":", "")),
        ("quotes", fill("", "'", "")),
        ("not UTF-8 at the end", fill("", "a", "").into_iter().chain([0xff]).collect()),
        ("NUL", vec![0; SIZE]),
        (
            "private directories",
            numbered("defaults:\n  base_path: /b\n  dir_confs:\n", &|i| format!("  - path: /{i}\n")),
        ),
        ("the same directory", fill("defaults:\n  base_path: /b\n  dirs: \"", "/a,", "\"\n")),
        ("bad directories", fill("defaults:\n  base_path: /b\n  dirs: \"", "a,", "\"\n")),
        ("bad flags", fill("defaults:\n  clone_ns_flags: \"", "CLONE_NEWPDI,", "\"\n")),
        ("bad options", fill("defaults:\n  dir_confs: [{path: /a, options: \"", "nosiud,", "\"}]\n")),
        ("tmpfs twice", fill("defaults:\n  dir_confs: [{path: /a, tmpfs: true, options: \"", "size=1,", "\"}]\n")),
        (
            "node policy",
            fill("defaults:\n  dir_confs: [{path: /a, tmpfs: true, options: \"mpol=bind:0", ",1", "\"}]\n"),
        ),
        ("entries", fill("node_confs:\n", "- {nodes: n1, options: {}}\n", "")),
        ("names", fill("node_confs: [{options: {}, nodes: \"", "n,", "\"}]\n")),
        ("ranges", fill("node_confs: [{options: {}, nodes: \"n[", "1,", "1]\"}]\n")),
        ("huge ranges", fill("node_confs: [{options: {}, nodes: \"n[", "0-65535,", "1]\"}]\n")),
        ("groups", fill("node_confs: [{options: {}, nodes: \"n", "[1]", "\"}]\n")),
        ("groups in names", fill("node_confs: [{options: {}, nodes: \"", "n[1-9][1-9],", "n1\"}]\n")),
        ("slashes", fill("defaults: {base_path: \"", "/", "\"}")),
        ("percents", fill("defaults: {base_path: \"/", "%", "\"}")),
        ("patterns", fill("defaults: {base_path: \"/", "%n", "\"}")),
        ("job patterns", fill("defaults: {base_path: /b, dir_confs: [{path: \"", "/%u%j", "\"}]}")),
    ]
}

#[test]
fn bombs_do_not_go_off() {
    // Without optimisation everything is some twenty times slower.
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 100 });
    let mut slow = String::new();
    for (name, bomb) in bombs() {
        let started = cpu_time();
        let parsed = parse_namespace_yaml("bomb.yaml", &bomb, &Node { name: "n1", hostname: "host1" });
        let took = cpu_time().saturating_sub(started);
        assert!(parsed.problems.len() <= 51, "{name}");
        eprintln!("{name}: {took:?}, {} problems", parsed.problems.len());
        if took > limit {
            slow.push_str(&format!("{name} took {took:?}\n"));
        }
        for problem in &parsed.problems {
            assert!(problem.render().len() < 16 * 1024, "{name}");
        }
    }
    assert!(slow.is_empty(), "{slow}");
}

/// The same for job_container.conf; a file that includes itself is one of them.
fn conf_bombs() -> Vec<(&'static str, Vec<u8>)> {
    const SIZE: usize = (1 << 20) - 64;
    let fill = |head: &str, piece: &str| (head.to_owned() + &piece.repeat(SIZE / piece.len())).into_bytes();
    vec![
        ("continuations", fill("BasePath=/b", "\\\n")),
        ("escapes", fill("BasePath=/b", "\\a")),
        ("backslashes", fill("BasePath=/b", "\\")),
        ("settings", fill("", "Shared=1\n")),
        ("lines of the node", fill("", "NodeName=n1 BasePath=/b\n")),
        ("one line", fill("BasePath=/b", " Shared=1")),
        ("unknown keys", fill("", "BasPath=/b\n")),
        ("directories", fill("BasePath=/b Dirs=", "/a,")),
        ("bad directories", fill("BasePath=/b Dirs=", "a,")),
        ("hostlists", fill("NodeName=n[", "0-65535,")),
        ("quotes", fill("BasePath=", "\"")),
        ("spaces", fill("BasePath", " ")),
        ("includes", fill("", "Include a\n")),
        ("comments", fill("", "#\n")),
    ]
}

#[test]
fn conf_bombs_do_not_go_off() {
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 100 });
    let mut slow = String::new();
    for (name, bomb) in conf_bombs() {
        let started = cpu_time();
        let small = b"Include a\nInclude a\n".to_vec();
        let node = Node { name: "n1", hostname: "host1" };
        let ParsedConf { parsed, .. } = parse_job_container_conf("bomb.conf", &bomb, &node, &mut |_| Ok(small.clone()));
        let took = cpu_time().saturating_sub(started);
        assert!(parsed.problems.len() <= 51 * 64, "{name}");
        eprintln!("{name}: {took:?}, {} problems", parsed.problems.len());
        if took > limit {
            slow.push_str(&format!("{name} took {took:?}\n"));
        }
    }
    assert!(slow.is_empty(), "{slow}");
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
    let message = wire::encode(&settings);
    let (header, body) = message.split_first_chunk().unwrap();
    assert_eq!(wire::decode(header, body), Ok(settings));
}

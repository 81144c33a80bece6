//! The YAML dialect: how Slurm 26.05 reads an input, and how we read it.
//!
//! Each row has Slurm's verdict and ours in the same words, and the reason if the two differ.
//! `tests/dialect` checks Slurm's column: a real slurmd reads every row.
//!
//! A verdict is `refused`, `off` (no base path), `none` (disabled), or the value of the key that the row
//! is about.
//!
//! Some rows are different if the tests are built for Slurm 25.11, which recognises nulls and numbers by their form.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop where they fail")]
#![allow(clippy::format_push_string, reason = "short beats fast here")]

use slurm_jobns::config::namespace_yaml::parse_namespace_yaml;
use slurm_jobns::config::outcome::Parsed;
use slurm_jobns::config::settings::{Backing, DisabledWhy, Node, NodeSettings, Settings};
use slurm_jobns::slurm_version::RELEASE;

/// Slurm and we say the same.
const SAME: &str = "";
/// Slurm takes nonsense for a value.
const NONSENSE: &str = "nobody writes this on purpose, and Slurm's reading is not what the text says";
/// Slurm goes on and the first job fails.
const LATE: &str = "Slurm accepts the file and the first job fails";
/// Slurm ignores what it does not know.
const IGNORED: &str = "Slurm ignores it without a word";
/// A key that Slurm does not know.
const OURS: &str = "an opt-in key of ours, which Slurm ignores";

/// The second where this is built for Slurm 25.11.
fn or_in_25_11<T>(of_26_05: T, of_25_11: T) -> T {
    if RELEASE.typed_scalars { of_25_11 } else { of_26_05 }
}

struct Row(&'static str, &'static str, &'static str, &'static str);

fn read(yaml: &str) -> Parsed {
    parse_namespace_yaml("namespace.yaml", yaml.as_bytes(), &Node { name: "n1", hostname: "host1" })
}

/// The verdict on a file, with `show` for the part that matters.
fn verdict(yaml: &str, show: impl Fn(&Settings) -> String) -> String {
    match read(yaml).settings {
        None => "refused".to_owned(),
        Some(NodeSettings::Disabled(DisabledWhy::NotConfigured)) => "off".to_owned(),
        Some(NodeSettings::Disabled(DisabledWhy::SetToNone)) => "none".to_owned(),
        Some(NodeSettings::Enabled(settings)) => show(&settings),
    }
}

fn show_dirs(settings: &Settings) -> String {
    let one = |dir: &slurm_jobns::config::settings::Dir| {
        let mut out = dir.path.clone();
        match &dir.backing {
            // No file has the second.
            Backing::BasePath | Backing::SameAs(_) => {}
            Backing::OtherBase(base) => out.push_str(&format!("@{base}")),
            Backing::Tmpfs(params) => {
                out.push_str(":tmpfs");
                for param in params {
                    out.push_str(&format!(":{}={}", param.key, param.value.as_deref().unwrap_or("")));
                }
            }
        }
        if dir.flags.noexec {
            out.push_str(":noexec");
        }
        out
    };
    settings.dirs.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn show_flags(settings: &Settings) -> String {
    let n = settings.namespaces;
    [(n.pid, "pid"), (n.user, "user"), (n.ipc, "ipc")]
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, name)| *name)
        .collect::<Vec<_>>()
        .join(" ")
}

fn check(what: &str, rows: &[Row], yaml: impl Fn(&str) -> String, show: impl Fn(&Settings) -> String) {
    let mut wrong = String::new();
    for (index, Row(input, slurm, ours, why)) in rows.iter().enumerate() {
        let yaml = yaml(input);
        // For tests/dialect, which asks a real slurmd.
        if let Some(dir) = std::env::var_os("DIALECT_ROWS") {
            let path = std::path::Path::new(&dir).join(format!("{what}-{index:03}"));
            std::fs::write(path.with_extension("yaml"), &yaml).unwrap();
            std::fs::write(path.with_extension("slurm"), slurm).unwrap();
        }
        let got = verdict(&yaml, &show);
        if got != *ours {
            let said: Vec<String> =
                read(&yaml).problems.iter().map(slurm_jobns::config::problem::Problem::one_line).collect();
            wrong.push_str(&format!("{input:?}: wanted {ours:?}, got {got:?} {said:?}\n"));
        }
        if (slurm == ours) != why.is_empty() {
            wrong.push_str(&format!("{input:?}: a difference needs a reason, and only a difference\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn in_defaults(line: &str) -> String {
    format!("defaults:\n  base_path: /b\n  {line}\n")
}

#[test]
fn booleans() {
    let rows = [
        Row("true", "true", "true", SAME),
        Row("True", "true", "true", SAME),
        Row("TRUE", "true", "true", SAME),
        Row("t", "true", "true", SAME),
        Row("yes", "true", "true", SAME),
        Row("Yes", "true", "true", SAME),
        Row("y", "true", "true", SAME),
        Row("on", "true", "true", SAME),
        Row("1", "true", "true", SAME),
        Row("\"true\"", "true", "true", SAME),
        Row("'yes'", "true", "true", SAME),
        Row("!!bool true", "true", "true", SAME),
        Row("!!str true", "true", "true", SAME),
        Row("false", "false", "false", SAME),
        Row("False", "false", "false", SAME),
        Row("f", "false", "false", SAME),
        Row("no", "false", "false", SAME),
        Row("n", "false", "false", SAME),
        Row("off", "false", "false", SAME),
        Row("0", "false", "false", SAME),
        Row("\"\"", "false", "false", SAME),
        Row("", "false", "false", SAME),
        Row("~", "false", "false", SAME),
        Row("null", "false", "false", SAME),
        Row("true # comment", "true", "true", SAME),
        Row("2", "true", "refused", NONSENSE),
        Row("-1", "true", "refused", NONSENSE),
        Row("00", "false", "refused", NONSENSE),
        Row("0x0", "false", "refused", NONSENSE),
        Row("0.0", "false", "refused", NONSENSE),
        Row("flase", "true", "refused", NONSENSE),
        Row("disabled", "true", "refused", NONSENSE),
        Row("\" false\"", "true", "refused", NONSENSE),
        Row("~x", "false", "refused", NONSENSE),
        Row("[]", "refused", "refused", SAME),
        Row("{}", "refused", "refused", SAME),
        Row("[true]", "refused", "refused", SAME),
    ];
    check("shared", &rows, |value| in_defaults(&format!("shared: {value}")), |s| s.shared.to_string());
}

#[test]
fn numbers() {
    const UNBOUNDED: &str = "Slurm makes a wait of 136 years of it";
    let refused_or = |of_25_11| or_in_25_11("refused", of_25_11);
    let rows = [
        Row("20", "20", "20", SAME),
        Row("\"20\"", "20", "20", SAME),
        Row("020", "20", "20", SAME),
        Row("0x14", "20", "20", SAME),
        Row("0X14", "20", "20", SAME),
        Row("!!int 20", "20", "20", SAME),
        Row("0", "10", "10", SAME),
        Row("4294967295", "4294967295", "4294967295", SAME),
        Row("-1", "4294967294", "refused", UNBOUNDED),
        Row("4294967296", "4294967294", "refused", UNBOUNDED),
        Row("+20", "20", "refused", NONSENSE),
        Row("\" 20\"", "20", "refused", NONSENSE),
        Row("20s", "refused", "refused", SAME),
        Row("2e1", refused_or("20"), refused_or("20"), SAME),
        Row("20.0", refused_or("20"), refused_or("20"), SAME),
        Row("1_000", "refused", "refused", SAME),
        Row("0o24", "refused", "refused", SAME),
        Row("ten", "refused", "refused", SAME),
        Row("\"\"", refused_or("10"), refused_or("10"), SAME),
        Row("", refused_or("10"), refused_or("10"), SAME),
        Row("~", refused_or("10"), refused_or("10"), SAME),
        Row("null", refused_or("10"), refused_or("10"), SAME),
        Row("[20]", "refused", "refused", SAME),
        Row("99999999999999999999", "4294967294", "refused", UNBOUNDED),
    ];
    let yaml = |value: &str| in_defaults(&format!("clone_ns_script: /s\n  clone_ns_script_wait: {value}"));
    check("wait", &rows, yaml, |s| s.clone_ns_script.as_ref().unwrap().wait_seconds.to_string());
}

#[test]
fn flags() {
    const SUBSTRING: &str = "Slurm finds flags anywhere in the text";
    let rows = [
        Row("CLONE_NEWPID", "pid", "pid", SAME),
        Row("[CLONE_NEWPID, CLONE_NEWUSER]", "pid user", "pid user", SAME),
        Row("\n    - \"CLONE_NEWPID\"\n    - CLONE_NEWNS", "pid", "pid", SAME),
        Row("\"CLONE_NEWPID,CLONE_NEWUSER\"", "pid user", "pid user", SAME),
        Row("CLONE_NEWPID, CLONE_NEWUSER", "pid user", "pid user", SAME),
        Row("CLONE_NEWPID|CLONE_NEWUSER", "pid user", "pid user", SAME),
        Row("CLONE_NEWPID CLONE_NEWUSER", "pid user", "pid user", SAME),
        Row("clone_newpid", "pid", "pid", SAME),
        Row("CLONE_NEWNS", "", "", SAME),
        Row("[]", "", "", SAME),
        Row("\"\"", "", "", SAME),
        Row("", "", "", SAME),
        Row("[CLONE_NEWPID, \"\"]", "pid", "pid", SAME),
        Row("CLONE_NEWIPC", "", "ipc", OURS),
        Row("CLONE_NEWPDI", "", "refused", IGNORED),
        Row("CLONE_NEWNET", "", "refused", IGNORED),
        Row("NEWPID", "", "refused", IGNORED),
        Row("NOT_CLONE_NEWUSER", "user", "refused", SUBSTRING),
        Row("CLONE_NEWPIDCLONE_NEWUSER", "pid user", "refused", SUBSTRING),
        or_in_25_11(Row("~", "", "refused", IGNORED), Row("~", "", "", SAME)),
        Row("{CLONE_NEWPID: true}", "pid", "refused", SUBSTRING),
        Row("[[CLONE_NEWPID]]", "refused", "refused", SAME),
    ];
    check("flags", &rows, |value| in_defaults(&format!("clone_ns_flags: {value}")), show_flags);
}

#[test]
fn base_paths() {
    const SAFETY: &str = "two spellings of one directory must not pass as two";
    let rows = [
        Row("/ns", "/ns", "/ns", SAME),
        Row("\"/ns\"", "/ns", "/ns", SAME),
        Row("'/ns'", "/ns", "/ns", SAME),
        Row("/a b", "/a b", "/a b", SAME),
        Row("/ns/%h", "/ns/host1", "/ns/host1", SAME),
        Row("/ns/%n", "/ns/n1", "/ns/n1", SAME),
        Row("/ns/%h-%n", "/ns/host1-n1", "/ns/host1-n1", SAME),
        Row("/ns/%j", "/ns/%j", "/ns/%j", SAME),
        Row("/ns/", "/ns/", "/ns", SAFETY),
        Row("//ns//x", "//ns//x", "/ns/x", SAFETY),
        Row("/ns/%n/%n", "/ns/n1/%n", "refused", NONSENSE),
        Row("/ns/%%n", "/ns/%n1", "refused", NONSENSE),
        Row("none", "none", "none", SAME),
        Row("None", "none", "none", SAME),
        Row("\"NONE\"", "none", "none", SAME),
        Row("none-such", "none", "refused", NONSENSE),
        Row("nonexistent/dir", "none", "refused", NONSENSE),
        Row("", "off", "off", SAME),
        Row("\"\"", "off", "off", SAME),
        or_in_25_11(Row("~", "~", "refused", LATE), Row("~", "off", "off", SAME)),
        or_in_25_11(Row("null", "null", "refused", LATE), Row("null", "off", "off", SAME)),
        Row("ns", "ns", "refused", LATE),
        Row("/a/../b", "/a/../b", "refused", SAFETY),
        Row("/a/./b", "/a/./b", "refused", SAFETY),
        Row("/", "/", "refused", "every directory lies below it"),
        Row("/tmp", "refused", "refused", SAME),
        Row("/dev/shm", "refused", "refused", SAME),
        Row("/dev", "refused", "refused", SAME),
        Row("/tmp/ns", "/tmp/ns", "/tmp/ns", SAME),
        Row("[/ns]", "refused", "refused", SAME),
        Row("{a: /ns}", "refused", "refused", SAME),
        Row("!!str /ns", "/ns", "/ns", SAME),
        Row("!path /ns", "/ns", "refused", IGNORED),
        Row("&anchor /ns", "/ns", "/ns", SAME),
        Row("*anchor", "refused", "refused", SAME),
        Row("|\n    /ns", "/ns\n", "refused", "the line break is a part of the path"),
        Row("|-\n    /ns", "/ns", "/ns", SAME),
        Row(">-\n    /ns", "/ns", "/ns", SAME),
        Row("\"/n\\x73\"", "/ns", "/ns", SAME),
    ];
    check("base", &rows, |value| format!("defaults:\n  base_path: {value}\n"), |s| s.base_path.clone());
}

#[test]
fn dirs() {
    let rows = [
        Row("dirs: /tmp", "/tmp", "/tmp", SAME),
        Row("dirs: /tmp,/dev/shm", "/tmp /dev/shm:tmpfs", "/tmp /dev/shm:tmpfs", SAME),
        Row("dirs: \"/tmp,,/var/tmp,\"", "/tmp /var/tmp", "/tmp /var/tmp", SAME),
        Row("dirs:", "/tmp /dev/shm:tmpfs", "/tmp /dev/shm:tmpfs", SAME),
        Row("dirs: \"\"", "/tmp /dev/shm:tmpfs", "/tmp /dev/shm:tmpfs", SAME),
        Row("shared: true", "/tmp /dev/shm:tmpfs", "/tmp /dev/shm:tmpfs", SAME),
        Row("dirs: /tmp, /dev/shm", "/tmp \" /dev/shm\"", "/tmp /dev/shm:tmpfs", LATE),
        Row("dirs: /tmp/x,/tmp", "/tmp/x /tmp", "/tmp /tmp/x", "a nested directory must be mounted last"),
        Row("dirs: /tmp,/tmp", "refused", "refused", SAME),
        Row("dirs: /tmp,/tmp/", "/tmp /tmp/", "refused", "one directory twice"),
        Row("dirs: /tmp,//tmp", "/tmp //tmp", "refused", "one directory twice"),
        Row("dirs: tmp", "tmp", "refused", LATE),
        Row("dirs: /a%b", "/a%b", "refused", "%b, the number of an array task, is 0 in every job of Slurm's plugin"),
        Row("dirs: /a%j,/%u", "/a%j /%u", "/a%j /%u", SAME),
        Row("dirs: /b/x", "refused", "refused", SAME),
        Row("dirs: /b", "refused", "refused", SAME),
        Row("dirs: /bx", "/bx", "/bx", SAME),
        Row("dirs: /a/../b", "/a/../b", "refused", "it is the base path in disguise"),
        Row("dirs: /", "/", "refused", LATE),
        Row("dirs: /proc", "/proc", "refused", "jobs need it, and a PID namespace brings its own"),
        Row("dirs: [/tmp]", "refused", "refused", SAME),
        or_in_25_11(
            Row("dirs: ~", "~", "refused", LATE),
            Row("dirs: ~", "/tmp /dev/shm:tmpfs", "/tmp /dev/shm:tmpfs", SAME),
        ),
        Row("dir_confs: []", "", "", SAME),
        Row("dir_confs:", "refused", "refused", SAME),
        Row("dir_confs: {path: /tmp}", "refused", "refused", SAME),
        Row("dir_confs: [{path: /tmp}]", "/tmp", "/tmp", SAME),
        Row(
            "dir_confs: [{path: /tmp, tmpfs: yes, options: \"noexec,size=8g\"}]",
            "/tmp:tmpfs:size=8g:noexec",
            "/tmp:tmpfs:size=8g:noexec",
            SAME,
        ),
        Row("dir_confs: [{path: /tmp, options: NoExec}]", "/tmp:noexec", "/tmp:noexec", SAME),
        Row("dir_confs: [{path: /tmp, base_path: /fast}]", "/tmp@/fast", "/tmp@/fast", SAME),
        Row("dir_confs: [{path: /tmp, base_path: /fast/%n}]", "/tmp@/fast/n1", "/tmp@/fast/n1", SAME),
        Row(
            "dir_confs: [{path: /tmp, base_path: \"\"}]",
            "/tmp@",
            "/tmp",
            "every job fails in Slurm; here empty text sets nothing, as it does elsewhere",
        ),
        Row("dir_confs: [{path: /tmp, base_path: /b}]", "/tmp", "/tmp", SAME),
        Row("dir_confs: [{path: /tmp, base_path: /fast, tmpfs: true}]", "/tmp:tmpfs", "/tmp:tmpfs", SAME),
        Row("dir_confs: [{path: /tmp, options: size=8g}]", "/tmp", "/tmp", SAME),
        Row("dir_confs: [{path: /tmp, options: nosiud}]", "/tmp", "refused", IGNORED),
        Row("dir_confs: [{path: /tmp, tmpfs: true, options: nosiud}]", "/tmp:tmpfs:nosiud=", "refused", LATE),
        Row("dir_confs: [{path: /dev/shm}]", "/dev/shm:tmpfs", "/dev/shm:tmpfs", SAME),
        Row("dir_confs: [{path: /dev/shm, tmpfs: false}]", "/dev/shm:tmpfs", "/dev/shm:tmpfs", SAME),
        Row("dir_confs: [{path: /dev/shm/}]", "/dev/shm/", "/dev/shm:tmpfs", "the same directory spelt with a slash"),
        Row("dir_confs: [{path: /s/%u/%j}]", "/s/%u/%j", "/s/%u/%j", SAME),
        Row("dir_confs: [{path: /s/%x}]", "/s/%x", "refused", "%x, the job's name, is \"(null)\" in Slurm's plugin"),
        Row("dir_confs: [{base_path: /fast}]", "refused", "refused", SAME),
        Row("dir_confs: [/tmp]", "refused", "refused", SAME),
        Row("dir_confs: [{path: /tmp}, {path: /tmp}]", "refused", "refused", SAME),
        Row("dir_confs: [{path: /tmp, colour: red}]", "/tmp", "refused", IGNORED),
        Row("dirs: /x\n  dir_confs: [{path: /tmp}]", "/tmp", "/tmp", SAME),
    ];
    check("dirs", &rows, in_defaults, show_dirs);
}

#[test]
fn entries_of_nodes() {
    let show =
        |s: &Settings| format!("{} {} {}", s.base_path, s.shared, show_dirs(s).replace("/tmp /dev/shm:tmpfs", "-"));
    let head = "defaults: {base_path: /b, shared: true}\nnode_confs:\n";
    let rows = [
        Row("- {nodes: n1, options: {base_path: /c}}", "/c true -", "/c true -", SAME),
        Row("- {nodes: [n2, n1], options: {base_path: /c}}", "/c true -", "/c true -", SAME),
        Row("- {nodes: \"n[0-3]\", options: {base_path: /c}}", "/c true -", "/c true -", SAME),
        Row("- {nodes: \"n2,n1\", options: {base_path: /c}}", "/c true -", "/c true -", SAME),
        Row("- {nodes: n2, options: {base_path: /c}}", "/b true -", "/b true -", SAME),
        Row("- {nodes: n1, options: {shared: false}}", "/b false -", "/b false -", SAME),
        Row("- {nodes: n1, options: {shared: }}", "/b false -", "/b false -", SAME),
        Row("- {nodes: n1, options: {}}", "/b true -", "/b true -", SAME),
        Row("- {nodes: n1, options: {base_path: }}", "/b true -", "/b true -", SAME),
        Row("- {nodes: n1, options: {base_path: none}}", "none", "none", SAME),
        Row("- {nodes: n1, options: {dirs: /x}}", "/b true /x", "/b true /x", SAME),
        Row(
            "- {nodes: n1, options: {base_path: /c}}\n- {nodes: n1, options: {base_path: /d}}",
            "/c true -",
            "/c true -",
            SAME,
        ),
        Row("- {nodes: [], options: {base_path: /c}}", "/b true -", "/b true -", SAME),
        Row("- {nodes: \"\", options: {base_path: /c}}", "/b true -", "/b true -", SAME),
        Row("  []", "/b true -", "/b true -", SAME),
        Row("- {nodes: n1}", "refused", "refused", SAME),
        Row("- {options: {}}", "refused", "refused", SAME),
        Row("- {nodes: n1, options: }", "refused", "refused", SAME),
        Row("- {nodes: \"n[1-\", options: {}}", "refused", "refused", SAME),
        Row("- {nodes: {a: b}, options: {}}", "refused", "refused", SAME),
        Row("- n1", "refused", "refused", SAME),
        Row("{nodes: n1, options: {}}", "refused", "refused", SAME),
        Row("- {nodes: n2, options: {shared: maybe}}", "/b true -", "refused", NONSENSE),
        Row("- {nodes: n1, options: {}, shared: false}", "/b true -", "refused", IGNORED),
    ];
    check("entry", &rows, |entries| format!("{head}{entries}\n"), show);
    // The dir_confs of defaults win over the dirs of an entry; a warning says so.
    let yaml = "defaults: {base_path: /b, dir_confs: [{path: /x}]}\nnode_confs: [{nodes: n1, options: {dirs: /y}}]\n";
    assert_eq!(verdict(yaml, show_dirs), "/x");
    assert_eq!(read(yaml).problems.len(), 1);
}

#[test]
fn whole_files() {
    let rows = [
        Row("", "refused", "refused", SAME),
        Row("# comment\n", "refused", "refused", SAME),
        Row("---\n", "refused", "refused", SAME),
        Row("{}", "off", "off", SAME),
        Row("defaults: {}", "off", "off", SAME),
        Row("defaults:", "refused", "refused", SAME),
        Row("node_confs: []", "off", "off", SAME),
        Row("text", "refused", "refused", SAME),
        Row("[]", "refused", "refused", SAME),
        Row("--- # start\ndefaults: {base_path: /b}\n...\n", "/b", "/b", SAME),
        Row("\u{feff}defaults: {base_path: /b}", "/b", "/b", SAME),
        Row("defaults:\r\n  base_path: /b\r\n", "/b", "/b", SAME),
        Row("\"defaults\": {'base_path': /b}", "/b", "/b", SAME),
        Row("? defaults\n: base_path: /b\n", "/b", "/b", SAME),
        Row("Defaults: {base_path: /b}", "off", "refused", IGNORED),
        Row("base_path: /b", "off", "refused", IGNORED),
        Row("disable_bpf_token: true\ndefaults: {base_path: /b}", "/b", "/b", SAME),
        Row("defaults: {base_path: /b, typo: 1}", "/b", "refused", IGNORED),
        Row("defaults: {base_path: /a, base_path: /b}", "/b", "refused", "one of the two is a mistake"),
        Row("defaults: &d {base_path: /b}\nnode_confs: [{nodes: n1, options: *d}]", "refused", "refused", SAME),
        Row("defaults: {<<: {base_path: /b}}", "off", "refused", IGNORED),
        Row(
            "defaults: {base_path: /b}\n---\ndefaults: {base_path: /c}\n",
            "/b",
            "refused",
            "one of the two is a mistake",
        ),
        Row("%YAML 1.1\n---\ndefaults: {base_path: /b}\n", "/b", "refused", "no file needs a directive"),
        Row("defaults:\n\tbase_path: /b\n", "refused", "refused", SAME),
        Row("defaults: {base_path: /b\n", "refused", "refused", SAME),
        Row("defaults: {base_path: /b}\0trailing", "/b", "refused", "Slurm does not see what comes behind a NUL"),
        Row("strict: true\ndefaults: {base_path: /b}", "/b", "refused", OURS),
        Row("strict: true\nnode_confs: [{nodes: n1, options: {base_path: /b}}]", "/b", "/b", SAME),
        Row("strict: true\nnode_confs: [{nodes: n1, options: {base_path: none}}]", "none", "none", SAME),
        Row("strict: no\ndefaults: {base_path: /b}", "/b", "/b", SAME),
        Row("strict: true\nnode_confs: []", "off", "refused", OURS),
    ];
    check("file", &rows, str::to_owned, |s| s.base_path.clone());
    assert_eq!(verdict("defaults: {base_path: /b, hide_base_path: yes}", |s| s.hide_base_path.to_string()), "true");
    assert_eq!(verdict("defaults: {base_path: /b}", |s| s.hide_base_path.to_string()), "false");
    let missing = |s: &Settings| s.scripts_may_be_missing.to_string();
    assert_eq!(verdict("defaults: {base_path: /b}", missing), "false");
    assert_eq!(verdict("defaults: {base_path: /b, scripts_may_be_missing: yes}", missing), "true");
    let limits = |s: &Settings| s.user_ns_limits.to_string();
    assert_eq!(verdict("defaults: {base_path: /b, clone_ns_flags: CLONE_NEWUSER}", limits), "10");
    assert_eq!(verdict("defaults: {base_path: /b, clone_ns_flags: CLONE_NEWUSER, user_ns_limits: 100}", limits), "100");
    let node = "node_confs: [{nodes: n1, options: {user_ns_limits: 3}}]\n";
    let both = format!("{node}defaults: {{base_path: /b, clone_ns_flags: CLONE_NEWUSER, user_ns_limits: 20}}");
    assert_eq!(verdict(&both, limits), "3");
    let proc = "defaults: {base_path: /b, clone_ns_flags: CLONE_NEWPID, proc_options: hidepid=2}";
    assert_eq!(verdict(proc, |s| format!("{:?}", s.hide_pid)), "Invisible");
    let keep = "defaults: {base_path: /b, proc_keep: [/proc/driver/b//, /proc/a]}";
    assert_eq!(verdict(keep, |s| s.proc_keep.join(" ")), "/proc/a /proc/driver/b");
    let mode = "defaults: {base_path: /b, dir_confs: [{path: /tmp, mode: 01777}]}";
    assert_eq!(verdict(mode, |s| format!("{:o}", s.dirs.first().and_then(|dir| dir.mode).unwrap())), "1777");
}

//! The worst inputs for the readers of the configuration cost at most 50 ms and 32 MiB.
//!
//! An allocator counts the bytes of memory. Time is the CPU time of the thread; the test allows more
//! than is promised, since other processes share the caches.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop where they fail")]
#![allow(clippy::format_push_string, reason = "short beats fast here")]

use slurm_jobns::config::job_container_conf::parse_job_container_conf;
use slurm_jobns::config::namespace_yaml::parse_namespace_yaml;
use slurm_jobns::config::problem::Problem;
use slurm_jobns::config::settings::Node;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Bytes that a reader may have allocated at any moment, the text itself not counted.
const MAX_MEMORY: usize = 32 << 20;

/// Without optimisation everything is some twenty times slower.
const MAX_TIME: Duration = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 100 });

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as asked of us.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as asked of us.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NODE: Node<'_> = Node { name: "n1", hostname: "host1" };

/// Time that this thread has had a CPU: what the input costs, however busy the machine is.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// What is wrong with the costs of `read`.
fn measure(name: &str, read: impl FnOnce() -> Vec<Problem>) -> Option<String> {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let started = cpu_time();
    let problems = read();
    let took = cpu_time().saturating_sub(started);
    let memory = PEAK.load(Ordering::Relaxed) - before;
    eprintln!("{name}: {took:?}, {} KiB, {} problems", memory >> 10, problems.len());
    assert!(problems.len() <= 51 * 64, "{name}");
    for problem in &problems {
        assert!(problem.render().len() < 16 * 1024, "{name}");
    }
    (took > MAX_TIME || memory > MAX_MEMORY).then(|| format!("{name} took {took:?} and {memory} bytes\n"))
}

/// One test, so that no other one allocates meanwhile.
#[test]
fn bombs_do_not_go_off() {
    let mut wrong = String::new();
    for (name, bomb) in bombs() {
        wrong.extend(measure(name, || parse_namespace_yaml("bomb.yaml", &bomb, &NODE).problems));
    }
    let included = b"Include a\nInclude a\n".as_slice();
    for (name, bomb) in conf_bombs() {
        wrong.extend(measure(name, || {
            let parsed = parse_job_container_conf("bomb.conf", &bomb, &NODE, &mut |_| Ok(included.to_vec()));
            parsed.problems
        }));
    }
    assert!(wrong.is_empty(), "{wrong}");
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

//! What must hold for any input: the bodies of the fuzz targets.
//!
//! `tests/config_fuzz.rs` calls the same functions, on the corpora here, on inputs that once broke
//! something, and on generated ones, so that a finding becomes a plain test by adding a file.

use slurm_jobns::config::job_container_conf::parse_job_container_conf;
use slurm_jobns::config::namespace_yaml::parse_namespace_yaml;
use slurm_jobns::config::outcome::Parsed;
use slurm_jobns::config::pattern::JobNames;
use slurm_jobns::config::problem::{Level, Report, Scalar};
use slurm_jobns::config::settings::{
    Backing, Dir, DisabledWhy, HidePid, NamespaceInodes, Node, NodeSettings, Settings,
};
use slurm_jobns::config::size::JobHas;
use slurm_jobns::config::wire;
use slurm_jobns::config::wire::{FRAME_LEN, Message};
use slurm_jobns::config::{check, hostlist, mount_options, path, pattern};
use slurm_jobns::job::record::process::BootId;
use slurm_jobns::job::record::state::{Line, State, Tree};

/// Any bytes as namespace.yaml.
pub fn namespace_yaml(data: &[u8]) {
    let node = Node { name: "n1", hostname: "host1" };
    let parsed = parse_namespace_yaml("namespace.yaml", data, &node);
    let Some(settings) = told(parsed) else { return };
    // The same text means the same again, and a comment changes nothing.
    if std::str::from_utf8(data).is_ok() && !data.is_empty() && !data.windows(3).any(|w| w == b"...") {
        let mut with_comment = b"# comment\n".to_vec();
        with_comment.extend_from_slice(data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data));
        if with_comment.len() <= slurm_jobns::config::limits::MAX_TEXT {
            let again = parse_namespace_yaml("namespace.yaml", &with_comment, &node).settings;
            assert_eq!(again, Some(settings));
        }
    }
}

fn sent(settings: NodeSettings) -> Message {
    Message { settings, node: NamespaceInodes::default(), former_bases: Vec::new(), slurm_user: 0 }
}

/// What a reader says of any file; the settings that it accepts.
fn told(parsed: Parsed) -> Option<NodeSettings> {
    let errors = parsed.problems.iter().filter(|problem| problem.level == Level::Error).count();
    assert_eq!(parsed.settings.is_none(), errors > 0, "refused exactly when there is an error");
    for problem in &parsed.problems {
        assert!(!problem.what.is_empty());
        is_printable(&problem.one_line(), false);
        is_printable(&problem.render(), true);
        assert!(problem.render().len() < 16 * 1024);
    }
    converted(&parsed);
    let settings = parsed.settings?;
    if let NodeSettings::Enabled(settings) = &settings {
        holds(settings);
    }
    let message = sent(settings);
    let bytes = wire::encode(message.clone());
    let (frame, rest) = bytes.split_first_chunk::<FRAME_LEN>().expect("a frame");
    assert_eq!(wire::announced(*frame).as_ref(), Ok(&rest.len()));
    assert_eq!(wire::decode(rest).as_ref(), Ok(&message));
    Some(message.settings)
}

/// `jobns convert` writes what means the same, but for the key that namespace.yaml does not have.
fn converted(parsed: &Parsed) {
    let text = slurm_jobns::cli::convert::yaml("some.conf", parsed, "n1");
    assert_eq!(text.is_none(), parsed.settings.is_none());
    let Some(text) = text else { return };
    let mut expected = parsed.settings.clone();
    if let Some(NodeSettings::Enabled(settings)) = &mut expected {
        settings.entire_step_in_ns = true;
    }
    let again = parse_namespace_yaml("namespace.yaml", text.as_bytes(), &Node { name: "n1", hostname: "host1" });
    assert_eq!(again.settings, expected, "{text}{:?}", again.problems);
}

/// Any bytes as job_container.conf. What is behind the first form feed can be included as `b`, and
/// the whole as `a`, which then includes itself.
pub fn job_container_conf(data: &[u8]) {
    let node = Node { name: "n1", hostname: "host1" };
    let middle = data.iter().position(|b| *b == 0x0c).unwrap_or(data.len());
    let (text, other) = (&data[..middle], data.get(middle + 1..).unwrap_or_default());
    let read = |text: &[u8]| {
        let mut include = |name: &str| match name {
            "a" => Ok(text.to_vec()),
            "b" => Ok(other.to_vec()),
            _ => Err("no such file".to_owned()),
        };
        parse_job_container_conf("job_container.conf", text, &node, &mut include)
    };
    let Some(settings) = told(read(text)) else { return };
    if let NodeSettings::Enabled(settings) = &settings {
        // What this file has no key for.
        assert!(!settings.disable_bpf_token && settings.user_ns_script.is_none());
        assert_eq!(settings.user_ns_limits, 10);
        assert!(settings.hide_pid == HidePid::Off && settings.proc_keep.is_empty());
        assert!(settings.project_ids.is_none() && !settings.dirs.iter().any(Dir::is_limited));
        assert_eq!(settings.namespaces, slurm_jobns::config::settings::Namespaces::default());
        assert!(settings.dirs.iter().all(|dir| !dir.path.contains('%')));
    }
    // Neither a comment nor another line break changes anything, when no Include counts the files.
    if !text.to_ascii_lowercase().windows(7).any(|word| word == b"include") {
        let mut with_comment = b"# comment\n \t\n".to_vec();
        with_comment.extend_from_slice(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
        if with_comment.len() <= slurm_jobns::config::limits::MAX_TEXT {
            assert_eq!(read(&with_comment).settings, Some(settings));
        }
    }
}

/// Any bytes as the state file of a job, and a journal made of them as `create` makes it.
pub fn state(data: &[u8]) {
    if let Ok(state) = State::parse(data) {
        assert!(state.trees().all(|tree| tree.base.starts_with('/') && !tree.base.contains('\n')));
        let lines = journal(&state, &state.trees().collect::<Vec<_>>());
        let text: String = lines.iter().map(ToString::to_string).collect();
        let again = State::parse(text.as_bytes()).expect("what is written is read");
        assert!(same(&state, &again), "{text}");
        assert!(again.trees().eq(state.trees()) && again.projects().eq(state.projects()));
        // A line that was being written when the writer died says nothing.
        let whole = data.iter().rposition(|b| *b == b'\n').map_or(0, |last| last + 1);
        for tail in [&b""[..], b"ready", b"job 9", b"tree 1 2 /x", b"uid"] {
            let cut = [&data[..whole], tail].concat();
            assert!(
                State::parse(&cut)
                    .is_ok_and(|cut| same(&cut, &state) && cut.boot == state.boot && cut.trees().eq(state.trees()))
            );
        }
        prefixes(&text, &again);
    }
    // A journal of any numbers, by another hand than `Line`.
    let mut numbers = data.chunks(8).map(|chunk| chunk.iter().fold(0_u64, |sum, b| sum << 8 | u64::from(*b)));
    let mut number = || numbers.next().unwrap_or(u64::MAX);
    let (job, uid, gid) = (number() >> 32, number() >> 32, number() >> 32);
    let mut id = || format!("{} {} {}", (number() >> 33).max(1), number(), number());
    let (stepd, holder) = (id(), id());
    let mut fd = || i64::try_from(number() >> 33).unwrap_or(0) - i64::from(data.len().is_multiple_of(2));
    let pins = format!("{} {} {} {}", fd(), fd().min(i64::from(i32::MAX)), fd(), -1);
    let (device, inode, sluid) = (number(), number(), number());
    let name: String = String::from_utf8_lossy(data).chars().filter(|c| !c.is_control()).take(64).collect();
    let current = boot();
    let current = std::str::from_utf8(current.as_bytes()).expect("ASCII");
    let text = format!(
        "slurm-jobns 1\njob {job}\nsluid {sluid}\nuid {uid}\ngid {gid}\nuser {name}\nnode n1\nboot {current}\n\
         stepd {stepd}\nnamespaces 537001984\ntree {device} {inode} /{name}\ntree 0 0 /b\nproject {uid} /b\nholder {holder}\n\
         pins {pins}\nready\n"
    );
    let state = State::parse(text.as_bytes()).expect("a journal");
    let trees: Vec<Tree<'_>> = state.trees().collect();
    assert_eq!(trees.len(), 2);
    let again: String = journal(&state, &trees).iter().map(ToString::to_string).collect();
    assert_eq!(again, text, "what is read is written");
    prefixes(&text, &state);
}

/// Every cut of a journal is refused, or says the same of the job and less of the rest.
fn prefixes(text: &str, whole: &State<'_>) {
    // Around the ends of the lines, and here and there in between.
    let step = 1 + text.len() / 64;
    let at_line_end = |length: usize| text.as_bytes()[length.saturating_sub(1)..=length].contains(&b'\n');
    for length in (0..text.len()).filter(|length| length % step == 0 || at_line_end(*length)) {
        let Ok(cut) = State::parse(&text.as_bytes()[..length]) else { continue };
        assert_eq!(cut.header, whole.header);
        assert!(cut.holder.is_none() || cut.holder == whole.holder);
        assert!(cut.pins.is_none() || cut.pins == whole.pins);
        assert!(whole.ready || !cut.ready);
        assert!(whole.trees().take(cut.trees().count()).eq(cut.trees()));
    }
}

/// Equal, apart from the boot and the text that they were read from.
fn same(a: &State<'_>, b: &State<'_>) -> bool {
    (a.header, a.stepd, a.holder, a.pins, a.ready) == (b.header, b.stepd, b.holder, b.pins, b.ready)
        && a.namespaces.bits() == b.namespaces.bits()
}

/// The lines that would be written for this state.
fn journal<'s>(state: &'s State<'_>, trees: &[Tree<'s>]) -> Vec<Line<'s>> {
    let mut lines =
        vec![Line::Job { header: state.header, boot: boot(), stepd: state.stepd, namespaces: state.namespaces }];
    lines.extend(trees.iter().map(|tree| Line::Tree(*tree)));
    lines.extend(state.projects().map(|(id, base)| Line::Project { id, base }));
    lines.extend(state.holder.map(Line::Holder));
    lines.extend(state.pins.map(Line::Pins));
    if state.ready {
        lines.push(Line::Ready);
    }
    lines
}

fn boot() -> BootId {
    static BOOT: std::sync::OnceLock<BootId> = std::sync::OnceLock::new();
    *BOOT.get_or_init(|| BootId::current().expect("the boot id"))
}

/// What accepted settings hold, told without the code that checked them.
fn holds(settings: &Settings) {
    assert!((1..=100).contains(&settings.user_ns_limits));
    let mut paths = vec![&settings.base_path];
    let scripts =
        [&settings.init_script, &settings.user_ns_script, &settings.clone_ns_script, &settings.clone_ns_epilog];
    for script in scripts.into_iter().flatten() {
        assert!(script.wait_seconds > 0);
        paths.push(&script.path);
    }
    let mut bases = vec![&settings.base_path];
    for (index, dir) in settings.dirs.iter().enumerate() {
        paths.push(&dir.path);
        for before in settings.dirs.iter().take(index) {
            assert_ne!(before.path, dir.path);
            assert!(!before.path.starts_with(&format!("{}/", dir.path)), "a parent comes first");
        }
        assert_ne!(dir.path, "/proc");
        match &dir.backing {
            // No file has the second; a body from the pipe may.
            Backing::BasePath | Backing::SameAs(_) => assert_ne!(dir.path, "/dev/shm"),
            Backing::OtherBase(base) => {
                assert_ne!(dir.path, "/dev/shm");
                assert_ne!(*base, settings.base_path);
                paths.push(base);
                bases.push(base);
            }
            Backing::Tmpfs(params) => {
                assert!(dir.flags.nosuid && dir.flags.nodev);
                for param in params {
                    assert!(param.key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
                    assert!(!param.value.as_ref().is_some_and(|v| v.is_empty() || v.contains(char::is_control)));
                }
            }
        }
        assert!(dir.mode.is_none_or(|mode| mode <= 0o7777));
        for base in &bases {
            assert!(dir.path != **base && !dir.path.starts_with(&format!("{base}/")));
        }
    }
    for path in paths {
        is_good_path(path);
    }
    assert!(settings.dirs.len() <= 256);
    assert!(settings.namespaces.pid || settings.hide_pid == HidePid::Off);
    assert!(settings.proc_keep.len() <= 64);
    for (index, path) in settings.proc_keep.iter().enumerate() {
        is_good_path(path);
        let first = path.strip_prefix("/proc/").expect("it is below /proc").split('/').next().unwrap_or_default();
        assert!(first.parse::<u64>().is_err() && !["self", "thread-self", "net", "mounts"].contains(&first));
        for before in settings.proc_keep.iter().take(index) {
            assert!(before != path && !before.starts_with(&format!("{path}/")), "a parent comes first");
        }
    }
    sizes(settings);
    for user in ["alice", "..", "a/b", "-rf", "", "%u", "tmp"] {
        let job = JobNames { job_id: 4_294_967_293, sluid: "s7VQ6KB9NY0000", user, uid: 1000, gid: 100 };
        if let Ok(dirs) = check::dirs_for_job(settings, &job) {
            for (kept, _) in check::keep_for_job(settings, &dirs, &job).unwrap_or_default() {
                is_good_path(&kept.path);
                let lies_in = |top: &str| kept.path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
                assert!(dirs.iter().any(|dir| lies_in(&dir.path)) && bases.iter().all(|base| !lies_in(base)));
            }
            for (index, dir) in dirs.iter().enumerate() {
                is_good_path(&dir.path);
                assert!(dirs.iter().take(index).all(|before| before.path != dir.path));
            }
        }
    }
}

/// No job gets a directory without the limit that is asked for, or one that is none to the kernel.
fn sizes(settings: &Settings) {
    let some = JobHas { memory: Some(1 << 33), cores: Some(4), gres: vec![("tmp".to_owned(), 5)] };
    let most = JobHas { memory: Some(u64::MAX), cores: Some(u64::MAX), gres: vec![("tmp".to_owned(), u64::MAX)] };
    for dir in &settings.dirs {
        let is_tmpfs = matches!(dir.backing, Backing::Tmpfs(_));
        assert!(is_tmpfs || !dir.is_limited() || settings.project_ids.is_some());
        for job in [&JobHas::default(), &some, &most] {
            let bytes = dir.size.as_ref().and_then(|size| size.of(job).ok());
            assert!(bytes.is_none_or(|bytes| (1..=i64::MAX.unsigned_abs()).contains(&bytes)));
        }
        for other in settings.dirs.iter().filter(|other| !is_tmpfs && other.backing == dir.backing) {
            assert_eq!((dir.size.is_some(), dir.inodes.is_some()), (other.size.is_some(), other.inodes.is_some()));
        }
    }
}

fn is_good_path(path: &str) {
    assert!(path.starts_with('/') && path.len() > 1 && path.len() <= 4095);
    assert!(!path.chars().any(char::is_control));
    for component in path.split('/').skip(1) {
        assert!(!matches!(component, "" | "." | "..") && component.len() <= 255);
    }
}

fn is_printable(text: &str, may_hold_lines: bool) {
    assert!(text.chars().all(|c| !c.is_control() || (may_hold_lines && c == '\n')), "{text:?}");
}

/// `LIST \n NODE`: agrees with a list that is expanded the naive way, as far as that is feasible.
pub fn hostlist(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (list, node) = text.rsplit_once('\n').unwrap_or((text, "n1"));
    let found = hostlist::contains(list, node);
    if let Err(error) = &found {
        assert!(!error.what.is_empty() && !error.hint.is_empty());
    }
    match (naive_hostlist(list), &found) {
        (Some(names), Ok(found)) => assert_eq!(names.iter().any(|name| name == node), *found, "{node} in {list}"),
        (Some(_), Err(_)) if node.len() <= 255 => panic!("refused: {list:?}"),
        _ => {}
    }
}

/// All names of a small, well-formed list; `None` when it is not small or not well-formed.
pub fn naive_hostlist(list: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut name = String::new();
    for c in list.chars().chain([',']) {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if !(0..=1).contains(&depth) {
            return None;
        }
        if depth == 0 && matches!(c, ',' | ' ' | '\t' | '\n') {
            if !name.is_empty() {
                expand(&name, String::new(), 0, &mut names)?;
                name.clear();
            }
        } else {
            name.push(c);
        }
    }
    (depth == 0).then_some(names)
}

fn expand(rest: &str, head: String, groups: usize, names: &mut Vec<String>) -> Option<()> {
    let Some((literal, group)) = rest.split_once('[') else {
        names.push(head + rest);
        return (names.len() <= 20_000).then_some(());
    };
    let (ranges, tail) = group.split_once(']')?;
    if groups == 8 {
        return None;
    }
    for range in ranges.split(',') {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let high = if high.is_empty() { low } else { high };
        if low.is_empty()
            || low.len() > 6
            || high.len() > 6
            || !(low.to_owned() + high).bytes().all(|b| b.is_ascii_digit())
        {
            return None;
        }
        let (first, last): (u64, u64) = (low.parse().ok()?, high.parse().ok()?);
        if first > last || last - first > 2000 {
            return None;
        }
        for number in first..=last {
            expand(tail, format!("{head}{literal}{number:0width$}", width = low.len()), groups + 1, names)?;
        }
    }
    Some(())
}

/// Any lines from the pipe: nothing but what a file can ask for comes out, and it has one text. As they are, and behind
/// a right first line.
pub fn wire(data: &[u8]) {
    if let Some(frame) = data.first_chunk::<FRAME_LEN>()
        && let Ok(length) = wire::announced(*frame)
    {
        assert!(length <= 1 << 20);
    }
    let model = wire::encode(sent(NodeSettings::Disabled(DisabledWhy::SetToNone)));
    let header = model[FRAME_LEN..].split_inclusive(|byte| *byte == b'\n').next().expect("a line");
    received(data);
    received(&[header, data].concat());
}

fn received(text: &[u8]) {
    match wire::decode(text) {
        Ok(message) => {
            if let NodeSettings::Enabled(settings) = &message.settings {
                holds(settings);
            }
            let again = wire::encode(message);
            let lines = |text: &[u8]| text.iter().position(|byte| *byte == b'\n').map(|end| text[end..].to_vec());
            assert_eq!(lines(&again[FRAME_LEN..]), lines(text), "one text for each value");
        }
        Err(sentence) => is_printable(&sentence, false),
    }
}

/// `PATTERN \n VALUE \n VALUE`: what comes out is a path with the components of the pattern.
pub fn pattern(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.splitn(3, '\n');
    let (template, first, second) =
        (parts.next().unwrap_or(""), parts.next().unwrap_or("alice"), parts.next().unwrap_or("s7VQ6KB9NY0000"));
    let job = JobNames { job_id: 42, sluid: second, user: first, uid: 7, gid: 8 };
    let node = Node { name: first, hostname: second };
    let results = [pattern::expand_job(template, &job), pattern::expand_node(template, &node)];
    for made in results {
        let Ok(made) = made else { continue };
        is_good_path(&made);
        assert_eq!(path::normalise(&made).as_ref(), Ok(&made));
        let written: Vec<&str> = template.split('/').filter(|component| !component.is_empty()).collect();
        let got: Vec<&str> = made.split('/').skip(1).collect();
        assert_eq!(written.len(), got.len(), "a value adds and removes no component");
        for (written, got) in written.iter().zip(got) {
            assert!(!got.starts_with('-') || written.starts_with('-'));
            if !written.contains('%') {
                assert_eq!(*written, got, "what is no pattern stays as it is");
            }
        }
    }
    if pattern::expand_job(template, &job).is_ok() {
        assert!(pattern::check_job_pattern(template).is_ok(), "what works at run time is accepted at start");
    }
    // `%9j`, three bytes, becomes nine: a name of up to 85 bytes stays below NAME_MAX.
    if pattern::check_job_pattern(template).is_ok() && template.len() <= 85 {
        let tame = JobNames { job_id: 1, sluid: "s1", user: "u", uid: 7, gid: 8 };
        assert!(pattern::expand_job(template, &tame).is_ok(), "what is accepted at start works for tame values");
    }
}

/// Any text as `options`, for a tmpfs and for another mount.
pub fn mount_options(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for is_tmpfs in [true, false] {
        let mut report = Report::default();
        report.add_file("options", b"");
        let options = mount_options::read(&Scalar::new(text), is_tmpfs, &mut report);
        let problems = report.finish();
        assert!(is_tmpfs || options.params.is_empty());
        assert!(options.params.iter().all(mount_options::is_valid_param));
        for (index, param) in options.params.iter().enumerate() {
            assert!(options.params.iter().take(index).all(|before| before.key != param.key));
        }
        // Every word is accounted for: as a flag, as a parameter, or in a problem.
        if problems.is_empty() && !text.contains('"') {
            let known = ["noatime", "nodev", "nodiratime", "noexec", "nosuid", "relatime", "ro"];
            for word in text.split(',').filter(|word| !word.trim().is_empty()) {
                let key = word.split('=').next().unwrap_or("");
                assert!(
                    known.contains(&word.to_ascii_lowercase().as_str())
                        || options.params.iter().any(|param| param.key == key)
                        || word.bytes().all(|b| b.is_ascii_digit() || b == b'-'),
                    "{word:?} got lost"
                );
            }
        }
    }
}

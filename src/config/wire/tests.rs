//! Tests of the lines in the pipe.

use super::*;

fn param(key: &str, value: Option<&str>) -> TmpfsParam {
    TmpfsParam { key: key.to_owned(), value: value.map(str::to_owned) }
}

/// Settings in which no field has its default value.
fn sample() -> Settings {
    let script = |path: &str| Some(Script { path: path.to_owned(), wait_seconds: 7 });
    let flags = MountFlags { nosuid: true, nodev: true, ..MountFlags::default() };
    let tmpfs = Backing::Tmpfs(vec![param("huge", Some("never")), param("noswap", None)]);
    Settings {
        auto_base_path: true,
        base_path: "/ns/n1".to_owned(),
        hide_base_path: true,
        namespaces: Namespaces { pid: true, user: true, ipc: true },
        shared: true,
        entire_step_in_ns: true,
        disable_bpf_token: true,
        user_ns_limits: 25,
        init_script: script("/a"),
        user_ns_script: script("/b"),
        clone_ns_script: script("/c d"),
        clone_ns_epilog: script("/e"),
        scripts_may_be_missing: true,
        removal_timeout: 30,
        hide_pid: HidePid::Ptraceable,
        proc_keep: vec!["/proc/cpuinfo".to_owned(), "/proc/driver/x".to_owned()],
        keep: vec![
            KeepPath { path: "/tmp/.X11-unix".to_owned(), read_only: true, required: true },
            KeepPath { path: "/tmp/mps".to_owned(), read_only: false, required: false },
        ],
        project_ids: ProjectIds::parse("5-9").ok(),
        dirs: vec![
            Dir { path: "/tmp".to_owned(), ..Dir::default() },
            Dir {
                path: "/dev/shm".to_owned(),
                backing: tmpfs,
                flags,
                owned_by_root: true,
                is_cover: false,
                mode: Some(0o1777),
                size: Size::parse("50%mem max 64G").ok(),
                inodes: Amount::parse("100K").ok(),
            },
            Dir {
                path: "/scratch/%u".to_owned(),
                backing: Backing::OtherBase("/fast".to_owned()),
                flags: MountFlags {
                    nosuid: true,
                    nodev: true,
                    noexec: true,
                    read_only: true,
                    noatime: true,
                    nodiratime: true,
                    relatime: true,
                },
                mode: Some(0o700),
                ..Dir::default()
            },
            Dir { path: "/var/tmp".to_owned(), backing: Backing::SameAs("/tmp".to_owned()), ..Dir::default() },
            Dir::cover("/run/user".to_owned()),
        ],
    }
}

fn message(settings: NodeSettings) -> Message {
    let node = NamespaceInodes { mount: 1 << 60, pid: 2, user: 3, ipc: 4 };
    Message { settings, node, former_bases: vec!["/old".to_owned(), "/older/n1".to_owned()], slurm_user: 64030 }
}

/// The text after the length.
fn lines_of(settings: NodeSettings) -> String {
    let bytes = encode(message(settings));
    let (frame, text) = bytes.split_first_chunk().unwrap();
    assert_eq!(announced(*frame), Ok(text.len()));
    String::from_utf8(text.to_vec()).unwrap()
}

fn refused(text: &str) -> String {
    decode(text.as_bytes()).unwrap_err()
}

#[test]
fn there_and_back() {
    for settings in [
        NodeSettings::Enabled(sample()),
        NodeSettings::Disabled(DisabledWhy::NotConfigured),
        NodeSettings::Disabled(DisabledWhy::SetToNone),
    ] {
        assert_eq!(decode(lines_of(settings.clone()).as_bytes()), Ok(message(settings)));
    }
}

/// Another format has other lines. If you change one of these lines, increase `FORMAT`, and the number below.
#[test]
fn the_lines_are_those_of_this_format() {
    let lines = "mount_namespace 1152921504606846976\npid_namespace 2\nuser_namespace 3\nipc_namespace 4\n\
         former_base /old\nformer_base /older/n1\nslurm_user 64030\n\
         base_path /ns/n1\nauto_base_path\nhide_base_path\npid\nuser\nipc\nshared\ndisable_bpf_token\n\
         entire_step_in_ns\nscripts_may_be_missing\nuser_ns_limits 25\n\
         init_script /a\nwait 7\nuser_ns_script /b\nwait 7\nclone_ns_script /c d\nwait 7\nclone_ns_epilog /e\nwait 7\n\
         removal_timeout 30\nhide_pid 4\nproc_keep /proc/cpuinfo\nproc_keep /proc/driver/x\n\
         keep /tmp/.X11-unix\nread_only\nrequired\nkeep /tmp/mps\nproject_ids 5-9\n\
         dir /tmp\n\
         dir /dev/shm\nnosuid\nnodev\nowned_by_root\nmode 1023\nsize 50%mem max 64G\ninodes 100K\ntmpfs\nparam huge\nvalue never\nparam noswap\n\
         dir /scratch/%u\nnosuid\nnodev\nnoexec\nread_only\nnoatime\nnodiratime\nrelatime\nmode 448\nother_base /fast\n\
         dir /var/tmp\nsame_as /tmp\n\
         dir /run/user\nnosuid\nnodev\nnoexec\nread_only\nowned_by_root\ncover\nmode 493\ntmpfs\nend\n";
    let made = lines_of(NodeSettings::Enabled(sample()));
    let (header, made) = made.split_once('\n').unwrap();
    assert_eq!((header, FORMAT, made), (format!("slurm-jobns-settings 12 {PLUGIN_VERSION}").as_str(), 12, lines));
}

/// Slurm's plugin reads an int and then that number of bytes (`namespace_p_recv_stepd`). The first byte is a bool, the
/// next four are the length of a text, most significant byte first.
#[test]
fn slurms_plugin_reads_all_of_it_and_refuses_it() {
    let bytes = encode(message(NodeSettings::Disabled(DisabledWhy::SetToNone)));
    let length = i32::from_ne_bytes(bytes[..4].try_into().unwrap());
    assert_eq!(usize::try_from(length).unwrap(), bytes.len() - 4);
    let text = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
    assert!(text > 1 << 30, "MAX_PACK_MEM_LEN of Slurm");
}

#[test]
fn what_slurms_plugin_sends_is_refused_without_waiting_for_more() {
    for length in [0_u16, 1, 40, 63, 200] {
        assert_eq!(announced(u32::from(length).to_ne_bytes()), Ok(length.into()));
        assert!(decode(&vec![0; length.into()]).unwrap_err().contains("another namespace plugin"));
    }
    for length in [u32::try_from(MAX_WIRE + 1).unwrap(), u32::MAX] {
        assert!(announced(length.to_ne_bytes()).unwrap_err().contains("more than the limit"));
    }
}

#[test]
fn another_version_is_named() {
    let next = "slurm-jobns-settings 13 9.8.7\nwhatever it\0says";
    let start = "slurmd's plugin is version 9.8.7 (format 13), slurmstepd's is ";
    assert!(refused(next).starts_with(start), "{}", refused(next));
    for (version, named) in [("\x1b[1m", "\\x1b[1m"), ("", "unknown"), (&"x".repeat(45), "unknown")] {
        let sentence = refused(&format!("slurm-jobns-settings 13 {version}\n"));
        assert!(sentence.contains(&format!("version {named} (format 13)")), "{sentence}");
    }
}

/// Format 8 starts with a length, earlier formats do not.
#[test]
fn a_version_that_sends_no_lines_is_named() {
    for format in [7_u8, 8] {
        let mut header = [0; FORMER_HEADER_LEN];
        header[..8].copy_from_slice(FORMER_MAGIC);
        header[8] = format;
        header[20..26].copy_from_slice(b"0.0.1\0");
        let rest = if format == 7 {
            let (frame, rest) = header.split_first_chunk().unwrap();
            assert_eq!(announced(*frame), Ok(rest.len()));
            rest.to_vec()
        } else {
            [&header[..], &[0xff; 100]].concat()
        };
        let sentence = decode(&rest).unwrap_err();
        let start = format!("slurmd's plugin is version 0.0.1 (format {format}), slurmstepd's is ");
        assert!(sentence.starts_with(&start), "{sentence}");
        assert!(decode(&rest[..50]).unwrap_err().contains("another namespace plugin"));
    }
}

#[test]
fn every_cut_is_noticed_and_every_damaged_bit_gives_an_error_or_other_valid_settings() {
    let text = lines_of(NodeSettings::Enabled(sample())).into_bytes();
    for length in 0..text.len() {
        assert!(decode(&text[..length]).is_err(), "cut at {length}");
    }
    let behind = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for index in behind..text.len() {
        for bit in 0..8 {
            let mut damaged = text.clone();
            damaged[index] ^= 1 << bit;
            if let Ok(message) = decode(&damaged) {
                assert_eq!(encode(message)[FRAME_LEN..], damaged, "one text for each value");
            }
        }
    }
}

#[test]
fn a_line_that_does_not_fit_is_named() {
    let good = lines_of(NodeSettings::Enabled(sample()));
    for (from, to, line) in [
        ("slurm_user 64030", "slurm_user 064030", "slurm_user"),
        ("slurm_user 64030", "slurm_user 4294967296", "slurm_user"),
        ("pid\n", "pid 1\n", "user_ns_limits"),
        ("pid\n", "pid \n", "user_ns_limits"),
        ("pid\n", "pid\npid\n", "user_ns_limits"),
        ("hide_pid 4", "hide_pid 3", "hide_pid"),
        ("wait 7", "later 7", "wait"),
        ("/scratch/%u", "/scratch\nx", "end"),
        ("tmpfs\n", "tmpfs \n", "tmpfs"),
        ("size 50%mem", "size 050%mem", "size"),
        ("max 64G", "max 65536M", "size"),
        ("inodes 100K", "inodes 0", "inodes"),
        ("project_ids 5-9", "project_ids 9-5", "project_ids"),
        ("end\n", "end\n\n", "end"),
    ] {
        let sentence = refused(&good.replacen(from, to, 1));
        assert!(sentence.contains(&format!("the line \"{line}\" is missing, damaged")), "{sentence}");
    }
}

#[test]
fn no_list_is_longer_than_its_limit() {
    let nothing = NodeSettings::Disabled(DisabledWhy::NotConfigured);
    let with_former = |base: &str, times: usize| {
        let bytes = encode(Message { former_bases: vec![base.to_owned(); times], ..message(nothing.clone()) });
        decode(&bytes[FRAME_LEN..]).is_ok()
    };
    assert!(with_former("/old", MAX_FORMER_BASES) && !with_former("/old", MAX_FORMER_BASES + 1));
    for bad in ["", "old", "/", "/old/", "/a/../b", "/a\nb"] {
        assert!(!with_former(bad, 1), "{bad:?}");
    }
    let sentence = refused(&lines_of(NodeSettings::Enabled(sample())).replace("end\n", &"dir /x\n".repeat(300)));
    assert!(sentence.contains("\"end\""), "{sentence}");
}

#[test]
fn hostile_settings_are_checked_like_a_file() {
    for change in [
        |s: &mut Settings| s.base_path = "/ns/..".to_owned(),
        |s: &mut Settings| s.base_path = "/tmp".to_owned(),
        |s: &mut Settings| s.base_path = "/".to_owned(),
        |s: &mut Settings| s.base_path = String::new(),
        |s: &mut Settings| s.user_ns_limits = 0,
        |s: &mut Settings| s.user_ns_limits = 101,
        |s: &mut Settings| s.user_ns_limits = u32::MAX,
        |s: &mut Settings| s.dirs[0].path = "tmp".to_owned(),
        |s: &mut Settings| s.dirs[0].path = "/dev/shm".to_owned(),
        |s: &mut Settings| s.dirs[0].path = "/tmp/".to_owned(),
        |s: &mut Settings| s.dirs[0].path = "/proc".to_owned(),
        |s: &mut Settings| s.dirs[0].path = "/a/b/c/d".to_owned(),
        |s: &mut Settings| s.dirs[0].mode = Some(0o10000),
        |s: &mut Settings| s.dirs[1].flags.nosuid = false,
        |s: &mut Settings| s.dirs[1].backing = Backing::BasePath,
        |s: &mut Settings| s.dirs[1].backing = Backing::Tmpfs(vec![param("size", Some("4g"))]),
        |s: &mut Settings| s.dirs[1].backing = Backing::Tmpfs(vec![param("nr_blocks", Some("4"))]),
        |s: &mut Settings| s.dirs[1].backing = Backing::Tmpfs(vec![param("nr_inodes", Some("4"))]),
        |s: &mut Settings| {
            s.dirs.truncate(2);
            s.dirs[0].size = s.dirs[1].size.clone();
            s.project_ids = None;
        },
        |s: &mut Settings| {
            s.dirs[0].size = s.dirs[1].size.clone();
            s.dirs.push(Dir { path: "/other".to_owned(), ..Dir::default() });
        },
        |s: &mut Settings| {
            s.dirs[0].inodes = s.dirs[1].inodes;
            s.dirs.push(Dir { path: "/other".to_owned(), size: s.dirs[1].size.clone(), ..Dir::default() });
        },
        |s: &mut Settings| {
            s.dirs[1].owned_by_root = false;
            s.dirs[1].backing = Backing::Tmpfs(vec![param("uid", Some("0"))]);
        },
        |s: &mut Settings| s.dirs[4].flags.read_only = false,
        |s: &mut Settings| s.dirs[4].owned_by_root = false,
        |s: &mut Settings| s.dirs[4].mode = None,
        |s: &mut Settings| s.dirs[4].backing = Backing::BasePath,
        |s: &mut Settings| s.dirs[2].backing = Backing::OtherBase("/ns/n1".to_owned()),
        |s: &mut Settings| s.dirs[0].backing = Backing::SameAs("/dev/shm".to_owned()),
        |s: &mut Settings| s.dirs[2].backing = Backing::SameAs("/nowhere".to_owned()),
        |s: &mut Settings| s.dirs[2].backing = Backing::OtherBase("/scratch".to_owned()),
        |s: &mut Settings| s.dirs[2].backing = Backing::OtherBase("/ns/n1/12".to_owned()),
        |s: &mut Settings| s.init_script.as_mut().unwrap().wait_seconds = 0,
        |s: &mut Settings| s.init_script.as_mut().unwrap().path = "a\0".to_owned(),
        |s: &mut Settings| s.init_script.as_mut().unwrap().path = "/a\rb".to_owned(),
        |s: &mut Settings| s.dirs = vec![s.dirs[0].clone(); 300],
        |s: &mut Settings| s.namespaces.pid = false,
        |s: &mut Settings| s.proc_keep[0] = "/etc/passwd".to_owned(),
        |s: &mut Settings| s.proc_keep[0] = "/proc/self/x".to_owned(),
        |s: &mut Settings| s.proc_keep[1] = "/proc/x/".to_owned(),
        |s: &mut Settings| s.proc_keep[1] = s.proc_keep[0].clone(),
        |s: &mut Settings| s.proc_keep.reverse(),
        |s: &mut Settings| s.proc_keep = (0..65).map(|n| format!("/proc/x{n}")).collect(),
    ] {
        let mut settings = sample();
        change(&mut settings);
        let sentence = refused(&lines_of(NodeSettings::Enabled(settings)));
        assert!(!sentence.contains(char::is_control), "{sentence:?}");
    }
}

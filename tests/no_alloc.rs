//! Code that runs after clone3 (`job/make/child.rs`, the script's child, the command's child of `jobns
//! run`) and after fork (`job/join.rs`) allocates nothing. An allocator proves this: it works only in the
//! process of a test, and ends any other process with status 77.
//!
//! The allocator recognises the test's process by its pid, which a clone does not share. The tests need
//! root, like everything that makes namespaces.

use rustix::fd::AsFd;
use rustix::process::getpid;
use slurm_jobns::base::io::read_file;
use slurm_jobns::base::log::{Level, Log};
use slurm_jobns::config;
use slurm_jobns::config::settings::NodeSettings;
use slurm_jobns::job::make::create::{Created, InsideWork, StepHost, create};
use slurm_jobns::job::record::process::BootId;
use slurm_jobns::job::record::state::Header;
use slurm_jobns::job::remove::delete;
use slurm_jobns::job::script::Environment;
use slurm_jobns::job::{Job, join};
use slurm_jobns::node::finding::{About, Finding, Findings, Severity};
use slurm_jobns::node::kernel;
use slurm_jobns::sys::clone::{NamespaceFlags, SignalsBlocked, spawn};
use slurm_jobns::sys::exec::exit_group;
use slurm_jobns::sys::process::{Ended, reap};
use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::sync::atomic::{AtomicI32, Ordering};

struct Trap;

/// The process that may allocate; 0 until it is known.
static ALLOWED: AtomicI32 = AtomicI32::new(0);

const TRAPPED: i32 = 77;

fn check() {
    let allowed = ALLOWED.load(Ordering::Relaxed);
    if allowed != 0 && getpid().as_raw_nonzero().get() != allowed {
        exit_group(TRAPPED);
    }
}

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Trap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: as asked of us.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        check();
        // SAFETY: as asked of us.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Trap = Trap;

#[derive(Debug)]
struct Quiet;

impl Log for Quiet {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        if level == Level::Error {
            eprintln!("{line}");
        }
    }
}

impl StepHost for Quiet {
    fn holder_name(&self) -> &'static str {
        "no_alloc"
    }
    fn work_inside(&self) -> Option<InsideWork<'_>> {
        Some(Box::new(|| Ok(())))
    }
}

fn allow_this_process() {
    ALLOWED.store(getpid().as_raw_nonzero().get(), Ordering::Relaxed);
}

fn job(id: u32, script: bool) -> Job {
    let environment = Environment::default();
    let environment = if script { environment.with("A", "1") } else { environment };
    Job {
        header: Header { id, sluid: 0, uid: 1, gid: 1, user: "daemon".into(), node: "n".into() },
        sluid_text: String::new(),
        environment,
        has: config::size::JobHas::default(),
        slurm_conf: None,
        boot: BootId::current().unwrap(),
    }
}

fn settings(base: &str, more: &str) -> config::settings::Settings {
    let text = format!("defaults:\n  base_path: {base}\n{more}");
    let parsed = config::namespace_yaml::parse_namespace_yaml(
        "test",
        text.as_bytes(),
        &config::settings::Node { name: "n", hostname: "n" },
    );
    match parsed.settings {
        Some(NodeSettings::Enabled(settings)) => settings,
        other => panic!("{other:?} {:?}", parsed.problems),
    }
}

struct JoinPlan<'a> {
    base: &'a str,
    boot: BootId,
    job: u32,
}

/// What join came to, as an exit status.
extern "C" fn join_in_child(plan: &JoinPlan<'_>) -> ! {
    let status = match join::join(["/nowhere", plan.base].into_iter(), "n", plan.boot, plan.job, join::DeadPid::Fails) {
        Ok(()) => {
            // In the job, /tmp is the job's: made by us, empty, owned by uid 1.
            let tmp = rustix::fs::stat(c"/tmp").map_or(50, |stat| i32::from(stat.st_uid != 1));
            let mut buffer = [0_u8; 32];
            match read_file(c"/proc/sys/user/max_mnt_namespaces", &mut buffer) {
                // What a new user namespace begins with: nobody has limited it.
                Ok(limit) if limit.starts_with(b"2147483647") => 54,
                Ok(_) => tmp,
                Err(_) => 55,
            }
        }
        Err(join::JoinError::OpenState(_)) => 51,
        Err(join::JoinError::HolderGone(_)) => 52,
        Err(_) => 53,
    };
    exit_group(status)
}

extern "C" fn allocate_in_child((): &()) -> ! {
    drop(std::hint::black_box(String::from("x")));
    exit_group(0)
}

fn child_status<P>(plan: &P, run: extern "C" fn(&P) -> !) -> Ended {
    let _blocked = SignalsBlocked::new().unwrap();
    let child = spawn(NamespaceFlags::empty(), plan, run).unwrap();
    reap(child.pidfd.as_fd()).unwrap()
}

fn join_status(base: &str, job: u32) -> Ended {
    child_status(&JoinPlan { base, boot: BootId::current().unwrap(), job }, join_in_child)
}

/// Why the trials of slurmd's start would refuse the settings.
fn tried_out(settings: &config::settings::Settings) -> Vec<Finding> {
    let mut found = Findings::default();
    kernel::try_limits_and_holder(settings, &mut found);
    found.into_iter().filter(|finding| finding.severity == Severity::Fatal).collect()
}

/// Runs `work` on a thread whose mounts are not those of this machine.
fn in_own_mounts(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: this thread shares its descriptors as before, and uses no path that another one changes.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
            let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).unwrap();
            work();
        });
        thread.join().unwrap();
    });
}

#[test]
fn the_trap_works() {
    allow_this_process();
    assert_eq!(child_status(&(), allocate_in_child), Ended::Exited(TRAPPED));
}

/// Creates, joins by holder and by pin, fails in all the ways that a child reports, and deletes.
#[test]
#[ignore = "needs root"]
fn neither_child_nor_join_allocates() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    allow_this_process();
    let top = tempfile::tempdir().unwrap();
    let base = top.path().to_str().unwrap().to_owned();
    let script = top.path().join("script");
    std::fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let with_scripts =
        format!("  init_script: {0}\n  clone_ns_script: {0}\n  clone_ns_epilog: {0}\n", script.display());
    let all = "  clone_ns_flags: [CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWIPC]\n";
    for (id, more) in [(1, ""), (2, "  clone_ns_flags: CLONE_NEWPID\n"), (3, all), (4, with_scripts.as_str())] {
        let settings = settings(&base, more);
        // A child that allocated would have ended with 77 before it was ready.
        let created = create(&Quiet, &settings, &job(id, true), delete::Removal::HERE)
            .unwrap_or_else(|error| panic!("{more}: {error}"));
        assert_eq!(join_status(&base, id), Ended::Exited(0), "{more}");
        let Created { record, pins } = created;
        assert!(
            delete::delete(&Quiet, &record, delete::Epilog::new(&settings, None), Some(pins), delete::Removal::HERE)
                .is_gone()
        );
        assert_eq!(join_status(&base, id), Ended::Exited(51));
    }
    // The holder gone: by the pins where there is no PID namespace, refused where there is one.
    for (id, more, expected) in [(5, "", 0), (6, "  clone_ns_flags: CLONE_NEWPID\n", 52)] {
        let settings = settings(&base, more);
        let created = create(&Quiet, &settings, &job(id, false), delete::Removal::HERE).unwrap();
        let holder = created.record.holder.unwrap().open().unwrap();
        rustix::process::pidfd_send_signal(&holder, rustix::process::Signal::KILL).unwrap();
        reap(holder.as_fd()).unwrap();
        assert_eq!(join_status(&base, id), Ended::Exited(expected), "{more}");
        assert!(delete::delete(&Quiet, &created.record, None, Some(created.pins), delete::Removal::HERE).is_gone());
    }
    // A fresh /proc with restrictions, and something to keep on it.
    let proc = "  clone_ns_flags: CLONE_NEWPID\n  proc_options: hidepid=2\n  proc_keep: [/proc/cpuinfo, /proc/none]\n";
    in_own_mounts(|| {
        rustix::mount::mount_bind("/proc/version", "/proc/cpuinfo").unwrap();
        let settings = settings(&base, proc);
        let created = create(&Quiet, &settings, &job(8, false), delete::Removal::HERE).unwrap();
        assert_eq!(join_status(&base, 8), Ended::Exited(0));
        assert!(delete::delete(&Quiet, &created.record, None, Some(created.pins), delete::Removal::HERE).is_gone());
    });
    // The limits of a user namespace cannot be written: the job does not run with the node's.
    in_own_mounts(|| {
        rustix::mount::mount_bind("/proc/sys", "/proc/sys").unwrap();
        rustix::mount::mount_remount(
            "/proc/sys",
            rustix::mount::MountFlags::BIND | rustix::mount::MountFlags::RDONLY,
            "",
        )
        .unwrap();
        let user = settings(&base, "  clone_ns_flags: CLONE_NEWUSER\n");
        let error = create(&Quiet, &user, &job(9, false), delete::Removal::HERE).unwrap_err().to_string();
        assert!(error.contains("limit the job's user namespace: write ") && error.contains("(EROFS)"), "{error}");
        assert!(error.contains("user_ns_limits: 100"), "{error}");
        assert!(!top.path().join("9").exists());
        let [found] = tried_out(&user).try_into().unwrap();
        assert_eq!((found.about, found.errno()), (About::Key("user_ns_limits"), Some(rustix::io::Errno::ROFS)));
        // On purpose:
        let user = settings(&base, "  clone_ns_flags: CLONE_NEWUSER\n  user_ns_limits: 100\n");
        let created = create(&Quiet, &user, &job(9, false), delete::Removal::HERE).unwrap();
        assert_eq!(join_status(&base, 9), Ended::Exited(54));
        assert!(delete::delete(&Quiet, &created.record, None, Some(created.pins), delete::Removal::HERE).is_gone());
    });
    // The trials of slurmd's start.
    assert!(tried_out(&settings(&base, all)).is_empty());
    // A child that fails says so in words, and leaves nothing.
    let missing = settings(&base, "  dirs: /tmp,/no/such/directory\n");
    let error = create(&Quiet, &missing, &job(7, false), delete::Removal::HERE).unwrap_err().to_string();
    assert!(error.contains("open the private directory /no/such/directory"), "{error}");
    assert!(!top.path().join("7").exists());
}

//! The symbols that Slurm looks up. Each converts its C arguments, calls safe code, and converts the result.
//!
//! No panic leaves an entry point: unwinding into C is undefined behaviour, and an abort would end the node's
//! daemon. A panic is a defect. It is logged, and the entry point fails.

use crate::base::log::{Level, Log};
use crate::slurm::flavour;
use crate::slurm::host::{LOG_LEVEL_ERROR, SlurmHost};
use crate::slurm::imports;
use crate::slurm::imports::imports;
use crate::slurm::layout::{SLURM_ERROR, SLURM_SUCCESS, StepId};
use crate::slurm::plugin;
use crate::slurm::step::Step;
use crate::slurm::{in_slurmd, in_slurmstepd, remover};
use core::ffi::{c_char, c_int, c_void};
use rustix::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// `char plugin_name[]`
#[unsafe(no_mangle)]
pub static plugin_name: [u8; flavour::NAME.len()] = flavour::NAME;

/// `char plugin_type[]`
#[unsafe(no_mangle)]
pub static plugin_type: [u8; 16] = flavour::TYPE;

unsafe extern "C" {
    /// errno(3), as glibc and musl export it.
    fn __errno_location() -> *mut c_int;
}

/// slurmd returns errno if an entry point fails, and 0 would mean success.
fn set_errno_io() {
    // SAFETY: this is the address of this thread's errno, valid as long as the thread.
    unsafe { __errno_location().write(linux_raw_sys::errno::EIO.cast_signed()) }
}

fn log_error(line: &str) {
    if let Some(imports) = imports() {
        SlurmHost { imports }.log(Level::Error, format_args!("{line}"));
    }
}

/// Runs an entry point. Logs a panic or a failure and returns `failed`.
fn entry<T>(name: &str, failed: T, run: impl FnOnce() -> Result<T, plugin::Failure>) -> T {
    let why = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => return value,
        Ok(Err(why)) => why,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("unknown");
            format!("a defect in slurm-jobns: {name} panicked: {text}; please report it")
        }
    };
    log_error(&why);
    set_errno_io();
    failed
}

fn success(result: Result<(), plugin::Failure>) -> Result<c_int, plugin::Failure> {
    result.map(|()| SLURM_SUCCESS)
}

/// `int init(void)`. Does nothing in a program that is neither slurmd nor slurmstepd.
#[unsafe(no_mangle)]
pub extern "C" fn init() -> c_int {
    match catch_unwind(imports::load) {
        Ok(Ok(Some(imports))) => {
            // Panics are logged with the place in the code, rather than written to standard error.
            std::panic::set_hook(Box::new(|panic| log_error(&panic.to_string())));
            let status = entry("init", SLURM_ERROR, || success(in_slurmd::init(imports)));
            if status != SLURM_SUCCESS {
                // Otherwise Slurm would load the next plugin of this name, and jobs would get less than is configured.
                imports.fatal(c"slurm-jobns: the namespace plugin cannot be used, see above");
            }
            status
        }
        Ok(Ok(None)) => SLURM_SUCCESS,
        Ok(Err(symbol)) => {
            imports::fatal_without(symbol);
            SLURM_ERROR
        }
        Err(_) => SLURM_ERROR,
    }
}

/// `void fini(void)`. Only slurmd calls it, after its configuration was freed.
#[unsafe(no_mangle)]
pub extern "C" fn fini() {
    // The library may be unloaded afterwards.
    let _ = catch_unwind(remover::stop);
}

/// `int namespace_p_restore(char *dir_name, bool recover)`
///
/// Ignores `recover`: live jobs keep their files even if slurmd was started with `-c`.
#[unsafe(no_mangle)]
pub extern "C" fn namespace_p_restore(_dir_name: *mut c_char, _recover: bool) -> c_int {
    entry("restore", SLURM_ERROR, || success(in_slurmd::restore()))
}

fn descriptor<'a>(fd: c_int) -> Result<BorrowedFd<'a>, plugin::Failure> {
    if fd < 0 {
        return Err(format!("{fd} is not a descriptor"));
    }
    // SAFETY: Slurm passes an open descriptor and keeps it open during the call.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// `int namespace_p_send_stepd(int fd)`. Several threads may call it at once.
#[unsafe(no_mangle)]
pub extern "C" fn namespace_p_send_stepd(fd: c_int) -> c_int {
    entry("send_stepd", SLURM_ERROR, || success(in_slurmd::send_stepd(descriptor(fd)?)))
}

/// `int namespace_p_recv_stepd(int fd)`
#[unsafe(no_mangle)]
pub extern "C" fn namespace_p_recv_stepd(fd: c_int) -> c_int {
    entry("recv_stepd", SLURM_ERROR, || success(in_slurmstepd::recv_stepd(descriptor(fd)?)))
}

/// # Safety
///
/// The same as for [`Step::from_raw`].
unsafe fn step_of(step: *const u8) -> Result<Step, plugin::Failure> {
    // SAFETY: by the contract of this function.
    unsafe { Step::from_raw(step) }.ok_or_else(|| "Slurm passed no step".to_owned())
}

/// `int namespace_p_stepd_create(stepd_step_rec_t *step)`
///
/// # Safety
///
/// `step` is slurmstepd's step record.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn namespace_p_stepd_create(step: *const u8) -> c_int {
    // SAFETY: passed on from the caller.
    entry("stepd_create", SLURM_ERROR, || success(in_slurmstepd::stepd_create(unsafe { step_of(step) }?)))
}

/// `int namespace_p_stepd_delete(stepd_step_rec_t *)`, in 25.11 `(slurm_step_id_t *)`.
///
/// Ignores the argument: it deletes what this process has made.
#[unsafe(no_mangle)]
pub extern "C" fn namespace_p_stepd_delete(_step: *const c_void) -> c_int {
    entry("stepd_delete", SLURM_ERROR, || success(in_slurmstepd::stepd_delete()))
}

/// `int namespace_p_join(slurm_step_id_t *step_id, uid_t uid, bool step_create)`
///
/// # Safety
///
/// `step_id` is null or points to a step id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn namespace_p_join(step_id: *const StepId, _uid: u32, step_create: bool) -> c_int {
    let join = || {
        // SAFETY: by the contract of this function; the id is copied at once.
        let step_id = unsafe { step_id.as_ref() }.copied().ok_or(plugin::Failed)?;
        plugin::join(&step_id, step_create)
    };
    match catch_unwind(AssertUnwindSafe(join)) {
        Ok(Ok(())) => SLURM_SUCCESS,
        Ok(Err(plugin::Failed)) => SLURM_ERROR,
        Err(_) => {
            if let Some(imports) = imports() {
                imports.log(LOG_LEVEL_ERROR, c"a defect in slurm-jobns: join panicked; please report it");
            }
            SLURM_ERROR
        }
    }
}

/// `int namespace_p_join_external(slurm_step_id_t *step_id, list_t *fd_map)`. Returns the number of entries,
/// or -1. Several threads may call it at once.
///
/// # Safety
///
/// `step_id` points to a step id and `fd_map` is a live list of `ns_fd_map_t *`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn namespace_p_join_external(step_id: *const StepId, fd_map: *mut c_void) -> c_int {
    entry("join_external", SLURM_ERROR, || {
        // SAFETY: by the contract of this function.
        let step_id = unsafe { step_id.as_ref() }.copied().ok_or("Slurm passed no step id")?;
        let imports = imports().filter(|_| !fd_map.is_null()).ok_or("Slurm passed no list")?;
        let entries = in_slurmstepd::join_external(&step_id)?;
        // SAFETY: by the contract of this function.
        unsafe { imports.append_fds(fd_map, entries) }.map_err(|errno| {
            format!(
                "job {}: cannot hand out its namespaces: fcntl: {}",
                step_id.job_id,
                crate::base::error::Words(errno)
            )
        })
    })
}

/// `bool namespace_p_can_bpf(stepd_step_rec_t *step)`. False makes Slurm skip device constraints
/// unless there is a token, so it is also the result of a failure.
///
/// # Safety
///
/// `step` is slurmstepd's step record.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn namespace_p_can_bpf(step: *const u8) -> bool {
    // SAFETY: passed on from the caller.
    entry("can_bpf", false, || in_slurmstepd::can_bpf(unsafe { step_of(step) }?))
}

/// `int namespace_p_setup_bpf_token(stepd_step_rec_t *step)`
///
/// # Safety
///
/// `step` is slurmstepd's step record.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn namespace_p_setup_bpf_token(step: *const u8) -> c_int {
    // SAFETY: passed on from the caller.
    entry("setup_bpf_token", SLURM_ERROR, || success(in_slurmstepd::setup_bpf_token(unsafe { step_of(step) }?)))
}

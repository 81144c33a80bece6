//! The GRES of a step (src/interfaces/gres.h).

use crate::slurm::imports::Imports;
use crate::slurm::layout;
use crate::slurm::step::{Step, c_text};
use crate::slurm::version::version;
use core::ffi::{c_int, c_void};

/// The GRES of the job on this node, as `gpu:a100:2,…`. None if it has none, or if the offset of the count in
/// this version of Slurm is not known.
#[must_use]
pub fn of_step(step: Step, imports: &Imports) -> Option<Vec<u8>> {
    let list = step.gres_list();
    let total_offset = layout::gres_job::total(version())?;
    if list.is_null() {
        return None;
    }
    let mut walk = GresWalk { total_offset, text: Vec::new() };
    // SAFETY: `list` is a live list_t, whose elements are gres_state_t for the duration of the
    // call (slurmstepd_job.h). `walk` outlives it, and only `add_gres` uses it.
    unsafe {
        (imports.list_for_each)(list, add_gres as *mut c_void, (&raw mut walk).cast());
    }
    (!walk.text.is_empty()).then_some(walk.text)
}

struct GresWalk {
    total_offset: usize,
    text: Vec<u8>,
}

/// A `ListForF` over `gres_state_t`. It must not unwind, and does nothing that could panic.
unsafe extern "C" fn add_gres(state: *mut c_void, walk: *mut c_void) -> c_int {
    let read = |at: *mut c_void, offset: usize| {
        // SAFETY: `at` is a live structure with a pointer at `offset` (layout::gres_state and
        // layout::gres_job).
        unsafe { at.cast::<u8>().add(offset).cast::<*mut c_void>().read_unaligned() }
    };
    if state.is_null() || walk.is_null() {
        return 0;
    }
    let data = read(state, layout::gres_state::DATA);
    if data.is_null() {
        return 0;
    }
    // SAFETY: `walk` is the GresWalk of `of_step`, which nothing else uses during the walk.
    let walk = unsafe { &mut *walk.cast::<GresWalk>() };
    // SAFETY: it is `total_gres` of a live gres_job_state_t.
    let total = unsafe { data.cast::<u8>().add(walk.total_offset).cast::<u64>().read_unaligned() };
    // SAFETY: both are `char *`, null or C strings that live as long as the structure.
    let (name, kind) = unsafe {
        (
            c_text(read(state, layout::gres_state::NAME).cast_const().cast()),
            c_text(read(data, layout::gres_job::TYPE_NAME).cast_const().cast()),
        )
    };
    if !walk.text.is_empty() {
        walk.text.push(b',');
    }
    walk.text.extend(name.unwrap_or_default());
    if let Some(kind) = kind {
        walk.text.push(b':');
        walk.text.extend(kind);
    }
    walk.text.extend(format!(":{total}").bytes());
    0
}

//! The GRES of a step (src/interfaces/gres.h).

use crate::slurm::imports::Imports;
use crate::slurm::layout;
use crate::slurm::step::{Step, c_text};
use crate::slurm::version::version;
use core::ffi::{c_int, c_void};

/// What a job has of one GRES.
#[derive(Debug)]
pub struct Gres {
    pub name: Vec<u8>,
    /// Its type.
    pub kind: Option<Vec<u8>>,
    /// On all its nodes.
    pub total: u64,
    /// On this node; None where Slurm does not count it by node.
    pub here: Option<u64>,
}

/// `NO_CONSUME_VAL64` of slurm/slurm.h. This value and those above it mean that there is no count.
const NO_COUNT: u64 = 0xffff_ffff_ffff_fffd;

/// What the job has of each GRES. Nothing if the offset of the count in this version is not known.
#[must_use]
pub fn of_step(step: Step, imports: &Imports) -> Vec<Gres> {
    let list = step.gres_list();
    let Some(total_gres) = version().total_gres().filter(|_| !list.is_null()) else { return Vec::new() };
    let mut walk = GresWalk { total_gres, found: Vec::new() };
    // SAFETY: `list` is a live list_t, whose elements are gres_state_t for the duration of the
    // call (slurmstepd_job.h). `walk` outlives it, and only `add_gres` uses it.
    unsafe {
        (imports.list_for_each)(list, add_gres as *mut c_void, (&raw mut walk).cast());
    }
    walk.found
}

/// `gpu:a100:2,…`, as scripts get it. `None` if the job has no generic resources.
#[must_use]
pub fn text(found: &[Gres]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    for Gres { name, kind, total, .. } in found {
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend(name);
        if let Some(kind) = kind {
            text.push(b':');
            text.extend(kind);
        }
        text.extend(format!(":{total}").bytes());
    }
    (!text.is_empty()).then_some(text)
}

struct GresWalk {
    /// An offset.
    total_gres: usize,
    found: Vec<Gres>,
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
    let total = unsafe { data.cast::<u8>().add(walk.total_gres).cast::<u64>().read_unaligned() };
    let counts: *mut u64 = read(data, layout::gres_job::here(walk.total_gres)).cast();
    // SAFETY: `gres_cnt_node_alloc`, null or the counts of the nodes: what a slurmstepd has is of its node alone
    // (gres_job_state_extract).
    let here = (!counts.is_null()).then(|| unsafe { counts.read_unaligned() }).filter(|count| *count < NO_COUNT);
    // SAFETY: both are `char *`, null or C strings that live as long as the structure.
    let (name, kind) = unsafe {
        (
            c_text(read(state, layout::gres_state::NAME).cast_const().cast()),
            c_text(read(data, layout::gres_job::TYPE_NAME).cast_const().cast()),
        )
    };
    walk.found.push(Gres { name: name.unwrap_or_default(), kind, total, here });
    0
}

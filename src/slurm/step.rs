//! slurmstepd's step record, `stepd_step_rec_t` (src/slurmd/slurmstepd/slurmstepd_job.h), field by field.

use crate::slurm::imports::{Imports, c_text};
use crate::slurm::layout;
use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

/// A pointer to a `stepd_step_rec_t` that is valid during the call that gave it.
#[derive(Clone, Copy, Debug)]
pub struct Step(NonNull<u8>);

// SAFETY: the record is valid during the call, and the fields that we read are not written to in it,
// so a thread that ends within the call may read them, too.
unsafe impl Sync for Step {}

impl Step {
    /// # Safety
    ///
    /// `step` is null or points to a `stepd_step_rec_t` of the version in [`crate::slurm_version::VERSION`] that
    /// outlives the value made here.
    #[must_use]
    pub unsafe fn from_raw(step: *const u8) -> Option<Self> {
        NonNull::new(step.cast_mut()).map(Self)
    }

    /// For functions of Slurm.
    #[must_use]
    pub fn as_ptr(self) -> *const u8 {
        self.0.as_ptr()
    }

    fn field<T: Copy>(self, offset: usize) -> T {
        // SAFETY: by `from_raw` the pointer is to the structure whose field of this type lies at
        // `offset` (only called with the rows of `layout::step`); the fields that we read are set
        // before the plugin is called and not changed later, so no other thread writes to them.
        unsafe { self.0.as_ptr().add(offset).cast::<T>().read_unaligned() }
    }

    fn text(self, offset: usize) -> Option<Vec<u8>> {
        // SAFETY: a `char *` of the structure, null or a C string that lives as long as it.
        unsafe { c_text(self.field(offset)) }
    }

    #[must_use]
    pub fn step_id(self) -> layout::StepId {
        self.field(layout::step::STEP_ID)
    }
    #[must_use]
    pub fn uid(self) -> u32 {
        self.field(layout::step::UID)
    }
    #[must_use]
    pub fn gid(self) -> u32 {
        self.field(layout::step::GID)
    }
    #[must_use]
    pub fn het_job_id(self) -> u32 {
        self.field(layout::step::HET_JOB_ID)
    }
    #[must_use]
    pub fn nnodes(self) -> u32 {
        self.field(layout::step::NNODES)
    }
    #[must_use]
    pub fn cpus(self) -> u16 {
        self.field(layout::step::CPUS)
    }
    /// MB
    #[must_use]
    pub fn job_mem(self) -> u64 {
        self.field(layout::step::JOB_MEM)
    }
    #[must_use]
    pub fn user_name(self) -> Option<Vec<u8>> {
        self.text(layout::step::USER_NAME)
    }
    #[must_use]
    pub fn cwd(self) -> Option<Vec<u8>> {
        self.text(layout::step::CWD)
    }
    #[must_use]
    pub fn alias_list(self) -> Option<Vec<u8>> {
        self.text(layout::step::ALIAS_LIST)
    }

    /// `gpu:a100:2,…`: what the job has of each GRES on this node. None where it has none, or where
    /// the place of the count in this version is not known.
    #[must_use]
    pub fn gres(self, imports: &Imports) -> Option<Vec<u8>> {
        let list: *mut c_void = self.field(layout::step::JOB_GRES_LIST);
        let total_offset = layout::gres_job::total(super::entry::version())?;
        if list.is_null() {
            return None;
        }
        let mut walk = GresWalk { total_offset, text: Vec::new() };
        // SAFETY: `list` is a live list_t, whose elements are gres_state_t for the duration of the
        // call (slurmstepd_job.h); `walk` outlives it and is used by `add_gres` alone.
        unsafe {
            (imports.list_for_each)(list, add_gres as *mut c_void, (&raw mut walk).cast());
        }
        (!walk.text.is_empty()).then_some(walk.text)
    }
}

struct GresWalk {
    total_offset: usize,
    text: Vec<u8>,
}

/// A `ListForF` over `gres_state_t`. Must not unwind: it does nothing that could panic.
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
    // SAFETY: `walk` is the GresWalk of `Step::gres`, which nobody else uses during the walk.
    let walk = unsafe { &mut *walk.cast::<GresWalk>() };
    // SAFETY: `total_gres` of a live gres_job_state_t.
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

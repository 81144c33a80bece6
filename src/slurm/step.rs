//! slurmstepd's step record, `stepd_step_rec_t` (src/slurmd/slurmstepd/slurmstepd_job.h), field by field.

use crate::slurm::layout;
use core::ffi::{CStr, c_char, c_void};
use core::ptr::NonNull;

/// A copy of a C string; None for null.
///
/// # Safety
///
/// `text` is null or points to a C string that does not change during the call.
pub(super) unsafe fn c_text(text: *const c_char) -> Option<Vec<u8>> {
    if text.is_null() {
        return None;
    }
    // SAFETY: by the contract of this function.
    Some(unsafe { CStr::from_ptr(text) }.to_bytes().to_vec())
}

/// A pointer to a `stepd_step_rec_t` that is valid during the call that it was passed to.
#[derive(Clone, Copy, Debug)]
pub struct Step(NonNull<u8>);

// SAFETY: the record is valid during the call, and the fields that are read do not change in it, so a thread
// that ends within the call may also read them.
unsafe impl Sync for Step {}

impl Step {
    /// # Safety
    ///
    /// `step` is null or points to a `stepd_step_rec_t` of the version in [`crate::slurm_version::VERSION`] that
    /// outlives the returned value.
    #[must_use]
    pub unsafe fn from_raw(step: *const u8) -> Option<Self> {
        NonNull::new(step.cast_mut()).map(Self)
    }

    /// The pointer, for functions of Slurm.
    #[must_use]
    pub fn as_ptr(self) -> *const u8 {
        self.0.as_ptr()
    }

    fn field<T: Copy>(self, offset: layout::Offset) -> T {
        // SAFETY: by `from_raw` the pointer is to the structure, which has a field of this type at
        // `offset` (only the constants of `layout::step` are passed). The fields that are read are set
        // before the plugin is called and do not change later, so no other thread writes to them.
        unsafe { self.0.as_ptr().add(offset.here()).cast::<T>().read_unaligned() }
    }

    fn text(self, offset: layout::Offset) -> Option<Vec<u8>> {
        // SAFETY: it is a `char *` of the structure, null or a C string that lives as long as the structure.
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

    /// The cores of the job on this node, as `0-3,8`.
    #[must_use]
    pub fn cores(self) -> Option<Vec<u8>> {
        self.text(layout::step::JOB_ALLOC_CORES)
    }

    /// A `list_t *` of `gres_state_t`, which live as long as the call; null if there is none.
    #[must_use]
    pub fn gres_list(self) -> *mut c_void {
        self.field(layout::step::JOB_GRES_LIST)
    }
}

//! The offsets of the fields of Slurm's structures.
//!
//! They are in bytes, from the headers of Slurm 25.11.0 to 25.11.7, 26.05.0 to 26.05.3 and 26.11 (in
//! development), and from the binaries of 26.05.5. None of these structures contains an `#if`, so they
//! do not depend on the configuration of Slurm. But they contain a `pthread_mutex_t`, whose size depends
//! on the architecture: 40 bytes on x86-64, 48 on arm64 (glibc).

use std::mem::offset_of;

#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
const MUTEX: usize = X86_64_MUTEX;
#[cfg(target_arch = "aarch64")]
const MUTEX: usize = AARCH64_MUTEX;
const X86_64_MUTEX: usize = 40;
const AARCH64_MUTEX: usize = 48;

/// The bytes of a `pthread_mutex_t` on an architecture, which the C compiler names so. None where the
/// plugin cannot be built.
#[must_use]
pub fn mutex_on(architecture: &str) -> Option<usize> {
    match architecture {
        "x86_64" => Some(X86_64_MUTEX),
        "aarch64" => Some(AARCH64_MUTEX),
        _ => None,
    }
}

/// The offset of a field with so many mutexes before it.
#[derive(Clone, Copy, Debug)]
pub struct Offset {
    x86_64: usize,
    mutexes: usize,
}

impl Offset {
    const fn behind(mutexes: usize, x86_64: usize) -> Self {
        Self { x86_64, mutexes }
    }

    /// Where a mutex has so many bytes.
    #[must_use]
    pub const fn with_mutex(self, mutex: usize) -> usize {
        self.x86_64 - self.mutexes * X86_64_MUTEX + self.mutexes * mutex
    }

    /// On the architecture that this is compiled for.
    #[must_use]
    pub const fn here(self) -> usize {
        self.with_mutex(MUTEX)
    }
}

/// `stepd_step_rec_t` (src/slurmd/slurmstepd/slurmstepd_job.h): the fields that the plugin reads. They are the
/// same in every known release.
pub mod step {
    use super::Offset;

    pub const ALIAS_LIST: Offset = Offset::behind(0, 0);
    /// Directly after `state_mutex`, which begins at 72.
    pub const STEP_ID: Offset = Offset::behind(1, 112);
    pub const NNODES: Offset = Offset::behind(1, 144);
    pub const HET_JOB_ID: Offset = Offset::behind(1, 176);
    pub const JOB_MEM: Offset = Offset::behind(1, 264);
    pub const CPUS: Offset = Offset::behind(1, 280);
    pub const CWD: Offset = Offset::behind(1, 304);
    pub const UID: Offset = Offset::behind(1, 384);
    pub const USER_NAME: Offset = Offset::behind(1, 392);
    pub const GID: Offset = Offset::behind(1, 424);
    /// Also after `io_mutex`.
    pub const JOB_ALLOC_CORES: Offset = Offset::behind(2, 752);
    pub const JOB_GRES_LIST: Offset = Offset::behind(2, 768);
}

/// `slurmd_conf_t` (src/slurmd/slurmd/slurmd.h): the fields that the plugin reads.
pub mod conf {
    pub const HOSTNAME: usize = 4128;
    pub const NODE_NAME: usize = 4264;
    pub const CONFFILE: usize = 4296;
    pub const SPOOLDIR: usize = 4360;
}

/// `slurm_conf_t`: a field whose offset is the same in all releases, and one whose offset is not.
pub mod slurm_conf {
    pub const DEBUG_FLAGS: usize = 336;
    pub const SLURM_USER_ID: usize = crate::slurm_version::RELEASE.slurm_user_id;
    /// `DEBUG_FLAG_NAMESPACE`
    pub const NAMESPACE: u64 = 0x100_0000;
    /// `DEBUG_FLAG_SCRIPT`
    pub const SCRIPT: u64 = 1 << 56;
}

/// `slurm_step_id_t` (slurm/slurm.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepId {
    pub sluid: u64,
    pub job_id: u32,
    pub step_het_comp: u32,
    pub step_id: u32,
}

const _: () = assert!(size_of::<StepId>() == 24);
const _: () = assert!(offset_of!(StepId, job_id) == 8 && offset_of!(StepId, step_id) == 16);

/// `ns_fd_map_t` (src/common/stepd_proxy.h).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NsFdMap {
    pub kind: i32,
    pub fd: i32,
}

const _: () = assert!(size_of::<NsFdMap>() == 8);

/// `gres_state_t` (src/interfaces/gres.h).
pub mod gres_state {
    pub const DATA: usize = 8;
    pub const NAME: usize = 16;
}

/// `gres_job_state_t`.
pub mod gres_job {
    pub const TYPE_NAME: usize = 8;

    /// `gres_cnt_node_alloc`, from the offset of `total_gres`, which depends on the version.
    #[must_use]
    pub const fn here(total_gres: usize) -> usize {
        total_gres + 24
    }
}

/// Values of slurm/slurm.h.
pub const NO_VAL: u32 = 0xffff_fffe;
pub const SLURM_EXTERN_CONT: u32 = 0xffff_fffc;
pub const SLURM_SUCCESS: i32 = 0;
pub const SLURM_ERROR: i32 = -1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mutex_before_a_field_moves_it() {
        assert_eq!(step::STEP_ID.with_mutex(X86_64_MUTEX), 72 + 40);
        assert_eq!(step::STEP_ID.with_mutex(AARCH64_MUTEX), 72 + 48);
        assert_eq!(step::JOB_GRES_LIST.with_mutex(X86_64_MUTEX), 768);
        assert_eq!(step::JOB_GRES_LIST.with_mutex(AARCH64_MUTEX), 784);
        assert_eq!(mutex_on(std::env::consts::ARCH), Some(MUTEX));
    }
}

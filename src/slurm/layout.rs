//! Where the fields of Slurm's structures lie.
//!
//! Offsets in bytes, from the headers of Slurm 25.11.0 to 25.11.7, 26.05.0 to 26.05.3 and 26.11 (in
//! development), and from the binaries of 26.05.5. No `#if` lies inside any of these structures, so
//! they do not depend on how Slurm was configured, but they do hold a `pthread_mutex_t`, whose size
//! depends on the architecture: 40 bytes on x86-64, 48 on arm64 (glibc).

use core::fmt;
use std::mem::offset_of;

/// The version that this plugin is built for.
pub const VERSION: Version = Version {
    major: parse(env!("JOBNS_SLURM_MAJOR")),
    minor: parse(env!("JOBNS_SLURM_MINOR")),
    micro: parse(env!("JOBNS_SLURM_MICRO")),
};

/// A version of Slurm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub micro: u32,
}

impl Version {
    /// `SLURM_VERSION_NUMBER`, as `plugin_version` holds it.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.major << 16 | self.minor << 8 | self.micro
    }

    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self { major: number >> 16, minor: number >> 8 & 0xff, micro: number & 0xff }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}.{}", self.major, self.minor, self.micro)
    }
}

/// Stands behind `plugin_version` in the file, where `jobns stamp` finds it.
pub const MARK: &[u8; 32] = b"<- plugin_version of slurm-jobns";

const fn parse(digits: &str) -> u32 {
    let bytes = digits.as_bytes();
    let (mut index, mut value) = (0, 0);
    while index < bytes.len() {
        value = value * 10 + (bytes[index] - b'0') as u32;
        index += 1;
    }
    value
}

/// What differs between releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    pub line: (u32, u32),
    /// The newest micro release whose headers or binaries were compared with what is below.
    pub compared: u32,
    /// `namespace_p_stepd_delete` gets a `stepd_step_rec_t *` (26.05), or a `slurm_step_id_t *`.
    pub delete_gets_step: bool,
    /// In namespace.yaml `~` and `null` are nulls, and a number may have a fraction or an exponent (25.11).
    pub typed_scalars: bool,
    /// Offset of `slurm_user_id` in `slurm_conf_t`.
    pub slurm_user_id: usize,
}

/// One row for each release line that is known.
pub const RELEASES: [Release; 3] = [
    Release { line: (25, 11), compared: 7, delete_gets_step: false, typed_scalars: true, slurm_user_id: 1192 },
    Release { line: (26, 5), compared: 5, delete_gets_step: true, typed_scalars: false, slurm_user_id: 1232 },
    Release { line: (26, 11), compared: 0, delete_gets_step: true, typed_scalars: false, slurm_user_id: 1256 },
];

/// The row of the version that this plugin is built for.
pub const RELEASE: Release = release(VERSION);

const fn release(version: Version) -> Release {
    let mut index = 0;
    while index < RELEASES.len() {
        let row = RELEASES[index];
        if row.line.0 == version.major && row.line.1 == version.minor {
            return row;
        }
        index += 1;
    }
    panic!("slurm-jobns knows the structures of Slurm 25.11, 26.05 and 26.11 only: set SLURM_VERSION to one of them");
}

#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
const MUTEX: usize = 40;
#[cfg(target_arch = "aarch64")]
const MUTEX: usize = 48;

/// `stepd_step_rec_t` (src/slurmd/slurmstepd/slurmstepd_job.h): the fields that we read. The same
/// in every release known.
pub mod step {
    use super::MUTEX;

    pub const ALIAS_LIST: usize = 0;
    /// Behind `state_mutex`, which begins at 72.
    pub const STEP_ID: usize = 72 + MUTEX;
    /// What lies behind the mutex, by its offset on x86-64.
    const fn behind(x86_64: usize) -> usize {
        x86_64 + MUTEX - 40
    }
    pub const NNODES: usize = behind(144);
    pub const HET_JOB_ID: usize = behind(176);
    pub const JOB_MEM: usize = behind(264);
    pub const CPUS: usize = behind(280);
    pub const CWD: usize = behind(304);
    pub const UID: usize = behind(384);
    pub const USER_NAME: usize = behind(392);
    pub const GID: usize = behind(424);
    pub const JOB_GRES_LIST: usize = behind(768);
}

/// `slurmd_conf_t` (src/slurmd/slurmd/slurmd.h): the fields that we read.
pub mod conf {
    pub const HOSTNAME: usize = 4128;
    pub const NODE_NAME: usize = 4264;
    pub const CONFFILE: usize = 4296;
    pub const SPOOLDIR: usize = 4360;
}

/// `slurm_conf_t`: one field whose place is the same in all releases, and one whose place is not.
pub mod slurm_conf {
    pub const DEBUG_FLAGS: usize = 336;
    pub const SLURM_USER_ID: usize = super::RELEASE.slurm_user_id;
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

/// `gres_job_state_t`: `type_name`, and `total_gres`, which moved between two micro releases.
pub mod gres_job {
    use super::Version;

    pub const TYPE_NAME: usize = 8;

    /// Offset of `total_gres`; None where it is not known, and SLURM_JOB_GRES is left out.
    #[must_use]
    pub const fn total(version: Version) -> Option<usize> {
        match (version.major, version.minor, version.micro) {
            (25, 11, 0..=7) | (26, 5, 0..=3) => Some(128),
            (26, 5, 5) => Some(136),
            _ => None,
        }
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
    fn version_numbers_are_slurms() {
        let version = |major, minor, micro| Version { major, minor, micro }.number();
        assert_eq!(version(26, 5, 5), 0x1a_0505);
        assert_eq!(version(25, 11, 7), 0x19_0b07);
        assert_eq!(version(26, 11, 0), 0x1a_0b00);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn x86_64_offsets_are_those_of_the_headers() {
        assert_eq!(step::STEP_ID, 112);
        assert_eq!(step::JOB_GRES_LIST, 768);
    }
}

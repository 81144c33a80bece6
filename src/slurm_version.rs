//! Versions of Slurm: the one that the plugin is built for, and the differences between releases.

use core::fmt;

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
    /// `SLURM_VERSION_NUMBER`, as it is in `plugin_version`.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.major << 16 | self.minor << 8 | self.micro
    }

    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self { major: number >> 16, minor: number >> 8 & 0xff, micro: number & 0xff }
    }

    /// The offset of `total_gres` in `gres_job_state_t`. None if it is not known: SLURM_JOB_GRES is then not set for
    /// scripts, and the size of a directory cannot depend on generic resources.
    #[must_use]
    pub const fn total_gres(self) -> Option<usize> {
        match (self.major, self.minor, self.micro) {
            (25, 11, 0..=7) | (26, 5, 0..=3) => Some(128),
            (26, 5, 5) => Some(136),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}.{}", self.major, self.minor, self.micro)
    }
}

/// The text behind `plugin_version` in the file, by which `jobns stamp` finds it, written backwards: only
/// `plugin_version` has it forwards. A constant that code compares with would be in the plugin as well,
/// since GNU ld does not drop it.
pub const MARK_BACKWARDS: [u8; 32] = *b"snboj-mruls fo noisrev_nigulp -<";

/// The text itself, for that static.
#[must_use]
pub const fn mark() -> [u8; 32] {
    let (mut mark, mut index) = ([0; 32], 0);
    while index < mark.len() {
        mark[index] = MARK_BACKWARDS[mark.len() - 1 - index];
        index += 1;
    }
    mark
}

const fn parse(digits: &str) -> u32 {
    let bytes = digits.as_bytes();
    let (mut index, mut value) = (0, 0);
    while index < bytes.len() {
        value = value * 10 + (bytes[index] - b'0') as u32;
        index += 1;
    }
    value
}

/// The properties of a release line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    pub line: (u32, u32),
    /// The newest micro release whose headers or binaries were compared with this row.
    pub compared: u32,
    /// `namespace_p_stepd_delete` gets a `stepd_step_rec_t *` (26.05), not a `slurm_step_id_t *`.
    pub delete_gets_step: bool,
    /// In namespace.yaml `~` and `null` are nulls, and a number may have a fraction or an exponent (25.11).
    pub typed_scalars: bool,
    /// Offset of `slurm_user_id` in `slurm_conf_t`.
    pub slurm_user_id: usize,
}

/// One row for each known release line.
pub const RELEASES: [Release; 3] = [
    Release { line: (25, 11), compared: 7, delete_gets_step: false, typed_scalars: true, slurm_user_id: 1192 },
    Release { line: (26, 5), compared: 5, delete_gets_step: true, typed_scalars: false, slurm_user_id: 1232 },
    Release { line: (26, 11), compared: 0, delete_gets_step: true, typed_scalars: false, slurm_user_id: 1256 },
];

/// The row of the version that this plugin is built for.
pub const RELEASE: Release = release(VERSION);

/// The row of a version.
///
/// # Panics
///
/// For a release line that is not known.
#[must_use]
pub const fn release(version: Version) -> Release {
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
}

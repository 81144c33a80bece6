//! The version of Slurm that the plugin is for.

use crate::slurm_version::{MARK_BACKWARDS, VERSION, Version, mark};

/// `uint32_t plugin_version`: Slurm loads only plugins of its own version. The mark after it is for `jobns stamp`.
#[unsafe(no_mangle)]
pub static plugin_version: Stamped = Stamped { number: VERSION.number(), mark: mark() };

/// The version and the mark by which `jobns stamp` finds it in the file.
#[derive(Debug)]
#[repr(C)]
pub struct Stamped {
    number: u32,
    mark: [u8; MARK_BACKWARDS.len()],
}

/// The version that this plugin was built for, or was stamped with afterwards.
#[must_use]
pub fn version() -> Version {
    // SAFETY: it is an initialised static. The read is volatile because the value in the file may have been changed
    // after compilation.
    Version::from_number(unsafe { (&raw const plugin_version.number).read_volatile() })
}

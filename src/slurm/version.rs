//! The version of Slurm that the plugin is for.

use crate::slurm_version::{MARK, VERSION, Version};

/// `uint32_t plugin_version`: Slurm loads only its own. What follows the word is for `jobns stamp`.
#[unsafe(no_mangle)]
pub static plugin_version: Stamped = Stamped { number: VERSION.number(), mark: *MARK };

/// As `jobns stamp` finds it in the file.
#[derive(Debug)]
#[repr(C)]
pub struct Stamped {
    number: u32,
    mark: [u8; MARK.len()],
}

/// The version that this plugin was built for, or stamped with since.
#[must_use]
pub fn version() -> Version {
    // SAFETY: an initialised static. Volatile, since the file may have been changed after the compiler
    // had seen the value.
    Version::from_number(unsafe { (&raw const plugin_version.number).read_volatile() })
}

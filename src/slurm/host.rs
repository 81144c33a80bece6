//! Slurm as the host of `job/`.

#![forbid(unsafe_code)]

use crate::base::error::Error;
use crate::base::log::{Level, Log};
use crate::config::flavour::Flavour;
use crate::job::make::create::{InsideWork, StepHost};
use crate::slurm::flavour::PREFIX;
use crate::slurm::imports;
use crate::slurm::imports::{Imports, StepdImports};
use crate::slurm::step::Step;
use core::fmt;
use rustix::process::Pid;
use std::ffi::CString;

/// `log_level_t` of src/common/log.h.
pub const LOG_LEVEL_ERROR: u32 = 2;
const LOG_LEVEL_INFO: u32 = 3;
pub const LOG_LEVEL_VERBOSE: u32 = 4;

/// slurmd or slurmstepd.
#[derive(Debug)]
pub struct SlurmHost {
    pub imports: &'static Imports,
}

/// slurmstepd, with the step of the call.
#[derive(Debug)]
pub struct SlurmStepHost {
    pub daemon: SlurmHost,
    pub stepd: &'static StepdImports,
    pub step: Step,
}

/// The level and the text as Slurm's own `error()`, `warning()`, `info()` and `log_flag()` would log it.
/// `slurm_log_var` itself adds "error: ".
fn as_logged(level: Level, line: fmt::Arguments<'_>) -> (u32, String) {
    let (level, word) = match level {
        Level::Error => (LOG_LEVEL_ERROR, ""),
        Level::Warning => (LOG_LEVEL_INFO, "warning: "),
        Level::Info => (LOG_LEVEL_INFO, ""),
        Level::Debug => (LOG_LEVEL_VERBOSE, "NAMESPACE: "),
        Level::Script | Level::ScriptEnd => (LOG_LEVEL_VERBOSE, "SCRIPT: "),
    };
    // Control characters are escaped: the line may contain users' names and the output of scripts.
    let text = format!("{word}{PREFIX}{line}")
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    (level, text)
}

impl Log for SlurmHost {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        let is_wanted = match level {
            Level::Debug => self.imports.debug(),
            Level::Script => self.imports.debug_scripts(),
            Level::ScriptEnd => self.imports.debug_scripts() || self.imports.debug(),
            Level::Error | Level::Warning | Level::Info => true,
        };
        if !is_wanted {
            return;
        }
        let (level, text) = as_logged(level, line);
        if let Ok(text) = CString::new(text) {
            self.imports.log(level, &text);
        }
    }
}

impl Log for SlurmStepHost {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        self.daemon.log(level, line);
    }
}

impl StepHost for SlurmStepHost {
    fn holder_name(&self) -> &'static str {
        "slurmstepd"
    }

    fn makes_source_first(&self) -> bool {
        Flavour::OWN == Flavour::Linux
    }

    fn track(&self, holder: Pid) -> Result<(), Error> {
        let pid = holder.as_raw_nonzero().get();
        if self.stepd.track(self.step, pid) {
            return Ok(());
        }
        Err(Error::because(
            format!("add the namespace process {pid} to the processes of the job's extern step"),
            "proctrack_g_add failed; see the lines above",
        ))
    }

    /// Without a switch plugin, as on most nodes, switch_g_fs_init does nothing, and no thread is needed.
    fn work_inside(&self) -> Option<InsideWork<'_>> {
        imports::is_loaded(b"/switch_").then(|| -> InsideWork<'_> { Box::new(|| self.set_up_switch()) })
    }
}

impl SlurmStepHost {
    fn set_up_switch(&self) -> Result<(), Error> {
        if self.stepd.switch_fs_init(self.step) {
            return Ok(());
        }
        Err(Error::because(
            "set up the switch inside the job's mount namespace",
            "switch_g_fs_init failed; see the lines above",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_slurms_levels_and_words_and_no_line_breaks() {
        let logged = |level| as_logged(level, format_args!("a\nb"));
        assert_eq!(logged(Level::Error), (2, format!("{PREFIX}a\\nb")));
        assert_eq!(logged(Level::Warning), (3, format!("warning: {PREFIX}a\\nb")));
        assert_eq!(logged(Level::Info), (3, format!("{PREFIX}a\\nb")));
        assert_eq!(logged(Level::Debug), (4, format!("NAMESPACE: {PREFIX}a\\nb")));
        assert_eq!(logged(Level::Script), (4, format!("SCRIPT: {PREFIX}a\\nb")));
    }
}

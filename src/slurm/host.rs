//! Slurm as a host of the core.

#![forbid(unsafe_code)]

use super::front::PREFIX;
use super::imports::{self, Imports, Step, StepdImports};
use crate::job::error::Error;
use crate::job::{Host, Level};
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

/// slurmstepd with the step that it is called for.
#[derive(Debug)]
pub struct StepHost {
    pub daemon: SlurmHost,
    pub stepd: &'static StepdImports,
    pub step: Step,
}

impl SlurmHost {
    fn line(&self, level: Level, line: fmt::Arguments<'_>) {
        if level == Level::Debug && !self.imports.debug() {
            return;
        }
        // Users' names and scripts' output may be in it: one line stays one line.
        let text: String = format!("{PREFIX}{line}")
            .chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect();
        let (level, text) = match level {
            Level::Error => (LOG_LEVEL_ERROR, text),
            Level::Warning => (LOG_LEVEL_ERROR, format!("warning: {text}")),
            Level::Info => (LOG_LEVEL_INFO, text),
            // As Slurm's log_flag() prints it.
            Level::Debug => (LOG_LEVEL_VERBOSE, format!("NAMESPACE: {text}")),
        };
        if let Ok(text) = CString::new(text) {
            self.imports.log(level, &text);
        }
    }
}

impl Host for SlurmHost {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        self.line(level, line);
    }

    fn holder_name(&self) -> &'static str {
        "slurmstepd"
    }

    fn track(&self, _: Pid) -> Result<(), Error> {
        Err(Error::because("track the holder", "this is not a slurmstepd"))
    }

    fn has_set_up_inside(&self) -> bool {
        false
    }

    fn set_up_inside(&self) -> Result<(), Error> {
        Err(Error::because("set up the switch inside the job", "this is not a slurmstepd"))
    }
}

impl Host for StepHost {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        self.daemon.line(level, line);
    }

    fn holder_name(&self) -> &str {
        self.daemon.holder_name()
    }

    fn track(&self, holder: Pid) -> Result<(), Error> {
        let pid = holder.as_raw_nonzero().get();
        if self.stepd.track(self.step, pid) {
            return Ok(());
        }
        Err(Error::because(
            format!("add the namespace process {pid} to the processes of the job's extern step"),
            "proctrack_g_add failed; the lines above say why",
        ))
    }

    /// switch_g_fs_init does nothing where no switch plugin is loaded, as on most nodes.
    fn has_set_up_inside(&self) -> bool {
        imports::is_loaded(b"/switch_")
    }

    fn set_up_inside(&self) -> Result<(), Error> {
        if self.stepd.switch_fs_init(self.step) {
            return Ok(());
        }
        Err(Error::because(
            "set up the switch inside the job's mount namespace",
            "switch_g_fs_init failed; the lines above say why",
        ))
    }
}

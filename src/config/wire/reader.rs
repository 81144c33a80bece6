//! The reading half of the pipe format: values from bytes that are hostile until they are checked.

use crate::config::limits::{MAX_DIRS, MAX_PATH, MAX_PROC_KEEP, MAX_TMPFS_PARAMS};
use crate::config::settings::{
    Backing, Dir, DisabledWhy, HidePid, MountFlags, Namespaces, NodeSettings, Script, Settings, TmpfsParam,
};
use crate::config::wire::{WireError, error};

/// Takes values from the front of a body.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn node(&mut self) -> Result<NodeSettings, WireError> {
        match self.byte()? {
            0 => Ok(NodeSettings::Disabled(DisabledWhy::NotConfigured)),
            1 => Ok(NodeSettings::Disabled(DisabledWhy::SetToNone)),
            2 => Ok(NodeSettings::Enabled(self.settings()?)),
            _ => error("the settings from slurmd are of an unknown kind"),
        }
    }

    // The fields of a struct expression are evaluated in the order in which they are written here.
    fn settings(&mut self) -> Result<Settings, WireError> {
        Ok(Settings {
            base_path: self.text(MAX_PATH)?,
            auto_base_path: self.bool()?,
            hide_base_path: self.bool()?,
            namespaces: Namespaces { pid: self.bool()?, user: self.bool()?, ipc: self.bool()? },
            shared: self.bool()?,
            disable_bpf_token: self.bool()?,
            entire_step_in_ns: self.bool()?,
            user_ns_limits: u32::from_le_bytes(self.array()?),
            init_script: self.script()?,
            user_ns_script: self.script()?,
            clone_ns_script: self.script()?,
            clone_ns_epilog: self.script()?,
            scripts_may_be_missing: self.bool()?,
            removal_timeout: u32::from_le_bytes(self.array()?),
            hide_pid: self.hide_pid()?,
            proc_keep: self.list(MAX_PROC_KEEP, |reader| reader.text(MAX_PATH))?,
            dirs: self.list(MAX_DIRS, Self::dir)?,
        })
    }

    fn hide_pid(&mut self) -> Result<HidePid, WireError> {
        let number = self.byte()?;
        match HidePid::ALL.into_iter().find(|known| known.number() == number) {
            Some(hide_pid) => Ok(hide_pid),
            None => error("the settings from slurmd have an unknown hidepid"),
        }
    }

    fn script(&mut self) -> Result<Option<Script>, WireError> {
        self.option(|reader| {
            Ok(Script { path: reader.text(MAX_PATH)?, wait_seconds: u32::from_le_bytes(reader.array()?) })
        })
    }

    fn dir(&mut self) -> Result<Dir, WireError> {
        Ok(Dir {
            path: self.text(MAX_PATH)?,
            backing: match self.byte()? {
                0 => Backing::BasePath,
                1 => Backing::OtherBase(self.text(MAX_PATH)?),
                2 => Backing::Tmpfs(self.list(MAX_TMPFS_PARAMS, Self::param)?),
                3 => Backing::SameAs(self.text(MAX_PATH)?),
                _ => return error("the settings from slurmd have a directory of an unknown kind"),
            },
            flags: MountFlags {
                nosuid: self.bool()?,
                nodev: self.bool()?,
                noexec: self.bool()?,
                read_only: self.bool()?,
                noatime: self.bool()?,
                nodiratime: self.bool()?,
                relatime: self.bool()?,
            },
            mode: self.option(|reader| Ok(u32::from_le_bytes(reader.array()?)))?,
        })
    }

    fn param(&mut self) -> Result<TmpfsParam, WireError> {
        Ok(TmpfsParam { key: self.text(MAX_PATH)?, value: self.option(|reader| reader.text(MAX_PATH))? })
    }

    pub(super) fn list<T>(
        &mut self,
        most: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        if count > most {
            return error(format!("the settings from slurmd have a list of {count}, more than the limit of {most}"));
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn option<T>(&mut self, item: impl FnOnce(&mut Self) -> Result<T, WireError>) -> Result<Option<T>, WireError> {
        if self.bool()? { item(self).map(Some) } else { Ok(None) }
    }

    pub(super) fn text(&mut self, most: usize) -> Result<String, WireError> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        if length > most {
            return error(format!("the settings from slurmd have a text of {length} bytes, more than {most}"));
        }
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => error("the settings from slurmd have a text that is not UTF-8"),
        }
    }

    /// Only 0 and 1: every value has one encoding.
    fn bool(&mut self) -> Result<bool, WireError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => error("the settings from slurmd have a byte where only yes or no can be"),
        }
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        match self.rest.split_first_chunk::<N>() {
            Some((chunk, rest)) => {
                self.rest = rest;
                Ok(*chunk)
            }
            None => error("the settings from slurmd end too early"),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => error("the settings from slurmd end too early"),
        }
    }
}

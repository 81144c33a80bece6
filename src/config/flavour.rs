//! Slurm's two namespace plugins, and the names that differ between them.

/// One of the two plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// namespace/linux, which reads namespace.yaml.
    Linux,
    /// namespace/tmpfs, which reads job_container.conf.
    Tmpfs,
}

impl Flavour {
    pub(crate) const ALL: [Self; 2] = [Self::Linux, Self::Tmpfs];

    /// The plugin that this build makes.
    pub(crate) const OWN: Self = if cfg!(feature = "tmpfs") { Self::Tmpfs } else { Self::Linux };

    /// `plugin_type`, as in `NamespaceType` of slurm.conf.
    pub(crate) const fn plugin_type(self) -> &'static str {
        match self {
            Self::Linux => "namespace/linux",
            Self::Tmpfs => "namespace/tmpfs",
        }
    }

    /// The file in slurmd's spool directory in which slurmd records the node and its base paths.
    pub(crate) const fn registry(self) -> &'static str {
        match self {
            Self::Linux => "namespace_linux.jobns",
            Self::Tmpfs => "namespace_tmpfs.jobns",
        }
    }

    /// The file in the same directory in which the removal program records the state of its work.
    pub(crate) const fn removal_status(self) -> &'static str {
        match self {
            Self::Linux => "namespace_linux.removal",
            Self::Tmpfs => "namespace_tmpfs.removal",
        }
    }
}

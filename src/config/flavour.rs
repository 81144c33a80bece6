//! Which of Slurm's two namespace plugins it is, and the names that depend on that.

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// namespace/linux, which reads namespace.yaml.
    Linux,
    /// namespace/tmpfs, which reads job_container.conf.
    Tmpfs,
}

impl Flavour {
    pub const ALL: [Self; 2] = [Self::Linux, Self::Tmpfs];

    /// That of the plugin that is built.
    pub const OWN: Self = if cfg!(feature = "tmpfs") { Self::Tmpfs } else { Self::Linux };

    /// `plugin_type`, as in `NamespaceType` of slurm.conf.
    #[must_use]
    pub const fn plugin_type(self) -> &'static str {
        match self {
            Self::Linux => "namespace/linux",
            Self::Tmpfs => "namespace/tmpfs",
        }
    }

    /// The file in slurmd's spool directory with what slurmd remembers.
    #[must_use]
    pub const fn registry(self) -> &'static str {
        match self {
            Self::Linux => "namespace_linux.jobns",
            Self::Tmpfs => "namespace_tmpfs.jobns",
        }
    }

    /// The file there with what the removal program says of its work.
    #[must_use]
    pub const fn removal_status(self) -> &'static str {
        match self {
            Self::Linux => "namespace_linux.removal",
            Self::Tmpfs => "namespace_tmpfs.removal",
        }
    }
}

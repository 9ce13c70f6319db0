//! Where a router keeps what belongs to the gate.

use std::path::{Path, PathBuf};

use crate::format::Unit;

/// The files, below a folder that is `/` on a router.
#[derive(Clone, Debug)]
pub(crate) struct Paths(PathBuf);

impl Paths {
    pub(crate) fn below(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// The default file of a user's key.
    pub(crate) fn key_file(&self, user: &str) -> PathBuf {
        self.0.join("etc/pkd/keys").join(format!("{user}.key"))
    }

    /// A format's floors on flash. Without those of classic knocks, no knock was ever accepted here.
    pub(crate) fn floor<T: Unit>(&self) -> PathBuf {
        self.0.join("etc/pkd").join(T::FLOOR)
    }

    /// pkdd's folder on flash.
    pub(crate) fn daemon_state(&self) -> PathBuf {
        self.0.join("etc/pkdd")
    }

    /// pkdd's folder that a reboot empties.
    pub(crate) fn daemon_run(&self) -> PathBuf {
        self.0.join("var/run/pkdd")
    }

    /// What the configuration in force was rendered to.
    pub(crate) fn active(&self, name: &str) -> PathBuf {
        self.run("active").join(name)
    }

    /// A file of the service.
    pub(crate) fn run(&self, name: &str) -> PathBuf {
        self.0.join("var/run/pkd").join(name)
    }

    /// The folders of what firewall4 includes at the start of its chains.
    pub(crate) fn drop_ins(&self) -> PathBuf {
        self.0.join("usr/share/nftables.d/chain-pre")
    }

    /// What the kernel module reports.
    pub(crate) fn module(&self) -> PathBuf {
        self.0.join("proc/net/xt_pkd")
    }

    /// The seconds since the router has started.
    pub(crate) fn uptime(&self) -> PathBuf {
        self.0.join("proc/uptime")
    }

    /// Exists while firewall4 runs.
    pub(crate) fn firewall4(&self) -> PathBuf {
        self.0.join("var/run/fw4.state")
    }
}

//! A network namespace of a check's own, with nothing but loopback.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread,
};

use anyhow::{Result, anyhow};
use nix::sched::{CloneFlags, unshare};

use crate::{
    firewall::{Back, Firewall},
    network::{self, Family},
};

/// The status of this thread's namespace.
pub(crate) const STATUS: &str = "/proc/thread-self/net/xt_pkd";
pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Calls this in a new one. Threads that it starts are in it too.
pub(crate) fn inside<T: Send>(act: impl FnOnce(&Firewall) -> Result<T> + Send) -> Result<T> {
    bare(|| {
        network::shell("ip link set lo up")?;
        act(&Firewall::new(Family::V4, Back::Legacy))
    })
}

/// The same where loopback is down. The namespace goes when this is done, with what is in it.
pub(crate) fn bare<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            act()
        });
        thread.join().map_err(|_| anyhow!("a panic in a namespace"))?
    })
}

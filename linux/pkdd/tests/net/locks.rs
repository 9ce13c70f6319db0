//! Another program holds a lock of the firewall.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use pkd_netns::{
    network::{Family, Network, net_test, ssh_server},
    process::{Running, shell, wait},
    stranger::Stranger,
};

use crate::{
    faults::refuses_to_start,
    gateway::{Gateway, KEY, TAG, iptables_legacy, now, payload},
};

/// A lock file, and a process that holds it.
struct Held {
    process: Running,
    path: &'static str,
}

impl Held {
    fn new(path: &'static str) -> Result<Self> {
        let mut flock = Command::new("flock");
        flock.args(["--no-fork", path, "sleep", "600"]).stdin(Stdio::null());
        let process = Running(flock.spawn()?);
        // Fails as long as nobody holds it.
        let locked = || Ok(shell(&format!("flock --nonblock {path} true")).is_err());
        wait("a held lock", locked, |locked| *locked)?;
        Ok(Self { process, path })
    }

    fn message(&self) -> String {
        format!("{} is locked by process {} (sleep); gave up waiting", self.path, self.process.0.id())
    }
}

/// A start and a repair while the lock is held. `remove` removes the rules of the service without waiting for it.
fn survive(network: &Network, mut gateway: Gateway<'_>, lock: &'static str, remove: &str) -> Result<()> {
    let _server = ssh_server(22, gateway.folder.path())?;
    let held = Held::new(lock)?;
    let error = refuses_to_start(&gateway)?;
    ensure!(error.contains(&held.message()), "{error}");
    // The start has failed, but has closed the port.
    let stranger = Stranger::start(&[22])?;
    stranger.more(20)?;
    drop(held);
    gateway.start()?;
    gateway.knock(Family::V6)?;
    gateway.is_open(Family::V6)?;
    let held = Held::new(lock)?;
    shell(remove)?;
    gateway.wait_for_line(&held.message())?;
    let trouble = || Ok(gateway.status()?["trouble"].to_string());
    wait("trouble", trouble, |trouble| trouble.contains(&held.message()))?;
    gateway.expect("accept", Family::V4, &payload(KEY, TAG, now()? + 1, 1)?)?;
    gateway.is_open(Family::V6)?;
    stranger.more(20)?;
    drop(held);
    wait("no trouble", trouble, |trouble| trouble == "\"\"")?;
    for family in Family::BOTH {
        gateway.is_open(family)?;
    }
    let held = Held::new(lock)?;
    shell(remove)?;
    let locked = || Ok(gateway.lines().iter().filter(|line| line.contains(&held.message())).count());
    wait("a second report", locked, |reports| *reports > 0)?;
    gateway.signal(Signal::SIGTERM)?;
    gateway.wait_for_line("stopped; rules and grants stay")?;
    stranger.more(20)?;
    stranger.finish()?;
    ensure!(network.banner(Family::V6.other(), Family::V6.ssh())?.is_none(), "the port is open");
    Ok(())
}

net_test!(a_held_lock_of_iptables_is_reported_and_opens_nothing, |network| {
    let mut gateway = Gateway::new(network, "iptables")?;
    iptables_legacy(&mut gateway)?;
    let other = gateway.path("other.lock");
    let remove = ["iptables", "ip6tables"]
        .map(|family| format!("XTABLES_LOCKFILE={} {family}-legacy -t mangle -F", other.display()));
    survive(network, gateway, "/run/xtables.lock", &remove.join(" && "))
});

net_test!(a_held_lock_of_pktables_is_reported_and_opens_nothing, |network| {
    let gateway = Gateway::new(network, "nft")?;
    survive(network, gateway, "/run/pktables.lock", "nft flush ruleset")
});

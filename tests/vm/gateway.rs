//! The router's closed port, for one address family and one iptables.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use pkd_core::Knock;

use crate::{
    firewall::{Back, Firewall},
    network::{self, Family, Network, wait},
    packet::{self, KEY, PORT, TAG},
    status::{self, Status},
};

pub(crate) struct Gateway<'a> {
    pub(crate) network: &'a Network,
    pub(crate) family: Family,
    pub(crate) firewall: Firewall,
    name: String,
}

impl<'a> Gateway<'a> {
    pub(crate) fn new(network: &'a Network, family: Family, back: Back) -> Self {
        let name = match back {
            Back::Legacy => family.name().to_owned(),
            Back::Nft => format!("{} over nftables", family.name()),
        };
        Self { network, family, firewall: Firewall::new(family, back), name }
    }

    /// The same port, with the extension of old.
    pub(crate) fn of_revision_0(&self) -> Self {
        Self {
            network: self.network,
            family: self.family,
            firewall: self.firewall.of_revision_0(),
            name: format!("revision 0, {}", self.name),
        }
    }

    pub(crate) fn name(&self, check: &str) -> String {
        format!("{}: {check}", self.name)
    }

    /// The rule that looks for knocks.
    pub(crate) fn rule() -> String {
        format!("-p udp -m pkd --key {KEY} --tag {TAG}")
    }

    /// The three rules of the original's README, with the port open for `seconds` after a knock.
    pub(crate) fn close(&self, seconds: u32) -> Result<()> {
        self.firewall.flush()?;
        self.firewall.run(&format!("-A INPUT {} -m recent --set", Self::rule()))?;
        self.firewall
            .run(&format!("-A INPUT -p tcp --dport 22 -m recent --rcheck --seconds {seconds} -j ACCEPT"))?;
        self.firewall.run("-A INPUT -p tcp --dport 22 -j REJECT --reject-with tcp-reset").map(drop)
    }

    /// Only the rule that looks for knocks, with these options; nothing is remembered of before.
    pub(crate) fn only(&self, options: &str) -> Result<()> {
        reload()?;
        self.firewall.run(&format!("-A INPUT -p udp -m pkd {options}")).map(drop)
    }

    /// The counter that goes up by one when the client does `act`.
    pub(crate) fn verdict(&self, act: impl FnOnce() -> Result<()> + Send) -> Result<&'static str> {
        let before = Status::read()?;
        self.network.at_client(act)?;
        let after = wait(Duration::from_secs(20), Status::read, |after| after.total() != before.total())
            .context("no counter moved")?;
        let moved: Vec<_> =
            after.counters.iter().filter(|(name, count)| before.counters[*name] != **count).collect();
        ensure!(
            moved.len() == 1 && after.total() == before.total() + 1,
            "one counter should move by one: {:?}, then {:?}",
            before.counters,
            after.counters
        );
        Ok(moved[0].0)
    }

    /// The verdict about a payload from the client to a port of the router.
    pub(crate) fn verdict_of(&self, payload: &[u8], port: u16) -> Result<&'static str> {
        let (from, to) = (self.family.client(), self.family.router());
        self.verdict(|| packet::send(from, to, port, payload))
    }

    /// Like [`verdict_of`](Self::verdict_of), at the usual port, with the verdict known.
    ///
    /// A replay is one however old the knock is, but outside the window it is counted as that. So the clock is first set
    /// back to the second of the knock, if it has passed: a slow guest would fail otherwise.
    pub(crate) fn expect(&self, verdict: &str, payload: &[u8]) -> Result<()> {
        if verdict == "Replay" {
            let time = Knock::parse(payload).context("no knock")?.time();
            if network::now()? > time.0 {
                network::set_clock(time.0)?;
            }
        }
        let actual = self.verdict_of(payload, PORT)?;
        ensure!(actual == verdict, "{actual}, not {verdict}");
        Ok(())
    }

    /// The verdict about what the real `knock` sends with these options.
    pub(crate) fn knock(&self, options: &[&str]) -> Result<&'static str> {
        let host = self.family.router().to_string();
        self.verdict(|| {
            let output = network::run(Command::new("knock").arg(&host).args(options))?;
            ensure!(output.status.success(), "knock: {}", network::text(&output.stderr));
            Ok(())
        })
    }

    pub(crate) fn ssh(&self) -> Result<Option<String>> {
        self.network.ssh(self.family, self.family.client())
    }

    pub(crate) fn ssh_is_refused(&self) -> Result<String> {
        let banner = self.ssh()?;
        ensure!(banner.is_none(), "port 22 says {banner:?}");
        Ok("connection refused".to_owned())
    }

    /// Waits until the port is closed. It may close between two packets of a connection, which is reset then.
    pub(crate) fn closes(&self, limit: Duration) -> Result<()> {
        let is_reset = |error: &anyhow::Error| {
            let error = error.downcast_ref::<std::io::Error>();
            error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        };
        let ssh = || match self.ssh() {
            Err(error) if is_reset(&error) => Ok(None),
            other => other,
        };
        wait(limit, ssh, Option::is_none).map(drop)
    }

    pub(crate) fn ssh_answers(&self) -> Result<String> {
        self.ssh()?.context("connection refused")
    }
}

/// Unloads and loads the module, and says that nothing was accepted before.
pub(crate) fn reload() -> Result<()> {
    reload_without_memory()?;
    restore("floor 0")
}

/// Unloads and loads the module, with whatever rules still use it out of the way.
pub(crate) fn reload_without_memory() -> Result<()> {
    unload()?;
    load()
}

pub(crate) fn load() -> Result<()> {
    network::shell("modprobe xt_pkd").map(drop)
}

/// Unloads the module, with whatever rules still use it out of the way.
pub(crate) fn unload() -> Result<()> {
    const USERS: [(Family, Back); 4] = [
        (Family::V4, Back::Legacy),
        (Family::V6, Back::Legacy),
        (Family::V4, Back::Nft),
        (Family::V6, Back::Nft),
    ];
    for (family, back) in USERS {
        if back.is_here() && users()? != 0 {
            Firewall::new(family, back).flush()?;
        }
    }
    network::shell("rmmod xt_pkd").map(drop)
}

/// How many rules hold the module.
pub(crate) fn users() -> Result<u32> {
    Ok(std::fs::read_to_string("/sys/module/xt_pkd/refcnt")?.trim().parse()?)
}

/// Writes to the status file.
pub(crate) fn restore(text: &str) -> Result<()> {
    std::fs::write(status::FILE, format!("{text}\n")).with_context(|| format!("writing {text:?}"))
}

/// The module cannot be taken away while a rule uses it.
pub(crate) fn unload_refused() -> Result<()> {
    ensure!(network::shell("rmmod xt_pkd").is_err(), "rmmod took the module from under a rule");
    Ok(())
}

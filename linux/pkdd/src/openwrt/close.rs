//! An address is shut out by hand.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use pktables::Sender;

use super::{
    paths::Paths,
    router::{Mode, Router},
};
use crate::{
    control::{self, Query},
    firewall, run_folder,
};

/// Closes all services to an address until it knocks again; returns what to print. `text` is the address, as the status shows
/// it: with an interface or the length of a network behind it, which say nothing more here.
pub(super) fn run(router: &Router, paths: &Paths, text: &str) -> Result<String> {
    let plain = text.split(['/', '%']).next().unwrap_or_default();
    let address: IpAddr = plain.parse().ok().with_context(|| format!("invalid address {text}"))?;
    if router.mode == Mode::Nft {
        let answer = control::ask(&run_folder::socket(&paths.daemon_run()), Query::Revoke(address))
            .context("pkdd does not respond: see logread -e pkdd")?;
        ensure!(answer == control::REVOKED, "{answer}");
    } else {
        let mut firewall = firewall::open(router.config.gate.firewall)?;
        let open = firewall.list(&router.config)?;
        for grant in open.iter().filter(|grant| grant.address.contains(&address)) {
            let service = router.config.services.get(&grant.service).context("an unknown service is open")?;
            firewall.revoke(service, Sender::new(grant.address.addr(), grant.interface))?;
        }
    }
    Ok(format!("all services are closed to {address}, until it knocks\n"))
}

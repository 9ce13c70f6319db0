//! `pkdd grant` and `pkdd revoke`: somebody is let in or shut out by hand.

use std::{net::IpAddr, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::{
    config::sections::SECONDS,
    control::{self, Query},
    guard, run_folder,
};

/// How long, if nothing else is said.
const USUAL: u32 = 600;

pub(super) fn run(path: &Path, address: &str, seconds: Option<&str>) -> Result<String> {
    let parsed: IpAddr = address.parse().ok().with_context(|| format!("invalid address {address}"))?;
    let seconds = match seconds {
        None => USUAL,
        Some(text) => {
            let number = text.parse().ok().filter(|number| SECONDS.contains(&i64::from(*number)));
            let range = format!("{}–{}", SECONDS.start(), SECONDS.end());
            number.with_context(|| format!("invalid --seconds {text}: expected {range}"))?
        }
    };
    ask(path, Query::Grant(parsed, seconds), control::GRANTED)?;
    Ok(format!("all services are open to {parsed} for {seconds} s\n"))
}

/// Closes what is open to an address. Connections go on.
pub(super) fn revoke(path: &Path, address: &str) -> Result<String> {
    let parsed: IpAddr = address.parse().ok().with_context(|| format!("invalid address {address}"))?;
    ask(path, Query::Revoke(parsed), control::REVOKED)?;
    Ok(format!("all services are closed to {parsed}, until it knocks\n"))
}

/// Has the daemon do it.
pub(super) fn ask(path: &Path, query: Query, expected: &str) -> Result<()> {
    let socket = run_folder::socket(&guard::run_folder_of(path));
    let answer = control::ask(&socket, query)
        .with_context(|| format!("no daemon answers at {}: is pkdd running?", socket.display()))?;
    ensure!(answer == expected, "{answer}");
    Ok(())
}

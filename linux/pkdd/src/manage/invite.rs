//! What is printed for a new user.

use std::fs;

use anyhow::{Context as _, Result};
use nix::unistd::gethostname;
use pkd_uri::QrCode;

use super::arguments::Invite;
use crate::{config::Config, invitation};

/// The line to print for a user, after a QR code if one is wanted.
pub(super) fn text(config: &Config, name: &str, invite: &Invite) -> Result<String> {
    let user = config.users.get(name).with_context(|| format!("there is no user \"{name}\""))?;
    let line = invitation::uri(config, user, &addresses(config, invite)?).to_string();
    let code = if invite.qr { QrCode::new(&line)?.lines() } else { String::new() };
    Ok(format!("{code}{line}\n"))
}

/// Where clients reach this host: as given, as configured, or its name.
fn addresses(config: &Config, invite: &Invite) -> Result<Vec<String>> {
    if let Some(known) = [&invite.addresses, &config.gate.addresses].into_iter().find(|list| !list.is_empty())
    {
        return Ok(known.clone());
    }
    own_name().map(|name| vec![name])
}

fn own_name() -> Result<String> {
    let short = gethostname().ok().and_then(|name| name.into_string().ok()).filter(|name| !name.is_empty());
    // The name with its domain, if the host knows it.
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let is_ours = |line: &&str| line.split_whitespace().any(|word| Some(word) == short.as_deref());
    let full = hosts
        .lines()
        .find(is_ours)
        .and_then(|line| line.split_whitespace().skip(1).find(|word| word.contains('.')));
    full.map(str::to_owned).or(short).context("this host has no name: give --address, or set gate.address")
}

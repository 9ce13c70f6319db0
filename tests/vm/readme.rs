//! The rules in the READMEs.

use std::{fs, io, os::unix::fs::PermissionsExt};

use anyhow::{Context, Result, ensure};
use pkd_tests::Report;

use crate::gateway::{self, Gateway};

/// Every README with rules in it, and its text.
const READMES: [(&str, &str); 3] = [
    ("README.md", include_str!("../../README.md")),
    ("host-knock/README.md", include_str!("../../host-knock/README.md")),
    ("openwrt/README.md", include_str!("../../openwrt/README.md")),
];

/// Where all of them keep the key.
const KEY_FILE: &str = "/etc/pkd.key";

pub(crate) fn checks(report: &mut Report, gateway: &Gateway<'_>) {
    for (name, text) in READMES {
        report.check(&gateway.name(&format!("the rules in {name} do what it says")), || hold(gateway, text));
    }
}

fn hold(gateway: &Gateway<'_>, text: &str) -> Result<String> {
    fs::write(KEY_FILE, "0x00112233445566778899aabbccddeeff\n")?;
    fs::set_permissions(KEY_FILE, fs::Permissions::from_mode(0o600))?;
    gateway::reload()?;
    gateway.firewall.flush()?;
    let rules: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("iptables ")).collect();
    ensure!(!rules.is_empty(), "there are none");
    for rule in &rules {
        gateway.firewall.run(rule)?;
    }
    ensure!(closed(gateway)?, "open before a knock");
    let verdict = gateway.knock(&["--tag", "SSHK", "--key-file", KEY_FILE])?;
    ensure!(verdict == "Accept", "the knock was counted as {verdict}");
    let banner = gateway.ssh()?.context("closed after a knock")?;
    Ok(format!("{} rules, {banner}", rules.len()))
}

/// Refused, or, where rules drop, silent.
fn closed(gateway: &Gateway<'_>) -> Result<bool> {
    match gateway.ssh() {
        Ok(banner) => Ok(banner.is_none()),
        Err(error)
            if error.downcast_ref().is_some_and(|io: &io::Error| io.kind() == io::ErrorKind::TimedOut) =>
        {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

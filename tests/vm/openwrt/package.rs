//! Installing, starting, upgrading and removing the packages.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Context, Result, ensure};

use super::LONG;
use crate::{
    firewall::Back,
    gateway::{self, Gateway},
    network::{now, shell},
    packet::{self, PORT},
    router::{self, CONFIG, KEY_FILE, is_closed, is_open, service, service_refuses, uci},
};

pub(super) fn another_kernel(card: &str) -> Result<String> {
    shell("modprobe xt_pkd")?;
    gateway::reload_without_memory()?;
    shell("rmmod xt_pkd")?;
    if Back::Nft.is_here() {
        shell("nft flush ruleset")?;
    }
    router::prepare(card)?;
    let right = fs::read_to_string("/packages/kernel-version")?;
    shell("fake-opkg provide kernel 6.6.0~0-r1")?;
    let said = router::install("kmod-ipt-pkd").err().context("it was installed")?.to_string();
    ensure!(said.contains(&format!("kmod-ipt-pkd depends on kernel ={}", right.trim())), "{said}");
    ensure!(!fs::exists("/etc/modules.d/ipt-pkd")?, "a file of it is there");
    router::prepare(card)?;
    Ok(right.trim().to_owned())
}

/// Rules as they are typed without the service.
pub(super) fn by_hand(v4: &Gateway<'_>) -> Result<String> {
    // What the guest came with is out of the way: only what the packages bring is there.
    shell("rm -f /usr/lib/iptables/libxt_pkd.so /usr/bin/knock && rm -f /lib/modules/*/extra/xt_pkd.ko")?;
    for package in ["kmod-ipt-pkd", "iptables-mod-pkd", "pkd-knock"] {
        router::install(package)?;
    }
    gateway::restore("floor 0")?;
    v4.close(60)?;
    is_closed(v4)?;
    let verdict = v4.knock(&["--key", packet::KEY, "--tag", packet::TAG])?;
    ensure!(verdict == "Accept", "{verdict}");
    let banner = v4.ssh_answers()?;
    v4.firewall.flush()?;
    Ok(banner)
}

pub(super) fn misses_nft() -> Result<String> {
    router::install("pkdd")?;
    router::install("pkd")?;
    uci(&["set pkd.gate.mode=match", "set pkd.gate.enabled=1"])?;
    shell("pkd check")?;
    uci(&["set pkd.ssh.port=70000"])?;
    ensure!(shell("pkd check").is_err(), "port 70000 is taken");
    uci(&["set pkd.ssh.port=22"])?;
    let said = service_refuses("start")?;
    let line = said.lines().last().unwrap_or_default();
    ensure!(line.contains("nft or fw4 not found: install firewall4"), "{said}");
    let rules = shell("iptables -t mangle -S")?;
    ensure!(!rules.contains("pkd"), "{rules}");
    Ok(line.to_owned())
}

pub(super) fn installs(v4: &Gateway<'_>) -> Result<String> {
    shell("/etc/init.d/firewall start")?;
    is_closed(v4)?;
    let before = router::rules()?;
    for package in router::PACKAGES {
        router::install(package)?;
    }
    ensure!(router::rules()? == before, "the rules are {}", router::rules()?);
    let mode = fs::metadata(CONFIG)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{CONFIG} has the mode {mode:o}");
    ensure!(!fs::exists(KEY_FILE)?, "there is a key");
    ensure!(fs::exists("/sys/module/xt_pkd")?, "the module is not loaded");
    ensure!(shell("uci get firewall.pkd.path")?.trim() == "/usr/lib/pkd/firewall-include", "no include");
    ensure!(router::state()? == "disabled", "it is {}", router::state()?);
    Ok("disabled".to_owned())
}

pub(super) fn starts(v4: &Gateway<'_>) -> Result<String> {
    uci(&["set pkd.gate.mode=match", "set pkd.gate.enabled=1", "set pkd.me.format=classic", LONG])?;
    let said = service("start")?;
    let key = router::key()?;
    ensure!(key.len() == 66 && key.starts_with("0x"), "the key has {} characters", key.len());
    ensure!(said.contains("knock --key-file me.key --tag 'PKD0' ROUTER"), "{said}");
    ensure!(!said.contains(&key[2..]), "the key was printed");
    ensure!(router::state()? == "open", "{}", router::status()?);
    is_closed(v4)?;
    for command in ["iptables", "ip6tables"] {
        let jumps = shell(&format!("{command} -t mangle -S INPUT | grep -c -- '-j pkd'"))?;
        ensure!(jumps.trim() == "1", "{command} has {jumps} jumps");
    }
    Ok(said.lines().last().unwrap_or_default().trim().to_owned())
}

pub(super) fn upgrades(v4: &Gateway<'_>) -> Result<String> {
    let (config, key) = (fs::read_to_string(CONFIG)?, router::key()?);
    router::install("pkd")?;
    ensure!(fs::read_to_string(CONFIG)? == config && router::key()? == key, "something was replaced");
    ensure!(fs::exists("/etc/config/pkd-opkg")?, "the new configuration is not beside it");
    ensure!(router::state()? == "open", "{}", router::status()?);
    v4.expect("Accept", &packet::knock_with(&key, "PKD0", now()?, PORT)?)?;
    is_open(v4)?;
    Ok("open again".to_owned())
}

pub(super) fn removes(card: &str, v4: &Gateway<'_>) -> Result<String> {
    uci(&["set pkd.gate.enabled=0"])?;
    service("reload")?;
    is_closed(v4)?;
    uci(&["set pkd.gate.enabled=1"])?;
    service("start")?;
    v4.expect("Accept", &packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?)?;
    for package in router::PACKAGES.iter().rev() {
        shell(&format!("fake-opkg remove {package}"))?;
    }
    is_closed(v4)?;
    let rules = shell("nft list ruleset")?;
    ensure!(!rules.contains("pkd"), "there is still {rules}");
    let left = shell(
        "for folder in /usr /lib/upgrade /etc/init.d /etc/rc.d /etc/hotplug.d /etc/uci-defaults /var/run; do [ ! -d $folder ] || find $folder -name '*pkd*' ! -path '*/lib/pkd-revision-0*' ! -name pkd-vm ! -path '/usr/lib/*/xtables/*' || exit 1; done",
    )?;
    ensure!(left.trim().is_empty(), "there are still {left}");
    ensure!(shell("uci show firewall")?.matches("pkd").count() == 0, "{}", shell("uci show firewall")?);
    shell("rmmod xt_pkd && modprobe xt_pkd")?;
    shell("/etc/init.d/firewall stop")?;
    Ok(card.to_owned())
}

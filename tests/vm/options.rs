//! What people type after `-m pkd`, with the real iptables.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Result, ensure};
use pkd_tests::Report;

use crate::{
    firewall::{Back, Firewall},
    gateway::Gateway,
    network::{Family, now},
    packet::{PORT, knock_with},
};

pub(crate) fn checks(report: &mut Report, gateway: &Gateway<'_>) {
    report.check(&gateway.name("every wrong option is an error in one line, and adds no rule"), || {
        refused(gateway)
    });
    let all = [
        ("iptables", Family::V4, Back::Legacy),
        ("ip6tables", Family::V6, Back::Legacy),
        ("iptables over nftables", Family::V4, Back::Nft),
    ];
    for (name, family, back) in all.into_iter().filter(|(_, _, back)| back.is_here()) {
        let firewall = Firewall::new(family, back);
        report.check(&format!("{name}: saved rules restore to the same rules"), || round_trip(&firewall));
    }
    report.check(&gateway.name("a listing shows no key"), || no_key_in_lists(gateway));
    report.check(&gateway.name("a key file's key opens, and its path is saved in its place"), || {
        key_file(gateway)
    });
}

fn refused(gateway: &Gateway<'_>) -> Result<String> {
    gateway.firewall.flush()?;
    let before = gateway.firewall.save()?;
    let long = "k".repeat(41);
    let cases: [(&[&str], &str); 14] = [
        (&[], "missing key"),
        (&["--key", ""], "--key: empty"),
        (&["--key", "0x"], "no digit"),
        (&["--key", "0x12g4"], "offset 4"),
        (&["--key", &long], "41 bytes"),
        (&["--key", "k", "--tag", "LONGER"], "6 bytes"),
        (&["--key", "k", "--tag", "0x0102030405"], "5 bytes"),
        (&["--key", "k", "--window", "-1"], "'-1'"),
        (&["--key", "k", "--window", "4294967296"], "4294967296"),
        (&["--key-file", "/nowhere"], "/nowhere"),
        (&["--key", "k", "--format", "3"], "--format: invalid value '3'"),
        (&["--key", "k", "--require", "source"], "--require needs --format 2"),
        (&["--key", "k", "--request", "close"], "--request needs --format 2"),
        (&["--key", "k", "--format", "2", "--request", "both"], "'both'"),
    ];
    for (options, part) in cases {
        let words = [&["-A", "INPUT", "-p", "udp", "-m", "pkd"], options].concat();
        let said = gateway.firewall.refuses(&words)?;
        let line = said.lines().find(|line| line.contains("pkd:")).unwrap_or_default();
        ensure!(line.contains(part), "{options:?}: {said:?} does not name {part:?}");
        ensure!(gateway.firewall.save()? == before, "{options:?} left a rule");
    }
    Ok(format!("{} of them", cases.len()))
}

fn round_trip(firewall: &Firewall) -> Result<String> {
    const RULES: [&[&str]; 11] = [
        &["--key", "test"],
        &["--key", "two words", "--tag", "a b"],
        &["--key", "quotes \" ' and \\ back", "--tag", "\"\\'"],
        &["--key", "0x00", "--window", "0"],
        &["--key", "0xAA0693aB", "--tag", "0x00010203", "--window", "4294967295"],
        &["--key", "0x30780a09", "--tag", "0x3078"],
        &["--key", "-x", "--tag", "!"],
        &["--key", "schl\u{fc}ssel", "--tag", "0x2d2d"],
        &["--key", "0123456789012345678901234567890123456789", "--tag", "SSHK"],
        &["--key", "test", "--format", "2"],
        &["--key", "k", "--format", "2", "--require", "source,destination", "--request", "close"],
    ];
    for options in RULES {
        firewall.words(&[&["-A", "INPUT", "-p", "udp", "-m", "pkd"], options].concat())?;
    }
    let saved = firewall.save()?;
    let rules = saved.lines().filter(|line| line.contains("-m pkd")).count();
    ensure!(rules == RULES.len(), "{rules} rules were saved: {saved}");
    firewall.flush()?;
    firewall.restore(&saved)?;
    let again = firewall.save()?;
    ensure!(again == saved, "saved {saved}\nthen {again}");
    for options in RULES {
        firewall.words(&[&["-D", "INPUT", "-p", "udp", "-m", "pkd"], options].concat())?;
    }
    let left = firewall.save()?;
    ensure!(!left.contains("pkd"), "not deleted: {left}");
    Ok(format!("{rules} rules"))
}

fn no_key_in_lists(gateway: &Gateway<'_>) -> Result<String> {
    gateway.firewall.flush()?;
    gateway.firewall.run("-A INPUT -p udp -m pkd --key sesame --tag SSHK --window 5")?;
    let list = gateway.firewall.run("-L INPUT -n -v")? + &gateway.firewall.run("-L")?;
    ensure!(list.contains("pkd") && list.contains("SSHK"), "the rule is not listed: {list}");
    let status = fs::read_to_string(crate::status::FILE)?;
    for shown in [&list, &status] {
        ensure!(!shown.contains("sesame") && !shown.contains("736573616d65"), "the key is shown: {shown}");
    }
    let line = list.lines().find(|line| line.contains("pkd")).unwrap_or_default();
    Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn key_file(gateway: &Gateway<'_>) -> Result<String> {
    let path = "/tmp/key of the door";
    fs::write(path, "0x7365736d65\n")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    crate::gateway::reload()?;
    gateway.firewall.words(&[
        "-A",
        "INPUT",
        "-p",
        "udp",
        "-m",
        "pkd",
        "--key-file",
        path,
        "--tag",
        "FILE",
    ])?;
    let payload = knock_with("sesme", "FILE", now()?, PORT)?;
    gateway.expect("Accept", &payload)?;
    let saved = gateway.firewall.save()?;
    ensure!(
        saved.contains(path) && !saved.contains("sesme") && !saved.contains("7365736d65"),
        "saved {saved}"
    );
    gateway.firewall.flush()?;
    gateway.firewall.restore(&saved)?;
    ensure!(gateway.firewall.save()? == saved, "restored to {}", gateway.firewall.save()?);
    gateway.expect("Replay", &payload)?;
    let list = gateway.firewall.run("-L -n")?;
    ensure!(list.contains(path), "the listing does not name the file: {list}");
    Ok("--key-file".to_owned())
}

//! Other programs remove or change rules. A stranger tries to connect all the time and never gets in, grants go on, and a
//! knock that arrives meanwhile opens the port.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};
use pkd_netns::{
    network::{Family, Network, net_test, ssh_server},
    process::{LIMIT, number, shell, wait},
    stranger::Stranger,
};
use pkdd::{
    firewall::{FirewallBackend as _, Integrity, pktables_backend::PktablesBackend},
    source,
};
use pktables::{Backend, Change, Nft, Protection, TABLE};

use crate::gateway::{Gateway, KEY, TAG, USERS, iptables_legacy, now, payload};

/// What others do to nftables.
const NFT: [&str; 12] = [
    "nft flush ruleset",
    "nft flush table inet pktables",
    "nft delete table inet pktables",
    "nft flush chain inet pktables guard && nft flush chain inet pktables input",
    "nft flush chain inet pktables pk-ssh",
    "nft insert rule inet pktables pk-ssh accept",
    "nft insert rule inet pktables pk-ssh ct state new accept",
    "nft 'add table inet pktables { flags dormant; }'",
    "nft 'flush chain inet pktables guard; delete chain inet pktables guard; \
     add chain inet pktables guard { type filter hook postrouting priority 0; }'",
    "nft delete rule inet pktables guard handle \
     $(nft -a list chain inet pktables guard | sed -n 's/.*jump.*handle //p' | head -1)",
    "nft delete rule inet pktables input handle \
     $(nft -a list chain inet pktables input | sed -n 's/.*jump.*handle //p' | head -1)",
    "nft flush ruleset; nft flush ruleset; nft delete table inet pkdd; nft flush table inet pkdd; true",
];

/// What others do to iptables; `IP` is `iptables` or `ip6tables`.
const IPTABLES: [&str; 7] = [
    "IP -t mangle -F",
    "IP -t mangle -F && IP -t mangle -X && IP -t raw -F && IP -F",
    "IP -t mangle -D PREROUTING 1",
    "IP -t mangle -D INPUT 1",
    "IP -t mangle -I pk-ssh -j RETURN",
    "printf '*mangle\\nCOMMIT\\n*raw\\nCOMMIT\\n*filter\\nCOMMIT\\n' | IP-restore",
    "IP-save | grep -v pk- | IP-restore",
];

/// Runs the events, one after the other. After each of them the rules are repaired, and both the old and a new grant work.
fn survive(gateway: &Gateway<'_>, events: &[String], rules: &str) -> Result<()> {
    let intact = || -> Result<String> {
        let lines = shell(rules)?;
        // Without grants, counters and handles.
        let is_rule = |line: &&str| !["elements", "expires", "until"].iter().any(|word| line.contains(word));
        let lines = lines.lines().filter(is_rule).map(|line| line.split(" [").next().unwrap_or(line));
        // A chain that was made again comes last.
        let mut lines: Vec<&str> = lines.collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    };
    for family in Family::BOTH {
        gateway.is_closed(family)?;
        gateway.knock(family)?;
        gateway.is_open(family)?;
    }
    let before = wait("rules with grants", &intact, |rules| rules.contains("pk-ssh"))?;
    let stranger = Stranger::start(&[22])?;
    for (nonce, event) in (1_u32..).zip(events) {
        stranger.more(2)?;
        shell(event).with_context(|| event.clone())?;
        // While the rules are being repaired.
        let family = Family::BOTH[nonce as usize % 2];
        gateway.expect("accept", family, &payload(KEY, TAG, now()?, nonce)?)?;
        stranger.more(2)?;
        wait(&format!("the rules after {event}"), &intact, |rules| *rules == before)?;
        for family in Family::BOTH {
            gateway.is_open(family).with_context(|| event.clone())?;
        }
        let trouble = || Ok(gateway.status()?["trouble"].to_string());
        wait("no trouble", trouble, |trouble| trouble == "\"\"")?;
    }
    let tries = stranger.finish()?;
    println!("\nrow: {tries} tries of a stranger during {} events, none succeeded", events.len());
    Ok(())
}

net_test!(nobody_gets_in_while_others_change_nftables, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    let events = NFT.map(str::to_owned);
    survive(&gateway, &events, "nft --stateless list table inet pktables 2>/dev/null || true")
        .map_err(|error| error.context(format!("log: {:#?}", gateway.lines())))
});

fn survive_iptables(network: &Network, is_legacy: bool) -> Result<()> {
    let mut gateway = Gateway::new(network, "iptables")?;
    if is_legacy {
        iptables_legacy(&mut gateway)?;
    }
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    let kind = if is_legacy { "legacy" } else { "nft" };
    let program = |line: &str, family: &str| {
        line.replace("IP-", &format!("{family}-{kind}-")).replace("IP ", &format!("{family}-{kind} "))
    };
    let events = IPTABLES.map(|line| {
        let both = ["iptables", "ip6tables"].map(|family| program(line, family));
        both.join(" && ")
    });
    let listing = ["iptables", "ip6tables"].map(|family| program("IP-save -t mangle | grep pk-", family));
    survive(&gateway, &events, &format!("{}; true", listing.join("; ")))
        .map_err(|error| error.context(format!("log: {:#?}", gateway.lines())))
}

net_test!(nobody_gets_in_while_others_change_iptables_over_nftables, |network| survive_iptables(
    network, false
));

net_test!(nobody_gets_in_while_others_change_iptables_legacy, |network| survive_iptables(network, true));

net_test!(nobody_gets_in_while_pkdd_starts_stops_reloads_and_dies, |network| {
    for back_end in ["nft", "iptables"] {
        let mut gateway = Gateway::new(network, back_end)?;
        let _server = ssh_server(22, gateway.folder.path())?;
        gateway.start()?;
        gateway.knock(Family::V4)?;
        gateway.is_open(Family::V4)?;
        let stranger = Stranger::start(&[22])?;
        for round in 0..4 {
            for signal in [Signal::SIGTERM, Signal::SIGKILL] {
                gateway.stop(signal)?;
                stranger.more(4)?;
                gateway.start()?;
                stranger.more(4)?;
                gateway.is_open(Family::V4)?;
            }
            gateway.configure(&USERS.replace("600", &(600 + round).to_string()))?;
            ensure!(gateway.reload()?);
            gateway.signal(Signal::SIGUSR1)?;
            stranger.more(4)?;
            // Nobody watches while the daemon is dead; what is left then holds.
            gateway.stop(Signal::SIGKILL)?;
            shell("nft flush table inet pktables 2>/dev/null; true")?;
            stranger.more(4)?;
            gateway.start()?;
            gateway.is_open(Family::V4)?;
        }
        stranger.finish()?;
        gateway.stop(Signal::SIGTERM)?;
        gateway.run(&["clear"])?;
        let left = shell("nft list ruleset; iptables-save; ip6tables-save")?;
        ensure!(!left.contains("pkdd") && !left.contains("pk-"), "{back_end} leaves {left}");
    }
    Ok(())
});

net_test!(another_firewall_in_the_configuration_leaves_no_rules_of_the_old_one, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    let stranger = Stranger::start(&[22])?;
    for (nonce, firewall) in (1..).zip(["iptables", "nft", "iptables", "nft"]) {
        stranger.more(2)?;
        gateway.stop(Signal::SIGTERM)?;
        gateway.firewall = firewall;
        gateway.configure(USERS)?;
        gateway.start()?;
        stranger.more(2)?;
        for family in Family::BOTH {
            let knock = payload(KEY, TAG, now()?, 2 * nonce + u32::from(family == Family::V6))?;
            gateway.expect("accept", family, &knock)?;
            gateway.is_open(family)?;
        }
        let (nft, iptables) = (shell("nft list tables")?, shell("iptables-save; ip6tables-save")?);
        ensure!(nft.contains("inet pktables") == (firewall == "nft"), "{firewall}: {nft}");
        ensure!(iptables.contains("pk-") == (firewall == "iptables"), "{firewall}: {iptables}");
    }
    stranger.finish()?;
    // Changed again, and the daemon was not started since.
    gateway.stop(Signal::SIGTERM)?;
    gateway.firewall = "iptables";
    gateway.configure(USERS)?;
    gateway.run(&["clear"])?;
    let left = shell("nft list ruleset; iptables-save; ip6tables-save")?;
    ensure!(!left.contains("pkdd") && !left.contains("pk-"), "{left}");
    Ok(())
});

/// Only with the protection of older kernels does anything have to be closed again.
fn time_to_closed(network: &Network, protection: Protection, rounds: u64) -> Result<Vec<Duration>> {
    let gateway = Gateway::new(network, "nft")?;
    let (config, list) = (source::read(&gateway.path("pkdd.toml"))?, gateway.path("services"));
    let mut backend = PktablesBackend::open(Backend::Nft)?.with_at_most(protection);
    let mut nft = Nft::open()?;
    backend.install(&config, &list)?;
    let intact = nft.fingerprint()?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        shell("nft flush ruleset")?;
        let start = Instant::now();
        loop {
            ensure!(start.elapsed() < LIMIT, "it is not repaired");
            let notified = backend.notifications().context("no notifications")?;
            poll(&mut [PollFd::new(notified, PollFlags::POLLIN)], PollTimeout::from(100_u8))?;
            if backend.was_notified()? && backend.check(&config)? == Integrity::Damaged {
                ensure!(backend.install(&config, &list)? == Change::Made);
            }
            if nft.fingerprint()? == intact {
                break;
            }
        }
        times.push(start.elapsed());
    }
    backend.clear(&list)?;
    ensure!(!shell("nft list tables")?.contains(TABLE));
    times.sort_unstable();
    Ok(times)
}

net_test!(rules_that_were_flushed_are_back_in_milliseconds, |network| {
    let rounds = number("PKD_FLUSHES", 20)?;
    for (protection, meanwhile) in [
        (Protection::Persistent, "closed meanwhile by the held table"),
        (Protection::Owner, "closed meanwhile by the held table"),
        (Protection::None, "open meanwhile"),
    ] {
        let times = time_to_closed(network, protection, rounds)?;
        let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
        let kernel = match protection {
            Protection::Persistent => "Linux 6.9 and later",
            Protection::Owner => "as on Linux 5.12",
            Protection::None => "as before Linux 5.12",
        };
        println!(
            "\nrow: from `nft flush ruleset` until the rules are back, {kernel} | {} ms in the median, {} ms at most | \
             {rounds} times; {meanwhile}",
            median.as_millis(),
            most.as_millis()
        );
        ensure!(median < Duration::from_millis(200), "{protection:?}: {times:?}");
    }
    Ok(())
});

//! The host's own firewall beside pkdd: what stops a granted client, leads past a guard or takes knocks is named, and what
//! pkdd says to do about it helps. A stranger tries to connect all the time.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pkd_netns::{
    network::{Family, net_test, ssh_server},
    process::{LIMIT, shell, wait},
    stranger::Stranger,
};

use crate::gateway::{Gateway, KEY, TAG, USERS, now, payload};

/// Tries of the stranger after each event.
const TRIES: u64 = 20;

/// The conflicts that the status has, which its text has too.
fn conflicts(gateway: &Gateway<'_>) -> Result<Vec<String>> {
    let status = gateway.status()?;
    let list = status["conflicts"].as_array().context("no conflicts")?;
    let list: Vec<String> = list.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect();
    let text = gateway.run(&["status"])?;
    for line in &list {
        ensure!(text.contains(&format!("Conflict: {line}\n")), "{text}");
    }
    ensure!(text.matches("Conflict: ").count() == list.len(), "{text}");
    Ok(list)
}

/// What `pkdd check` warns of.
fn warnings(gateway: &Gateway<'_>) -> Result<Vec<String>> {
    let output = gateway.command(&["check"]).output()?;
    ensure!(output.status.success(), "a conflict is not an error");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(text.lines().filter_map(|line| line.strip_prefix("pkdd: warning: ")).map(str::to_owned).collect())
}

/// Does what a conflict says.
fn follow(conflict: &str) -> Result<()> {
    let (_, command) = conflict.split_once("it: ").with_context(|| format!("no advice: {conflict}"))?;
    shell(command).map(drop)
}

/// A policy that drops, as usual hosts have it: the commands, the text that names it, and what
/// removes it.
const POLICIES: [(&str, &str, &str); 3] = [
    (
        "nft 'table inet filter { chain input { type filter hook input priority 0; policy drop; \
         ct state established,related accept; iif lo accept; meta l4proto { icmp, ipv6-icmp } accept; }; }'",
        "the policy drop of chain input in nftables' table inet filter drops",
        "nft delete table inet filter",
    ),
    (
        "for p in iptables-nft ip6tables-nft; do $p -P INPUT DROP && $p -A INPUT -i lo -j ACCEPT && \
         $p -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT || exit 1; done; \
         iptables-nft -A INPUT -p icmp -j ACCEPT && ip6tables-nft -A INPUT -p icmpv6 -j ACCEPT",
        "the policy DROP of chain INPUT in table filter (iptables and ip6tables) drops",
        "for p in iptables-nft ip6tables-nft; do $p -P INPUT ACCEPT && $p -F INPUT || exit 1; done",
    ),
    (
        "for p in iptables-legacy ip6tables-legacy; do $p -P INPUT DROP && $p -A INPUT -i lo -j ACCEPT && \
         $p -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT || exit 1; done; \
         iptables-legacy -A INPUT -p icmp -j ACCEPT && ip6tables-legacy -A INPUT -p icmpv6 -j ACCEPT",
        "the policy DROP of chain INPUT in table filter (iptables-legacy and ip6tables-legacy) drops",
        "for p in iptables-legacy ip6tables-legacy; do $p -P INPUT ACCEPT && $p -F INPUT || exit 1; done",
    ),
];

net_test!(a_policy_that_drops_is_named_and_after_the_advice_only_the_granted_client_connects, |network| {
    for back_end in ["nft", "iptables"] {
        for (row, (set_up, expected, tear_down)) in POLICIES.into_iter().enumerate() {
            let what = format!("{back_end}, row {row}");
            let mut gateway = Gateway::new(network, back_end)?;
            let _server = ssh_server(22, gateway.folder.path())?;
            shell(set_up)?;
            gateway.start()?;
            let stranger = Stranger::start(&[22])?;
            gateway.wait_for_line(&format!("warning: service \"ssh\": {expected}"))?;
            let found = conflicts(&gateway)?;
            ensure!(found.len() == 1 && found[0].contains(expected), "{what}: {found:#?}");
            ensure!(warnings(&gateway)? == found, "{what}: {:#?}", warnings(&gateway)?);
            for (family, nonce) in Family::BOTH.into_iter().zip(1..) {
                gateway.expect("accept", family, &payload(KEY, TAG, now()?, nonce)?)?;
                // The sufferer: the knock is accepted, and the port stays silent.
                gateway.is_closed(family)?;
            }
            follow(&found[0])?;
            ensure!(conflicts(&gateway)?.is_empty(), "{what}: {:#?}", conflicts(&gateway)?);
            ensure!(warnings(&gateway)?.is_empty(), "{what}: {:#?}", warnings(&gateway)?);
            for family in Family::BOTH {
                gateway.is_open(family)?;
            }
            stranger.more(TRIES)?;
            stranger.finish()?;
            gateway.stop(Signal::SIGTERM)?;
            gateway.run(&["clear"])?;
            shell(tear_down)?;
        }
    }
    Ok(())
});

net_test!(an_accept_ahead_of_the_guard_is_named_and_lets_no_stranger_in, |network| {
    let mut gateway = Gateway::new(network, "iptables")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    let stranger = Stranger::start(&[22])?;
    ensure!(conflicts(&gateway)?.is_empty(), "{:#?}", conflicts(&gateway)?);
    for rule in [
        "-p tcp -m comment --comment \"all of it\" -j ACCEPT",
        "-p tcp -m multiport --dports 22,80 -j RETURN",
    ] {
        for chain in ["PREROUTING", "INPUT"] {
            for program in ["iptables", "ip6tables"] {
                shell(&format!("{program} -t mangle -I {chain} {rule}"))?;
            }
        }
        let found = conflicts(&gateway)?;
        ensure!(found.len() == 2, "{found:#?}");
        for (line, chain) in found.iter().zip(["PREROUTING", "INPUT"]) {
            let start = format!(
                "service \"ssh\": the rule \"{rule}\" of chain {chain} in table mangle (iptables and ip6tables)"
            );
            ensure!(line.starts_with(&start), "{line}");
        }
        ensure!(warnings(&gateway)? == found);
        stranger.more(TRIES)?;
        // A start reports it too, and leaves the rules of others where they are.
        ensure!(gateway.stop(Signal::SIGTERM)?);
        gateway.start()?;
        gateway.wait_for_line(
            "of chain INPUT in table mangle (iptables and ip6tables) lets everyone past the guard",
        )?;
        stranger.more(TRIES)?;
        found.iter().try_for_each(|line| follow(line))?;
        ensure!(conflicts(&gateway)?.is_empty(), "{:#?}", conflicts(&gateway)?);
    }
    for family in Family::BOTH {
        gateway.knock(family)?;
        gateway.is_open(family)?;
    }
    stranger.finish().map(drop)
});

net_test!(what_takes_knocks_is_named, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.configure(&format!("port = 40000\n{USERS}"))?;
    gateway.start()?;
    shell(
        "nft 'table inet early { chain first { type filter hook prerouting priority -310; policy accept; \
           udp dport 40000 counter drop; }; }'",
    )?;
    for family in Family::BOTH {
        gateway.knock(family)?;
    }
    let counter = || shell("nft list table inet early");
    wait("the knocks", counter, |text| text.contains("counter packets 2 "))?;
    ensure!(gateway.counter("accept")? == 0);
    let found = conflicts(&gateway)?;
    let expected = "the rule \"udp dport 40000 counter drop\" of chain first in nftables' table inet early takes UDP \
                    datagrams to port 40000 before pkdd sees them";
    ensure!(found.len() == 1 && found[0].starts_with(expected), "{found:#?}");
    ensure!(warnings(&gateway)? == found);
    shell("nft delete table inet early")?;
    ensure!(conflicts(&gateway)?.is_empty());
    gateway.knock(Family::V4)?;
    gateway.is_open(Family::V4)
});

net_test!(a_program_that_hangs_delays_neither_the_start_nor_knocks_and_the_status_not_for_long, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    let programs = gateway.path("programs");
    fs::create_dir(&programs)?;
    for (name, text) in [
        ("iptables-legacy-save", "#!/bin/sh\nexec sleep 600\n"),
        ("ip6tables-legacy-save", "#!/bin/sh\necho 'no such table' >&2\nexit 1\n"),
    ] {
        fs::write(programs.join(name), text)?;
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755))?;
    }
    gateway.prepend_to_path(&programs)?;
    let begin = Instant::now();
    gateway.start()?;
    ensure!(begin.elapsed() < LIMIT / 2, "the start took {:?}", begin.elapsed());
    gateway.knock(Family::V4)?;
    gateway.is_open(Family::V4)?;
    let begin = Instant::now();
    let found = conflicts(&gateway)?;
    ensure!(begin.elapsed() < LIMIT / 2, "the status took {:?}", begin.elapsed());
    let expected = ["iptables-legacy-save did not answer within 5 s", "ip6tables-legacy-save: no such table"]
        .map(|why| format!("rules of other programs were not checked: {why}"));
    ensure!(found == expected, "{found:#?}");
    gateway.wait_for_line("iptables-legacy-save did not answer within 5 s")
});

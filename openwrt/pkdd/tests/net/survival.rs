//! What must outlive the process, and what must not be done without.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pkd_netns::{
    network::{Family, net_test, ssh_server},
    process::{shell, wait},
};
use pkdd::journal::{Entry, Journal};

use crate::gateway::{Gateway, KEY, PORT, TAG, now, payload};

/// What a service manager is told, which the test below plays.
#[test]
fn its_unit_has_it_back_at_once_and_keeps_its_memory() {
    let unit = include_str!("../../pkdd.service");
    for line in
        ["Restart=always", "RestartSec=100ms", "StartLimitIntervalSec=0", "RuntimeDirectoryPreserve=yes"]
    {
        assert!(unit.lines().any(|given| given == line), "no line {line}");
    }
}

/// Knocks a life; few enough that all lives of one second fit into a guard.
const BURST: u32 = 8;

net_test!(killed_during_knocks_it_loses_no_grant_and_replays_nothing, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    // A user with a wide window, so that old knocks would be fresh enough all along.
    let users = "\n[service.ssh]\nport = 22\nseconds = 600\n[user.me]\ntag = 'SSHK'\nkey_file = 'me.key'\nwindow = 3600\nservices = ['ssh']\n";
    gateway.configure(users)?;
    // The flood of one source is not what is tried here.
    let toml = fs::read_to_string(gateway.path("pkdd.toml"))?.replace("[gate]", "[gate]\nrate = 100000");
    fs::write(gateway.path("pkdd.toml"), toml)?;
    let journal = gateway.path("run/journal");
    let to = SocketAddr::new(Family::V4.gateway(), PORT);
    let mut sent = Vec::new();
    let mut kept = 0;
    for life in 0..200_u32 {
        gateway.start()?;
        // Each life gets knocks from an address of its own, and is killed while they come in.
        let address = format!("192.0.2.{}", 10 + life);
        shell(&format!("nsenter --net=/run/netns/client ip addr add {address}/24 dev cl"))?;
        let burst: Vec<_> =
            (0..BURST).map(|number| payload(KEY, TAG, now()?, life * 100 + number)).collect::<Result<_>>()?;
        for payload in &burst {
            network.send(address.parse()?, to, payload)?;
        }
        sent.extend(burst);
        // At another moment each time: when so many of them have been written down.
        let wanted = u64::from(life % BURST);
        wait("the journal", || Ok(fs::metadata(&journal)?.len() / 64), |entries| *entries >= kept + wanted)
            .with_context(|| format!("life {life}: {:#?} {:?}", gateway.lines(), gateway.status()))?;
        gateway.stop(Signal::SIGKILL)?;
        kept = fs::metadata(&journal)?.len() / 64;
    }
    gateway.start()?;
    let status = gateway.status()?;
    let grants = status["grants"].as_array().context("no grants")?;
    let addresses: Vec<&str> = grants.iter().filter_map(|grant| grant["address"].as_str()).collect();
    // Whose knock was written down may pass, and nobody else.
    let accepted = Journal::open(&gateway.path("run/journal"))?.entries;
    let mut written: Vec<String> = accepted
        .iter()
        .filter_map(|entry| match entry {
            Entry::Accepted(knock) => Some(knock.source.to_string()),
            _ => None,
        })
        .collect();
    written.sort();
    written.dedup();
    let mut passing: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
    passing.sort();
    ensure!(passing == written, "{} pass, {} were written down", passing.len(), written.len());
    ensure!(passing.len() > 150, "only {} lives accepted anything", passing.len());
    // What was accepted is a replay now. What was lost when it was killed may count once, and then no more.
    let all = u64::try_from(sent.len())?;
    let lost =
        all - u64::try_from(accepted.iter().filter(|entry| matches!(entry, Entry::Accepted(_))).count())?;
    for may_count in [lost, 0] {
        let (replays, accepts) = (gateway.counter("replay")?, gateway.counter("accept")?);
        for payload in &sent {
            network.send(Family::V4.client(), to, payload)?;
        }
        let counts = || Ok((gateway.counter("replay")? - replays, gateway.counter("accept")? - accepts));
        let (_, again) = wait("the replays", counts, |(replays, accepts)| replays + accepts >= all)?;
        ensure!(again <= may_count, "{again} count again, {may_count} had been lost");
    }
    Ok(())
});

net_test!(after_a_reboot_nothing_of_before_counts, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.start()?;
    let time = now()? + 5;
    let knocked = payload(KEY, TAG, time, 1)?;
    gateway.expect("accept", Family::V4, &knocked)?;
    let floor = gateway.path("state/floor");
    wait("the floor on disk", || Ok(fs::read_to_string(&floor)?), |text| *text >= format!("{time}\n"))?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let well = gateway.stop(signal)?;
        ensure!(well == (signal == Signal::SIGTERM));
        // What a reboot does: /run is empty, the rules are gone.
        fs::remove_dir_all(gateway.path("run"))?;
        shell("nft flush ruleset")?;
        gateway.start()?;
        gateway.expect("replay", Family::V4, &knocked)?;
        let user = &gateway.status()?["users"][0];
        ensure!(user["floor"].as_u64() >= Some(now()? - 60), "{user}");
    }
    // An orderly end is not waited for.
    let wait_now = gateway.status()?["users"][0]["wait"].as_u64().context("no wait")?;
    ensure!(wait_now <= 22, "{wait_now}");
    Ok(())
});

net_test!(a_first_start_without_memory_waits_one_window, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    fs::remove_file(gateway.path("state/floor"))?;
    gateway.start()?;
    let status = gateway.status()?;
    ensure!((1..=11).contains(&status["users"][0]["wait"].as_u64().unwrap_or_default()), "{status}");
    gateway.expect("replay", Family::V4, &payload(KEY, TAG, now()?, 1)?)?;
    ensure!(gateway.run(&["status"])?.contains("waits "));
    Ok(())
});

net_test!(one_folder_has_one_daemon_and_one_group_one_listener, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.start()?;
    for (text, said) in [("", "another pkdd runs"), ("else", "cannot take the packets of NFLOG's group")] {
        let toml = fs::read_to_string(gateway.path("pkdd.toml"))?;
        let other = gateway.path("other.toml");
        fs::write(&other, if text.is_empty() { toml } else { toml.replace("/run'", "/run2'") })?;
        let output = gateway.command_with("other.toml", &["run"]).output()?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1) && error.contains(said) && error.lines().count() == 1,
            "{error}"
        );
    }
    gateway.expect("accept", Family::V4, &payload(KEY, TAG, now()?, 1)?)
});

net_test!(nobody_else_can_read_its_files, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.start()?;
    gateway.expect("accept", Family::V4, &payload(KEY, TAG, now()?, 1)?)?;
    for (name, mode) in
        [("run", 0o700), ("run/journal", 0o600), ("run/socket", 0o600), ("state/floor", 0o600)]
    {
        let found = fs::metadata(gateway.path(name))?.permissions().mode() & 0o777;
        ensure!(found == mode, "{name} has the mode {found:o}");
    }
    Ok(())
});

net_test!(a_flood_of_forgeries_does_not_keep_others_out, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    let to = SocketAddr::new(Family::V4.gateway(), PORT);
    // As many forgeries with the right tag and time as one thread sends until the honest knock is through.
    network.at_client(|| {
        let socket = std::net::UdpSocket::bind((Family::V4.other(), 0))?;
        let forged = payload("another key", TAG, now()?, 1)?;
        for _ in 0..20_000 {
            socket.send_to(&forged, to)?;
        }
        Ok(())
    })?;
    gateway.knock(Family::V4)?;
    gateway.is_open(Family::V4)?;
    // Of one source the kernel lets 20 a second through, and as many at once.
    let forged = gateway.counter("digest")?;
    ensure!((1..2_000).contains(&forged), "{forged} forgeries were looked at");
    Ok(())
});

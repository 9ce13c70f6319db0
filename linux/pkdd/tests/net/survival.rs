//! What must outlive the process, and what must not be done without.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use pkd_core::LENGTH;
use pkd_netns::{
    network::{Family, net_test, ssh_server},
    process::{LIMIT, shell, wait},
};
use pkdd::journal::{Entry, Journal};
use pktables::{SetPath, Sets};

use crate::{
    faults::programs,
    gateway::{Gateway, KEY, PORT, TAG, now, payload},
};

/// What a service manager is told, which the test below plays.
#[test]
fn its_unit_has_it_back_at_once_and_keeps_its_memory() {
    let unit = include_str!("../../../debian/pkdd.service");
    for line in
        ["Restart=always", "RestartSec=100ms", "StartLimitIntervalSec=0", "RuntimeDirectoryPreserve=yes"]
    {
        assert!(unit.lines().any(|active| active == line), "no line {line}");
    }
}

/// Knocks a life; few enough that all lives of one second fit into a cache.
const BURST: u64 = 8;

/// Where a killed daemon was with the first knock of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    Before,
    /// The knock is written down, and opens nothing yet.
    Between,
    After,
}

fn entries(gateway: &Gateway<'_>) -> Result<u64> {
    Ok(fs::metadata(gateway.path("run/journal"))?.len() / 64)
}

fn may_pass(address: IpAddr) -> Result<bool> {
    let set = SetPath { table: pktables::TABLE, set: "pk-ssh-4" };
    Ok(Sets::open()?.list(set)?.iter().any(|element| element.address == address))
}

/// Kills it at another moment each time: when so many of the knocks that come in have been written down. Nothing waits
/// between the look and the kill, or it would have gone on.
fn kill_during(gateway: &mut Gateway<'_>, from: IpAddr, burst: &[[u8; LENGTH]], life: u64) -> Result<Killed> {
    let begun = entries(gateway)?;
    let wanted = begun + if life.is_multiple_of(2) { 1 } else { life / 2 % BURST };
    let (network, to) = (gateway.network, SocketAddr::new(Family::V4.gateway(), PORT));
    thread::scope(|scope| {
        let knocks = scope.spawn(|| burst.iter().try_for_each(|payload| network.send(from, to, payload)));
        let limit = Instant::now() + LIMIT;
        while entries(gateway)? < wanted {
            ensure!(Instant::now() < limit, "life {life}: {:#?} {:?}", gateway.lines(), gateway.status());
            thread::yield_now();
        }
        gateway.signal(Signal::SIGKILL)?;
        knocks.join().map_err(|_| anyhow!("a panic"))?
    })?;
    gateway.stop(Signal::SIGKILL)?;
    match (entries(gateway)? > begun, may_pass(from)?) {
        (false, false) => Ok(Killed::Before),
        (true, false) => Ok(Killed::Between),
        (true, true) => Ok(Killed::After),
        (false, true) => bail!("life {life}: {from} may pass for a knock that is not written down"),
    }
}

net_test!(killed_during_knocks_it_loses_no_grant_and_replays_nothing, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    // A user with a wide window, so that old knocks would be fresh enough all along.
    let users = "\n[service.ssh]\nport = 22\nseconds = 600\n[user.me]\ntag = 'SSHK'\nkey_file = 'me.key'\nwindow = 3600\nservices = ['ssh']\n";
    gateway.configure(users)?;
    // The flood of one source is not what is tried here.
    let toml = fs::read_to_string(gateway.path("pkdd.toml"))?.replace("[gate]", "[gate]\nrate = 100000");
    fs::write(gateway.path("pkdd.toml"), toml)?;
    let to = SocketAddr::new(Family::V4.gateway(), PORT);
    let mut sent = Vec::new();
    let mut kills = Vec::new();
    for life in 0..200_u32 {
        gateway.start()?;
        // Each life gets knocks from an address of its own, and is killed while they come in.
        let address = format!("192.0.2.{}", 10 + life);
        shell(&format!("nsenter --net=/run/netns/client ip addr add {address}/24 dev cl"))?;
        let burst: Vec<_> = (0..u32::try_from(BURST)?)
            .map(|number| payload(KEY, TAG, now()?, life * 100 + number))
            .collect::<Result<_>>()?;
        kills.push(kill_during(&mut gateway, address.parse()?, &burst, life.into())?);
        sent.extend(burst);
    }
    for moment in [Killed::Before, Killed::Between, Killed::After] {
        let number = kills.iter().filter(|kill| **kill == moment).count();
        println!("row: killed {moment:?}: {number} of {}", kills.len());
        ensure!(number > 0, "no kill of {} fell {moment:?}", kills.len());
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
    let accepting = kills.iter().filter(|kill| **kill != Killed::Before).count();
    ensure!(passing.len() == accepting, "{} pass, {accepting} lives accepted anything", passing.len());
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

net_test!(killed_while_the_firewall_makes_a_grant_it_makes_it_at_its_next_start, |network| {
    let mut gateway = Gateway::new(network, "iptables")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    let fifo = gateway.path("go-on");
    shell(&format!("mkfifo {}", fifo.display()))?;
    let slow = format!(
        "#!/bin/sh\nread word < {} || exit 1\nexec /usr/sbin/iptables-nft-restore \"$@\"\n",
        fifo.display()
    );
    // Whether the program that makes the grant goes on when the daemon is gone.
    for (nonce, goes_on) in [(1, false), (2, true)] {
        programs(&mut gateway, "", "")?;
        gateway.start()?;
        gateway.is_closed(Family::V4)?;
        programs(&mut gateway, "iptables-restore", &slow)?;
        let knock = payload(KEY, TAG, now()?, nonce)?;
        network.send(Family::V4.client(), SocketAddr::new(Family::V4.gateway(), PORT), &knock)?;
        // Somebody reads there: the firewall has been request, and does not answer.
        let open = || Ok(OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&fifo).ok());
        let mut word = wait("the firewall's program", open, Option::is_some)?.context("it was there")?;
        gateway.stop(Signal::SIGKILL)?;
        let written = Journal::open(&gateway.path("run/journal"))?.entries;
        let is_it =
            |entry: &Entry| matches!(entry, Entry::Accepted(knock) if knock.source == Family::V4.client());
        ensure!(written.iter().any(is_it), "it is not written down: {written:?}");
        gateway.is_closed(Family::V4)?;
        if goes_on {
            word.write_all(b"go\n")?;
            gateway.is_open(Family::V4)?;
        }
        drop(word);
        programs(&mut gateway, "", "")?;
        gateway.start()?;
        gateway.is_open(Family::V4)?;
        gateway.expect("replay", Family::V4, &knock)?;
        // The next row begins with a closed door.
        gateway.stop(Signal::SIGTERM)?;
        gateway.run(&["clear"])?;
        fs::remove_dir_all(gateway.path("run"))?;
        fs::write(gateway.path("state/floor"), "0\nclean\n")?;
    }
    Ok(())
});

net_test!(honest_knocks_are_accepted_during_a_flood_of_forgeries, |network| {
    /// Of each source, in a second and at once.
    const RATE: u64 = 20;
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    let to = SocketAddr::new(Family::V4.gateway(), PORT);
    let (sent, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    // Forgeries with the right tag and time, as fast as one thread can, until the last honest knock is through.
    let flood = || {
        let socket = UdpSocket::bind((Family::V4.other(), 0))?;
        let forged = payload("another key", TAG, now()?, 1)?;
        while !is_over.load(Ordering::Relaxed) {
            socket.send_to(&forged, to)?;
            sent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let sent_so_far = || Ok(sent.load(Ordering::Relaxed));
    let honest = || -> Result<()> {
        for number in 1..=10 {
            let address = format!("192.0.2.{}", 20 + number);
            shell(&format!("nsenter --net=/run/netns/client ip addr add {address}/24 dev cl"))?;
            let address: IpAddr = address.parse()?;
            let before = sent_so_far()?;
            wait("the flood", sent_so_far, |sent| *sent >= before + 1_000)?;
            ensure!(network.banner(address, Family::V4.ssh())?.is_none(), "{address}: open before the knock");
            let before = sent_so_far()?;
            network.send(address, to, &payload(KEY, TAG, now()?, 1 + number)?)?;
            wait("the knock", || gateway.counter("accept"), |accepted| *accepted == u64::from(number))?;
            let during = sent_so_far()? - before;
            ensure!(during > 0, "{address}: nothing was sent while its knock was accepted");
            ensure!(
                network.banner(address, Family::V4.ssh())?.is_some(),
                "{address}: closed after the knock"
            );
            println!("row: {during} forgeries while a knock was accepted");
        }
        for family in Family::BOTH {
            gateway.is_closed(family)?;
            gateway.knock(family)?;
            gateway.is_open(family)?;
        }
        Ok(())
    };
    let begin = Instant::now();
    thread::scope(|scope| {
        let flood = scope.spawn(|| network.at_client(flood));
        let done = honest();
        is_over.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| anyhow!("a panic"))?.and(done)
    })?;
    let (forged, sent) = (gateway.counter("digest")?, sent_so_far()?);
    // What the kernel lets through until now, however long it took.
    let most = RATE + RATE * (begin.elapsed().as_secs() + 1);
    ensure!(
        (1..=most).contains(&forged),
        "{forged} of {sent} forgeries were looked at, {most} at most may be"
    );
    ensure!(gateway.counter("accept")? == 12);
    Ok(())
});

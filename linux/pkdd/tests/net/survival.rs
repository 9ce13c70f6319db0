//! Kills, restarts, reboots and floods: grants survive, and replays stay refused.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::unix::fs::PermissionsExt,
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
use pkdd::{
    journal::{Entry, Journal},
    nflog::Nflog,
};
use pktables::{SetPath, Sets};
use socket2::SockRef;

use crate::{
    faults::{refuses_to_start, without_warnings},
    gateway::{Gateway, KEY, PORT, TAG, now, payload},
};

/// The unit's options that the tests below stand in for.
#[test]
fn the_unit_restarts_pkdd_at_once_and_keeps_its_run_folder() {
    let unit = include_str!("../../../debian/pkdd.service");
    for line in
        ["Restart=always", "RestartSec=100ms", "StartLimitIntervalSec=0", "RuntimeDirectoryPreserve=yes"]
    {
        assert!(unit.lines().any(|other| other == line), "no line {line}");
    }
}

/// Knocks per run; few enough that the knocks of one second fit into a cache.
const BURST: u64 = 8;

/// When the daemon was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    /// Before the first knock was written to the journal.
    Before,
    /// After that, but before its grant was made.
    Between,
    /// After the grant was made.
    After,
}

fn entries(gateway: &Gateway<'_>) -> Result<u64> {
    Ok(fs::metadata(gateway.path("run/journal"))?.len() / 64)
}

fn has_grant(address: IpAddr) -> Result<bool> {
    let set = SetPath { table: pktables::TABLE, set: "pk-ssh-4/lease" };
    Ok(Sets::open()?.list(set)?.iter().any(|element| element.address == address))
}

/// Kills the daemon at another moment in each run: after a certain number of knocks was written to the journal. Nothing
/// happens between the check and the kill, so that the daemon does not get further.
fn kill_during(gateway: &mut Gateway<'_>, from: IpAddr, burst: &[[u8; LENGTH]], run: u64) -> Result<Killed> {
    let begun = entries(gateway)?;
    let wanted = begun + if run.is_multiple_of(2) { 1 } else { run / 2 % BURST };
    let (network, to) = (gateway.network, SocketAddr::new(Family::V4.gateway(), PORT));
    thread::scope(|scope| {
        let knocks = scope.spawn(|| burst.iter().try_for_each(|payload| network.send(from, to, payload)));
        let limit = Instant::now() + LIMIT;
        while entries(gateway)? < wanted {
            ensure!(Instant::now() < limit, "run {run}: {:#?} {:?}", gateway.lines(), gateway.status());
            thread::yield_now();
        }
        gateway.signal(Signal::SIGKILL)?;
        knocks.join().map_err(|_| anyhow!("a panic"))?
    })?;
    gateway.stop(Signal::SIGKILL)?;
    match (entries(gateway)? > begun, has_grant(from)?) {
        (false, false) => Ok(Killed::Before),
        (true, false) => Ok(Killed::Between),
        (true, true) => Ok(Killed::After),
        (false, true) => bail!("run {run}: {from} has a grant for a knock that is not in the journal"),
    }
}

net_test!(a_kill_during_knocks_loses_no_grant_and_accepts_no_replay, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    // A wide window, so that no knock leaves it during the test.
    let users = "\n[service.ssh]\nport = 22\nseconds = 600\n[user.me]\nformat = 'classic'\ntag = 'SSHK'\nkey_file = 'me.key'\nwindow = 3600\nservices = ['ssh']\n";
    gateway.configure(users)?;
    // The rate limit is not the subject of this test.
    let toml = fs::read_to_string(gateway.path("pkdd.toml"))?.replace("[gate]", "[gate]\nrate = 100000");
    fs::write(gateway.path("pkdd.toml"), toml)?;
    let to = SocketAddr::new(Family::V4.gateway(), PORT);
    let mut sent = Vec::new();
    let mut kills = Vec::new();
    for run in 0..200_u32 {
        gateway.start()?;
        // Each run receives knocks from a new address, and is killed meanwhile.
        let address = format!("192.0.2.{}", 10 + run);
        shell(&format!("nsenter --net=/run/netns/client ip addr add {address}/24 dev cl"))?;
        let burst: Vec<_> = (0..u32::try_from(BURST)?)
            .map(|number| payload(KEY, TAG, now()?, run * 100 + number))
            .collect::<Result<_>>()?;
        kills.push(kill_during(&mut gateway, address.parse()?, &burst, run.into())?);
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
    // Exactly the sources of knocks in the journal have grants.
    let accepted = <Journal>::open(&gateway.path("run/journal"))?.entries;
    let mut written: Vec<String> = accepted
        .iter()
        .filter_map(|entry| match entry {
            Entry::Accepted(knock) => Some(knock.sender.to_string()),
            _ => None,
        })
        .collect();
    written.sort();
    written.dedup();
    let mut granted: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
    granted.sort();
    ensure!(granted == written, "{} have grants, {} are in the journal", granted.len(), written.len());
    let accepting = kills.iter().filter(|kill| **kill != Killed::Before).count();
    ensure!(granted.len() == accepting, "{} have grants, {accepting} runs accepted a knock", granted.len());
    // Accepted knocks are replays now. Knocks lost in a kill may be accepted once, but not again.
    let all = u64::try_from(sent.len())?;
    let lost =
        all - u64::try_from(accepted.iter().filter(|entry| matches!(entry, Entry::Accepted(_))).count())?;
    for allowed in [lost, 0] {
        let (replays, accepts) = (gateway.counter("replay")?, gateway.counter("accept")?);
        for payload in &sent {
            network.send(Family::V4.client(), to, payload)?;
        }
        let counts = || Ok((gateway.counter("replay")? - replays, gateway.counter("accept")? - accepts));
        let (_, again) = wait("the replays", counts, |(replays, accepts)| replays + accepts >= all)?;
        ensure!(again <= allowed, "{again} were accepted, {allowed} had been lost");
    }
    Ok(())
});

net_test!(after_a_reboot_earlier_knocks_are_refused, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.start()?;
    let time = now()? + 5;
    let knocked = payload(KEY, TAG, time, 1)?;
    gateway.expect("accept", Family::V4, &knocked)?;
    let floor = gateway.path("state/floor");
    wait("the floor on disk", || Ok(fs::read_to_string(&floor)?), |text| *text >= format!("{time}\n"))?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let succeeded = gateway.stop(signal)?;
        ensure!(succeeded == (signal == Signal::SIGTERM));
        // A reboot: /run is empty, the rules are gone.
        fs::remove_dir_all(gateway.path("run"))?;
        shell("nft flush ruleset")?;
        gateway.start()?;
        gateway.refuses(&knocked)?;
        let user = &gateway.status()?["users"][0];
        ensure!(user["floor"].as_u64() >= Some(now()? - 60), "{user}");
    }
    // After a clean end, knocks do not wait.
    let wait_now = gateway.status()?["users"][0]["wait"].as_u64().context("no wait")?;
    ensure!(wait_now <= 22, "{wait_now}");
    Ok(())
});

net_test!(a_first_start_without_a_floor_waits_for_one_window, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    fs::remove_file(gateway.path("state/floor"))?;
    gateway.start()?;
    let status = gateway.status()?;
    ensure!((1..=11).contains(&status["users"][0]["wait"].as_u64().unwrap_or_default()), "{status}");
    // It may be the sender's first, so it is not called a replay.
    gateway.expect("waiting", Family::V4, &payload(KEY, TAG, now()?, 1)?)?;
    ensure!(gateway.counter("replay")? == 0);
    let text = gateway.run(&["status"])?;
    ensure!(text.contains("waits ") && text.contains(", 1 waiting after a start"), "{text}");
    gateway.wait_for_line("ignored: 1 waiting; last from 192.0.2.2")?;
    let metrics = gateway.run(&["metrics"])?;
    ensure!(metrics.contains("pkdd_datagrams_total{verdict=\"waiting\"} 1\n"), "{metrics}");
    // One that is long over is a replay all the same, or of a clock that is behind.
    gateway.expect("window", Family::V4, &payload(KEY, TAG, now()? - 60, 2)?)?;
    Ok(())
});

net_test!(a_folder_and_a_group_can_have_only_one_daemon, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.start()?;
    for (text, message) in
        [("", "another pkdd is running"), ("else", "belongs to a running process: stop the other pkdd")]
    {
        let toml = fs::read_to_string(gateway.path("pkdd.toml"))?;
        let other = gateway.path("other.toml");
        fs::write(&other, if text.is_empty() { toml } else { toml.replace("/run'", "/run2'") })?;
        let output = gateway.command_with("other.toml", &["run"]).output()?;
        let error = without_warnings(&String::from_utf8_lossy(&output.stderr));
        ensure!(
            output.status.code() == Some(1) && error.contains(message) && error.lines().count() == 1,
            "{error}"
        );
    }
    gateway.expect("accept", Family::V4, &payload(KEY, TAG, now()?, 1)?)
});

net_test!(a_group_that_another_program_uses_is_named, |network| {
    let gateway = Gateway::new(network, "nft")?;
    let toml = fs::read_to_string(gateway.path("pkdd.toml"))?;
    fs::write(gateway.path("pkdd.toml"), toml.replace("[gate]", "[gate]\ngroup = 77"))?;
    let other = Nflog::open(77)?;
    let errors = refuses_to_start(&gateway)?;
    ensure!(errors.contains("another program uses NFLOG group 77: stop it, or set gate.group"), "{errors}");
    ensure!(errors.lines().count() == 1, "{errors}");
    drop(other);
    Ok(())
});

net_test!(others_cannot_read_the_files, |network| {
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

net_test!(honest_knocks_are_accepted_during_a_flood_of_forgeries, |network| {
    /// The rate limit per second, and its burst: of a source, and of all together beyond it.
    const RATE: u64 = 20 + 5_000;
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    let to = SocketAddr::new(Family::V4.gateway(), PORT);
    let (sent, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    // Forgeries with the right tag and time, as fast as the gateway takes them, until the last honest knock. Without a
    // limit to what is under way, a busy host's kernel has no time for what it queues, and loses honest packets too.
    let flood = || {
        let socket = UdpSocket::bind((Family::V4.other(), 0))?;
        SockRef::from(&socket).set_send_buffer_size(1)?;
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
            // A knock may be accepted sooner than the flood's thread gets its turn.
            wait("the flood", sent_so_far, |sent| *sent > before)?;
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
    // The rate limit's maximum for the time that has passed.
    let most = RATE + RATE * (begin.elapsed().as_secs() + 1);
    ensure!((1..=most).contains(&forged), "{forged} of {sent} forgeries reached pkdd, expected 1–{most}");
    ensure!(gateway.counter("accept")? == 12);
    let limited = gateway.status()?["limited"].as_u64().context("no number")?;
    ensure!(limited > 0 && limited + forged <= sent, "{limited} of {sent} forgeries were dropped");
    Ok(())
});

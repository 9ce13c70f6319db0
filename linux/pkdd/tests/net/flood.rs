//! Floods of forgeries from the address of somebody who knocks: a knock gets through, and what is dropped is counted.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use pkd_core::{
    Key, LENGTH, Port, Tag, UnixMillis,
    format2::{Addresses, Bindings, Keys, Knock, KnockParams, Request},
};
use pkd_netns::{
    network::{Family, Network, net_test},
    process::{shell, wait},
};
use pkdd::{
    firewall::{FirewallBackend as _, firewall4::Firewall4, pktables_backend::PktablesBackend},
    nflog::{Nflog, Received},
    source,
};
use pktables::Backend;
use serde_json::Value;
use socket2::SockRef;

use crate::{
    format2,
    gateway::{Gateway, KEY, PORT, TAG, now, payload},
    scenarios::each_back_end,
};

/// A user of each format, and one of format 2 whose hint an attacker has captured.
const USERS: &str = "
[service.ssh]
port = 22
seconds = 600
[user.old]
format = 'classic'
tag = 'SSHK'
key_file = 'me.key'
services = ['ssh']
[user.me]
tag = 'SSHK'
key = 'a key in format 2'
services = ['ssh']
[user.victim]
tag = 'SSHK'
key = 'another key in format 2'
services = ['ssh']
";

/// A knock of format 2, with a number that makes it unique.
fn knock(key: &str, family: Family, number: u32) -> Result<[u8; LENGTH]> {
    let keys = Keys::new(&Key::parse(key)?, Tag::parse(TAG)?);
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    let params = KnockParams {
        time: UnixMillis(format2::now()?),
        nonce,
        bindings: Bindings::NONE,
        request: Request::Open,
    };
    let seal = |addresses: &Addresses<'_>| Knock::seal(&keys, &params, Port(PORT), addresses);
    Addresses::with(family.client(), family.gateway(), seal).context("two families")
}

/// Sends a payload from the client's address so many times, as fast as the gateway takes it.
pub(crate) fn burst(
    network: &Network,
    from: IpAddr,
    to: SocketAddr,
    payload: &[u8],
    count: usize,
) -> Result<()> {
    network.at_client(|| {
        let socket = UdpSocket::bind((from, 0))?;
        // Without a limit to what is under way, the kernel may lose some.
        SockRef::from(&socket).set_send_buffer_size(1)?;
        (0..count).try_for_each(|_| socket.send_to(payload, to).map(drop))?;
        Ok(())
    })
}

/// Calls `honest` while a flood of this payload arrives from the client's own address; returns its size.
fn during_a_flood(
    network: &Network,
    family: Family,
    payload: &[u8],
    honest: impl FnOnce(&dyn Fn(u64) -> Result<()>) -> Result<()>,
) -> Result<u64> {
    let (sent, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let to = SocketAddr::new(family.gateway(), PORT);
    let flood = || {
        let socket = UdpSocket::bind((family.client(), 0))?;
        SockRef::from(&socket).set_send_buffer_size(1)?;
        while !is_over.load(Ordering::Relaxed) {
            socket.send_to(payload, to)?;
            sent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let more = |count: u64| {
        let before = sent.load(Ordering::Relaxed);
        wait("the flood", || Ok(sent.load(Ordering::Relaxed)), |now| *now >= before + count).map(drop)
    };
    thread::scope(|scope| {
        let flood = scope.spawn(|| network.at_client(flood));
        let done = more(1_000).and_then(|()| honest(&more));
        is_over.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| anyhow!("a panic"))?.and(done)
    })?;
    Ok(sent.load(Ordering::Relaxed))
}

net_test!(noise_from_its_own_address_does_not_silence_a_knock_of_format_2, |network| {
    each_back_end(network, |gateway| {
        // A low limit, which the noise exceeds by far.
        gateway.configure(&format!("rate = 4\n{USERS}"))?;
        ensure!(gateway.reload()?);
        for family in Family::BOTH {
            let mut captured = knock("another key in format 2", family, 1)?;
            captured[40] ^= 1;
            // What everybody may know, and what somebody else's knock has told.
            for (number, noise) in [(2, payload("no key", TAG, now()?, 1)?), (3, captured)] {
                let accepted = gateway.counter("accept")?;
                let sent = during_a_flood(network, family, &noise, |more| {
                    let to = SocketAddr::new(family.gateway(), PORT);
                    // The only one: it must not need luck.
                    network.send(family.client(), to, &knock("a key in format 2", family, number)?)?;
                    more(1_000)?;
                    wait("the knock", || gateway.counter("accept"), |now| *now == accepted + 1).map(drop)
                })?;
                println!("row: {family:?}: {sent} forgeries, and the knock was accepted");
            }
        }
        let limited = gateway.status()?["limited"].as_u64();
        ensure!(limited > Some(0), "the flood did not exceed the limit");
        Ok(())
    })
});

net_test!(forgeries_from_its_own_address_do_not_silence_a_classic_knock, |network| {
    each_back_end(network, |gateway| {
        gateway.configure(USERS)?;
        ensure!(gateway.reload()?);
        for family in Family::BOTH {
            let to = SocketAddr::new(family.gateway(), PORT);
            let forged = payload("no key", TAG, now()?, 1)?;
            // Four times as many as the address may always send.
            burst(network, family.client(), to, &forged, 80)?;
            let nonce = if family == Family::V4 { 2 } else { 3 };
            gateway.expect("accept", family, &payload(KEY, TAG, now()?, nonce)?)?;
            let known = || Ok(number(&gateway.status()?["counters"], "digest"));
            let expected = if family == Family::V4 { 80 } else { 160 };
            wait("the forgeries", known, |count| *count == expected)?;
        }
        Ok(())
    })
});

net_test!(sixty_users_behind_one_address_knock_at_once, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let mut text = String::from("\n[service.ssh]\nport = 22\nseconds = 600\n");
    for user in 0..60 {
        let format = if user % 2 == 0 { "classic" } else { "2" };
        let user =
            format!("[user.u{user}]\nformat = '{format}'\ntag = 'SSHK'\nkey = 'a key of user {user}'\n");
        text.push_str(&user);
        text += "services = ['ssh']\n";
    }
    gateway.configure(&text)?;
    gateway.start()?;
    let (family, time) = (Family::V4, now()?);
    let to = SocketAddr::new(family.gateway(), PORT);
    for user in 0..60 {
        let key = format!("a key of user {user}");
        let knock = if user % 2 == 0 { payload(&key, TAG, time, user)? } else { knock(&key, family, user)? };
        network.send(family.client(), to, &knock)?;
    }
    wait("sixty knocks", || gateway.counter("accept"), |accepted| *accepted == 60)?;
    ensure!(gateway.status()?["limited"] == 0, "{}", gateway.status()?);
    Ok(())
});

fn number(object: &Value, name: &str) -> u64 {
    object[name].as_u64().unwrap_or_default()
}

net_test!(every_datagram_is_counted_also_those_beyond_the_rate_limit, |network| {
    each_back_end(network, |gateway| {
        gateway.configure(&format!("rate = 1\n{USERS}"))?;
        ensure!(gateway.reload()?);
        let forged = payload("no key", TAG, now()?, 1)?;
        let mut sent = 0;
        let mut last = 0;
        for family in Family::BOTH {
            burst(network, family.client(), SocketAddr::new(family.gateway(), PORT), &forged, 2_000)?;
            sent += 2_000;
            let counts = || {
                let status = gateway.status()?;
                Ok((number(&status["counters"], "digest"), number(&status, "limited")))
            };
            let (_, limited) = wait("the forgeries", counts, |(seen, limited)| seen + limited == sent)?;
            ensure!(limited > last, "{limited} of {sent} were dropped");
            // The rules are made anew, and the number stays.
            ensure!(gateway.reload()?);
            ensure!(counts()?.1 == limited, "{:?}", counts()?);
            last = limited;
        }
        let text = gateway.run(&["status"])?;
        ensure!(text.contains(&format!("Dropped beyond the rate limit: {last}\n")), "{text}");
        let metrics = gateway.run(&["metrics"])?;
        ensure!(metrics.contains(&format!("pkdd_limited_total {last}\n")), "{metrics}");
        Ok(())
    })
});

net_test!(a_kernel_that_only_has_iptables_counts_what_it_drops, |network| {
    let gateway = Gateway::new(network, "iptables")?;
    gateway.configure(&format!("rate = 1\n{USERS}"))?;
    let (config, list) = (source::read(&gateway.path("pkdd.toml"))?, gateway.path("services"));
    let mut log = Nflog::open(config.gate.group)?;
    let mut backend = PktablesBackend::open(Backend::Iptables)?.without_nftables();
    let words = |word: &[u8; 4]| [(*b"SSHK", None), (*word, None)].into();
    backend.set_words(&words(b"ELSE"))?;
    backend.install(&config, &list)?;
    let forged = payload("no key", TAG, now()?, 1)?;
    let (mut sent, mut passed) = (0, 0);
    for family in Family::BOTH {
        burst(network, family.client(), SocketAddr::new(family.gateway(), PORT), &forged, 1_000)?;
        sent += 1_000;
        let counts = || {
            while log.receive(|_| passed += 1)? != Received::Nothing {}
            Ok((passed, backend.limited()?))
        };
        let (_, limited) = wait("the forgeries", counts, |(passed, limited)| passed + limited == sent)?;
        ensure!(limited > 0, "nothing was dropped");
        // The rules are made anew for other words.
        backend.set_words(&words(if family == Family::V4 { b"MORE" } else { b"LAST" }))?;
        ensure!(backend.limited()? == limited, "{limited} became {}", backend.limited()?);
    }
    backend.clear(&list)?;
    let left = shell("iptables-save; ip6tables-save")?;
    ensure!(!left.contains("pkdd"), "{left}");
    Ok(())
});

net_test!(a_reload_of_firewall4_loses_no_count, |_| {
    let load = |packets: u64| {
        let rule = format!("limit rate over 5/second counter packets {packets} bytes 0 drop");
        shell(&format!(
            "nft 'table inet fw4; delete table inet fw4; table inet fw4 {{ chain pkd.beyond {{ {rule}; counter; }}; }}'"
        ))
    };
    let mut firewall = Firewall4::open()?;
    // What the counter shows, and what this process has seen of it.
    for (packets, expected) in [(5, 0), (9, 4), (3, 7), (3, 7)] {
        load(packets)?;
        ensure!(firewall.limited()? == expected, "{packets}: {}", firewall.limited()?);
    }
    shell("nft delete table inet fw4")?;
    ensure!(firewall.limited()? == 7);
    load(2)?;
    ensure!(firewall.limited()? == 9);
    Ok(())
});

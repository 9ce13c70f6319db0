//! Knocks of format 2: bound to addresses, closing, across restarts and clock steps, and noise that wakes nobody.

use std::{
    net::{IpAddr, SocketAddr},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pkd_core::{
    Key, LENGTH, Port, Tag, UnixMillis,
    format2::{Addresses, Bindings, Keys, Knock, KnockParams, Request},
};
use pkd_netns::{
    network::{Family, net_test, ssh_server},
    process::{shell, wait},
};

use crate::{
    clock::Clock,
    gateway::{Gateway, KEY, PORT, TAG},
    scenarios::each_back_end,
};

const USERS: &str = "
[service.ssh]
port = 22
seconds = 600
[user.me]
tag = 'SSHK'
key_file = 'me.key'
services = ['ssh']
";

/// Milliseconds since 1970.
pub(crate) fn now() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// What a knock is bound to and asks for.
#[derive(Clone, Copy)]
struct Kind {
    bindings: Bindings,
    request: Request,
}

const OPEN: Kind = Kind { bindings: Bindings::NONE, request: Request::Open };
const BOUND: Kind = Kind { bindings: Bindings::SOURCE, request: Request::Open };
const CLOSE: Kind = Kind { bindings: Bindings::SOURCE, request: Request::Close };

/// A knock of the client of this family, as it would leave for `destination`.
fn payload_to(destination: IpAddr, family: Family, kind: Kind, time: u64) -> Result<[u8; LENGTH]> {
    let keys = Keys::new(&Key::parse(KEY)?, Tag::parse(TAG)?);
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&time.to_le_bytes());
    let Kind { bindings, request } = kind;
    let params = KnockParams { time: UnixMillis(time), nonce, bindings, request };
    let seal = |addresses: &Addresses<'_>| Knock::seal(&keys, &params, Port(PORT), addresses);
    Addresses::with(family.client(), destination, seal).context("two families")
}

fn payload(family: Family, kind: Kind, time: u64) -> Result<[u8; LENGTH]> {
    payload_to(family.gateway(), family, kind, time)
}

/// A knock of the client that opens.
pub(crate) fn opening(family: Family) -> Result<[u8; LENGTH]> {
    payload(family, OPEN, now()?)
}

/// A knock of the client that closes.
pub(crate) fn closing(family: Family) -> Result<[u8; LENGTH]> {
    payload(family, CLOSE, now()?)
}

fn send(gateway: &Gateway<'_>, from: IpAddr, family: Family, payload: &[u8]) -> Result<()> {
    gateway.network.send(from, SocketAddr::new(family.gateway(), PORT), payload)
}

/// Sends a payload from the client's other address, and waits until it is counted.
fn expect_from_elsewhere(gateway: &Gateway<'_>, verdict: &str, family: Family, payload: &[u8]) -> Result<()> {
    let before = gateway.counter(verdict)?;
    send(gateway, family.other(), family, payload)?;
    wait(verdict, || gateway.status(), |status| status["counters"][verdict] == before + 1).map(drop)
}

fn with_users(gateway: &Gateway<'_>, text: &str) -> Result<()> {
    gateway.configure(text)?;
    ensure!(gateway.reload()?);
    Ok(())
}

net_test!(a_captured_knock_opens_nothing_elsewhere, |network| {
    each_back_end(network, |gateway| {
        with_users(gateway, USERS)?;
        for family in Family::BOTH {
            let time = now()?;
            gateway.is_closed(family)?;
            // Whoever sees it on the way and is faster.
            let bound = payload(family, BOUND, time)?;
            expect_from_elsewhere(gateway, "digest", family, &bound)?;
            // Made for another gateway with the same key.
            let both = Kind { bindings: Bindings::SOURCE | Bindings::DESTINATION, ..OPEN };
            let elsewhere = payload_to(family.other(), family, both, time + 1)?;
            gateway.expect("digest", family, &elsewhere)?;
            let mut forged = payload(family, OPEN, time + 2)?;
            forged[30] ^= 1;
            gateway.expect("filter", family, &forged)?;
            gateway.is_closed(family)?;
            gateway.expect("accept", family, &bound)?;
            gateway.is_open(family)?;
            gateway.expect("replay", family, &bound)?;
            expect_from_elsewhere(gateway, "replay", family, &bound)?;
        }
        Ok(())
    })
});

net_test!(a_user_who_must_bind_opens_nothing_without, |network| {
    each_back_end(network, |gateway| {
        with_users(gateway, &format!("{USERS}require = ['source']\n"))?;
        for family in Family::BOTH {
            gateway.expect("request", family, &payload(family, OPEN, now()?)?)?;
            gateway.is_closed(family)?;
            gateway.expect("accept", family, &payload(family, BOUND, now()?)?)?;
            gateway.is_open(family)?;
        }
        Ok(())
    })
});

net_test!(a_close_ends_the_grant_for_good, |network| {
    each_back_end(network, |gateway| {
        with_users(gateway, USERS)?;
        for family in Family::BOTH {
            let opening = payload(family, BOUND, now()?)?;
            gateway.expect("accept", family, &opening)?;
            gateway.is_open(family)?;
            let closing = payload(family, CLOSE, now()?)?;
            expect_from_elsewhere(gateway, "digest", family, &closing)?;
            gateway.is_open(family)?;
            gateway.expect("close", family, &closing)?;
            gateway.is_closed(family)?;
            gateway.expect("replay", family, &opening)?;
            gateway.expect("replay", family, &closing)?;
            ensure!(gateway.status()?["grants"] == serde_json::json!([]));
        }
        let log = gateway.lines().concat();
        ensure!(log.contains("closed: user me from 192.0.2.2 closed ssh"), "{log}");
        // Neither a repair of the rules nor a kill brings it back.
        gateway.stop(Signal::SIGKILL)?;
        shell("nft flush ruleset")?;
        gateway.start()?;
        for family in Family::BOTH {
            gateway.is_closed(family)?;
            gateway.expect("accept", family, &payload(family, OPEN, now()?)?)?;
            gateway.is_open(family)?;
        }
        Ok(())
    })
});

net_test!(nothing_is_accepted_twice_across_a_kill_and_a_reboot, |network| {
    each_back_end(network, |gateway| {
        with_users(gateway, USERS)?;
        let old: Vec<_> = Family::BOTH
            .into_iter()
            .map(|family| {
                let knock = payload(family, OPEN, now()?)?;
                gateway.expect("accept", family, &knock)?;
                Ok((family, knock))
            })
            .collect::<Result<_>>()?;
        gateway.stop(Signal::SIGKILL)?;
        gateway.start()?;
        for (family, knock) in &old {
            gateway.expect("replay", *family, knock)?;
        }
        ensure!(gateway.stop(Signal::SIGTERM)?);
        // A reboot empties /run.
        std::fs::remove_dir_all(gateway.path("run"))?;
        gateway.start()?;
        for (family, knock) in &old {
            gateway.expect("replay", *family, knock)?;
        }
        gateway.expect("accept", Family::V4, &payload(Family::V4, OPEN, now()?)?)
    })
});

net_test!(noise_does_not_reach_the_daemon, |network| {
    each_back_end(network, |gateway| {
        with_users(gateway, USERS)?;
        let family = Family::V4;
        let counted = |gateway: &Gateway<'_>| -> Result<u64> {
            let counters = gateway.status()?["counters"].clone();
            Ok(counters
                .as_object()
                .context("no counters")?
                .values()
                .filter_map(serde_json::Value::as_u64)
                .sum())
        };
        for number in 0..100_u32 {
            let mut noise = [0x5a; LENGTH];
            noise[..4].copy_from_slice(&number.to_be_bytes());
            send(gateway, family.client(), family, &noise)?;
        }
        // Also not a knock of another time, nor one with the tag of a classic user who is not there.
        send(gateway, family.client(), family, &payload(family, OPEN, now()? - 1_000_000)?)?;
        let classic = crate::gateway::payload(KEY, TAG, crate::gateway::now()?, 1)?;
        send(gateway, family.client(), family, &classic)?;
        // What was sent before has been handled when this is counted.
        gateway.expect("accept", family, &payload(family, OPEN, now()?)?)?;
        ensure!(counted(gateway)? == 1, "{:?}", gateway.status()?);
        Ok(())
    })
});

net_test!(ten_thousand_users_knock_at_one_gateway, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let mut text = String::from("\n[service.ssh]\nport = 22\nseconds = 600\n");
    for number in 0..10_000 {
        let user = format!(
            "[user.u{number}]\ntag = 'SSHK'\nkey = 'a key of its own of user {number}'\nservices = ['ssh']\n"
        );
        text.push_str(&user);
    }
    gateway.configure(&text)?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    let family = Family::V4;
    let knock = |user: u32| {
        let keys = Keys::new(&Key::parse(&format!("a key of its own of user {user}"))?, Tag::parse(TAG)?);
        let params = KnockParams {
            time: UnixMillis(now()?),
            nonce: [7; 12],
            bindings: Bindings::NONE,
            request: Request::Open,
        };
        let seal = |addresses: &Addresses<'_>| Knock::seal(&keys, &params, Port(PORT), addresses);
        Addresses::with(family.client(), family.gateway(), seal).context("two families")
    };
    gateway.is_closed(family)?;
    // The log says it, because a status reads the whole configuration first.
    let accepted = |user: u32| {
        send(&gateway, family.client(), family, &knock(user)?)?;
        gateway.wait_for_line(&format!("accepted: user u{user} from 192.0.2.2 opened ssh"))
    };
    [0, 9_999, 5_000].into_iter().try_for_each(accepted)?;
    gateway.is_open(family)?;
    ensure!(gateway.reload()?);
    accepted(1)?;
    let troubles = gateway.lines().into_iter().filter(|line| line.contains("cannot"));
    ensure!(troubles.count() == 0, "{:?}", gateway.lines());
    Ok(())
});

net_test!(after_a_step_of_the_clock_knocks_of_the_new_time_are_accepted, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.clock = Some(Clock::new(&gateway.path("clock"))?);
    gateway.configure(USERS)?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    let family = Family::V4;
    gateway.expect("accept", family, &payload(family, OPEN, now()?)?)?;
    for ahead in [3_600, 7_200] {
        gateway.clock.as_ref().context("no clock")?.set(ahead)?;
        let time = || Ok::<_, anyhow::Error>(now()? + u64::try_from(ahead)? * 1_000);
        // The kernel drops knocks of the new time until pkdd has seen the step.
        let accepted = gateway.counter("accept")?;
        let try_again = || {
            send(&gateway, family.client(), family, &payload(family, OPEN, time()?)?)?;
            gateway.counter("accept")
        };
        wait("a knock of the new time", try_again, |count| *count > accepted)?;
        // A knock of the old time is not.
        let before = gateway.counter("accept")?;
        send(&gateway, family.client(), family, &payload(family, OPEN, now()?)?)?;
        gateway.expect("accept", family, &payload(family, OPEN, time()?)?)?;
        ensure!(gateway.counter("accept")? == before + 1);
    }
    Ok(())
});

net_test!(a_key_moves_from_one_format_to_the_other, |network| {
    each_back_end(network, |gateway| {
        let both = format!(
            "{USERS}[user.old]\nformat = 'classic'\ntag = 'SSHK'\nkey_file = 'me.key'\nservices = ['ssh']\n"
        );
        with_users(gateway, &both)?;
        let family = Family::V4;
        let classic = crate::gateway::payload(KEY, TAG, crate::gateway::now()?, 1)?;
        gateway.expect("accept", family, &classic)?;
        gateway.expect("accept", family, &payload(family, OPEN, now()?)?)?;
        with_users(gateway, USERS)?;
        gateway.is_open(family)?;
        gateway.expect("close", family, &payload(family, CLOSE, now()?)?)?;
        gateway.is_closed(family)
    })
});

//! Knocks of format 2: opened and closed, captured and sent from elsewhere, across steps of the clock.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use pkd_core::{
    Key, Port, Tag, UnixMillis,
    format2::{Addresses, Bindings, Keys, Knock, KnockParams, Request},
};
use pkd_tests::Report;

use crate::{
    gateway::{self, Gateway},
    namespace::{self, STATUS},
    network::{self, Family, coarse_millis, now, set_clock, wait},
    packet::{self, KEY, PORT, TAG, knock},
    status::Status,
};

const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn checks(report: &mut Report, gateway: &Gateway<'_>) {
    type Check = fn(&Gateway<'_>) -> Result<String>;
    let all: [(&str, Check); 10] = [
        ("opens once, and a request to close ends what it opened", opens_and_closes),
        ("a knock bound to its source is refused from another address", another_source),
        ("a knock bound to its destination is refused at another gateway", another_gateway),
        ("a rule leaves a knock with the other request to the other rule, whichever is first", either_order),
        ("a rule that requires a binding refuses knocks without it, and does not record them", requires),
        ("rules of one key with different windows both see their knocks", two_windows),
        ("neither format accepts the other's knocks, and they share no cache", formats_are_apart),
        ("floors are restored for the format that they name, all or none", floors),
        ("when the clock is set, hints follow by themselves", hints_follow),
        ("a namespace goes with its rules, and the module after it", goes),
    ];
    for (name, check) in all {
        report.check(&gateway.name(&format!("format 2: {name}")), || check(gateway));
    }
}

/// How the knocks of these checks differ.
#[derive(Clone, Copy)]
struct Wanted {
    bindings: Bindings,
    request: Request,
    time: u64,
}

impl Wanted {
    fn now() -> Result<Self> {
        Ok(Self { bindings: Bindings::NONE, request: Request::Open, time: coarse_millis()? })
    }

    fn bound(bindings: Bindings) -> Result<Self> {
        Ok(Self { bindings, ..Self::now()? })
    }

    fn close() -> Result<Self> {
        Ok(Self { request: Request::Close, ..Self::now()? })
    }

    /// From the client to the router.
    fn seal(self, gateway: &Gateway<'_>) -> Result<[u8; 56]> {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static MADE: AtomicUsize = AtomicUsize::new(1);
        let mut nonce = [2; 12];
        nonce[..size_of::<usize>()].copy_from_slice(&MADE.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let Self { bindings, request, time } = self;
        let params = KnockParams { time: UnixMillis(time), nonce, bindings, request };
        let keys = Keys::new(&Key::parse(KEY)?, Tag::parse(TAG)?);
        let seal = |addresses: &Addresses<'_>| Knock::seal(&keys, &params, Port(PORT), addresses);
        Ok(match (gateway.family.client(), gateway.family.router()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                seal(&Addresses::V4 { source: &source.octets(), destination: &destination.octets() })
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                seal(&Addresses::V6 { source: &source.octets(), destination: &destination.octets() })
            }
            (source, destination) => anyhow::bail!("two families: {source}, {destination}"),
        })
    }
}

fn rule(request: &str) -> String {
    format!("-p udp -m pkd --key {KEY} --tag {TAG} --format 2 --request {request}")
}

/// A port that an open knock opens for a minute and a close knock closes. Nothing was accepted before.
fn close(gateway: &Gateway<'_>) -> Result<()> {
    gateway::unload()?;
    gateway::load()?;
    gateway::restore("floor2-ms 0")?;
    for rule in [
        format!("{} -m recent --name format2 --set -j DROP", rule("open")),
        format!("{} -m recent --name format2 --remove -j DROP", rule("close")),
        "-p tcp --dport 22 -m recent --name format2 --rcheck --seconds 60 -j ACCEPT".to_owned(),
        "-p tcp --dport 22 -j REJECT --reject-with tcp-reset".to_owned(),
    ] {
        gateway.firewall.run(&format!("-A INPUT {rule}"))?;
    }
    Ok(())
}

/// Only these rules, without a target. Nothing was accepted before.
fn only(gateway: &Gateway<'_>, rules: &[String]) -> Result<()> {
    gateway::unload()?;
    gateway::load()?;
    gateway::restore("floor 0\nfloor2-ms 0")?;
    rules.iter().try_for_each(|rule| gateway.firewall.run(&format!("-A INPUT {rule}")).map(drop))
}

/// Sends a payload, and expects that these verdicts are counted, in alphabetical order.
fn expect_at(gateway: &Gateway<'_>, from: IpAddr, to: IpAddr, payload: &[u8], verdicts: &str) -> Result<()> {
    let before = Status::read()?;
    gateway.network.at_client(|| packet::send(from, to, PORT, payload))?;
    let count = verdicts.split(' ').count() as u64;
    let read = || Ok(Status::read()?.moved_since(&before));
    let moved = wait(LIMIT, read, |moved| moved.iter().map(|(_, by)| by).sum::<u64>() >= count)?;
    let words: Vec<_> = moved
        .iter()
        .flat_map(|(name, by)| std::iter::repeat_n(*name, usize::try_from(*by).unwrap_or(0)))
        .collect();
    ensure!(words.join(" ") == verdicts, "{words:?}, not {verdicts}");
    Ok(())
}

fn expect(gateway: &Gateway<'_>, payload: &[u8], verdicts: &str) -> Result<()> {
    expect_at(gateway, gateway.family.client(), gateway.family.router(), payload, verdicts)
}

fn opens_and_closes(gateway: &Gateway<'_>) -> Result<String> {
    close(gateway)?;
    gateway.ssh_is_refused()?;
    let open = Wanted::now()?.seal(gateway)?;
    expect(gateway, &open, "Accept")?;
    let banner = gateway.ssh_answers()?;
    expect(gateway, &open, "Replay Replay")?;
    let close = Wanted::close()?.seal(gateway)?;
    expect(gateway, &close, "Close Request")?;
    gateway.ssh_is_refused()?;
    // What was captured works neither before nor after another open knock.
    expect(gateway, &open, "Replay Replay")?;
    gateway.ssh_is_refused()?;
    expect(gateway, &Wanted::now()?.seal(gateway)?, "Accept")?;
    expect(gateway, &close, "Replay Replay")?;
    gateway.ssh_answers()?;
    let status = Status::read()?;
    ensure!(status.caches.is_empty() && status.cache2()?.knocks == "3/240", "{status:?}");
    Ok(banner)
}

fn another_source(gateway: &Gateway<'_>) -> Result<String> {
    close(gateway)?;
    let (thief, router) = (gateway.family.other(), gateway.family.router());
    let captured = Wanted::bound(Bindings::SOURCE)?.seal(gateway)?;
    let is_refused = || {
        let banner = gateway.network.ssh(gateway.family, thief)?;
        ensure!(banner.is_none(), "port 22 says {banner:?} to {thief}");
        Ok::<(), anyhow::Error>(())
    };
    expect_at(gateway, thief, router, &captured, "Digest Digest")?;
    is_refused()?;
    expect(gateway, &captured, "Accept")?;
    gateway.ssh_answers()?;
    expect_at(gateway, thief, router, &captured, "Replay Replay")?;
    is_refused()?;
    // Without a binding the first address that it comes from is let in.
    let unbound = Wanted::now()?.seal(gateway)?;
    expect_at(gateway, thief, router, &unbound, "Accept")?;
    Ok(thief.to_string())
}

/// The router has a second address, which stands for another gateway with the same key.
fn another_gateway(gateway: &Gateway<'_>) -> Result<String> {
    let (address, length): (IpAddr, _) = match gateway.family {
        Family::V4 => (Ipv4Addr::new(192, 0, 2, 3).into(), 24),
        Family::V6 => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 3).into(), 64),
    };
    let card = gateway.network.card();
    network::shell(&format!("ip addr add {address}/{length} dev {card}"))?;
    let refused = (|| {
        close(gateway)?;
        let captured = Wanted::bound(Bindings::DESTINATION)?.seal(gateway)?;
        expect_at(gateway, gateway.family.client(), address, &captured, "Digest Digest")?;
        gateway.ssh_is_refused()?;
        expect(gateway, &captured, "Accept")?;
        expect_at(gateway, gateway.family.client(), address, &captured, "Replay Replay")
    })();
    network::shell(&format!("ip addr del {address}/{length} dev {card}"))?;
    refused?;
    Ok(address.to_string())
}

fn either_order(gateway: &Gateway<'_>) -> Result<String> {
    for requests in [["open", "close"], ["close", "open"]] {
        only(gateway, &requests.map(rule))?;
        let open = Wanted::now()?.seal(gateway)?;
        let close = Wanted::close()?.seal(gateway)?;
        // Without a target, the second rule sees what the first has accepted.
        let (of_open, of_close) = if requests[0] == "open" {
            ("Accept Replay", "Close Request")
        } else {
            ("Accept Request", "Close Replay")
        };
        expect(gateway, &open, of_open).with_context(|| format!("open, {requests:?}"))?;
        expect(gateway, &close, of_close).with_context(|| format!("close, {requests:?}"))?;
        expect(gateway, &open, "Replay Replay")?;
        expect(gateway, &close, "Replay Replay")?;
        let cache = Status::read()?.cache2()?.clone();
        ensure!(cache.rules == 2 && cache.knocks == "2/240", "{cache:?}");
    }
    Ok("2 of each".to_owned())
}

fn requires(gateway: &Gateway<'_>) -> Result<String> {
    only(gateway, &[format!("{} --require source", rule("open"))])?;
    expect(gateway, &Wanted::now()?.seal(gateway)?, "Request")?;
    expect(gateway, &Wanted::bound(Bindings::DESTINATION)?.seal(gateway)?, "Request")?;
    ensure!(Status::read()?.cache2()?.knocks == "0/240", "{:?}", Status::read()?);
    expect(gateway, &Wanted::bound(Bindings::SOURCE)?.seal(gateway)?, "Accept")?;
    Ok("--require source".to_owned())
}

fn two_windows(gateway: &Gateway<'_>) -> Result<String> {
    for [first, second] in [[10, 1_000], [1_000, 10]] {
        let window = |seconds| format!("{} --window {seconds} -j DROP", rule("open"));
        only(gateway, &[window(first), window(second)])?;
        let knock = Wanted { time: coarse_millis()? - 300_000, ..Wanted::now()? };
        let verdicts = if first == 10 { "Accept Tag" } else { "Accept" };
        expect(gateway, &knock.seal(gateway)?, verdicts).with_context(|| format!("{first} s first"))?;
        expect(gateway, &Wanted::now()?.seal(gateway)?, "Accept")?;
    }
    Ok("10 s and 1000 s".to_owned())
}

fn formats_are_apart(gateway: &Gateway<'_>) -> Result<String> {
    only(gateway, &[format!("-p udp -m pkd --key {KEY} --tag {TAG}"), rule("open")])?;
    expect(gateway, &knock(now()?)?, "Accept Tag")?;
    expect(gateway, &Wanted::now()?.seal(gateway)?, "Accept Tag")?;
    let status = Status::read()?;
    let (classic, format2) = (status.cache()?, status.cache2()?);
    ensure!(classic.knocks == "1/240" && format2.knocks == "1/240", "{status:?}");
    ensure!(classic.rules == 1 && format2.rules == 1, "{status:?}");
    // One counts seconds, the other milliseconds.
    ensure!(format2.newest / 1_000 <= now()? && format2.newest / 1_000 + 60 > classic.newest, "{status:?}");
    ensure!(status.floor_to_save == Some(classic.newest), "{status:?}");
    ensure!(status.format2_floor == Some(format2.newest), "{status:?}");
    Ok(format!("{} s, {} ms", classic.newest, format2.newest))
}

fn floors(gateway: &Gateway<'_>) -> Result<String> {
    only(gateway, &[format!("-p udp -m pkd --key {KEY} --tag {TAG}"), rule("open")])?;
    // What is written, and both floors afterwards.
    for (written, classic, format2) in [
        ("floor 17", 17, 0),
        ("floor2-ms 18000", 17, 18_000),
        ("floor2-ms 19\nfloor 20", 20, 19),
        ("floor 21\nfloor2-ms 22", 21, 22),
    ] {
        gateway::restore(written)?;
        let status = Status::read()?;
        let floors = (status.cache()?.floor, status.cache2()?.floor);
        ensure!(floors == (classic, format2), "{floors:?} after {written:?}");
    }
    for wrong in [
        "floor2-ms",
        "floor2-ms ",
        "floor2-ms x",
        "floor2 5",
        "floor2-ms -1",
        "floor 1\nnonsense",
        "floor 1\n\nfloor2-ms 2",
        "floor2-ms 18446744073709551616",
    ] {
        ensure!(gateway::restore(wrong).is_err(), "{wrong:?} was accepted");
    }
    let status = Status::read()?;
    ensure!((status.cache()?.floor, status.cache2()?.floor) == (21, 22), "{status:?}");
    // A knock at the floor is a replay, the next millisecond's is not.
    let time = coarse_millis()?;
    gateway::restore(&format!("floor2-ms {time}"))?;
    expect(gateway, &Wanted { time, ..Wanted::now()? }.seal(gateway)?, "Replay Tag")?;
    expect(gateway, &Wanted { time: time + 1, ..Wanted::now()? }.seal(gateway)?, "Accept Tag")?;
    Ok("4 right, 8 wrong".to_owned())
}

/// The status file is not read here: that would bring the hints up to date.
fn hints_follow(gateway: &Gateway<'_>) -> Result<String> {
    /// Several slots.
    const STEP: u64 = 1_000;
    only(gateway, &[format!("{} -j DROP", rule("open"))])?;
    let start = now()?;
    let accepted = || {
        let payload = Wanted::now()?.seal(gateway)?;
        let (from, to) = (gateway.family.client(), gateway.family.router());
        gateway.network.at_client(|| packet::send(from, to, PORT, &payload))?;
        let list = gateway.firewall.run("-L INPUT -v -x -n")?;
        let line = list.lines().find(|line| line.contains("pkd")).context("no rule")?;
        Ok(line.split_whitespace().next().unwrap_or_default().parse::<u64>()?)
    };
    let mut before = 0;
    let mut forwards_and_back = || {
        for clock in [start, start + STEP, start] {
            set_clock(clock)?;
            let count =
                wait(LIMIT, accepted, |count| *count > before).with_context(|| format!("at {clock}"))?;
            before = count;
        }
        Ok::<(), anyhow::Error>(())
    };
    let followed = forwards_and_back();
    // What the clock went on since then is lost; no check needs it.
    set_clock(start)?;
    followed?;
    Ok(format!("{STEP} s forwards and back"))
}

fn goes(gateway: &Gateway<'_>) -> Result<String> {
    for _ in 0..5 {
        only(gateway, &[])?;
        namespace::bare(|| {
            gateway.firewall.run(&format!("-A INPUT {}", rule("open")))?;
            let own = Status::parse(&std::fs::read_to_string(STATUS)?)?;
            ensure!(own.cache2()?.rules == 1, "{own:?}");
            // The rule stays, and goes with the namespace.
            Ok(())
        })?;
        wait(LIMIT, gateway::users, |users| *users == 0)?;
        gateway.firewall.run(&format!("-A INPUT {}", rule("close")))?;
        gateway::unload_refused()?;
        gateway.firewall.flush()?;
        network::shell("rmmod xt_pkd && modprobe xt_pkd")?;
    }
    Ok("5 times".to_owned())
}

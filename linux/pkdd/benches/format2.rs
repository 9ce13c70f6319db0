//! What floods do to honest knocks of format 2, and whether they wake pkdd: noise from very many addresses, and forgeries
//! that begin as a captured knock does.
//!
//! Prints `row: WHAT | MEASURED | BESIDE`. Everything happens in network namespaces, bounded in count and time.

#[path = "../tests/net/clock.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod clock;
#[path = "../tests/net/gateway.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod gateway;
mod rounds;

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use nix::sys::signal::Signal;
use pkd_core::{
    Key, LENGTH, Port, Reason, Tag, UnixMillis, UnixSeconds, Verdict,
    format2::{Addresses, Bindings, Keys, Knock, KnockParams, Request},
};
use pkd_netns::{
    network::{self, Family, Network},
    process::{LIMIT, shell},
};
use pkd_packet::Datagram;
use pkdd::{
    caches::Caches,
    config::Config,
    engine::{Engine, FormatCaches},
    journal::{Entry, Journal},
};
use socket2::{Domain, Protocol, Socket, Type};

use gateway::{Gateway, KEY, PORT, TAG};
use rounds::{addresses, row, until_open};

/// `cargo test --bench` builds without optimization: a few rounds show that all of it runs, and no figure means anything.
const QUICK: bool = cfg!(debug_assertions);

/// Honest knocks during a flood, and how far apart they are.
const HONEST: u32 = if QUICK { 5 } else { 300 };
const APART: Duration = Duration::from_micros(33_333);
/// In time is within this.
const SOON: Duration = Duration::from_millis(500);
/// Datagrams a second of a flood.
const RATE: u64 = 200_000;

/// The number of the raw protocol, whose sender makes the IP header.
const RAW: i32 = 255;

const USERS: &str = "
[service.ssh]
port = 22
seconds = 600
[user.me]
tag = 'SSHK'
key_file = 'me.key'
services = ['ssh']
";

/// What the flood's datagrams begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flood {
    /// Random bytes, each from another of 65,536 addresses.
    Noise,
    /// What a captured knock begins with, from one address.
    Captured,
}

fn main() -> Result<()> {
    network::inside("format2::main", |network| {
        let server = TcpListener::bind(Family::V4.ssh())?;
        thread::spawn(move || for _ in server.incoming() {});
        println!("1 passed");
        for flood in [Flood::Noise, Flood::Captured] {
            measure(network, flood)?;
        }
        let many = if QUICK { 100 } else { 10_000 };
        [10, many].into_iter().try_for_each(users)
    })
}

/// What a datagram costs pkdd itself, with so many users: a forgery that begins as a captured knock does.
fn users(count: u32) -> Result<()> {
    let mut text = String::from("[service.ssh]\nport = 22\n");
    for number in 0..count {
        writeln!(text, "[user.u{number}]\ntag = 'SSHK'\nkey = '{KEY} {number}'\nservices = ['ssh']")?;
    }
    let config = Config::parse(&text, Path::new("/nonexistent"))?;
    let now = UnixMillis(now()?);
    let seconds = UnixSeconds(now.0 / 1_000);
    let caches = FormatCaches {
        classic: Caches::open(
            Journal::null()?,
            &[Entry::Remembered(UnixSeconds(0))],
            seconds,
            config.widest(),
        )?,
        format2: Caches::open(Journal::null()?, &[Entry::Remembered(UnixMillis(0))], now, config.widest())?,
    };
    let mut engine = Engine::new(config, caches, now)?;
    let mut packet = packet(&knock_with(&format!("{KEY} {}", count / 2), 1)?)?;
    // The filter.
    packet[52] ^= 1;
    let datagram = Datagram::from_ip(&packet).context("no datagram")?;
    let rounds = if QUICK { 100 } else { 200_000 };
    let begin = Instant::now();
    for _ in 0..rounds {
        let verdict = engine.handle(now, datagram.source.into(), &datagram).verdict();
        ensure!(verdict == Verdict::Ignore(Reason::Filter), "{verdict}");
    }
    let each = begin.elapsed().as_nanos() / rounds;
    println!("row: pkdd's own time for a forgery with a captured hint, {count} users | {each} ns | ");
    Ok(())
}

fn now() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

fn knock(number: u32) -> Result<[u8; LENGTH]> {
    knock_with(KEY, number)
}

fn knock_with(key: &str, number: u32) -> Result<[u8; LENGTH]> {
    let keys = Keys::new(&Key::parse(key)?, Tag::parse(TAG)?);
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    let params =
        KnockParams { time: UnixMillis(now()?), nonce, bindings: Bindings::NONE, request: Request::Open };
    let nowhere = Addresses::V4 { source: &[0; 4], destination: &[0; 4] };
    Ok(Knock::seal(&keys, &params, Port(PORT), &nowhere))
}

/// How often a process has gone to sleep and was woken.
fn wakes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    Ok(line.context("no count of switches")?.trim().parse()?)
}

/// An IP packet with this payload, for a raw socket; the kernel fills in what depends on the source address.
fn packet(payload: &[u8]) -> Result<Vec<u8>> {
    let IpAddr::V4(to) = Family::V4.gateway() else { anyhow::bail!("no IPv4") };
    let mut bytes = Vec::new();
    PacketBuilder::ipv4([0; 4], to.octets(), 64).udp(1_000, PORT).write(&mut bytes, payload)?;
    // No checksum of UDP.
    bytes[26..28].fill(0);
    Ok(bytes)
}

fn send_flood(flood: Flood, counted: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))?;
    let to = SocketAddr::new(Family::V4.gateway(), 0).into();
    let IpAddr::V4(other) = Family::V4.other() else { anyhow::bail!("no IPv4") };
    let mut packet = packet(&knock(u32::MAX)?)?;
    let begin = Instant::now();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    while !stop.load(Ordering::Relaxed) && begin.elapsed() < 2 * LIMIT {
        let sent = counted.load(Ordering::Relaxed);
        if u128::from(sent) >= begin.elapsed().as_micros() * u128::from(RATE) / 1_000_000 {
            thread::yield_now();
            continue;
        }
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let bytes = random.to_be_bytes();
        let [high, low, ..] = bytes;
        let source = match flood {
            Flood::Noise => Ipv4Addr::new(10, 200, high, low),
            Flood::Captured => other,
        };
        packet[12..16].copy_from_slice(&source.octets());
        if flood == Flood::Noise {
            packet[28..32].copy_from_slice(&bytes[2..6]);
        }
        // The filter of a forgery.
        packet[52..56].copy_from_slice(&bytes[4..]);
        socket.send_to(&packet, &to)?;
        counted.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn measure(network: &Network, flood: Flood) -> Result<()> {
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.configure(USERS)?;
    gateway.start()?;
    shell("echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/gw/rp_filter")?;
    let addresses = addresses(network, HONEST)?;
    let to = SocketAddr::new(Family::V4.gateway(), PORT);
    let (stop, counted) = (AtomicBool::new(false), AtomicU64::new(0));
    let (begin, before) = (Instant::now(), wakes(gateway.pid()?)?);
    let (times, alone) = thread::scope(|scope| {
        let sender = scope.spawn(|| network.at_client(|| send_flood(flood, &counted, &stop)));
        let rounds = || -> Result<_> {
            // First the flood alone: what wakes pkdd then is the flood, and its tick.
            let second = if QUICK { Duration::from_millis(200) } else { Duration::from_secs(2) };
            thread::sleep(second);
            let alone = (wakes(gateway.pid()?)? - before, begin.elapsed());
            let start = Instant::now();
            let times = network.at_client(|| {
                addresses
                    .iter()
                    .zip(0..)
                    .map(|(address, number)| {
                        thread::sleep((start + APART * number).saturating_duration_since(Instant::now()));
                        let socket = UdpSocket::bind((*address, 0))?;
                        let payload = knock(number)?;
                        until_open(*address, || Ok(socket.send_to(&payload, to).map(drop)?))
                    })
                    .collect::<Result<Vec<_>>>()
            })?;
            Ok((times, alone))
        };
        let done = rounds();
        stop.store(true, Ordering::Relaxed);
        sender.join().map_err(|_| anyhow::anyhow!("a panic of the flood"))?.context("the flood")?;
        done
    })?;
    let rate = u128::from(counted.load(Ordering::Relaxed)) * 1_000 / begin.elapsed().as_millis().max(1);
    let what = match flood {
        Flood::Noise => "datagrams of noise from 65,536 addresses",
        Flood::Captured => "forgeries with a captured hint",
    };
    row(&format!("pkdd, format 2, during {rate} {what} a second"), &times);
    let in_time = times.iter().filter(|time| **time <= SOON).count();
    println!("row: of {HONEST} honest knocks granted within half a second | {in_time} | ");
    let (woken, during) = alone;
    let a_second = u128::from(woken) * 1_000 / during.as_millis().max(1);
    println!("row: wakes of pkdd a second during that flood alone | {a_second} | one of them is its tick");
    if flood == Flood::Noise {
        let counters = gateway.status()?["counters"].clone();
        let handled: u64 =
            counters.as_object().context("no counters")?.values().filter_map(serde_json::Value::as_u64).sum();
        println!(
            "row: datagrams that reached pkdd, of {} | {handled} | {HONEST} honest ones",
            counted.load(Ordering::Relaxed)
        );
        ensure!(handled == u64::from(HONEST), "noise has reached pkdd: {counters}");
    }
    gateway.stop(Signal::SIGTERM)?;
    gateway.run(&["clear"]).map(drop)
}

//! As many forgeries as the sender can make, and one honest knock among them.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use pkd_tests::Report;

use crate::{
    gateway::{self, Gateway},
    network::now,
    packet::{self, PORT, knock},
    status::Status,
};

/// Bounds of one flood.
const MOST_PACKETS: usize = 2_000_000;
const MOST_TIME: Duration = Duration::from_mins(3);
/// It goes on at least this long after the port has opened.
const LEAST_PACKETS: usize = 20_000;

pub(crate) fn checks(report: &mut Report, gateway: &Gateway<'_>) {
    for (name, matching) in [("random bytes", false), ("forgeries with the right tag and time", true)] {
        report.check(&gateway.name(&format!("a good knock opens the port during a flood of {name}")), || {
            during(gateway, matching)
        });
    }
}

fn during(gateway: &Gateway<'_>, matching: bool) -> Result<String> {
    gateway::reload()?;
    gateway.close(60)?;
    gateway.ssh_is_refused()?;
    let before = Status::read()?;
    let (sent, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let banner = thread::scope(|scope| {
        let flood = scope.spawn(|| gateway.network.at_client(|| send(gateway, matching, &sent, &done)));
        let opened = open(gateway, &sent);
        done.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| anyhow::anyhow!("the flood panicked"))??;
        opened
    })?;
    let after = Status::read()?;
    let counter = if matching { "Digest" } else { "Tag" };
    let arrived = after.counters[counter] - before.counters[counter];
    ensure!(arrived >= LEAST_PACKETS as u64 / 2, "only {arrived} arrived: {:?}", after.counters);
    Ok(format!("{banner}, {} sent, {arrived} counted as {counter}", sent.load(Ordering::Relaxed)))
}

/// Knocks until the port is open, as people do; a queue that overflows loses honest packets too.
fn open(gateway: &Gateway<'_>, sent: &AtomicUsize) -> Result<String> {
    let end = Instant::now() + MOST_TIME;
    let mut knocks = 0;
    while Instant::now() < end {
        if sent.load(Ordering::Relaxed) < LEAST_PACKETS {
            thread::sleep(Duration::from_millis(10));
            continue;
        }
        let payload = knock(now()?)?;
        let (from, to) = (gateway.family.client(), gateway.family.router());
        gateway.network.at_client(|| packet::send(from, to, PORT, &payload))?;
        knocks += 1;
        if let Ok(Some(banner)) = gateway.ssh() {
            return Ok(format!("{banner} after {knocks}"));
        }
    }
    anyhow::bail!("not open after {knocks} knocks in {} s", MOST_TIME.as_secs())
}

fn send(gateway: &Gateway<'_>, matching: bool, sent: &AtomicUsize, done: &AtomicBool) -> Result<()> {
    let socket = packet::udp(gateway.family.client())?;
    let router = SocketAddr::new(gateway.family.router(), PORT).into();
    // A generator of noise (xorshift64, Marsaglia 2003) that is quicker than the network.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut payload = knock(now()?)?;
    let end = Instant::now() + MOST_TIME;
    for count in 0..MOST_PACKETS {
        if done.load(Ordering::Relaxed) || Instant::now() > end {
            break;
        }
        if matching && count % 1000 == 0 {
            payload = knock(now()?)?;
        }
        let random = if matching { &mut payload[12..] } else { &mut payload[..] };
        for chunk in random.chunks_mut(8) {
            let length = chunk.len();
            chunk.copy_from_slice(&noise().to_le_bytes()[..length]);
        }
        // A full queue is what a flood is about; the next one goes.
        if socket.send_to(&payload, &router).is_ok() {
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

//! Rounds of knocks and connections, and what they took.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use pkd_netns::{
    network::{Family, Network},
    process::{LIMIT, shell},
};

/// Milliseconds: the least, the median, the most.
pub(crate) fn row(name: &str, times: &[Duration]) {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |place: usize| sorted.get(place).copied().unwrap_or_default().as_secs_f64() * 1e3;
    let (least, median, most) = (at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1)));
    println!("row: {name} | {median:.2} ms | the median of {}; {least:.2} to {most:.2} ms", times.len());
}

/// From the moment before the knock is sent until a connection is there. A connection is begun anew as long as it
/// is not let in: a first packet that was dropped would only be sent again after a second.
pub(crate) fn until_open(from: IpAddr, knock: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begin = Instant::now();
    knock()?;
    while !connects(from)? {
        ensure!(begin.elapsed() < LIMIT, "it does not open");
    }
    Ok(begin.elapsed())
}

/// Whether a connection comes about at once. The clock of `poll` is too coarse to wait by.
pub(crate) fn connects(from: IpAddr) -> Result<bool> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.set_nonblocking(true)?;
    // It is under way, or it fails.
    let _under_way = socket.connect(&Family::V4.ssh().into());
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_micros(100) {
        if socket.peer_addr().is_ok() {
            return Ok(true);
        }
        thread::yield_now();
    }
    Ok(false)
}

/// An address of the client for each round, so that each begins closed.
pub(crate) fn addresses(network: &Network, count: u32) -> Result<Vec<IpAddr>> {
    shell("ip addr replace 10.9.0.1/16 dev gw")?;
    (0..count)
        .map(|number| {
            let address =
                IpAddr::from([10, 9, 1 + u8::try_from(number / 200)?, 1 + u8::try_from(number % 200)?]);
            network.at_client(|| shell(&format!("ip addr replace {address}/16 dev cl")))?;
            Ok(address)
        })
        .collect()
}

//! The knock itself: its port, and its payload from clock and random bytes.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use pkd_core::{
    Knock, KnockParams, LENGTH, NONCE_LENGTH, Port, UnixMillis, UnixSeconds,
    format2::{self, Addresses, Bindings},
};

use crate::model::{Bind, Format, Request};

/// First and last random port, as in the original.
const RANDOM_PORTS: (u16, u16) = (1024, 50_000);

/// The destination port: that of the request, or a random one from 1024 to 50000.
///
/// # Errors
/// The system provides no random bytes.
pub(crate) fn destination_port(request: &Request) -> Result<Port> {
    if let Some(port) = request.port {
        return Ok(port);
    }
    let random = getrandom::u64().context("cannot get random bytes")?;
    Ok(random_port(random))
}

/// The bias is negligible: there are 2⁴⁸ times more random numbers than ports.
fn random_port(random: u64) -> Port {
    let (first, last) = RANDOM_PORTS;
    let step = random % u64::from(last - first + 1);
    Port(u16::try_from(step).map_or(last, |step| first + step))
}

/// The addresses that a knock leaves from and goes to, as this computer sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) local: IpAddr,
    pub(crate) destination: IpAddr,
}

impl Path {
    /// What a knock of `request` is bound to on this path. Only format 2 can be bound.
    pub(crate) fn bindings(&self, request: &Request) -> Bindings {
        match request.format {
            Format::Two => request.bind.bindings(self.local, self.destination),
            Format::Classic | Format::Before1_0 => Bindings::NONE,
        }
    }
}

/// Whether the payload depends on the addresses that it is sent between.
pub(crate) fn may_be_bound(request: &Request) -> bool {
    request.format == Format::Two && request.bind != Bind::Only(Bindings::NONE)
}

/// A payload with the current time, corrected for the host's clock, and a new nonce. Only a request that
/// [may be bound](may_be_bound) needs a path.
///
/// # Errors
/// The clock is before 1970, the path is missing or invalid, or the system provides no random bytes.
pub(crate) fn payload(request: &Request, port: Port, path: Option<Path>) -> Result<[u8; LENGTH]> {
    let mut nonce = [0; NONCE_LENGTH];
    getrandom::fill(&mut nonce).context("cannot get random bytes")?;
    let now = since_1970(SystemTime::now())?;
    let time = UnixSeconds(now.as_secs().saturating_add_signed(request.time_offset));
    let params = KnockParams { key: &request.key, tag: request.tag, time, nonce };
    match request.format {
        Format::Classic => Ok(Knock::seal(&params, port)),
        Format::Before1_0 => Ok(Knock::seal_before_1_0(&params)),
        Format::Two => {
            let time = UnixMillis(time.0.saturating_mul(1_000).saturating_add(now.subsec_millis().into()));
            let bindings = path.map_or(Bindings::NONE, |path| path.bindings(request));
            let params = format2::KnockParams { time, nonce, bindings, request: request.action };
            let keys = format2::Keys::new(&request.key, request.tag);
            let seal = |addresses: &Addresses<'_>| format2::Knock::seal(&keys, &params, port, addresses);
            let Some(Path { local, destination }) = path else {
                ensure!(!may_be_bound(request), "no address to bind the knock to");
                return Ok(seal(&Addresses::V4 { source: &[0; 4], destination: &[0; 4] }));
            };
            Addresses::with(local, destination, seal)
                .with_context(|| format!("cannot bind a knock from {local} to {destination}"))
        }
    }
}

/// The time as a gateway reads it.
///
/// # Errors
/// The clock is before 1970.
pub(crate) fn unix_seconds(now: SystemTime) -> Result<UnixSeconds> {
    since_1970(now).map(|since| UnixSeconds(since.as_secs()))
}

fn since_1970(now: SystemTime) -> Result<Duration> {
    now.duration_since(UNIX_EPOCH).map_err(|_| anyhow!("this computer's clock is before 1970; set it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_1970_is_an_error() {
        let rows = [
            (UNIX_EPOCH, Some(0)),
            (UNIX_EPOCH + Duration::from_secs(1_800_000_001), Some(1_800_000_001)),
            (UNIX_EPOCH - Duration::from_nanos(1), None),
            (UNIX_EPOCH - Duration::from_secs(1 << 40), None),
        ];
        for (row, (now, expected)) in rows.into_iter().enumerate() {
            assert_eq!(unix_seconds(now).ok(), expected.map(UnixSeconds), "row {row}");
        }
    }

    #[test]
    fn random_ports_are_those_of_the_original() {
        let rows = [(0, 1024), (1, 1025), (48_976, 50_000), (48_977, 1024), (u64::MAX, 38560)];
        for (row, (random, expected)) in rows.into_iter().enumerate() {
            assert_eq!(random_port(random), Port(expected), "row {row}");
        }
    }
}

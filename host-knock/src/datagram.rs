//! The knock itself: its port, and its payload from clock and random bytes.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use pkd_core::{Knock, KnockParams, LENGTH, NONCE_LENGTH, Port, UnixSeconds};

use crate::model::{Format, Request};

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

/// A payload with the current time, corrected for the host's clock, and a new nonce.
///
/// # Errors
/// The clock is before 1970, or the system provides no random bytes.
pub(crate) fn payload(request: &Request, port: Port) -> Result<[u8; LENGTH]> {
    let mut nonce = [0; NONCE_LENGTH];
    getrandom::fill(&mut nonce).context("cannot get random bytes")?;
    let UnixSeconds(time) = unix_seconds(SystemTime::now())?;
    let time = UnixSeconds(time.saturating_add_signed(request.time_offset));
    let params = KnockParams { key: &request.key, tag: request.tag, time, nonce };
    Ok(match request.format {
        Format::Classic => Knock::seal(&params, port),
        Format::Before1_0 => Knock::seal_before_1_0(&params),
    })
}

/// The time that a knock carries.
///
/// # Errors
/// The clock is before 1970.
pub(crate) fn unix_seconds(now: SystemTime) -> Result<UnixSeconds> {
    let since = now.duration_since(UNIX_EPOCH);
    since
        .map(|since| UnixSeconds(since.as_secs()))
        .map_err(|_| anyhow!("this computer's clock is before 1970; set it"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

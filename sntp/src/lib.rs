//! SNTP requests and replies (RFC 4330, RFC 5905). Sockets and clocks are up to the caller.
//!
//! Replies are not authenticated. A request carries a random cookie instead of the sender's time, so only those who see
//! the request can forge a reply.

#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use core::fmt;

/// Length of a request, and the minimum length of a reply, in bytes.
pub const PACKET_LENGTH: usize = 48;
/// The usual port of time servers.
pub const SERVER_PORT: u16 = 123;

/// Seconds between the start of NTP's era 0 (1900) and the Unix epoch (1970).
const NTP_UNIX_OFFSET: u64 = 2_208_988_800;

mod field {
    use core::ops::Range;

    pub(super) const FLAGS: usize = 0;
    pub(super) const STRATUM: usize = 1;
    /// Of a reply with stratum 0: the kiss code.
    pub(super) const REFERENCE: Range<usize> = 12..16;
    pub(super) const ORIGINATE: Range<usize> = 24..32;
    pub(super) const RECEIVE: Range<usize> = 32..40;
    pub(super) const TRANSMIT: Range<usize> = 40..48;
}

/// Version 4, client mode.
const REQUEST_FLAGS: u8 = 4 << 3 | 3;
/// The mode of a server's reply.
const SERVER_MODE: u8 = 4;
/// The leap indicator of a server whose clock is not synchronised.
const UNSYNCHRONISED: u8 = 3;

/// Makes a request. `cookie` must be random; a reply has to repeat it.
#[must_use]
pub fn request(cookie: [u8; 8]) -> [u8; PACKET_LENGTH] {
    let mut bytes = [0; PACKET_LENGTH];
    if let Some(flags) = bytes.get_mut(field::FLAGS) {
        *flags = REQUEST_FLAGS;
    }
    if let Some(transmit) = bytes.get_mut(field::TRANSMIT) {
        transmit.copy_from_slice(&cookie);
    }
    bytes
}

/// A point in time, to 2⁻³² seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    seconds: u64,
    fraction: u32,
}

impl Timestamp {
    /// Reads an NTP timestamp. 0 means "no time".
    fn read(field: &[u8]) -> Option<Self> {
        let (seconds, fraction) = field.split_first_chunk::<4>()?;
        let (seconds, fraction) =
            (u32::from_be_bytes(*seconds), u32::from_be_bytes(*fraction.first_chunk()?));
        // Era 1 begins in 2036 (RFC 4330, section 3); the highest bit distinguishes the eras until 2104.
        let era_start = if seconds >> 31 == 1 { 0 } else { 1 << 32 };
        (seconds != 0).then(|| Self { seconds: u64::from(seconds) + era_start - NTP_UNIX_OFFSET, fraction })
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub const fn unix_seconds(self) -> u64 {
        self.seconds
    }

    /// Whole milliseconds since 1970.
    #[must_use]
    pub fn unix_millis(self) -> u64 {
        self.seconds * 1_000 + ((u64::from(self.fraction) * 1_000) >> 32)
    }

    /// Seconds since 1970, to about a microsecond.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a double resolves microseconds in these centuries")]
    pub fn as_secs_f64(self) -> f64 {
        self.seconds as f64 + f64::from(self.fraction) / 4_294_967_296.0
    }
}

/// What a server asks for instead of reporting the time: a kiss-o'-death (RFC 5905, section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kiss {
    /// `RATE`: ask less often.
    Rate,
    /// `DENY` or `RSTR`: do not ask this server again.
    Denied,
}

/// Why bytes are not a usable reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyError {
    /// Shorter than [`PACKET_LENGTH`].
    Short,
    /// Not a server's packet, or it does not repeat the request's cookie.
    OtherRequest,
    /// The server does not know the time.
    NotSynchronised,
    /// The server knows the request and refuses to answer it.
    Kiss(Kiss),
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "answer too short",
            Self::OtherRequest => "answer to another request",
            Self::NotSynchronised => "server is not synchronized",
            Self::Kiss(Kiss::Rate) => "server is asked too often",
            Self::Kiss(Kiss::Denied) => "server denies access",
        })
    }
}

impl core::error::Error for ReplyError {}

/// A server's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    received: Option<Timestamp>,
    transmitted: Timestamp,
}

impl Reply {
    /// Reads the reply to the request with this cookie.
    ///
    /// # Errors
    /// It is not a reply, answers another request, or the server's clock is not synchronised.
    pub fn parse(bytes: &[u8], cookie: [u8; 8]) -> Result<Self, ReplyError> {
        let bytes = bytes.first_chunk::<PACKET_LENGTH>().ok_or(ReplyError::Short)?;
        let field = |at| bytes.get(at).unwrap_or_default();
        let byte = |at| bytes.get::<usize>(at).copied().unwrap_or_default();
        let (leap, mode) = (byte(field::FLAGS) >> 6, byte(field::FLAGS) & 7);
        if mode != SERVER_MODE || field(field::ORIGINATE) != cookie {
            return Err(ReplyError::OtherRequest);
        }
        // Stratum 0 is a kiss-o'-death, 16 and more are unsynchronised. Other codes, such as INIT, mean that it has no time.
        if byte(field::STRATUM) == 0 {
            return Err(match field(field::REFERENCE) {
                b"RATE" => ReplyError::Kiss(Kiss::Rate),
                b"DENY" | b"RSTR" => ReplyError::Kiss(Kiss::Denied),
                _ => ReplyError::NotSynchronised,
            });
        }
        if leap == UNSYNCHRONISED || byte(field::STRATUM) > 15 {
            return Err(ReplyError::NotSynchronised);
        }
        let transmitted = Timestamp::read(field(field::TRANSMIT)).ok_or(ReplyError::NotSynchronised)?;
        Ok(Self { received: Timestamp::read(field(field::RECEIVE)), transmitted })
    }

    /// When the request arrived at the server, if the server says it.
    #[must_use]
    pub const fn received(&self) -> Option<Timestamp> {
        self.received
    }

    /// When the server sent the reply.
    #[must_use]
    pub const fn transmitted(&self) -> Timestamp {
        self.transmitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 8] = [7; 8];

    fn reply(flags: u8, stratum: u8, cookie: [u8; 8], seconds: u32) -> [u8; PACKET_LENGTH] {
        let mut bytes = [0; PACKET_LENGTH];
        bytes[0] = flags;
        bytes[1] = stratum;
        bytes[24..32].copy_from_slice(&cookie);
        bytes[40..44].copy_from_slice(&seconds.to_be_bytes());
        bytes
    }

    #[test]
    fn only_a_synchronised_servers_reply_to_our_request_has_the_time() {
        use ReplyError::{NotSynchronised, OtherRequest, Short};
        let kiss = |code: &[u8; 4], cookie| {
            // Such a server does not claim to be synchronised.
            let mut bytes = reply(0xe4, 0, cookie, 0);
            bytes[12..16].copy_from_slice(code);
            bytes
        };
        let ntp = 4_008_988_800_u32;
        let good = reply(0x24, 2, OURS, ntp);
        let longer = [&good[..], &[0; 20]].concat();
        let table: &[(&str, &[u8], Result<u64, ReplyError>)] = &[
            ("a reply", &good, Ok(1_800_000_000)),
            ("with an authenticator", &longer, Ok(1_800_000_000)),
            ("a byte less", &good[..47], Err(Short)),
            ("version 3", &reply(0x1c, 1, OURS, ntp), Ok(1_800_000_000)),
            ("a reply to another request", &reply(0x24, 2, [8; 8], ntp), Err(OtherRequest)),
            ("a request", &reply(0x23, 2, OURS, ntp), Err(OtherRequest)),
            ("clock not synchronised", &reply(0xe4, 2, OURS, ntp), Err(NotSynchronised)),
            ("stratum 0 without a code", &reply(0x24, 0, OURS, ntp), Err(NotSynchronised)),
            ("RATE", &kiss(b"RATE", OURS), Err(ReplyError::Kiss(Kiss::Rate))),
            ("DENY", &kiss(b"DENY", OURS), Err(ReplyError::Kiss(Kiss::Denied))),
            ("RSTR", &kiss(b"RSTR", OURS), Err(ReplyError::Kiss(Kiss::Denied))),
            ("a server that starts", &kiss(b"INIT", OURS), Err(NotSynchronised)),
            ("a forged RATE", &kiss(b"RATE", [8; 8]), Err(OtherRequest)),
            ("stratum 16", &reply(0x24, 16, OURS, ntp), Err(NotSynchronised)),
            ("no time", &reply(0x24, 2, OURS, 0), Err(NotSynchronised)),
            ("the first second of era 1", &reply(0x24, 2, OURS, 1), Ok(2_085_978_497)),
        ];
        for (name, bytes, expected) in table {
            let time = Reply::parse(bytes, OURS).map(|reply| reply.transmitted().unix_seconds());
            assert_eq!(time, *expected, "{name}");
        }
        assert_eq!(request(OURS)[40..], OURS);
    }

    #[test]
    fn both_times_of_a_reply_have_fractions() {
        let mut bytes = reply(0x24, 2, OURS, 4_008_988_800);
        assert_eq!(Reply::parse(&bytes, OURS).unwrap().received(), None);
        bytes[32..40].copy_from_slice(&(4_008_988_799_u64 << 32 | 1 << 30).to_be_bytes());
        bytes[44] = 0x80;
        let reply = Reply::parse(&bytes, OURS).unwrap();
        let received = reply.received().unwrap();
        assert!((received.as_secs_f64() - 1_799_999_999.25).abs() < 1e-6, "{received:?}");
        assert!((reply.transmitted().as_secs_f64() - 1_800_000_000.5).abs() < 1e-6);
        assert_eq!(
            (received.unix_millis(), reply.transmitted().unix_millis()),
            (1_799_999_999_250, 1_800_000_000_500)
        );
        assert!(received < reply.transmitted());
    }
}

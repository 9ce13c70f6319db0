//! SNTP requests and replies (RFC 4330, RFC 5905). Only the time is used.

use pkd_core::UnixSeconds;

/// Length of a request, and the minimum length of a reply, in bytes.
pub const PACKET_LENGTH: usize = 48;
/// The usual port of time servers.
pub const SERVER_PORT: u16 = 123;
/// The port that the gateway sends requests from. It is below the NAT ports.
pub const CLIENT_PORT: u16 = 12_300;

/// Seconds between the start of NTP's era 0 (1900) and the Unix epoch (1970).
const NTP_UNIX_OFFSET: u64 = 2_208_988_800;

mod field {
    use core::ops::Range;

    pub(super) const FLAGS: usize = 0;
    pub(super) const STRATUM: usize = 1;
    pub(super) const ORIGINATE: Range<usize> = 24..32;
    pub(super) const TRANSMIT: Range<usize> = 40..48;
}

/// Version 4, client mode.
const REQUEST_FLAGS: u8 = 4 << 3 | 3;

/// Makes a request. `cookie` must be random: a reply has to repeat it, so only those who see the request can forge one.
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

/// The time in a reply to the request with this cookie. Returns `None` if it is not a reply, answers another request, or if
/// the server's clock is not synchronised.
#[must_use]
pub fn parse_reply(bytes: &[u8], cookie: [u8; 8]) -> Option<UnixSeconds> {
    let bytes = bytes.first_chunk::<PACKET_LENGTH>()?;
    let flags = bytes.get(field::FLAGS)?;
    let (leap, mode) = (flags >> 6, flags & 7);
    let synchronised = leap != 3 && (1..=15).contains(bytes.get(field::STRATUM)?);
    if mode != 4 || !synchronised || bytes.get(field::ORIGINATE)? != cookie {
        return None;
    }
    let seconds = u32::from_be_bytes(*bytes.get(field::TRANSMIT)?.first_chunk()?);
    // 0 means "no time". Era 1 begins in 2036 (RFC 4330, section 3); the highest bit distinguishes the eras until 2104.
    match seconds {
        0 => None,
        _ if seconds >> 31 == 1 => Some(UnixSeconds(u64::from(seconds) - NTP_UNIX_OFFSET)),
        _ => Some(UnixSeconds(u64::from(seconds) + (1 << 32) - NTP_UNIX_OFFSET)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(flags: u8, stratum: u8, cookie: [u8; 8], seconds: u32) -> [u8; PACKET_LENGTH] {
        let mut bytes = [0; PACKET_LENGTH];
        bytes[0] = flags;
        bytes[1] = stratum;
        bytes[24..32].copy_from_slice(&cookie);
        bytes[40..44].copy_from_slice(&seconds.to_be_bytes());
        bytes
    }

    #[test]
    fn only_a_synchronised_servers_reply_to_our_request_sets_the_time() {
        let (ours, other) = ([7; 8], [8; 8]);
        let unix = 1_800_000_000_u32;
        let ntp = 4_008_988_800_u32;
        let table: &[(&str, [u8; PACKET_LENGTH], Option<u32>)] = &[
            ("a reply", reply(0x24, 2, ours, ntp), Some(unix)),
            ("version 3", reply(0x1c, 1, ours, ntp), Some(unix)),
            ("a reply to another request", reply(0x24, 2, other, ntp), None),
            ("clock not synchronised", reply(0xe4, 2, ours, ntp), None),
            ("kiss-o'-death", reply(0x24, 0, ours, ntp), None),
            ("stratum 16", reply(0x24, 16, ours, ntp), None),
            ("a request", reply(0x23, 2, ours, ntp), None),
            ("no time", reply(0x24, 2, ours, 0), None),
            ("the first second of era 1", reply(0x24, 2, ours, 1), Some(2_085_978_497)),
        ];
        for (name, bytes, expected) in table {
            let expected = expected.map(|seconds| UnixSeconds(seconds.into()));
            assert_eq!(parse_reply(bytes, ours), expected, "{name}");
        }
        assert_eq!(parse_reply(&[0; 47], ours), None);
        assert_eq!(request(ours)[40..], ours);
    }
}

//! How the gateway asks for the time.

use pkd_core::UnixMillis;
use pkd_sntp::Reply;

pub use pkd_sntp::{SERVER_PORT, request};

/// The port that the gateway sends requests from. It is below the NAT ports.
pub const CLIENT_PORT: u16 = 12_300;

/// The time in a reply to the request with this cookie. Returns `None` if it is not a reply, answers another request, or if
/// the server's clock is not synchronised.
#[must_use]
pub fn parse_reply(bytes: &[u8], cookie: [u8; 8]) -> Option<UnixMillis> {
    Reply::parse(bytes, cookie).ok().map(|reply| UnixMillis(reply.transmitted().unix_millis()))
}

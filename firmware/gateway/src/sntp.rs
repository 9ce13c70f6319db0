//! How the gateway asks for the time.

use pkd_core::UnixMillis;
use pkd_sntp::{Kiss, Reply, ReplyError};

use crate::time_client::TimeFailure;

pub use pkd_sntp::{SERVER_PORT, request};

/// The port that the gateway sends requests from. It is below the NAT ports.
pub const CLIENT_PORT: u16 = 12_300;

/// The time in a reply to the request with this cookie. Returns `None` if it is not a reply, or answers another request: the
/// reply may still come.
///
/// # Errors
/// The server has no time, or refuses to report it.
#[must_use]
pub fn parse_reply(bytes: &[u8], cookie: [u8; 8]) -> Option<Result<UnixMillis, TimeFailure>> {
    match Reply::parse(bytes, cookie) {
        Ok(reply) => Some(Ok(UnixMillis(reply.transmitted().unix_millis()))),
        Err(ReplyError::Kiss(Kiss::Rate)) => Some(Err(TimeFailure::Rate)),
        Err(ReplyError::Kiss(Kiss::Denied)) => Some(Err(TimeFailure::Denied)),
        Err(ReplyError::NotSynchronised) => Some(Err(TimeFailure::NotSynchronised)),
        Err(_) => None,
    }
}

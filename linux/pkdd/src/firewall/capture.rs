//! What the firewall passes to pkdd.

use pkd_core::UDP_LENGTH;
use pktables::Capture;

use crate::{config::Config, nflog::SNAPLEN};

/// What is passed to pkdd: the knocks of all enabled users of a configuration.
#[must_use]
pub(super) fn capture(config: &Config) -> Capture {
    let users = config.users.values().filter(|user| user.enabled);
    Capture {
        length: u16::try_from(UDP_LENGTH).unwrap_or(u16::MAX),
        words: users.map(|user| user.rule.tag().0).collect(),
        port: config.gate.port,
        group: config.gate.group,
        snaplen: SNAPLEN,
        rate: config.gate.rate,
    }
}

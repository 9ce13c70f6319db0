//! What the firewall passes to pkdd.

use std::{collections::BTreeMap, time::Instant};

use pkd_core::UDP_LENGTH;
use pktables::Capture;

use crate::{config::Config, nflog::SNAPLEN};

/// What is passed to pkdd: datagrams that begin with these words, as the knocks of the users do.
#[must_use]
pub(super) fn capture(config: &Config, words: &BTreeMap<[u8; 4], Option<Instant>>) -> Capture {
    Capture {
        length: u16::try_from(UDP_LENGTH).unwrap_or(u16::MAX),
        words: words.clone(),
        port: config.gate.port,
        group: config.gate.group,
        snaplen: SNAPLEN,
        rate: config.gate.rate,
        rate_beyond: config.gate.rate_beyond(),
    }
}

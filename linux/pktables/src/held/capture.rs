//! Datagrams that are passed to an NFLOG group.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The set of the first words.
pub(super) const WORDS: &str = "words";
/// The chain of datagrams beyond the rate of their source.
pub(super) const BEYOND: &str = "beyond";

/// UDP datagrams to this host that are passed to an NFLOG group and then dropped, so that nothing answers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The length in the UDP header.
    pub length: u16,
    /// The first four bytes of the payload must be one of these. Each counts until its time; `None`: for ever.
    pub words: BTreeMap<[u8; 4], Option<Instant>>,
    /// The port; `None`: any.
    pub port: Option<u16>,
    /// The NFLOG group.
    pub group: u16,
    /// Bytes of each packet that are passed on.
    pub snaplen: u32,
    /// Datagrams per second that are always passed on, for each source (IPv4 address or IPv6 /64) and word. With iptables
    /// alone, for each source.
    pub rate: u32,
    /// Datagrams per second beyond `rate` that are passed on too, of all sources together, and at once a fiftieth of this: the
    /// socket's buffer holds a few hundred. What is beyond is dropped and counted.
    pub rate_beyond: u32,
}

impl Capture {
    /// Datagrams beyond `rate` that are passed on at once.
    pub(crate) fn burst_beyond(&self) -> u32 {
        (self.rate_beyond / 50).max(1)
    }

    /// The words whose time is not over, with the time that is left.
    pub(crate) fn current(&self) -> impl Iterator<Item = ([u8; 4], Option<Duration>)> + '_ {
        let now = Instant::now();
        self.words.iter().filter_map(move |(word, until)| match until {
            None => Some((*word, None)),
            Some(until) => {
                let left = until.saturating_duration_since(now);
                (!left.is_zero()).then_some((*word, Some(left)))
            }
        })
    }
}

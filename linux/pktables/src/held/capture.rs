//! Datagrams that are passed to an NFLOG group.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The set of the first words.
pub(super) const WORDS: &str = "words";

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
    /// Datagrams per second and source (IPv4 address or IPv6 /64); others are dropped at once.
    pub rate: u32,
}

impl Capture {
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

//! The nftables chain that passes possible knocks to pkdd, as text: UDP datagrams of 64 bytes with a known tag or hint,
//! rate-limited by source and by what they begin with.

use std::{collections::BTreeSet, fmt::Write as _};

use pkd_core::UDP_LENGTH;

use crate::nflog::SNAPLEN;

/// The number of sources and words whose rate is tracked. Further ones are not limited.
const MAX_SOURCES: u32 = 65_535;
/// The number of hints: enough for 10,000 users.
const MAX_HINTS: u32 = 65_535;
/// Seconds until an idle source is forgotten.
const SOURCE_TIMEOUT: u32 = 10;

/// Comes before every name of ours in firewall4's table that no service gives. Names of services have no dot.
pub(crate) const PREFIX: &str = "pkd.";

/// What the chain looks for, and where it passes it to.
pub(crate) struct NflogChain<'a> {
    /// Comes before every name, so that no other set or chain of the table has it.
    pub(crate) prefix: &'a str,
    /// Of classic users, as numbers.
    pub(crate) tags: BTreeSet<u32>,
    /// Whether there are users of format 2. pkdd fills the set of their hints.
    pub(crate) has_hints: bool,
    /// `None`: any.
    pub(crate) port: Option<u16>,
    pub(crate) group: u16,
    /// Datagrams per second, of each source and word, that are always passed on.
    pub(crate) rate: u32,
    /// Datagrams per second beyond this, of all sources together, and at once a fiftieth of them.
    pub(crate) rate_beyond: u32,
}

/// The end of the name of the chain that counts what it drops beyond the rates.
pub(crate) const BEYOND: &str = "beyond";

impl NflogChain<'_> {
    /// The sets and the chain that a possible knock goes to.
    pub(crate) fn definitions(&self) -> String {
        let Self { prefix, group, rate, rate_beyond, .. } = self;
        let burst = (rate_beyond / 50).max(1);
        let mut text = String::new();
        for (family, kind) in [(4, "ipv4_addr"), (6, "ipv6_addr")] {
            let _ = writeln!(
                text,
                "set {prefix}sources_{family} {{ type {kind} . mark; size {MAX_SOURCES}; flags dynamic,timeout; timeout {SOURCE_TIMEOUT}s; }}"
            );
        }
        if self.has_hints {
            let _ =
                writeln!(text, "set {prefix}hints {{ typeof @th,64,32; size {MAX_HINTS}; flags timeout; }}");
        }
        // The mark of a packet that is dropped means nothing else. Not every nft takes raw bytes as a part of a key.
        // One IPv6 host usually has a whole /64 to send from.
        let _ = write!(
            text,
            "chain {prefix}{BEYOND} {{\n\
             \tlimit rate over {rate_beyond}/second burst {burst} packets counter drop\n\
             \tlog group {group} snaplen {SNAPLEN} queue-threshold 1\n\
             \tdrop\n\
             }}\n\
             chain {prefix}nflog {{\n\
             \tmeta mark set @th,64,32\n\
             \tupdate @{prefix}sources_4 {{ ip saddr . meta mark limit rate over {rate}/second burst {rate} packets }} goto {prefix}{BEYOND}\n\
             \tupdate @{prefix}sources_6 {{ ip6 saddr & ffff:ffff:ffff:ffff:: . meta mark limit rate over {rate}/second burst {rate} packets }} goto {prefix}{BEYOND}\n\
             \tlog group {group} snaplen {SNAPLEN} queue-threshold 1\n\
             \tdrop\n\
             }}\n"
        );
        text
    }

    /// The rules that find possible knocks: those with a known tag, and those with a hint of format 2.
    pub(crate) fn rules(&self) -> Vec<String> {
        let port = self.port.map(|port| format!("udp dport {port} ")).unwrap_or_default();
        let tags: Vec<String> = self.tags.iter().map(|tag| format!("{tag:#010x}")).collect();
        let mut words = Vec::new();
        if !tags.is_empty() {
            words.push(format!("{{ {} }}", tags.join(", ")));
        }
        if self.has_hints {
            words.push(format!("@{}hints", self.prefix));
        }
        // The first 4 bytes after the 8 of the UDP header.
        let rule =
            |words| format!("udp length {UDP_LENGTH} {port}@th,64,32 {words} goto {}nflog", self.prefix);
        words.into_iter().map(rule).collect()
    }
}

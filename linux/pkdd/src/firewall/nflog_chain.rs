//! The nftables chain that passes possible knocks to pkdd, as text: UDP datagrams of 64 bytes with a known tag,
//! rate-limited by source.

use std::{collections::BTreeSet, fmt::Write as _};

use pkd_core::UDP_LENGTH;

use crate::nflog::SNAPLEN;

/// The number of sources whose rate is tracked. Further sources are not limited.
const MAX_SOURCES: u32 = 65_535;
/// Seconds until an idle source is forgotten.
const SOURCE_TIMEOUT: u32 = 10;

/// What the chain looks for, and where it passes it to.
pub(crate) struct NflogChain<'a> {
    /// Comes before every name, so that no other set or chain of the table has it.
    pub(crate) prefix: &'a str,
    /// As numbers.
    pub(crate) tags: BTreeSet<u32>,
    /// `None`: any.
    pub(crate) port: Option<u16>,
    pub(crate) group: u16,
    /// Datagrams per second and source.
    pub(crate) rate: u32,
}

impl NflogChain<'_> {
    /// The sets and the chain that a possible knock goes to.
    pub(crate) fn definitions(&self) -> String {
        let Self { prefix, group, rate, .. } = self;
        let mut text = String::new();
        for (family, kind) in [(4, "ipv4_addr"), (6, "ipv6_addr")] {
            let _ = writeln!(
                text,
                "set {prefix}sources_{family} {{ type {kind}; size {MAX_SOURCES}; flags dynamic,timeout; timeout {SOURCE_TIMEOUT}s; }}"
            );
        }
        // One IPv6 host usually has a whole /64 to send from.
        let _ = write!(
            text,
            "chain {prefix}nflog {{\n\
             \tupdate @{prefix}sources_4 {{ ip saddr limit rate over {rate}/second burst {rate} packets }} drop\n\
             \tupdate @{prefix}sources_6 {{ ip6 saddr & ffff:ffff:ffff:ffff:: limit rate over {rate}/second burst {rate} packets }} drop\n\
             \tlog group {group} snaplen {SNAPLEN} queue-threshold 1\n\
             \tdrop\n\
             }}\n"
        );
        text
    }

    /// The rule that finds possible knocks; `None` without tags.
    pub(crate) fn rule(&self) -> Option<String> {
        if self.tags.is_empty() {
            return None;
        }
        let port = self.port.map(|port| format!("udp dport {port} ")).unwrap_or_default();
        let tags: Vec<String> = self.tags.iter().map(|tag| format!("{tag:#010x}")).collect();
        // The tag: the first 4 bytes after the 8 of the UDP header.
        Some(format!(
            "udp length {UDP_LENGTH} {port}@th,64,32 {{ {} }} goto {}nflog",
            tags.join(", "),
            self.prefix
        ))
    }
}

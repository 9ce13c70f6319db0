//! Why frames are dropped.

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// An invalid header: too short, a wrong version, or inconsistent lengths.
    Malformed,
    /// A wrong checksum.
    Checksum,
    /// A fragment. Only complete datagrams can be checked.
    Fragment,
    /// Not addressed to the gateway, or from an address that no host can have.
    NotForUs,
    /// A protocol that is not forwarded.
    Protocol,
    /// Sent to a service from an address without a grant.
    NoGrant,
    /// Neither the start of a flow nor part of one.
    NoFlow,
    /// A new flow, but every slot holds a flow that must be kept.
    TableFull,
    /// The inside host has not answered ARP yet.
    NoNeighbour,
    /// Sent to a port that has no service and that the gateway does not use.
    Unsolicited,
    /// The gateway does not have an IP address yet.
    NotReady,
    /// The IPv4 time to live has run out.
    TtlExpired,
    /// A knock that arrived before the time was known.
    NoTime,
    /// From outside, with an address of an inside host or of the gateway.
    Spoofed,
    /// A loop connects both sides.
    Loop,
}

impl DropReason {
    /// All reasons, in the order of the counters.
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::Checksum,
        Self::Fragment,
        Self::NotForUs,
        Self::Protocol,
        Self::NoGrant,
        Self::NoFlow,
        Self::TableFull,
        Self::NoNeighbour,
        Self::Unsolicited,
        Self::NotReady,
        Self::TtlExpired,
        Self::NoTime,
        Self::Spoofed,
        Self::Loop,
    ];

    /// Its index in [`ALL`](Self::ALL).
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Malformed => 0,
            Self::Checksum => 1,
            Self::Fragment => 2,
            Self::NotForUs => 3,
            Self::Protocol => 4,
            Self::NoGrant => 5,
            Self::NoFlow => 6,
            Self::TableFull => 7,
            Self::NoNeighbour => 8,
            Self::Unsolicited => 9,
            Self::NotReady => 10,
            Self::TtlExpired => 11,
            Self::NoTime => 12,
            Self::Spoofed => 13,
            Self::Loop => 14,
        }
    }

    /// The label in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Checksum => "checksum",
            Self::Fragment => "fragment",
            Self::NotForUs => "not_for_us",
            Self::Protocol => "protocol",
            Self::NoGrant => "no_grant",
            Self::NoFlow => "no_flow",
            Self::TableFull => "table_full",
            Self::NoNeighbour => "no_neighbour",
            Self::Unsolicited => "unsolicited",
            Self::NotReady => "not_ready",
            Self::TtlExpired => "ttl_expired",
            Self::NoTime => "no_time",
            Self::Spoofed => "spoofed",
            Self::Loop => "loop",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index, "{reason:?}");
        }
    }
}

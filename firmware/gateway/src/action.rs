//! What becomes of a frame.

use pkd_core::{Reason, Verdict};

/// Where a frame came in, or goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The only one of a one-arm gateway, the trunk of an inline one with VLANs, else the side of the strangers.
    Outside,
    /// The side of the protected hosts, on an inline gateway with two NICs.
    Inside,
}

impl Port {
    /// The other side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Outside => Self::Inside,
            Self::Inside => Self::Outside,
        }
    }
}

/// What to do with a frame that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing, and nobody is told.
    Drop(DropReason),
    /// Send the frame, as it now is, out of this port.
    Forward(Port),
    /// Give the frame to the gateway's own stack, without its first `skip` bytes (a VLAN tag's room).
    Local {
        /// Bytes to leave out at the start.
        skip: usize,
    },
    /// Both of these: send it, and then give it to the own stack.
    ForwardAndLocal(Port),
    /// As [`ForwardAndLocal`](Self::ForwardAndLocal) on a trunk: the own stack gets a copy without the tag.
    ForwardAndUntagged(Port),
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// A header that cannot be: too short, a wrong version, lengths that do not fit.
    Malformed,
    /// A checksum that does not hold.
    Checksum,
    /// A fragment; only whole datagrams are judged.
    Fragment,
    /// Not sent to the gateway, or by an address that nobody can have.
    NotForUs,
    /// A protocol that does not pass.
    Protocol,
    /// A service, from an address without a grant.
    NoGrant,
    /// Neither the start of a flow nor part of one.
    NoFlow,
    /// A new flow, and every slot is taken by one that stays.
    TableFull,
    /// The inside host has not told its hardware address yet.
    NoNeighbour,
    /// Nobody waits for this: neither a service nor the gateway itself.
    Unsolicited,
    /// The gateway has no configuration, or no address yet.
    NotReady,
    /// A loop: the frame has made all the ttl it may.
    TtlExpired,
    /// A knock before the time is known.
    NoTime,
    /// A knock, or what claims to be one.
    Knock(Verdict),
}

impl DropReason {
    /// All reasons, in the order in which they are counted.
    pub const ALL: [Self; 19] = [
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
        Self::Knock(Verdict::Accept),
        Self::Knock(Verdict::Ignore(Reason::Length)),
        Self::Knock(Verdict::Ignore(Reason::Tag)),
        Self::Knock(Verdict::Ignore(Reason::Window)),
        Self::Knock(Verdict::Ignore(Reason::Replay)),
        Self::Knock(Verdict::Ignore(Reason::Digest)),
    ];

    /// Its place in [`ALL`](Self::ALL).
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
            Self::Knock(Verdict::Accept) => 13,
            Self::Knock(Verdict::Ignore(Reason::Length)) => 14,
            Self::Knock(Verdict::Ignore(Reason::Tag)) => 15,
            Self::Knock(Verdict::Ignore(Reason::Window)) => 16,
            Self::Knock(Verdict::Ignore(Reason::Replay)) => 17,
            Self::Knock(Verdict::Ignore(Reason::Digest)) => 18,
        }
    }

    /// The word for it, in counters and logs.
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
            Self::Knock(Verdict::Accept) => "accept",
            Self::Knock(Verdict::Ignore(Reason::Length)) => "length",
            Self::Knock(Verdict::Ignore(Reason::Tag)) => "tag",
            Self::Knock(Verdict::Ignore(Reason::Window)) => "window",
            Self::Knock(Verdict::Ignore(Reason::Replay)) => "replay",
            Self::Knock(Verdict::Ignore(Reason::Digest)) => "digest",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_in_its_own_place() {
        for (index, why) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(why.index(), index, "{why:?}");
        }
    }
}

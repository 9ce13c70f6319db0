//! What to do with a received frame.

use core::net::Ipv4Addr;

use pkd_core::{UnixSeconds, Verdict};

use crate::{drop_reason::DropReason, port::Port};

/// What to do with a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Drop the frame. Nothing is sent in reply.
    Drop(DropReason),
    /// The frame was sent to the knock port. Drop it too, and act on the outcome before the next frame.
    Knock(KnockOutcome),
    /// Send the frame, which may have been rewritten, from this port.
    Forward(Port),
    /// Pass the frame to the gateway's network stack.
    Local {
        /// Bytes to leave out at the start: the room of a VLAN tag that was removed, or 0.
        skip: usize,
    },
    /// Send the frame from this port, then pass it to the network stack.
    ForwardAndLocal(Port),
    /// On a trunk: send the frame from this port, then pass it to the network stack without its tag, see
    /// [`untag`](crate::untag).
    ForwardAndUntagged(Port),
}

/// The result of checking a datagram that was sent to the knock port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct KnockOutcome {
    /// Whether the knock was accepted, or why it was ignored.
    pub verdict: Verdict,
    /// The new grant, for the log. Only an accepted knock has one.
    pub grant: Option<KnockGrant>,
    /// The floor to write to flash before the next frame is handled. If it is not in flash at the next reset, the knock
    /// can be replayed. Report the result with [`floor_saved`](crate::Gateway::floor_saved) or
    /// [`floor_failed`](crate::Gateway::floor_failed).
    pub save_floor: Option<UnixSeconds>,
}

/// Who may connect after an accepted knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnockGrant {
    /// The knock's source address.
    pub address: Ipv4Addr,
    /// The index of the rule that accepted the knock.
    pub rule: u8,
}

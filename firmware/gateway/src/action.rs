//! What to do with a received frame.

use core::net::IpAddr;

use pkd_core::Verdict;

use crate::{drop_reason::DropReason, floors::Floors, port::Port};

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
    /// Whether the knock opens or closes, or why it was ignored.
    pub verdict: Verdict,
    /// Who may connect, or no longer may, for the log. `None` if the knock was ignored.
    pub sender: Option<KnockSender>,
    /// The floors to write to flash before the next frame is handled. If they are not in flash at the next reset, the knock
    /// can be replayed. Report the result with [`floors_saved`](crate::Gateway::floors_saved) or
    /// [`floors_failed`](crate::Gateway::floors_failed).
    pub save_floors: Option<Floors>,
}

/// The sender of a knock that opens or closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnockSender {
    /// The knock's source address.
    pub address: IpAddr,
    /// The index of the rule that the knock was made for.
    pub rule: u8,
}

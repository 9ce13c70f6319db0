//! Finds a cable or a switch that connects both sides of an inline gateway, past it or back into it.

use smoltcp::wire::EthernetAddress;

use crate::Instant;

/// Milliseconds between probes.
const INTERVAL: u64 = 1_000;
/// Milliseconds without a returned probe after which the loop is taken to be gone.
const HOLD: u64 = 10_000;
/// The `EtherType` of probes: Ethernet's own loopback test.
const ETHERTYPE: u16 = 0x9000;
/// Length of a probe in bytes: the shortest frame.
const LENGTH: usize = 60;
/// Where a probe's payload begins.
const PAYLOAD: usize = 14;

/// Sends probes to the inside. One that comes in from outside has gone around the gateway.
#[derive(Debug, Default)]
pub(crate) struct LoopGuard {
    /// What probes contain, so that nobody outside can forge one. Without it, none are sent.
    cookie: Option<u64>,
    sent: Option<Instant>,
    returned: Option<Instant>,
}

impl LoopGuard {
    pub(crate) fn set_cookie(&mut self, cookie: u64) {
        self.cookie = Some(cookie);
    }

    /// Whether a probe has returned lately.
    pub(crate) fn is_looped(&self, now: Instant) -> bool {
        self.returned.is_some_and(|returned| now.since(returned) < HOLD)
    }

    /// Writes the next probe to `frame` if it is due. Returns its length.
    pub(crate) fn probe(&mut self, now: Instant, from: EthernetAddress, frame: &mut [u8]) -> Option<usize> {
        let cookie = self.cookie?;
        if self.sent.is_some_and(|sent| now.since(sent) < INTERVAL) {
            return None;
        }
        let frame = frame.get_mut(..LENGTH)?;
        frame.fill(0);
        let parts: [(usize, &[u8]); 4] =
            [(0, &[0xff; 6]), (6, &from.0), (12, &ETHERTYPE.to_be_bytes()), (PAYLOAD, &cookie.to_be_bytes())];
        for (at, bytes) in parts {
            frame.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        }
        self.sent = Some(now);
        Some(LENGTH)
    }

    /// Looks at a frame from outside that has the gateway's own MAC address as its source. `header`: length of its Ethernet
    /// header.
    pub(crate) fn check(&mut self, now: Instant, frame: &[u8], header: usize) {
        let given = frame.get(header..).and_then(|payload| payload.first_chunk().copied());
        if self.cookie.is_some_and(|cookie| given == Some(cookie.to_be_bytes())) {
            self.returned = Some(now);
        }
    }
}

const _: () = assert!(LENGTH > PAYLOAD + 8, "a probe has room for its cookie");

//! The MAC addresses of inside hosts, found by ARP (RFC 826) and neighbour discovery (RFC 4861).

use core::net::Ipv4Addr;

use heapless::Vec;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
};

use crate::{Instant, SERVICES, ip::Ip, nd, own::Own};

/// Milliseconds between requests for a host that does not answer.
const RETRY_INTERVAL: u64 = 1_000;
/// Milliseconds after which the address of a host is requested again.
const REFRESH_INTERVAL: u64 = 30_000;
/// Milliseconds within which an answer belongs to a request.
const ANSWER_LIMIT: u64 = 2_000;
/// Milliseconds without an answer after which another MAC address may take over: some requests were lost on the way to the old
/// one, or the host is gone.
const TAKEOVER: u64 = REFRESH_INTERVAL + 5 * RETRY_INTERVAL;
/// Length of an ARP request in bytes, with the Ethernet header.
const REQUEST_LENGTH: usize = 14 + 28;

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    address: Ip,
    hardware: Option<EthernetAddress>,
    /// Its MAC address is configured.
    is_fixed: bool,
    asked: Option<Instant>,
    answered: Option<Instant>,
}

/// The hosts behind the services. A host that stops answering keeps its last MAC address: either it is still right, or the
/// host is gone.
#[derive(Debug)]
pub(crate) struct Neighbours(Vec<Neighbour, SERVICES>);

impl Neighbours {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a host whose MAC address is needed, or is configured. Returns its index.
    pub(crate) fn track(&mut self, address: Ip, hardware: Option<EthernetAddress>) -> Option<u8> {
        let known = self.0.iter().position(|neighbour| neighbour.address == address);
        let index = known.unwrap_or(self.0.len());
        if known.is_none() {
            let is_fixed = hardware.is_some();
            self.0.push(Neighbour { address, hardware, is_fixed, asked: None, answered: None }).ok()?;
        }
        u8::try_from(index).ok()
    }

    /// The MAC address of the host with this index, if it is known.
    pub(crate) fn hardware(&self, index: u8) -> Option<&EthernetAddress> {
        self.0.get(usize::from(index))?.hardware.as_ref()
    }

    /// Records a host's MAC address, from an answer that was sent to us. It counts only soon after a request, and cannot replace
    /// the address of a host that still answers.
    pub(crate) fn learn(&mut self, now: Instant, address: Ip, hardware: EthernetAddress) {
        let Some(neighbour) = self.0.iter_mut().find(|neighbour| neighbour.address == address) else {
            return;
        };
        let is_asked = neighbour.asked.is_some_and(|asked| now.since(asked) <= ANSWER_LIMIT);
        let is_free = neighbour.hardware.is_none_or(|known| known == hardware)
            || neighbour.answered.is_none_or(|answered| now.since(answered) >= TAKEOVER);
        if is_asked && is_free && !neighbour.is_fixed {
            neighbour.hardware = Some(hardware);
            neighbour.answered = Some(now);
        }
    }

    /// Writes the next request that is due to `frame`. Returns its length.
    pub(crate) fn next_request(&mut self, now: Instant, own: Own, frame: &mut [u8]) -> Option<usize> {
        let due = |neighbour: &&mut Neighbour| {
            let waited = neighbour.asked.is_none_or(|asked| now.since(asked) >= RETRY_INTERVAL);
            let stale = neighbour.answered.is_none_or(|answered| now.since(answered) >= REFRESH_INTERVAL);
            waited && stale && !neighbour.is_fixed
        };
        let neighbour = self.0.iter_mut().find(due)?;
        neighbour.asked = Some(now);
        match neighbour.address.to_v4() {
            Some(address) => write_request(own, address, frame),
            None => nd::write_solicitation(own, neighbour.address, frame),
        }
    }
}

/// Writes an ARP request.
fn write_request(own: Own, address: Ipv4Addr, frame: &mut [u8]) -> Option<usize> {
    let frame = frame.get_mut(..REQUEST_LENGTH)?;
    let mut ethernet = EthernetFrame::new_checked(frame).ok()?;
    EthernetRepr {
        src_addr: own.hardware,
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Arp,
    }
    .emit(&mut ethernet);
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: own.hardware,
        source_protocol_addr: own.v4,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: address,
    };
    request.emit(&mut ArpPacket::new_unchecked(ethernet.payload_mut()));
    Some(REQUEST_LENGTH)
}

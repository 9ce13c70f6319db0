//! The hardware addresses of inside hosts (ARP, RFC 826).

use core::net::Ipv4Addr;

use heapless::Vec;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
};

use crate::{Instant, SERVICES};

/// Milliseconds between two questions for a host that has not answered.
const RETRY_INTERVAL: u64 = 1_000;
/// Milliseconds after which a host is asked whether it still has its address.
const REFRESH_INTERVAL: u64 = 30_000;
/// Bytes of an ARP question in its frame.
const REQUEST_LENGTH: usize = 14 + 28;

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    address: Ipv4Addr,
    hardware: Option<EthernetAddress>,
    asked: Option<Instant>,
    answered: Option<Instant>,
}

/// The hosts behind the services. One that stays silent keeps its last hardware address: it was right, or nobody is there.
#[derive(Debug, Default)]
pub(crate) struct Neighbours(Vec<Neighbour, SERVICES>);

impl Neighbours {
    /// A host to keep the hardware address of.
    pub(crate) fn track(&mut self, address: Ipv4Addr) {
        if self.0.iter().all(|neighbour| neighbour.address != address) {
            let new = Neighbour { address, hardware: None, asked: None, answered: None };
            // There are no more hosts than services.
            let _full = self.0.push(new);
        }
    }

    pub(crate) fn hardware(&self, address: Ipv4Addr) -> Option<EthernetAddress> {
        self.0.iter().find(|neighbour| neighbour.address == address)?.hardware
    }

    /// A host has said where it is, to us.
    pub(crate) fn learn(&mut self, now: Instant, address: Ipv4Addr, hardware: EthernetAddress) {
        if let Some(neighbour) = self.0.iter_mut().find(|neighbour| neighbour.address == address) {
            neighbour.hardware = Some(hardware);
            neighbour.answered = Some(now);
        }
    }

    /// The next question that is due, written to `frame`; gives its length.
    pub(crate) fn next_request(
        &mut self,
        now: Instant,
        own_address: Ipv4Addr,
        hardware: EthernetAddress,
        frame: &mut [u8],
    ) -> Option<usize> {
        let due = |neighbour: &&mut Neighbour| {
            let waited = neighbour.asked.is_none_or(|asked| now.since(asked) >= RETRY_INTERVAL);
            let stale = neighbour.answered.is_none_or(|answered| now.since(answered) >= REFRESH_INTERVAL);
            waited && stale
        };
        let neighbour = self.0.iter_mut().find(due)?;
        let frame = frame.get_mut(..REQUEST_LENGTH)?;
        let mut ethernet = EthernetFrame::new_checked(frame).ok()?;
        EthernetRepr {
            src_addr: hardware,
            dst_addr: EthernetAddress::BROADCAST,
            ethertype: EthernetProtocol::Arp,
        }
        .emit(&mut ethernet);
        let question = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: hardware,
            source_protocol_addr: own_address,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: neighbour.address,
        };
        question.emit(&mut ArpPacket::new_unchecked(ethernet.payload_mut()));
        neighbour.asked = Some(now);
        Some(REQUEST_LENGTH)
    }
}

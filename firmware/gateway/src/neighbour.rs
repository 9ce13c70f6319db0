//! The MAC addresses of inside hosts, learned by ARP (RFC 826).

use core::net::Ipv4Addr;

use heapless::Vec;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
};

use crate::{Instant, SERVICES};

/// Milliseconds between requests for a host that does not answer.
const RETRY_INTERVAL: u64 = 1_000;
/// Milliseconds after which the address of a host is requested again.
const REFRESH_INTERVAL: u64 = 30_000;
/// Length of an ARP request in bytes, with the Ethernet header.
const REQUEST_LENGTH: usize = 14 + 28;

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    address: Ipv4Addr,
    hardware: Option<EthernetAddress>,
    asked: Option<Instant>,
    answered: Option<Instant>,
}

/// The hosts behind the services. A host that stops answering keeps its last MAC address: either it is still right, or the
/// host is gone.
#[derive(Debug, Default)]
pub(crate) struct Neighbours(Vec<Neighbour, SERVICES>);

impl Neighbours {
    /// Adds a host whose MAC address is needed.
    pub(crate) fn track(&mut self, address: Ipv4Addr) {
        if self.0.iter().all(|neighbour| neighbour.address != address) {
            let new = Neighbour { address, hardware: None, asked: None, answered: None };
            // There are at most as many hosts as services.
            let _full = self.0.push(new);
        }
    }

    pub(crate) fn hardware(&self, address: Ipv4Addr) -> Option<EthernetAddress> {
        self.0.iter().find(|neighbour| neighbour.address == address)?.hardware
    }

    /// Records a host's MAC address, from an ARP packet that was sent to us.
    pub(crate) fn learn(&mut self, now: Instant, address: Ipv4Addr, hardware: EthernetAddress) {
        if let Some(neighbour) = self.0.iter_mut().find(|neighbour| neighbour.address == address) {
            neighbour.hardware = Some(hardware);
            neighbour.answered = Some(now);
        }
    }

    /// Writes the next ARP request that is due to `frame`. Returns its length.
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
        let request = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: hardware,
            source_protocol_addr: own_address,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: neighbour.address,
        };
        request.emit(&mut ArpPacket::new_unchecked(ethernet.payload_mut()));
        neighbour.asked = Some(now);
        Some(REQUEST_LENGTH)
    }
}

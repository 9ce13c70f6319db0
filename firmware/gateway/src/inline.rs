//! Inline mode: a bridge between two sides that blocks new flows to protected services.

use core::net::Ipv4Addr;

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol};

use crate::{
    Instant,
    action::{Action, KnockOutcome},
    config::{Inline, Pass},
    drop_reason::DropReason,
    flow::{Direction, Protocol, Tuple},
    gateway::Gateway,
    instant::CoarseInstant,
    packet::{self, Header, Transport},
    port::Port,
    vlan::{VLAN_TAG_LENGTH, retag, untag},
};

/// Length of an Ethernet header in bytes.
const ETHERNET_HEADER: usize = 14;

/// What to do with a frame, before ports and VLANs are considered.
enum Disposition {
    Forward,
    Local,
    ForwardAndLocal,
    Knock(KnockOutcome),
}

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Gateway<'_, FLOWS, GRANTS, RULES, KNOCKS>
{
    pub(crate) fn inline(&mut self, now: Instant, port: Port, inline: Inline, frame: &mut [u8]) -> Action {
        let (side, header) = match inline.vlans {
            None => (port, ETHERNET_HEADER),
            Some(vlans) => match retag(frame, vlans) {
                Ok(side) => (side, ETHERNET_HEADER + VLAN_TAG_LENGTH),
                Err(reason) => return Action::Drop(reason),
            },
        };
        let disposition = match self.classify(now, side, inline.pass, header, frame) {
            Ok(disposition) => disposition,
            Err(reason) => return Action::Drop(reason),
        };
        if side == Port::Inside && matches!(disposition, Disposition::Local | Disposition::ForwardAndLocal) {
            self.remember_inside_host(frame);
        }
        match (disposition, inline.vlans.is_some()) {
            (Disposition::Knock(outcome), _) => Action::Knock(outcome),
            (Disposition::Forward, false) => Action::Forward(side.other()),
            (Disposition::Forward, true) => Action::Forward(Port::Outside),
            (Disposition::Local, false) => Action::Local { skip: 0 },
            (Disposition::Local, true) => {
                untag(frame);
                Action::Local { skip: VLAN_TAG_LENGTH }
            }
            (Disposition::ForwardAndLocal, false) => Action::ForwardAndLocal(side.other()),
            (Disposition::ForwardAndLocal, true) => Action::ForwardAndUntagged(Port::Outside),
        }
    }

    /// Remembers the sender of a frame from the inside. Frames from outside never get here, so strangers cannot evict hosts.
    fn remember_inside_host(&mut self, frame: &[u8]) {
        let Ok(ethernet) = EthernetFrame::new_checked(frame) else { return };
        let source = ethernet.src_addr();
        if self.inside_hosts.contains(&source) {
            return;
        }
        if self.inside_hosts.is_full() {
            self.inside_hosts.pop();
        }
        // There is room now.
        let _full = self.inside_hosts.insert(0, source);
    }

    fn classify(
        &mut self,
        now: Instant,
        side: Port,
        pass: Pass,
        header: usize,
        frame: &[u8],
    ) -> Result<Disposition, DropReason> {
        let ethernet = EthernetFrame::new_checked(frame).map_err(|_| DropReason::Malformed)?;
        let (source, destination) = (ethernet.src_addr(), ethernet.dst_addr());
        if !packet::is_unicast_host(source) || source == self.hardware {
            return Err(DropReason::NotForUs);
        }
        let for_us = destination == self.hardware;
        let kind = frame.get(header - 2..header).and_then(|kind| kind.first_chunk());
        let kind = EthernetProtocol::from(u16::from_be_bytes(*kind.ok_or(DropReason::Malformed)?));
        let bytes = frame.get(header..).ok_or(DropReason::Malformed)?;
        match kind {
            EthernetProtocol::Arp => match (self.handle_arp(now, bytes)?, for_us) {
                (true, true) => Ok(Disposition::Local),
                (true, false) => Ok(Disposition::ForwardAndLocal),
                (false, false) => Ok(Disposition::Forward),
                (false, true) => Err(DropReason::NotForUs),
            },
            EthernetProtocol::Ipv4 => {
                self.bridge_ipv4(now, side, source, for_us, destination.is_broadcast(), bytes)
            }
            _ if for_us => Err(DropReason::NotForUs),
            EthernetProtocol::Ipv6 if pass.ipv6 => Ok(Disposition::Forward),
            EthernetProtocol::Unknown(_) if pass.other => Ok(Disposition::Forward),
            _ => Err(DropReason::Protocol),
        }
    }

    fn bridge_ipv4(
        &mut self,
        now: Instant,
        side: Port,
        hardware: EthernetAddress,
        for_us: bool,
        broadcast: bool,
        bytes: &[u8],
    ) -> Result<Disposition, DropReason> {
        let header = Header::parse(bytes)?;
        let own_address = self.interface.map(|interface| interface.network.address);
        if let Transport::TcpOrUdp { protocol: Protocol::Udp, destination, .. } = header.transport
            && destination == self.config.knock_port
            && side == Port::Outside
            && (own_address == Some(header.destination) || self.is_protected(header.destination))
        {
            return self.check_knock(now, &header, bytes).map(Disposition::Knock);
        }
        if for_us {
            return self.check_local(&header, side == Port::Inside).map(|()| Disposition::Local);
        }
        match side {
            Port::Outside => self.bridge_ingress(now, hardware, &header, bytes)?,
            Port::Inside => self.bridge_egress(now, &header),
        }
        // DHCP servers broadcast while the gateway has no address.
        let is_expected = broadcast && self.check_local(&header, side == Port::Inside).is_ok();
        Ok(if is_expected { Disposition::ForwardAndLocal } else { Disposition::Forward })
    }

    fn bridge_ingress(
        &mut self,
        now: Instant,
        hardware: EthernetAddress,
        header: &Header,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        if packet::is_source_routed(bytes) {
            return Err(DropReason::Malformed);
        }
        match header.transport {
            // Later fragments do not have the destination port.
            Transport::Fragment
                if self.is_protected(header.destination) || is_multicast_or_broadcast(header.destination) =>
            {
                Err(DropReason::Fragment)
            }
            Transport::TcpOrUdp { protocol, destination, segment, .. } => {
                let to_many = is_multicast_or_broadcast(header.destination)
                    || self.is_directed_broadcast(header.destination);
                let Some((service, _)) = self.find_service(protocol, |service| {
                    service.port == destination && (to_many || service.inside.address == header.destination)
                }) else {
                    return Ok(());
                };
                if to_many {
                    return Err(DropReason::NoGrant);
                }
                let tuple = Tuple {
                    protocol,
                    client: header.source_endpoint(),
                    server: header.destination_endpoint(),
                };
                match self.continue_flow(now, &tuple, segment, hardware) {
                    Some(_) => Ok(()),
                    None => self.open_flow(now, tuple, service, segment, hardware).map(drop),
                }
            }
            _ => Ok(()),
        }
    }

    /// Everything from the inside is forwarded. Replies keep their flow alive.
    fn bridge_egress(&mut self, now: Instant, header: &Header) {
        if let Transport::TcpOrUdp { protocol, segment, .. } = header.transport {
            let now = CoarseInstant::from(now);
            let tuple =
                Tuple { protocol, client: header.destination_endpoint(), server: header.source_endpoint() };
            if let Some(flow) = self.tables.flows.find(now, &tuple) {
                flow.update(now, Direction::Egress, segment);
            }
        }
    }

    fn is_protected(&self, address: Ipv4Addr) -> bool {
        self.config.services.iter().any(|service| service.inside.address == address)
    }

    /// Whether this is the broadcast address of the gateway's own network.
    fn is_directed_broadcast(&self, address: Ipv4Addr) -> bool {
        self.interface.is_some_and(|interface| {
            let host_bits = u32::MAX.checked_shr(interface.network.prefix.into()).unwrap_or(0);
            interface.network.contains(address) && u32::from(address) & host_bits == host_bits
        })
    }
}

fn is_multicast_or_broadcast(address: Ipv4Addr) -> bool {
    address.is_broadcast() || address.is_multicast()
}

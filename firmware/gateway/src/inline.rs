//! Two sides, and a bridge that holds back new flows to protected services.

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol};

use crate::{
    Instant,
    action::{Action, DropReason, Port},
    config::{Inline, Pass, Vlans},
    flow::{Direction, Protocol, Tuple},
    gateway::Gateway,
    instant::CoarseInstant,
    packet::{self, Header, Transport},
};

/// Bytes of both hardware addresses, after which a tag goes.
const ADDRESSES: usize = 12;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes of an 802.1Q tag.
pub const TAG: usize = 4;
/// What a tag begins with.
const TAGGED: u16 = 0x8100;
/// The bits of a tag that name the VLAN; the others are priority.
const VLAN: u16 = 0x0fff;

/// Writes `frame` with a tag to `out`.
pub(crate) fn tag(frame: &[u8], vlan: u16, out: &mut [u8]) -> Option<(Port, usize)> {
    let (addresses, rest) = frame.split_first_chunk::<ADDRESSES>()?;
    let length = frame.len() + TAG;
    let out = out.get_mut(..length)?;
    let (head, tail) = out.split_at_mut_checked(ADDRESSES + TAG)?;
    let tag = TAGGED.to_be_bytes().into_iter().chain(vlan.to_be_bytes());
    head.iter_mut().zip(addresses.iter().copied().chain(tag)).for_each(|(slot, byte)| *slot = byte);
    tail.copy_from_slice(rest);
    Some((Port::Outside, length))
}

/// Moves the addresses over the tag; the frame without it begins [`TAG`] bytes later.
pub fn untag(frame: &mut [u8]) {
    if frame.len() >= ADDRESSES + TAG {
        frame.copy_within(..ADDRESSES, TAG);
    }
}

/// The side that a trunk's frame is from; its tag becomes that of the other side.
fn cross(frame: &mut [u8], vlans: Vlans) -> Result<Port, DropReason> {
    let tag = frame.get_mut(ADDRESSES..ADDRESSES + TAG).and_then(|tag| tag.first_chunk_mut::<TAG>());
    let tag = tag.ok_or(DropReason::Malformed)?;
    let [a, b, c, d] = *tag;
    let control = u16::from_be_bytes([c, d]);
    let (side, other) = match control & VLAN {
        vlan if vlan == vlans.outside => (Port::Outside, vlans.inside),
        vlan if vlan == vlans.inside => (Port::Inside, vlans.outside),
        _ => return Err(DropReason::NotForUs),
    };
    if u16::from_be_bytes([a, b]) != TAGGED {
        return Err(DropReason::NotForUs);
    }
    let [c, d] = ((control & !VLAN) | other).to_be_bytes();
    *tag = [a, b, c, d];
    Ok(side)
}

/// What becomes of a frame, before it is known where its ports are.
enum Disposition {
    Forward,
    Local,
    ForwardAndLocal,
}

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Gateway<'_, FLOWS, GRANTS, RULES, KNOCKS>
{
    pub(crate) fn inline(&mut self, now: Instant, port: Port, inline: Inline, frame: &mut [u8]) -> Action {
        let (side, header) = match inline.vlans {
            None => (port, ETHERNET),
            Some(vlans) => match cross(frame, vlans) {
                Ok(side) => (side, ETHERNET + TAG),
                Err(why) => return Action::Drop(why),
            },
        };
        let disposition = self.classify(now, side, inline.pass, header, frame);
        if side == Port::Inside
            && matches!(disposition, Ok(Disposition::Local | Disposition::ForwardAndLocal))
        {
            self.remember_inside_host(frame);
        }
        match (disposition, inline.vlans.is_some()) {
            (Err(why), _) => Action::Drop(why),
            (Ok(Disposition::Forward), false) => Action::Forward(side.other()),
            (Ok(Disposition::Forward), true) => Action::Forward(Port::Outside),
            (Ok(Disposition::Local), false) => Action::Local { skip: 0 },
            (Ok(Disposition::Local), true) => {
                untag(frame);
                Action::Local { skip: TAG }
            }
            (Ok(Disposition::ForwardAndLocal), false) => Action::ForwardAndLocal(side.other()),
            (Ok(Disposition::ForwardAndLocal), true) => Action::ForwardAndUntagged(Port::Outside),
        }
    }

    /// Notes who of the inside has spoken to the gateway. Nothing from outside comes here, so strangers can push nobody out.
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
        let here = destination == self.hardware;
        let kind =
            frame.get(header - 2..header).and_then(|kind| kind.first_chunk()).ok_or(DropReason::Malformed)?;
        let bytes = frame.get(header..).ok_or(DropReason::Malformed)?;
        match EthernetProtocol::from(u16::from_be_bytes(*kind)) {
            EthernetProtocol::Arp => match (self.handle_arp(now, bytes)?, here) {
                (true, true) => Ok(Disposition::Local),
                (true, false) => Ok(Disposition::ForwardAndLocal),
                (false, false) => Ok(Disposition::Forward),
                (false, true) => Err(DropReason::NotForUs),
            },
            EthernetProtocol::Ipv4 => {
                self.bridge_ipv4(now, side, source, here, destination.is_broadcast(), bytes)
            }
            _ if here => Err(DropReason::NotForUs),
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
        here: bool,
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
            return Err(self.check_knock(now, &header, bytes));
        }
        if here {
            return self.check_local(&header, side == Port::Inside).map(|()| Disposition::Local);
        }
        match side {
            Port::Outside => self.bridge_ingress(now, hardware, &header, bytes)?,
            Port::Inside => self.bridge_egress(now, &header),
        }
        // What DHCP servers send before there is an address.
        let wanted = broadcast && self.check_local(&header, side == Port::Inside).is_ok();
        Ok(if wanted { Disposition::ForwardAndLocal } else { Disposition::Forward })
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
            // Nobody knows what port the rest is for.
            Transport::Fragment
                if self.is_protected(header.destination) || is_multicast_or_broadcast(header.destination) =>
            {
                Err(DropReason::Fragment)
            }
            Transport::TcpOrUdp { protocol, destination, segment, .. } => {
                let many = is_multicast_or_broadcast(header.destination)
                    || self.is_directed_broadcast(header.destination);
                let Some((service, _)) = self.find_service(protocol, |service| {
                    service.port == destination && (many || service.inside.address == header.destination)
                }) else {
                    return Ok(());
                };
                if many {
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

    /// From the inside everything passes; replies keep their flow alive.
    fn bridge_egress(&mut self, now: Instant, header: &Header) {
        if let Transport::TcpOrUdp { protocol, segment, .. } = header.transport {
            let moment = CoarseInstant::from(now);
            let tuple =
                Tuple { protocol, client: header.destination_endpoint(), server: header.source_endpoint() };
            if let Some(flow) = self.tables.flows.find(moment, &tuple) {
                flow.update(moment, Direction::Egress, segment);
            }
        }
    }

    fn is_protected(&self, address: core::net::Ipv4Addr) -> bool {
        self.config.services.iter().any(|service| service.inside.address == address)
    }

    /// The last address of the gateway's own network, which all its hosts listen to.
    fn is_directed_broadcast(&self, address: core::net::Ipv4Addr) -> bool {
        self.interface.is_some_and(|interface| {
            let host_bits = u32::MAX.checked_shr(interface.network.prefix.into()).unwrap_or(0);
            interface.network.contains(address) && u32::from(address) & host_bits == host_bits
        })
    }
}

/// An address that more than one host listens to.
fn is_multicast_or_broadcast(address: core::net::Ipv4Addr) -> bool {
    address.is_broadcast() || address.is_multicast()
}

//! One interface: services at the gateway's own address, rewritten both ways.

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Packet, Ipv4Packet};

use crate::{
    Instant,
    action::{Action, Drop, Port},
    flow::{Direction, Endpoint, Protocol, Segment, Tuple},
    gateway::Gateway,
    moment::Moment,
    packet::{self, Ends, Header, ICMP_HEADER, IPV4_HEADER, Transport},
};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// ICMP types that quote the packet they are about (RFC 792): unreachable, time exceeded, parameter problem.
const ERRORS: [u8; 3] = [3, 11, 12];

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const MARKS: usize>
    Gateway<'_, FLOWS, GRANTS, RULES, MARKS>
{
    pub(crate) fn one_arm(&mut self, now: Instant, frame: &mut [u8]) -> Action {
        self.one_arm_or_drop(now, frame).unwrap_or_else(Action::Drop)
    }

    fn one_arm_or_drop(&mut self, now: Instant, frame: &mut [u8]) -> Result<Action, Drop> {
        let ethernet = EthernetFrame::new_checked(&*frame).map_err(|_| Drop::Malformed)?;
        let (source, destination) = (ethernet.src_addr(), ethernet.dst_addr());
        if !packet::is_host(source) || source == self.hardware {
            return Err(Drop::NotOurs);
        }
        if destination != self.hardware && !destination.is_broadcast() {
            return Err(Drop::NotOurs);
        }
        match ethernet.ethertype() {
            EthernetProtocol::Arp => {
                if self.arp(now, ethernet.payload())? {
                    Ok(Action::Local { skip: 0 })
                } else {
                    Err(Drop::NotOurs)
                }
            }
            EthernetProtocol::Ipv4 => self.ipv4(now, source, frame),
            _ => Err(Drop::Protocol),
        }
    }

    fn ipv4(&mut self, now: Instant, hardware: EthernetAddress, frame: &mut [u8]) -> Result<Action, Drop> {
        let bytes = frame.get_mut(ETHERNET..).ok_or(Drop::Malformed)?;
        let header = Header::read(bytes)?;
        let Some(interface) = self.interface else {
            // Only DHCP can come before there is an address.
            return self
                .local(&header, false)
                .map(|()| Action::Local { skip: 0 })
                .map_err(|_| Drop::NotReady);
        };
        let ours = interface.network.address;
        if header.source == ours || header.source.is_broadcast() || header.source.is_multicast() {
            return Err(Drop::NotOurs);
        }
        let local = |gateway: &Self| {
            // There is no inside by wire; a network must be named to be trusted.
            gateway.local(&header, gateway.config.inside.is_some()).map(|()| Action::Local { skip: 0 })
        };
        if header.destination != ours {
            return if header.destination.is_broadcast() { local(self) } else { Err(Drop::NotOurs) };
        }
        match header.transport {
            Transport::Ported { protocol: Protocol::Udp, destination, .. }
                if destination == self.config.knock_port =>
            {
                Err(self.knock(now, &header, bytes))
            }
            Transport::Ported { protocol, destination, segment, .. } => {
                if let Some((service, inside)) =
                    self.service_at(protocol, |service| service.port == destination)
                {
                    let tuple = Tuple { protocol, client: header.from(), server: header.to() };
                    self.inwards(now, hardware, frame, tuple, service, inside, segment)
                } else if let Some(action) = self.outwards(now, frame, &header)? {
                    Ok(action)
                } else {
                    local(self)
                }
            }
            Transport::Icmp(kind) if ERRORS.contains(&kind) => self.icmp_error(now, frame, ours),
            Transport::Fragment => Err(Drop::Fragment),
            Transport::Icmp(_) | Transport::Other => local(self),
        }
    }

    /// A client's frame to a service.
    #[allow(clippy::too_many_arguments)] // all of it was read from the frame already
    fn inwards(
        &mut self,
        now: Instant,
        hardware: EthernetAddress,
        frame: &mut [u8],
        tuple: Tuple,
        service: u8,
        inside: Endpoint,
        segment: Segment,
    ) -> Result<Action, Drop> {
        let known = self.continue_flow(now, &tuple, segment, hardware);
        // Asked before a flow is made: without the host, there would be nothing in it.
        let host = self.neighbours.hardware(inside.address);
        let nat_port = match known {
            Some(nat_port) => nat_port,
            None if host.is_none() => {
                let granted = self.tables.grants.has(Moment::from(now), tuple.client.address, service);
                return Err(if granted { Drop::NoNeighbour } else { Drop::NoGrant });
            }
            None => self.begin_flow(now, tuple, service, segment, hardware)?,
        };
        let host = host.ok_or(Drop::NoNeighbour)?;
        let ends =
            Ends { source: Endpoint { address: tuple.server.address, port: nat_port }, destination: inside };
        self.send(frame, host, tuple.protocol, &ends)
    }

    /// A host's frame to a client; `None`: it is no flow's.
    fn outwards(&mut self, now: Instant, frame: &mut [u8], header: &Header) -> Result<Option<Action>, Drop> {
        let Transport::Ported { protocol, destination, segment, .. } = header.transport else {
            return Ok(None);
        };
        let moment = Moment::from(now);
        let Some(flow) = self.tables.flows.find_by_nat_port(moment, protocol, destination) else {
            return Ok(None);
        };
        let inside = self.config.services.get(usize::from(flow.service)).map(|service| service.inside);
        if inside != Some(header.from()) {
            return Err(Drop::NoFlow);
        }
        flow.touch(moment, Direction::Out, segment);
        let (client, hardware) = (flow.client, flow.client_hardware);
        let ends = Ends { source: flow.server, destination: client };
        self.send(frame, hardware, protocol, &ends).map(Some)
    }

    fn send(
        &self,
        frame: &mut [u8],
        to: EthernetAddress,
        protocol: Protocol,
        ends: &Ends,
    ) -> Result<Action, Drop> {
        packet::rewrite(frame.get_mut(ETHERNET..).ok_or(Drop::Malformed)?, protocol, ends)?;
        self.address(frame, to);
        Ok(Action::Forward(Port::Outside))
    }

    fn address(&self, frame: &mut [u8], to: EthernetAddress) {
        let mut ethernet = EthernetFrame::new_unchecked(frame);
        ethernet.set_src_addr(self.hardware);
        ethernet.set_dst_addr(to);
    }

    /// An ICMP error about a packet of a flow goes to the side that sent the packet, which is named there as that side knows it.
    fn icmp_error(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        ours: core::net::Ipv4Addr,
    ) -> Result<Action, Drop> {
        let bytes = frame.get_mut(ETHERNET..).ok_or(Drop::Malformed)?;
        let mut outer = Ipv4Packet::new_checked(bytes).map_err(|_| Drop::Malformed)?;
        let (from, hops) = (outer.src_addr(), outer.hop_limit());
        if !Icmpv4Packet::new_unchecked(&*outer.payload_mut()).verify_checksum() {
            return Err(Drop::Checksum);
        }
        let quoted = outer.payload_mut().get_mut(ICMP_HEADER..).ok_or(Drop::Malformed)?;
        let quote = Quote::read(quoted)?;
        let moment = Moment::from(now);
        let seen = Tuple { protocol: quote.protocol, client: quote.destination, server: quote.source };
        let (to, hardware, ends) = if let Some(flow) = self.tables.flows.find(moment, &seen) {
            // About what went to the client: the inside host wrote it to the NAT port.
            let inside = self.config.services.get(usize::from(flow.service)).ok_or(Drop::NoFlow)?.inside;
            let hardware = self.neighbours.hardware(inside.address).ok_or(Drop::NoNeighbour)?;
            let ends = Ends { source: inside, destination: Endpoint { address: ours, port: flow.nat_port } };
            (inside.address, hardware, ends)
        } else if let Some(flow) =
            self.tables.flows.find_by_nat_port(moment, quote.protocol, quote.source.port)
        {
            // About what went to the inside host: the client wrote it to the service.
            let inside = self.config.services.get(usize::from(flow.service)).ok_or(Drop::NoFlow)?.inside;
            if quote.destination != inside || quote.source.address != ours {
                return Err(Drop::NoFlow);
            }
            (
                flow.client.address,
                flow.client_hardware,
                Ends { source: flow.client, destination: flow.server },
            )
        } else {
            return Err(Drop::NoFlow);
        };
        if hops <= 1 {
            return Err(Drop::Hops);
        }
        packet::rewrite_quoted(quoted, quote.protocol, &ends)?;
        Icmpv4Packet::new_unchecked(outer.payload_mut()).fill_checksum();
        outer.set_hop_limit(hops - 1);
        outer.set_src_addr(ours);
        outer.set_dst_addr(to);
        outer.fill_checksum();
        debug_assert_ne!(from, ours, "such frames are dropped before");
        self.address(frame, hardware);
        Ok(Action::Forward(Port::Outside))
    }
}

/// The packet that an ICMP error is about, as far as it is quoted.
struct Quote {
    protocol: Protocol,
    source: Endpoint,
    destination: Endpoint,
}

impl Quote {
    /// RFC 792 quotes the header and 8 bytes.
    fn read(bytes: &[u8]) -> Result<Self, Drop> {
        if bytes.len() < usize::from(IPV4_HEADER) + 8 {
            return Err(Drop::Malformed);
        }
        let packet = Ipv4Packet::new_unchecked(bytes);
        if packet.version() != 4 || packet.header_len() < IPV4_HEADER {
            return Err(Drop::Malformed);
        }
        if packet.frag_offset() != 0 {
            return Err(Drop::Fragment);
        }
        let protocol = match packet.next_header() {
            smoltcp::wire::IpProtocol::Tcp => Protocol::Tcp,
            smoltcp::wire::IpProtocol::Udp => Protocol::Udp,
            _ => return Err(Drop::Protocol),
        };
        let header = usize::from(packet.header_len());
        let transport =
            bytes.get(header..).and_then(|rest| rest.first_chunk::<8>()).ok_or(Drop::Malformed)?;
        let [a, b, c, d, ..] = *transport;
        Ok(Self {
            protocol,
            source: Endpoint { address: packet.src_addr(), port: u16::from_be_bytes([a, b]) },
            destination: Endpoint { address: packet.dst_addr(), port: u16::from_be_bytes([c, d]) },
        })
    }
}

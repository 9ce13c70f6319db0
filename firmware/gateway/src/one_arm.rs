//! One-arm mode: one interface. Services have ports of the gateway's own address; their packets are rewritten both ways.

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Packet, Ipv4Packet};

use crate::{
    Instant,
    action::Action,
    drop_reason::DropReason,
    flow::{Direction, Endpoint, Protocol, Segment, Tuple},
    gateway::Gateway,
    instant::CoarseInstant,
    packet::{self, Endpoints, Header, ICMP_HEADER, IPV4_HEADER, Transport},
    port::Port,
};

/// Length of an Ethernet header in bytes.
const ETHERNET_HEADER: usize = 14;

/// ICMP errors that quote a packet (RFC 792): destination unreachable, time exceeded, parameter problem.
const ICMP_ERRORS: [u8; 3] = [3, 11, 12];

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Gateway<'_, FLOWS, GRANTS, RULES, KNOCKS>
{
    pub(crate) fn one_arm(&mut self, now: Instant, frame: &mut [u8]) -> Action {
        self.one_arm_or_drop(now, frame).unwrap_or_else(Action::Drop)
    }

    fn one_arm_or_drop(&mut self, now: Instant, frame: &mut [u8]) -> Result<Action, DropReason> {
        let ethernet = EthernetFrame::new_checked(&*frame).map_err(|_| DropReason::Malformed)?;
        let (source, destination) = (ethernet.src_addr(), ethernet.dst_addr());
        if !packet::is_unicast_host(source) || source == self.hardware {
            return Err(DropReason::NotForUs);
        }
        if destination != self.hardware && !destination.is_broadcast() {
            return Err(DropReason::NotForUs);
        }
        match ethernet.ethertype() {
            EthernetProtocol::Arp => {
                if self.handle_arp(now, ethernet.payload())? {
                    Ok(Action::Local { skip: 0 })
                } else {
                    Err(DropReason::NotForUs)
                }
            }
            EthernetProtocol::Ipv4 => self.ipv4(now, source, frame),
            _ => Err(DropReason::Protocol),
        }
    }

    fn ipv4(
        &mut self,
        now: Instant,
        hardware: EthernetAddress,
        frame: &mut [u8],
    ) -> Result<Action, DropReason> {
        let bytes = frame.get_mut(ETHERNET_HEADER..).ok_or(DropReason::Malformed)?;
        let header = Header::parse(bytes)?;
        let Some(interface) = self.interface else {
            // Until then, only DHCP is expected.
            return self
                .check_local(&header, false)
                .map(|()| Action::Local { skip: 0 })
                .map_err(|_| DropReason::NotReady);
        };
        let own_address = interface.network.address;
        if header.source == own_address || header.source.is_broadcast() || header.source.is_multicast() {
            return Err(DropReason::NotForUs);
        }
        let local = |gateway: &Self| {
            // One interface has no inside, so only the configured network is trusted.
            gateway
                .check_local(&header, gateway.config.counters_network.is_some())
                .map(|()| Action::Local { skip: 0 })
        };
        if header.destination != own_address {
            return if header.destination.is_broadcast() { local(self) } else { Err(DropReason::NotForUs) };
        }
        match header.transport {
            Transport::TcpOrUdp { protocol: Protocol::Udp, destination, .. }
                if destination == self.config.knock_port =>
            {
                self.check_knock(now, &header, bytes).map(Action::Knock)
            }
            Transport::TcpOrUdp { protocol, destination, segment, .. } => {
                if let Some((service, inside)) =
                    self.find_service(protocol, |service| service.port == destination)
                {
                    let tuple = Tuple {
                        protocol,
                        client: header.source_endpoint(),
                        server: header.destination_endpoint(),
                    };
                    self.ingress(now, hardware, frame, tuple, service, inside, segment)
                } else if let Some(action) = self.egress(now, frame, &header)? {
                    Ok(action)
                } else {
                    local(self)
                }
            }
            Transport::Icmp(kind) if ICMP_ERRORS.contains(&kind) => self.icmp_error(now, frame, own_address),
            Transport::Fragment => Err(DropReason::Fragment),
            Transport::Icmp(_) | Transport::Other => local(self),
        }
    }

    /// Forwards a client's frame to a service.
    #[allow(clippy::too_many_arguments)] // all of them were read from the frame
    fn ingress(
        &mut self,
        now: Instant,
        hardware: EthernetAddress,
        frame: &mut [u8],
        tuple: Tuple,
        service: u8,
        inside: Endpoint,
        segment: Segment,
    ) -> Result<Action, DropReason> {
        let known = self.continue_flow(now, &tuple, segment, hardware);
        // Checked before a flow is opened: it would be useless without the host's MAC address.
        let host = self.neighbours.hardware(inside.address);
        let nat_port = match known {
            Some(nat_port) => nat_port,
            None if host.is_none() => {
                let granted =
                    self.tables.grants.allows(CoarseInstant::from(now), tuple.client.address, service);
                return Err(if granted { DropReason::NoNeighbour } else { DropReason::NoGrant });
            }
            None => self.open_flow(now, tuple, service, segment, hardware)?,
        };
        let host = host.ok_or(DropReason::NoNeighbour)?;
        let endpoints = Endpoints {
            source: Endpoint { address: tuple.server.address, port: nat_port },
            destination: inside,
        };
        self.send(frame, host, tuple.protocol, &endpoints)
    }

    /// Forwards an inside host's frame to a client. Returns `None` if it does not belong to a flow.
    fn egress(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        header: &Header,
    ) -> Result<Option<Action>, DropReason> {
        let Transport::TcpOrUdp { protocol, destination, segment, .. } = header.transport else {
            return Ok(None);
        };
        let now = CoarseInstant::from(now);
        let Some(flow) = self.tables.flows.find_by_nat_port(now, protocol, destination) else {
            return Ok(None);
        };
        let inside = self.config.services.get(usize::from(flow.service)).map(|service| service.inside);
        if inside != Some(header.source_endpoint()) {
            return Err(DropReason::NoFlow);
        }
        flow.update(now, Direction::Egress, segment);
        let (client, hardware) = (flow.client, flow.client_hardware);
        let endpoints = Endpoints { source: flow.server, destination: client };
        self.send(frame, hardware, protocol, &endpoints).map(Some)
    }

    fn send(
        &self,
        frame: &mut [u8],
        to: EthernetAddress,
        protocol: Protocol,
        endpoints: &Endpoints,
    ) -> Result<Action, DropReason> {
        packet::rewrite(frame.get_mut(ETHERNET_HEADER..).ok_or(DropReason::Malformed)?, protocol, endpoints)?;
        self.address(frame, to);
        Ok(Action::Forward(Port::Outside))
    }

    fn address(&self, frame: &mut [u8], to: EthernetAddress) {
        let mut ethernet = EthernetFrame::new_unchecked(frame);
        ethernet.set_src_addr(self.hardware);
        ethernet.set_dst_addr(to);
    }

    /// Forwards an ICMP error about a packet of a flow to the side that sent the packet. The quoted packet is rewritten to
    /// what that side sent.
    fn icmp_error(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        own_address: core::net::Ipv4Addr,
    ) -> Result<Action, DropReason> {
        let bytes = frame.get_mut(ETHERNET_HEADER..).ok_or(DropReason::Malformed)?;
        let mut outer = Ipv4Packet::new_checked(bytes).map_err(|_| DropReason::Malformed)?;
        let (from, ttl) = (outer.src_addr(), outer.hop_limit());
        if !Icmpv4Packet::new_unchecked(&*outer.payload_mut()).verify_checksum() {
            return Err(DropReason::Checksum);
        }
        let quoted = outer.payload_mut().get_mut(ICMP_HEADER..).ok_or(DropReason::Malformed)?;
        let quote = Quote::parse(quoted)?;
        let now = CoarseInstant::from(now);
        let seen = Tuple { protocol: quote.protocol, client: quote.destination, server: quote.source };
        let (to, hardware, endpoints) = if let Some(flow) = self.tables.flows.find(now, &seen) {
            // About a packet to the client: the inside host sent it to the NAT port.
            let inside =
                self.config.services.get(usize::from(flow.service)).ok_or(DropReason::NoFlow)?.inside;
            let hardware = self.neighbours.hardware(inside.address).ok_or(DropReason::NoNeighbour)?;
            let endpoints = Endpoints {
                source: inside,
                destination: Endpoint { address: own_address, port: flow.nat_port },
            };
            (inside.address, hardware, endpoints)
        } else if let Some(flow) = self.tables.flows.find_by_nat_port(now, quote.protocol, quote.source.port)
        {
            // About a packet to the inside host: the client sent it to the service.
            let inside =
                self.config.services.get(usize::from(flow.service)).ok_or(DropReason::NoFlow)?.inside;
            if quote.destination != inside || quote.source.address != own_address {
                return Err(DropReason::NoFlow);
            }
            (
                flow.client.address,
                flow.client_hardware,
                Endpoints { source: flow.client, destination: flow.server },
            )
        } else {
            return Err(DropReason::NoFlow);
        };
        if ttl <= 1 {
            return Err(DropReason::TtlExpired);
        }
        packet::rewrite_quote(quoted, quote.protocol, &endpoints)?;
        Icmpv4Packet::new_unchecked(outer.payload_mut()).fill_checksum();
        outer.set_hop_limit(ttl - 1);
        outer.set_src_addr(own_address);
        outer.set_dst_addr(to);
        outer.fill_checksum();
        debug_assert_ne!(from, own_address, "such frames were dropped earlier");
        self.address(frame, hardware);
        Ok(Action::Forward(Port::Outside))
    }
}

/// The protocol and endpoints of the packet that an ICMP error quotes.
struct Quote {
    protocol: Protocol,
    source: Endpoint,
    destination: Endpoint,
}

impl Quote {
    /// An error quotes at least the header and 8 bytes (RFC 792).
    fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        if bytes.len() < usize::from(IPV4_HEADER) + 8 {
            return Err(DropReason::Malformed);
        }
        let packet = Ipv4Packet::new_unchecked(bytes);
        if packet.version() != 4 || packet.header_len() < IPV4_HEADER {
            return Err(DropReason::Malformed);
        }
        if packet.frag_offset() != 0 {
            return Err(DropReason::Fragment);
        }
        let protocol = match packet.next_header() {
            smoltcp::wire::IpProtocol::Tcp => Protocol::Tcp,
            smoltcp::wire::IpProtocol::Udp => Protocol::Udp,
            _ => return Err(DropReason::Protocol),
        };
        let header = usize::from(packet.header_len());
        let transport =
            bytes.get(header..).and_then(|rest| rest.first_chunk::<8>()).ok_or(DropReason::Malformed)?;
        let [a, b, c, d, ..] = *transport;
        Ok(Self {
            protocol,
            source: Endpoint { address: packet.src_addr(), port: u16::from_be_bytes([a, b]) },
            destination: Endpoint { address: packet.dst_addr(), port: u16::from_be_bytes([c, d]) },
        })
    }
}

//! One-arm mode: one interface. Services have ports of the gateway's own addresses; their packets are rewritten both ways.

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol};

use crate::{
    Instant,
    action::Action,
    drop_reason::DropReason,
    flow::{Direction, FlowKind, Peer, Tuple},
    gateway::Gateway,
    instant::CoarseInstant,
    ip::Ip,
    judge::{ERRORS, ERRORS_V6},
    nd::{self, Message},
    packet::{self, ETHERNET_HEADER, Endpoints, Header, Transport},
    port::Port,
    tables::Tables,
};

/// A packet to one of the gateway's addresses.
#[derive(Clone, Copy)]
pub(crate) struct Arrived {
    /// The sender's MAC address.
    pub(crate) hardware: EthernetAddress,
    pub(crate) header: Header,
}

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
        let is_ipv6 = ethernet.ethertype() == EthernetProtocol::Ipv6 && self.address6().is_some();
        let for_us = destination == self.hardware
            || destination.is_broadcast()
            // Solicitations for its address are sent to a group.
            || (is_ipv6 && destination.0.starts_with(&[0x33, 0x33]));
        if !for_us {
            return Err(DropReason::NotForUs);
        }
        match ethernet.ethertype() {
            EthernetProtocol::Arp => self.arp(now, source, destination, ethernet.payload()),
            EthernetProtocol::Ipv4 => {
                let header = packet::parse_v4(frame.get(ETHERNET_HEADER..).ok_or(DropReason::Malformed)?)?;
                self.ipv4(now, &Arrived { hardware: source, header }, frame)
            }
            EthernetProtocol::Ipv6 if is_ipv6 => {
                let header = packet::parse_v6(frame.get(ETHERNET_HEADER..).ok_or(DropReason::Malformed)?)?;
                self.ipv6(now, &Arrived { hardware: source, header }, destination, frame)
            }
            _ => Err(DropReason::Protocol),
        }
    }

    fn arp(
        &mut self,
        now: Instant,
        source: EthernetAddress,
        destination: EthernetAddress,
        bytes: &[u8],
    ) -> Result<Action, DropReason> {
        let arp = Self::read_arp(bytes)?;
        if !self.is_own(arp.target) {
            return Err(DropReason::NotForUs);
        }
        // Anybody can ask; only who was asked is believed.
        if arp.is_reply && destination == self.hardware && source == arp.hardware {
            self.tables.neighbours.learn(now, arp.sender, arp.hardware);
        }
        Ok(Action::Local { skip: 0 })
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // saves each frame 15 instructions
    fn ipv4(&mut self, now: Instant, arrived: &Arrived, frame: &mut [u8]) -> Result<Action, DropReason> {
        let header = &arrived.header;
        let Some(interface) = self.interface else {
            // Until then, only DHCP is expected.
            return self.local(header).map_err(|_| DropReason::NotReady);
        };
        let own = Ip::from(interface.network.address);
        if header.source == own
            || header.source.to_v4().is_none_or(|source| source.is_broadcast() || source.is_multicast())
        {
            return Err(DropReason::NotForUs);
        }
        if header.destination != own {
            let is_broadcast = header.destination.to_v4().is_some_and(|to| to.is_broadcast());
            return if is_broadcast { self.local(header) } else { Err(DropReason::NotForUs) };
        }
        self.serve(now, arrived, frame)
    }

    fn ipv6(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        destination: EthernetAddress,
        frame: &mut [u8],
    ) -> Result<Action, DropReason> {
        let &Arrived { hardware, ref header } = arrived;
        let own = self.address6().ok_or(DropReason::Protocol)?;
        let bytes = frame.get(ETHERNET_HEADER..).ok_or(DropReason::Malformed)?;
        let is_question = matches!(header.transport, Transport::Icmp6(nd::SOLICITATION));
        let is_to_us =
            header.destination == own || (is_question && header.destination == nd::solicited_node(own));
        if !is_to_us || header.source == own {
            return Err(DropReason::NotForUs);
        }
        match header.transport {
            Transport::Icmp6(nd::SOLICITATION) => {
                let message = Message::parse(header, bytes)?;
                if message.target != own {
                    return Err(DropReason::NotForUs);
                }
                if header.source.is_group_or_none() {
                    // Another host wants the address: it is told at the next tick.
                    self.announces = true;
                    return Err(DropReason::NotForUs);
                }
                nd::answer(frame, self.own(own), (hardware, header.source), message.hardware.is_some())?;
                Ok(Action::Forward(Port::Outside))
            }
            Transport::Icmp6(nd::ADVERTISEMENT) => {
                let message = Message::parse(header, bytes)?;
                if message.is_solicited && destination == self.hardware {
                    self.tables.neighbours.learn(now, message.target, message.hardware.unwrap_or(hardware));
                }
                Err(DropReason::NotForUs)
            }
            Transport::Echo { is_reply: false, .. }
                if self.config.answer_ping
                    && destination == self.hardware
                    && !header.source.is_group_or_none() =>
            {
                nd::answer_echo(frame, header, self.hardware, hardware)?;
                Ok(Action::Forward(Port::Outside))
            }
            _ if header.source.is_group_or_none() => Err(DropReason::NotForUs),
            _ => self.serve(now, arrived, frame),
        }
    }

    /// Handles a packet to an own address: a knock, one of a flow, or one for the network stack.
    fn serve(&mut self, now: Instant, arrived: &Arrived, frame: &mut [u8]) -> Result<Action, DropReason> {
        let header = &arrived.header;
        let bytes = frame.get(ETHERNET_HEADER..).ok_or(DropReason::Malformed)?;
        match header.transport {
            Transport::Flow { kind: FlowKind::Udp, destination, .. }
                if destination == self.config.knock_port =>
            {
                self.check_knock(now, header, bytes).map(Action::Knock)
            }
            Transport::Flow { kind, destination, .. } => {
                let is_v4 = header.destination.is_v4();
                match self.tables.targets.find(kind, destination, is_v4) {
                    Some(service) => self.ingress(now, frame, arrived, service),
                    None => self.egress(now, frame, arrived),
                }
            }
            Transport::Icmp(kind) if ERRORS.contains(&kind) => self.icmp_error(now, frame, arrived),
            Transport::Icmp6(kind) if ERRORS_V6.contains(&kind) => self.icmp_error(now, frame, arrived),
            Transport::Fragment => Err(DropReason::Fragment),
            Transport::Echo { .. } | Transport::Icmp(_) | Transport::Icmp6(_) | Transport::Other(_) => {
                self.local(header)
            }
        }
    }

    /// Forwards a client's frame to a service.
    fn ingress(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        arrived: &Arrived,
        service: u8,
    ) -> Result<Action, DropReason> {
        let &Arrived { hardware, ref header } = arrived;
        let Transport::Flow { kind, segment, .. } = header.transport else { return Err(DropReason::NoFlow) };
        let tuple = Tuple { kind, client: header.source_peer(), server: header.destination_peer() };
        let known = self.continue_flow(now, &tuple, segment)?;
        let nat_port = match known {
            Some(nat_port) => nat_port,
            // Checked before a flow is opened: it would be useless without the host's MAC address.
            None if self.tables.targets.host(service, &self.tables.neighbours).is_none() => {
                let granted = self.tables.grants.allows(CoarseInstant::from(now), tuple.client.ip, service);
                return Err(if granted.is_some() { DropReason::NoNeighbour } else { DropReason::NoGrant });
            }
            None => self.open_flow(now, tuple, service, segment, hardware)?,
        };
        let host = self.tables.targets.host(service, &self.tables.neighbours);
        let (Peer { ip, port }, host) = host.ok_or(DropReason::NoNeighbour)?;
        let endpoints = Endpoints { source: (&header.destination, nat_port), destination: (ip, *port) };
        self.send(frame, host, header, kind, &endpoints)
    }

    /// Forwards an inside host's frame to a client. What belongs to no flow may be for the network stack.
    fn egress(&mut self, now: Instant, frame: &mut [u8], arrived: &Arrived) -> Result<Action, DropReason> {
        let &Arrived { hardware, ref header } = arrived;
        let Transport::Flow { kind, destination, segment, .. } = header.transport else {
            return self.local(header);
        };
        let Tables { flows, neighbours, targets, .. } = &mut *self.tables;
        let Some((flow, tuple)) = flows.find_by_nat_port(now.into(), kind, destination) else {
            return self.local(header);
        };
        let (inside, host) = targets.host(flow.service, neighbours).ok_or(DropReason::NoFlow)?;
        if *inside != header.source_peer() || *host != hardware {
            return Err(DropReason::NoFlow);
        }
        flow.update(now.into(), Direction::Egress, segment);
        let hardware = flow.client_hardware;
        let endpoints = Endpoints::new(&tuple.server, &tuple.client);
        self.send(frame, &hardware, header, kind, &endpoints)
    }

    /// Passes a packet to the network stack, if it expects it.
    fn local(&self, header: &Header) -> Result<Action, DropReason> {
        // One interface has no inside, so only the configured network is trusted.
        let trusted = self.interface.is_some() && self.config.counters_network.is_some();
        self.check_local(header, trusted).map(|()| Action::Local { skip: 0 })
    }

    #[allow(clippy::trivially_copy_pass_by_ref)] // copying the address costs each frame 10 instructions
    fn send(
        &self,
        frame: &mut [u8],
        to: &EthernetAddress,
        header: &Header,
        kind: FlowKind,
        endpoints: &Endpoints<'_>,
    ) -> Result<Action, DropReason> {
        let bytes = frame.get_mut(ETHERNET_HEADER..).ok_or(DropReason::Malformed)?;
        packet::rewrite(bytes, header, kind, endpoints)?;
        self.address(frame, *to);
        Ok(Action::Forward(Port::Outside))
    }

    /// Writes the MAC addresses of a frame that the gateway sends.
    pub(crate) fn address(&self, frame: &mut [u8], to: EthernetAddress) {
        let mut ethernet = EthernetFrame::new_unchecked(frame);
        ethernet.set_src_addr(self.hardware);
        ethernet.set_dst_addr(to);
    }

    /// Writes the next frame that finds a host, or announces an address.
    pub(crate) fn one_arm_tick(&mut self, now: Instant, frame: &mut [u8]) -> Option<(Port, usize)> {
        let own = self.own(self.address6().unwrap_or(Ip::NONE));
        if core::mem::take(&mut self.announces) {
            return nd::write_advertisement(own, frame).map(|length| (Port::Outside, length));
        }
        if own.v4.is_unspecified()
            && self.config.services.iter().any(|service| service.inside.address.is_ipv4())
        {
            // It would ask for an address that it cannot use yet.
            return None;
        }
        self.tables.neighbours.next_request(now, own, frame).map(|length| (Port::Outside, length))
    }

    /// The gateway's own IPv6 address, if it has one.
    pub(crate) fn address6(&self) -> Option<Ip> {
        self.config.address6.map(|(address, _)| address.into())
    }
}

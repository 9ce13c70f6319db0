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
                self.ipv4(now, Arrived { hardware: source, header }, frame)
            }
            EthernetProtocol::Ipv6 if is_ipv6 => {
                let header = packet::parse_v6(frame.get(ETHERNET_HEADER..).ok_or(DropReason::Malformed)?)?;
                self.ipv6(now, Arrived { hardware: source, header }, destination, frame)
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

    fn ipv4(&mut self, now: Instant, arrived: Arrived, frame: &mut [u8]) -> Result<Action, DropReason> {
        let header = &arrived.header;
        let local = |gateway: &Self| {
            // One interface has no inside, so only the configured network is trusted.
            let trusted = gateway.interface.is_some() && gateway.config.counters_network.is_some();
            gateway.check_local(header, trusted).map(|()| Action::Local { skip: 0 })
        };
        let Some(interface) = self.interface else {
            // Until then, only DHCP is expected.
            return local(self).map_err(|_| DropReason::NotReady);
        };
        let own = Ip::from(interface.network.address);
        if header.source == own
            || header.source.to_v4().is_none_or(|source| source.is_broadcast() || source.is_multicast())
        {
            return Err(DropReason::NotForUs);
        }
        if header.destination != own {
            let is_broadcast = header.destination.to_v4().is_some_and(|to| to.is_broadcast());
            return if is_broadcast { local(self) } else { Err(DropReason::NotForUs) };
        }
        match self.serve(now, arrived, frame)? {
            Some(action) => Ok(action),
            None => local(self),
        }
    }

    fn ipv6(
        &mut self,
        now: Instant,
        arrived: Arrived,
        destination: EthernetAddress,
        frame: &mut [u8],
    ) -> Result<Action, DropReason> {
        let Arrived { hardware, header } = arrived;
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
                let message = Message::parse(&header, bytes)?;
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
                let message = Message::parse(&header, bytes)?;
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
                nd::answer_echo(frame, &header, self.hardware, hardware)?;
                Ok(Action::Forward(Port::Outside))
            }
            _ if header.source.is_group_or_none() => Err(DropReason::NotForUs),
            _ => self.serve(now, arrived, frame)?.ok_or(DropReason::Unsolicited),
        }
    }

    /// Handles a packet to an own address: a knock, or one of a flow. Returns `None` if it is neither.
    fn serve(
        &mut self,
        now: Instant,
        arrived: Arrived,
        frame: &mut [u8],
    ) -> Result<Option<Action>, DropReason> {
        let header = &arrived.header;
        let bytes = frame.get(ETHERNET_HEADER..).ok_or(DropReason::Malformed)?;
        match header.transport {
            Transport::Flow { kind: FlowKind::Udp, destination, .. }
                if destination == self.config.knock_port =>
            {
                self.check_knock(now, header, bytes).map(|outcome| Some(Action::Knock(outcome)))
            }
            Transport::Flow { kind, destination, .. } => {
                let is_v4 = header.destination.is_v4();
                let mut services = self.config.services.iter().zip(0_u8..);
                let service = services.find(|(service, _)| {
                    service.port == destination
                        && FlowKind::from(service.protocol) == kind
                        && service.inside.address.is_ipv4() == is_v4
                });
                match service {
                    Some((service, index)) => {
                        self.ingress(now, frame, arrived, index, service.inside.into()).map(Some)
                    }
                    None => self.egress(now, frame, arrived),
                }
            }
            Transport::Icmp(kind) if ERRORS.contains(&kind) => self.icmp_error(now, frame, arrived).map(Some),
            Transport::Icmp6(kind) if ERRORS_V6.contains(&kind) => {
                self.icmp_error(now, frame, arrived).map(Some)
            }
            Transport::Fragment => Err(DropReason::Fragment),
            Transport::Echo { .. } | Transport::Icmp(_) | Transport::Icmp6(_) | Transport::Other(_) => {
                Ok(None)
            }
        }
    }

    /// Forwards a client's frame to a service.
    fn ingress(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        arrived: Arrived,
        service: u8,
        inside: Peer,
    ) -> Result<Action, DropReason> {
        let Arrived { hardware, header } = arrived;
        let Transport::Flow { kind, segment, .. } = header.transport else { return Err(DropReason::NoFlow) };
        let tuple = Tuple { kind, client: header.source_peer(), server: header.destination_peer() };
        let known = self.continue_flow(now, &tuple, segment)?;
        // Checked before a flow is opened: it would be useless without the host's MAC address.
        let host = self.tables.neighbours.hardware(inside.ip);
        let nat_port = match known {
            Some(nat_port) => nat_port,
            None if host.is_none() => {
                let granted = self.tables.grants.allows(CoarseInstant::from(now), tuple.client.ip, service);
                return Err(if granted.is_some() { DropReason::NoNeighbour } else { DropReason::NoGrant });
            }
            None => self.open_flow(now, tuple, service, segment, hardware)?,
        };
        let host = host.ok_or(DropReason::NoNeighbour)?;
        let endpoints =
            Endpoints { source: Peer { ip: tuple.server.ip, port: nat_port }, destination: inside };
        self.send(frame, host, &header, kind, &endpoints)
    }

    /// Forwards an inside host's frame to a client. Returns `None` if it does not belong to a flow.
    fn egress(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        arrived: Arrived,
    ) -> Result<Option<Action>, DropReason> {
        let Arrived { hardware, header } = arrived;
        let Transport::Flow { kind, destination, segment, .. } = header.transport else { return Ok(None) };
        let Some((flow, tuple)) = self.tables.flows.find_by_nat_port(now.into(), kind, destination) else {
            return Ok(None);
        };
        let inside = self.config.services.get(usize::from(flow.service)).map(|service| service.inside.into());
        if inside != Some(header.source_peer())
            || self.tables.neighbours.hardware(header.source) != Some(hardware)
        {
            return Err(DropReason::NoFlow);
        }
        flow.update(now.into(), Direction::Egress, segment);
        let hardware = flow.client_hardware;
        let endpoints = Endpoints { source: tuple.server, destination: tuple.client };
        self.send(frame, hardware, &header, kind, &endpoints).map(Some)
    }

    fn send(
        &self,
        frame: &mut [u8],
        to: EthernetAddress,
        header: &Header,
        kind: FlowKind,
        endpoints: &Endpoints,
    ) -> Result<Action, DropReason> {
        let bytes = frame.get_mut(ETHERNET_HEADER..).ok_or(DropReason::Malformed)?;
        packet::rewrite(bytes, header, kind, endpoints)?;
        self.address(frame, to);
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

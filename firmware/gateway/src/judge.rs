//! What may go from outside to a protected host: its services for senders with a grant, and answers to what it began.

use crate::{
    Instant,
    config::{Inline, Protect},
    drop_reason::DropReason,
    flow::{Direction, FlowKind, NewFlow, Origin, Segment, Tuple},
    gateway::Gateway,
    inline::Passage,
    instant::CoarseInstant,
    ip::Ip,
    packet::{Header, ICMP_HEADER, Quote, Transport},
};

/// Types of ICMP that report errors and quote a packet: destination unreachable, time exceeded, parameter problem (RFC 792).
pub(crate) const ERRORS: [u8; 3] = [3, 11, 12];
/// The same, and packet too big (RFC 4443).
pub(crate) const ERRORS_V6: core::ops::RangeInclusive<u8> = 1..=4;
/// Messages of `ICMPv6` that no router forwards and that a network needs: neighbour discovery without redirects (RFC 4861).
const NEIGHBOUR_DISCOVERY: core::ops::RangeInclusive<u8> = 133..=136;
/// Of multicast listeners (RFC 3810, section 5).
const LISTENERS: [u8; 4] = [130, 131, 132, 143];

/// Ports of DHCP (RFC 2131) and `DHCPv6` (RFC 8415): of the server, and of the client.
const DHCP: [(u16, u16); 2] = [(67, 68), (547, 546)];
/// Seconds for which answers of DHCP are expected after a request.
const DHCP_LIMIT: u32 = 60;

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Gateway<'_, FLOWS, GRANTS, RULES, KNOCKS>
{
    /// Whether a packet from outside may go to a protected host, or to all.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        passage: Passage,
        inline: &Inline,
        header: &Header,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        match header.transport {
            Transport::Flow { kind, source, destination, segment } => {
                let tuple = Tuple { kind, client: header.source_peer(), server: header.destination_peer() };
                // Hosts accept an address of theirs in a frame to all.
                let is_to_one = passage.destination.is_unicast();
                if is_to_one && self.continue_flow(now, &tuple, segment)?.is_some() {
                    return Ok(());
                }
                // At another address of the host, it is the same service.
                let mut services = self.config.services.iter().zip(0_u8..).filter(|(service, _)| {
                    FlowKind::from(service.protocol) == kind && service.port == destination
                });
                let exact = services
                    .clone()
                    .find(|(service, _)| Ip::from(service.inside.address) == header.destination);
                match exact {
                    Some((_, service)) if is_to_one => {
                        self.open_flow(now, tuple, service, segment, passage.source).map(drop)
                    }
                    _ if self.is_dhcp_answer(now, kind, source, destination) => Ok(()),
                    _ if inline.protect == Protect::Host => Err(DropReason::Unsolicited),
                    _ if self.is_service_elsewhere(passage, header, services.next().is_some()) => {
                        Err(DropReason::NoGrant)
                    }
                    _ => Ok(()),
                }
            }
            // Later fragments do not have the ports.
            Transport::Fragment => Err(DropReason::Fragment),
            Transport::Echo { identifier, is_reply: true } => {
                let tuple = echo(header.source, header.destination, identifier);
                if self.continue_flow(now, &tuple, Segment::default())?.is_some() {
                    Ok(())
                } else {
                    Err(DropReason::NoFlow)
                }
            }
            Transport::Echo { is_reply: false, .. } => match inline.protect {
                Protect::Host => Err(DropReason::Unsolicited),
                Protect::Services => Ok(()),
            },
            Transport::Icmp(kind) if ERRORS.contains(&kind) => self.judge_error(now, header, bytes),
            Transport::Icmp6(kind) if ERRORS_V6.contains(&kind) => self.judge_error(now, header, bytes),
            Transport::Icmp6(kind) if NEIGHBOUR_DISCOVERY.contains(&kind) && header.hop_limit == 255 => {
                Ok(())
            }
            Transport::Icmp6(kind) if LISTENERS.contains(&kind) && header.hop_limit == 1 => Ok(()),
            Transport::Other(protocol) if protocol != 0 && inline.pass.protocols.contains(&protocol) => {
                Ok(())
            }
            Transport::Icmp(_) | Transport::Icmp6(_) | Transport::Other(_) => Err(DropReason::Protocol),
        }
    }

    /// Where only the ports of services are guarded: whether this is one of them, at an address that is not the service's own.
    /// `is_service`: a service has this port.
    fn is_service_elsewhere(&self, passage: Passage, header: &Header, is_service: bool) -> bool {
        // A protected host's own address has the services that it has, and no others.
        is_service
            && (!self.tables.hosts.has_address(header.destination) || !passage.destination.is_unicast())
    }

    /// An ICMP error may be about a packet that the host has sent lately.
    fn judge_error(&mut self, now: Instant, header: &Header, bytes: &[u8]) -> Result<(), DropReason> {
        let body = header.body(bytes)?;
        let quote = body.get(ICMP_HEADER..).ok_or(DropReason::Malformed)?;
        let quote = Quote::parse(quote, header.source.is_v4())?;
        let flow = self.tables.flows.find(now.into(), &quote.egress_tuple());
        let is_known = flow.is_some_and(|flow| flow.has_sent(quote.sequence));
        if is_known && quote.source.ip == header.destination { Ok(()) } else { Err(DropReason::NoFlow) }
    }

    /// Notes what a protected host sends, so that answers may come in. Everything from the inside is forwarded.
    pub(crate) fn track_egress(&mut self, now: Instant, passage: Passage, header: &Header) {
        if !self.tables.hosts.guards(passage.source, header.source) {
            return;
        }
        let (tuple, segment) = match header.transport {
            Transport::Flow { kind: FlowKind::Udp, source, destination, .. }
                if DHCP.contains(&(destination, source)) =>
            {
                self.dhcp_until = CoarseInstant::from(now).after(DHCP_LIMIT);
                return;
            }
            Transport::Flow { kind, segment, .. } => {
                (Tuple { kind, client: header.destination_peer(), server: header.source_peer() }, segment)
            }
            Transport::Echo { identifier, is_reply: false } => {
                (echo(header.destination, header.source, identifier), Segment::default())
            }
            _ => return,
        };
        let now = CoarseInstant::from(now);
        if let Some(flow) = self.tables.flows.find(now, &tuple)
            && !(segment.opens() && flow.is_closing())
        {
            flow.update(now, Direction::Egress, segment);
            return;
        }
        if header.destination.is_group_or_none() || !self.begins(tuple, segment) {
            return;
        }
        let new = NewFlow {
            tuple,
            service: 0,
            origin: Origin::Inside,
            client_hardware: passage.destination,
            segment,
            until: CoarseInstant::ZERO,
        };
        // If there is no room, its answers are dropped.
        let _flow = self.tables.flows.insert(now, new, &|_| true);
    }

    /// Whether a packet from the inside, which belongs to no flow, begins one. After a reset of the gateway, hosts go on with
    /// connections that they had opened; those to their services need another knock.
    fn begins(&self, tuple: Tuple, segment: Segment) -> bool {
        let is_service = || {
            self.config.services.iter().any(|service| {
                FlowKind::from(service.protocol) == tuple.kind && service.port == tuple.server.port
            })
        };
        match tuple.kind {
            FlowKind::Udp | FlowKind::Echo => true,
            FlowKind::Tcp if segment.opens() => true,
            FlowKind::Tcp => segment.continues() && !is_service(),
        }
    }

    /// Whether an inside host has begun this flow.
    pub(crate) fn is_outbound(&mut self, now: Instant, tuple: &Tuple) -> bool {
        let flow = self.tables.flows.find(now.into(), tuple);
        flow.is_some_and(|flow| flow.origin == Origin::Inside)
    }

    fn is_dhcp_answer(&self, now: Instant, kind: FlowKind, source: u16, destination: u16) -> bool {
        kind == FlowKind::Udp
            && DHCP.contains(&(source, destination))
            && CoarseInstant::from(now) < self.dhcp_until
    }
}

/// The flow of an echo request from the inside.
fn echo(client: Ip, server: Ip, identifier: u16) -> Tuple {
    let peer = |ip| crate::flow::Peer { ip, port: identifier };
    Tuple { kind: FlowKind::Echo, client: peer(client), server: peer(server) }
}

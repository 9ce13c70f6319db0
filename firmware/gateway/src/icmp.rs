//! One-arm mode: ICMP errors about packets of a flow.

use crate::{
    Instant,
    action::Action,
    checksum::Sum,
    drop_reason::DropReason,
    flow::{FlowKind, Peer, Tuple},
    gateway::Gateway,
    one_arm::Arrived,
    packet::{self, ETHERNET_HEADER, Endpoints, Header, ICMP_HEADER, Quote},
    port::Port,
    tables::Tables,
};

/// The number of `ICMPv6` in an IPv6 header.
const ICMPV6: u8 = 58;

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Gateway<'_, FLOWS, GRANTS, RULES, KNOCKS>
{
    /// Forwards an ICMP error about a packet of a flow to the side that sent the packet. The quoted packet is rewritten to
    /// what that side sent.
    pub(crate) fn icmp_error(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        arrived: &Arrived,
    ) -> Result<Action, DropReason> {
        let header = &arrived.header;
        let own = header.destination;
        let bytes = frame.get_mut(ETHERNET_HEADER..).ok_or(DropReason::Malformed)?;
        if !checksum(header, header.body(bytes)?).is_valid() {
            return Err(DropReason::Checksum);
        }
        let body = bytes.get_mut(header.start..header.end).ok_or(DropReason::Malformed)?;
        let quoted = body.get_mut(ICMP_HEADER..).ok_or(DropReason::Malformed)?;
        let quote = Quote::parse(quoted, header.source.is_v4())?;
        if quote.kind == FlowKind::Echo {
            return Err(DropReason::NoFlow);
        }
        let Tables { flows, neighbours, targets, .. } = &mut *self.tables;
        let seen = Tuple { kind: quote.kind, client: quote.destination, server: quote.source };
        let (to, hardware, (source, destination)) = if let Some(flow) = flows.find(now.into(), &seen) {
            // About a packet to the client: the inside host sent it to the NAT port. A stranger does not know what it sent.
            if !flow.has_sent(quote.sequence) {
                return Err(DropReason::NoFlow);
            }
            let host = targets.host(flow.service, neighbours);
            let (inside, hardware) = host.ok_or(DropReason::NoNeighbour)?;
            let destination = Peer { ip: own, port: flow.nat_port };
            (inside.ip, *hardware, (*inside, destination))
        } else if let Some((flow, tuple)) = flows.find_by_nat_port(now.into(), quote.kind, quote.source.port)
        {
            // About a packet to the inside host: the client sent it to the service. Only the host itself reports it.
            let (inside, host) = targets.host(flow.service, neighbours).ok_or(DropReason::NoFlow)?;
            let is_from_host = header.source == inside.ip && *host == arrived.hardware;
            if quote.destination != *inside || quote.source.ip != own || !is_from_host {
                return Err(DropReason::NoFlow);
            }
            (tuple.client.ip, flow.client_hardware, (tuple.client, tuple.server))
        } else {
            return Err(DropReason::NoFlow);
        };
        packet::rewrite_quote(quoted, &quote, &Endpoints::new(&source, &destination))?;
        let header = packet::readdress(bytes, header, own, to)?;
        let sum = {
            let body = bytes.get_mut(header.start..header.end).ok_or(DropReason::Malformed)?;
            body.get_mut(2..4).ok_or(DropReason::Malformed)?.fill(0);
            checksum(&header, body).checksum()
        };
        let slot = bytes.get_mut(header.start + 2..header.start + 4).ok_or(DropReason::Malformed)?;
        slot.copy_from_slice(&sum.to_be_bytes());
        self.address(frame, hardware);
        Ok(Action::Forward(Port::Outside))
    }
}

/// The sum that an ICMP message's checksum covers.
fn checksum(header: &Header, body: &[u8]) -> Sum {
    if header.source.is_v4() { Sum::default().bytes(body) } else { header.sum(ICMPV6, body) }
}

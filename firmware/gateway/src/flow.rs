//! A flow: who talks to whom, who began, and how far it is.

use core::net::{IpAddr, SocketAddrV4};

use smoltcp::wire::EthernetAddress;

use crate::{instant::CoarseInstant, ip::Ip};

/// The protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// IPv4 or IPv6 address.
    pub address: IpAddr,
    /// TCP or UDP port.
    pub port: u16,
}

/// What a flow consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowKind {
    Tcp,
    Udp,
    /// Echo requests and their replies. Both ports are the identifier.
    Echo,
}

impl From<Protocol> for FlowKind {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

/// An [`Endpoint`] as the tables store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) ip: Ip,
    pub(crate) port: u16,
}

impl From<SocketAddrV4> for Peer {
    fn from(at: SocketAddrV4) -> Self {
        Self { ip: (*at.ip()).into(), port: at.port() }
    }
}

impl From<&Endpoint> for Peer {
    fn from(endpoint: &Endpoint) -> Self {
        Self { ip: Ip::from(&endpoint.address), port: endpoint.port }
    }
}

/// A flow as the outside sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple {
    pub(crate) kind: FlowKind,
    /// Outside.
    pub(crate) client: Peer,
    /// One-arm: the gateway's address and a service's port. Inline: the inside host.
    pub(crate) server: Peer,
}

/// The direction of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the inside.
    Ingress,
    /// From the inside to the client.
    Egress,
}

/// The relevant fields of a TCP header. Otherwise, all are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    /// As they are on the wire.
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    /// Valid only with ACK.
    pub(crate) acknowledgment: u32,
}

impl Segment {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;

    /// Whether it asks for a new connection.
    pub(crate) fn opens(self) -> bool {
        self.flags & (Self::SYN | Self::ACK | Self::RST | Self::FIN) == Self::SYN
    }

    /// Whether it is the first of a connection, or pretends to be.
    pub(crate) fn starts(self) -> bool {
        self.flags & (Self::SYN | Self::ACK) == Self::SYN
    }

    /// Whether it is within a connection: it neither begins nor ends one.
    pub(crate) fn continues(self) -> bool {
        self.flags & (Self::SYN | Self::RST | Self::FIN) == 0
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Who sent the first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The client, which had a grant.
    Outside,
    /// The inside host. Only its answers may come in.
    Inside,
}

/// The state of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The slot is free. This is the first variant, so that an empty table is all zeros.
    Free,
    /// Only the side that began has sent.
    Unreplied,
    /// Both sides have sent.
    Established,
    /// TCP: the client has sent a FIN. (Variants have no payload: its niche would give `Free` a value other than 0.)
    ClientClosed,
    /// TCP: the inside host has sent a FIN.
    InsideClosed,
    /// TCP: both have sent a FIN, or one has sent a RST.
    Closed,
}

/// How long without a frame a flow expires after.
mod timeout {
    use crate::instant::CoarseInstant;

    /// Long enough for three retransmissions of a SYN.
    pub(crate) const UNREPLIED: u32 = CoarseInstant::steps(30);
    /// The recommendation of RFC 4787, section 4.3.
    pub(crate) const UDP: u32 = CoarseInstant::steps(300);
    /// The minimum in RFC 5382, section 5: two hours and four minutes.
    pub(crate) const TCP: u32 = CoarseInstant::steps(7_440);
    /// Long enough for the other side to finish sending.
    pub(crate) const HALF_CLOSED: u32 = CoarseInstant::steps(600);
    /// Long enough to retransmit the last acknowledgements.
    pub(crate) const CLOSED: u32 = CoarseInstant::steps(10);
}

/// How far the sequence number of a client's FIN or RST may be ahead of what the inside host has acknowledged, and that of a
/// quoted segment behind what it has sent, in bytes. A sender that cannot see the flow guesses such a number once in 4,096
/// tries.
const MAX_IN_FLIGHT: u32 = 1 << 20;

/// A flow, in 44 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) state: State,
    pub(crate) kind: FlowKind,
    pub(crate) service: u8,
    pub(crate) origin: Origin,
    /// Of the client or its router. It stays what it was when the flow was opened: a forged packet must not redirect replies.
    pub(crate) client_hardware: EthernetAddress,
    /// The last four bytes of both addresses. Those of IPv6 have more in [`Prefixes`](crate::prefixes::Prefixes), at `prefixes`.
    pub(crate) client_low: u32,
    pub(crate) server_low: u32,
    pub(crate) client_port: u16,
    pub(crate) server_port: u16,
    pub(crate) prefixes: u16,
    /// One-arm: the port that the inside host sees as the client's. A free slot keeps its last one.
    pub(crate) nat_port: u16,
    /// The index of the next flow in the same bucket, plus one. 0: none.
    pub(crate) next: u16,
    pub(crate) last: CoarseInstant,
    /// When the grant ends that it was opened with, or was last found to have.
    pub(crate) until: CoarseInstant,
    /// TCP: the client's next sequence number that the inside host expects.
    receive_next: u32,
    /// TCP: the sequence number of what the inside host has sent last.
    sent_last: u32,
}

/// The properties of a new flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewFlow {
    pub(crate) tuple: Tuple,
    pub(crate) service: u8,
    pub(crate) origin: Origin,
    pub(crate) client_hardware: EthernetAddress,
    pub(crate) segment: Segment,
    pub(crate) until: CoarseInstant,
}

impl Flow {
    pub(crate) const FREE: Self = Self {
        state: State::Free,
        kind: FlowKind::Tcp,
        service: 0,
        origin: Origin::Outside,
        client_hardware: EthernetAddress([0; 6]),
        client_low: 0,
        server_low: 0,
        client_port: 0,
        server_port: 0,
        prefixes: 0,
        nat_port: 0,
        next: 0,
        last: CoarseInstant::ZERO,
        until: CoarseInstant::ZERO,
        receive_next: 0,
        sent_last: 0,
    };

    /// A free slot, which keeps the NAT port of its last flow.
    pub(crate) fn freed(self) -> Self {
        Self { nat_port: self.nat_port, ..Self::FREE }
    }

    pub(crate) fn new(now: CoarseInstant, new: NewFlow, prefixes: u16, nat_port: u16, next: u16) -> Self {
        let NewFlow { tuple, service, origin, client_hardware, segment, until } = new;
        let is_outside = origin == Origin::Outside;
        // After a reset of the gateway, a host goes on with a connection that it had opened.
        let is_known = !is_outside && tuple.kind == FlowKind::Tcp && !segment.has(Segment::SYN);
        Self {
            state: if is_known { State::Established } else { State::Unreplied },
            kind: tuple.kind,
            service,
            origin,
            client_hardware,
            client_low: tuple.client.ip.words()[3],
            server_low: tuple.server.ip.words()[3],
            client_port: tuple.client.port,
            server_port: tuple.server.port,
            prefixes,
            nat_port,
            next,
            last: now,
            until,
            receive_next: if is_outside { segment.sequence } else { segment.acknowledgment },
            sent_last: if is_outside { segment.acknowledgment } else { segment.sequence },
        }
    }

    /// Whether this is its tuple, except for its prefixes.
    #[inline(always)]
    #[allow(clippy::inline_always)] // saves each frame a call
    pub(crate) fn may_be(&self, tuple: &Tuple) -> bool {
        self.client_port == tuple.client.port
            && self.client_low == tuple.client.ip.words()[3]
            && self.server_port == tuple.server.port
            && self.server_low == tuple.server.ip.words()[3]
            && self.kind == tuple.kind
    }

    /// How long it may stay idle, in steps of [`CoarseInstant`].
    fn idle_timeout(&self) -> u32 {
        match (self.state, self.kind) {
            (State::Free, _) => 0,
            (State::Unreplied, _) | (State::Established, FlowKind::Echo) => timeout::UNREPLIED,
            (State::Established, FlowKind::Udp) => timeout::UDP,
            (State::Established, FlowKind::Tcp) => timeout::TCP,
            (State::ClientClosed | State::InsideClosed, _) => timeout::HALF_CLOSED,
            (State::Closed, _) => timeout::CLOSED,
        }
    }

    pub(crate) fn is_expired(&self, now: CoarseInstant) -> bool {
        now.since(self.last) >= self.idle_timeout()
    }

    /// Whether a side has sent a FIN or a RST.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.state, State::ClientClosed | State::InsideClosed | State::Closed)
    }

    /// Whether this is the client's first segment, sent again.
    pub(crate) fn is_first(&self, segment: Segment) -> bool {
        self.state == State::Unreplied && self.receive_next == segment.sequence
    }

    /// Whether an ICMP error may be about it: it quotes what the inside host has sent lately.
    pub(crate) fn has_sent(&self, sequence: u32) -> bool {
        self.kind != FlowKind::Tcp || self.sent_last.wrapping_sub(sequence) <= MAX_IN_FLIGHT
    }

    /// Records a frame of this flow. A FIN or RST from outside counts only if its sequence number is plausible, because anyone
    /// can forge the client's address. A frame that does not count is still forwarded; the inside host ignores it.
    pub(crate) fn update(&mut self, now: CoarseInstant, direction: Direction, segment: Segment) {
        match direction {
            Direction::Ingress if segment.has(Segment::RST | Segment::FIN) => {
                if segment.sequence.wrapping_sub(self.receive_next) > MAX_IN_FLIGHT {
                    return;
                }
            }
            Direction::Egress => {
                // A retransmission is behind it.
                if segment.has(Segment::SYN) || segment.sequence.wrapping_sub(self.sent_last) < 1 << 31 {
                    self.sent_last = segment.sequence;
                }
                if segment.has(Segment::ACK) {
                    self.receive_next = segment.acknowledgment;
                }
            }
            Direction::Ingress => {}
        }
        let replies = match self.origin {
            Origin::Outside => Direction::Egress,
            Origin::Inside => Direction::Ingress,
        };
        self.state = match (self.state, direction) {
            // A closed flow never reopens, and its idle timeout keeps running.
            (State::Closed, _) => return,
            _ if segment.has(Segment::RST) => State::Closed,
            (State::ClientClosed, Direction::Egress) | (State::InsideClosed, Direction::Ingress)
                if segment.has(Segment::FIN) =>
            {
                State::Closed
            }
            (state @ (State::ClientClosed | State::InsideClosed), _) => state,
            (_, Direction::Ingress) if segment.has(Segment::FIN) => State::ClientClosed,
            (_, Direction::Egress) if segment.has(Segment::FIN) => State::InsideClosed,
            (State::Unreplied, direction) if direction == replies => State::Established,
            (state, _) => state,
        };
        // Whoever was asked once must not keep the way in open by itself.
        let is_answer = self.origin == Origin::Inside && direction == Direction::Ingress;
        if !is_answer || self.kind == FlowKind::Tcp {
            self.last = now;
        }
    }
}

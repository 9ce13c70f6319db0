//! An independent judge of what an inline gateway forwards. It shares no code with the gateway, and watches from both sides: what
//! gets from outside to a protected host must be covered by a grant, by a flow that the host began, or by what the configuration
//! lets through. The properties and the fuzzer use it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The sides of a conversation: its protocol, who is inside, and who is outside.
type Talk = (u8, (IpAddr, u16), (IpAddr, u16));

/// What is guarded, and what passes unchecked.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    /// The protected addresses.
    pub(crate) hosts: Vec<IpAddr>,
    /// Their MAC addresses.
    pub(crate) hardware: Vec<[u8; 6]>,
    /// Protocol, address and port of each service.
    pub(crate) services: Vec<(u8, IpAddr, u16)>,
    pub(crate) whole_host: bool,
    pub(crate) ethertypes: Vec<u16>,
    pub(crate) protocols: Vec<u8>,
    /// Milliseconds for which a knock opens.
    pub(crate) ttl: u64,
}

/// What the judge has seen.
#[derive(Debug)]
pub(crate) struct Overseer {
    orders: Orders,
    /// Until when each address may open connections.
    grants: BTreeMap<IpAddr, u64>,
    /// What hosts began.
    begun: BTreeSet<Talk>,
    /// Connections that were let in with a grant.
    admitted: BTreeSet<Talk>,
    asked_dhcp: bool,
}

/// What a packet carries.
enum Body {
    Ports { protocol: u8, source: u16, destination: u16, starts: bool },
    Icmp { kind: u8, id: u16 },
    Fragment,
    Other(u8),
}

struct Packet<'a> {
    source: IpAddr,
    destination: IpAddr,
    hops: u8,
    body: Body,
    payload: &'a [u8],
}

impl Overseer {
    pub(crate) fn new(orders: Orders) -> Self {
        Self {
            orders,
            grants: BTreeMap::new(),
            begun: BTreeSet::new(),
            admitted: BTreeSet::new(),
            asked_dhcp: false,
        }
    }

    /// A knock of this address was accepted at a time in milliseconds; or, with `opens` false, it closed.
    pub(crate) fn knocked(&mut self, address: IpAddr, now: u64, opens: bool) {
        if opens {
            self.grants.insert(address, now + self.orders.ttl);
        } else {
            self.grants.remove(&address);
        }
    }

    /// A frame was forwarded from the inside.
    pub(crate) fn went_out(&mut self, frame: &[u8]) {
        let Some(packet) = packet(frame) else { return };
        match packet.body {
            Body::Ports { protocol: 17, source, destination, .. }
                if matches!((source, destination), (68, 67) | (546, 547)) =>
            {
                self.asked_dhcp = true;
            }
            Body::Ports { protocol, source, destination, .. } => {
                self.begun.insert((protocol, (packet.source, source), (packet.destination, destination)));
            }
            Body::Icmp { kind: 8 | 128, id } => {
                self.begun.insert((1, (packet.source, id), (packet.destination, id)));
            }
            Body::Icmp { .. } | Body::Fragment | Body::Other(_) => {}
        }
    }

    /// A frame was forwarded from outside. Returns why it should not have been, if so.
    pub(crate) fn came_in(&mut self, frame: &[u8], now: u64) -> Result<(), String> {
        let (kind, bytes) = untagged(frame).ok_or("a frame without a type")?;
        let to: [u8; 6] = frame[..6].try_into().map_err(|_| "a frame without addresses")?;
        match kind {
            0x0806 => return Ok(()),
            0x0800 | 0x86dd => {}
            other if self.orders.ethertypes.contains(&other) => return Ok(()),
            other => return Err(format!("type {other:#06x}")),
        }
        let packet = parse(kind, bytes).ok_or("a packet that cannot be read")?;
        if self.orders.hosts.contains(&packet.source) {
            return Err(format!("from a protected host's address, {}", packet.source));
        }
        let is_theirs = to[0] & 1 == 1 || self.orders.hardware.contains(&to);
        if !is_theirs && !self.orders.hosts.contains(&packet.destination) {
            return Ok(());
        }
        self.covered(&packet, to, now)
    }

    fn covered(&mut self, packet: &Packet<'_>, to: [u8; 6], now: u64) -> Result<(), String> {
        let Packet { source, destination, .. } = *packet;
        match packet.body {
            Body::Fragment => Err("a fragment".to_owned()),
            Body::Other(protocol) if self.orders.protocols.contains(&protocol) => Ok(()),
            Body::Other(protocol) => Err(format!("protocol {protocol}")),
            Body::Icmp { kind, id } => self.icmp(packet, kind, id),
            Body::Ports { protocol, source: from_port, destination: to_port, starts } => {
                let talk = (protocol, (destination, to_port), (source, from_port));
                let granted = self.grants.get(&source).is_some_and(|until| now < *until);
                let is_service = self.orders.services.contains(&(protocol, destination, to_port));
                let is_dhcp = protocol == 17 && matches!((from_port, to_port), (67, 68) | (547, 546));
                if self.begun.contains(&talk) && !(protocol == 6 && starts) {
                    return Ok(());
                }
                if is_service && granted && to[0] & 1 == 0 {
                    self.admitted.insert(talk);
                    return Ok(());
                }
                // A connection goes on without its grant, and its first segment may be sent again.
                if protocol == 6 && self.admitted.contains(&talk) {
                    return Ok(());
                }
                if is_dhcp && self.asked_dhcp {
                    return Ok(());
                }
                let ports = self
                    .orders
                    .services
                    .iter()
                    .filter(|service| (service.0, service.2) == (protocol, to_port));
                let is_host = self.orders.hosts.contains(&destination) && to[0] & 1 == 0;
                let is_guarded = if is_host { is_service } else { ports.count() > 0 };
                if self.orders.whole_host || is_guarded {
                    return Err(format!(
                        "protocol {protocol} from {source}:{from_port} to {destination}:{to_port}"
                    ));
                }
                Ok(())
            }
        }
    }

    fn icmp(&self, packet: &Packet<'_>, kind: u8, id: u16) -> Result<(), String> {
        let is_v4 = packet.source.is_ipv4();
        let allowed = match (is_v4, kind) {
            (true, 8) | (false, 128) => !self.orders.whole_host,
            (true, 0) | (false, 129) => {
                self.begun.contains(&(1, (packet.destination, id), (packet.source, id)))
            }
            (true, 3 | 11 | 12) | (false, 1..=4) => {
                let quoted = packet.payload.get(8..).and_then(|quote| quoted(is_v4, quote));
                quoted.is_some_and(|talk| {
                    talk.1.0 == packet.destination
                        && (self.begun.contains(&talk) || self.admitted.contains(&talk))
                })
            }
            (false, 133..=136) => packet.hops == 255,
            (false, 130..=132 | 143) => packet.hops == 1,
            _ => false,
        };
        if allowed { Ok(()) } else { Err(format!("ICMP {kind} from {}", packet.source)) }
    }
}

/// The type of a frame and what it carries, without a tag that only has a priority.
fn untagged(frame: &[u8]) -> Option<(u16, &[u8])> {
    let kind = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let control = frame.get(14..16).map(|control| u16::from_be_bytes([control[0], control[1]]));
    if kind == 0x8100 && control?.trailing_zeros() >= 12 {
        return Some((u16::from_be_bytes(frame.get(16..18)?.try_into().ok()?), frame.get(18..)?));
    }
    Some((kind, frame.get(14..)?))
}

fn packet(frame: &[u8]) -> Option<Packet<'_>> {
    let (kind, bytes) = untagged(frame)?;
    parse(kind, bytes)
}

fn parse(kind: u16, bytes: &[u8]) -> Option<Packet<'_>> {
    match kind {
        0x0800 => {
            let header = usize::from(bytes.first()? & 15) * 4;
            let end = usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
            let payload = bytes.get(header..end)?;
            let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
            let fragment = u16::from_be_bytes(bytes.get(6..8)?.try_into().ok()?) & 0x3fff;
            let body = if fragment == 0 { body(*bytes.get(9)?, payload)? } else { Body::Fragment };
            Some(Packet {
                source: address(12)?,
                destination: address(16)?,
                hops: *bytes.get(8)?,
                body,
                payload,
            })
        }
        0x86dd => {
            let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
            let end = 40 + usize::from(u16::from_be_bytes(bytes.get(4..6)?.try_into().ok()?));
            let (mut next, mut at) = (*bytes.get(6)?, 40);
            while matches!(next, 0 | 43 | 60) {
                let length = 8 + usize::from(*bytes.get(at + 1)?) * 8;
                next = *bytes.get(at)?;
                at += length;
            }
            let payload = bytes.get(at..end)?;
            let body = if next == 44 { Body::Fragment } else { body(next, payload)? };
            Some(Packet {
                source: address(8)?,
                destination: address(24)?,
                hops: *bytes.get(7)?,
                body,
                payload,
            })
        }
        _ => None,
    }
}

fn body(protocol: u8, payload: &[u8]) -> Option<Body> {
    let word = |at: usize| Some(u16::from_be_bytes(payload.get(at..at + 2)?.try_into().ok()?));
    Some(match protocol {
        6 => Body::Ports {
            protocol,
            source: word(0)?,
            destination: word(2)?,
            starts: payload.get(13)? & 0x12 == 2,
        },
        17 => Body::Ports { protocol, source: word(0)?, destination: word(2)?, starts: true },
        1 | 58 => Body::Icmp { kind: *payload.first()?, id: word(4)? },
        other => Body::Other(other),
    })
}

/// The conversation that a quoted packet from the inside belongs to.
fn quoted(is_v4: bool, quote: &[u8]) -> Option<Talk> {
    let (protocol, source, destination, rest): (u8, IpAddr, IpAddr, &[u8]) = if is_v4 {
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(quote.get(at..at + 4)?).ok()?));
        let rest = quote.get(usize::from(quote.first()? & 15) * 4..)?;
        (*quote.get(9)?, address(12)?.into(), address(16)?.into(), rest)
    } else {
        let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(quote.get(at..at + 16)?).ok()?));
        (*quote.get(6)?, address(8)?.into(), address(24)?.into(), quote.get(40..)?)
    };
    let word = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    match protocol {
        6 | 17 => Some((protocol, (source, word(0)?), (destination, word(2)?))),
        1 | 58 => Some((1, (source, word(4)?), (destination, word(4)?))),
        _ => None,
    }
}

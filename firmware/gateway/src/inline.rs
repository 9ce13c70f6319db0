//! Inline mode: a bridge between two sides. What comes from outside to a protected host is judged in `judge`.

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol};

use crate::{
    Instant,
    action::{Action, KnockOutcome},
    config::{Inline, Vlans},
    drop_reason::DropReason,
    flow::{FlowKind, Tuple},
    gateway::Gateway,
    nd::{self, Message},
    packet::{self, ETHERNET_HEADER, Header, Transport},
    port::Port,
    vlan::{self, VLAN_TAG_LENGTH, retag, untag},
};

/// What to do with a frame, before ports and VLANs are considered.
enum Disposition {
    Forward,
    Local,
    ForwardAndLocal,
    Knock(KnockOutcome),
}

/// A frame on its way through the bridge.
#[derive(Clone, Copy)]
pub(crate) struct Passage {
    /// The side that it comes from.
    pub(crate) side: Port,
    pub(crate) source: EthernetAddress,
    pub(crate) destination: EthernetAddress,
}

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Gateway<'_, FLOWS, GRANTS, RULES, KNOCKS>
{
    pub(crate) fn inline(&mut self, now: Instant, port: Port, inline: &Inline, frame: &mut [u8]) -> Action {
        let (side, trunk) = match inline.vlans {
            None => (port, 0),
            Some(vlans) => match retag(frame, vlans) {
                Ok(side) => (side, VLAN_TAG_LENGTH),
                Err(reason) => return Action::Drop(reason),
            },
        };
        let is_tagged = vlan::is_priority_tag(frame, ETHERNET_HEADER - 2 + trunk);
        let tags = trunk + if is_tagged { VLAN_TAG_LENGTH } else { 0 };
        let disposition = match self.classify(now, side, inline, ETHERNET_HEADER + tags, frame) {
            Ok(disposition) => disposition,
            Err(reason) => return Action::Drop(reason),
        };
        if side == Port::Inside && matches!(disposition, Disposition::Local | Disposition::ForwardAndLocal) {
            self.remember_inside_host(frame);
        }
        let to = if inline.vlans.is_some() { Port::Outside } else { side.other() };
        match (disposition, tags / VLAN_TAG_LENGTH) {
            (Disposition::Knock(outcome), _) => Action::Knock(outcome),
            (Disposition::Local, 0) => Action::Local { skip: 0 },
            (Disposition::Local, tags) => {
                for tag in 0..tags {
                    untag(frame.get_mut(tag * VLAN_TAG_LENGTH..).unwrap_or_default());
                }
                Action::Local { skip: tags * VLAN_TAG_LENGTH }
            }
            (Disposition::ForwardAndLocal, 0) => Action::ForwardAndLocal(to),
            (Disposition::ForwardAndLocal, 1) => Action::ForwardAndUntagged(to),
            // The network stack would not understand the second tag.
            (Disposition::Forward | Disposition::ForwardAndLocal, _) => Action::Forward(to),
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
        inline: &Inline,
        header: usize,
        frame: &[u8],
    ) -> Result<Disposition, DropReason> {
        let ethernet = EthernetFrame::new_checked(frame).map_err(|_| DropReason::Malformed)?;
        let passage = Passage { side, source: ethernet.src_addr(), destination: ethernet.dst_addr() };
        if passage.source == self.hardware && side == Port::Outside {
            self.loop_guard.check(now, frame, header);
        }
        if !packet::is_unicast_host(passage.source) || passage.source == self.hardware {
            return Err(DropReason::NotForUs);
        }
        if self.loop_guard.is_looped(now) {
            return Err(DropReason::Loop);
        }
        if side == Port::Outside && self.tables.hosts.has_hardware(passage.source) {
            return Err(DropReason::Spoofed);
        }
        let for_us = passage.destination == self.hardware;
        let kind = frame.get(header - 2..header).and_then(|kind| kind.first_chunk());
        let kind = u16::from_be_bytes(*kind.ok_or(DropReason::Malformed)?);
        let bytes = frame.get(header..).ok_or(DropReason::Malformed)?;
        match EthernetProtocol::from(kind) {
            EthernetProtocol::Arp => self.bridge_arp(now, passage, for_us, bytes),
            EthernetProtocol::Ipv4 => {
                let header = packet::parse_v4(bytes)?;
                if side == Port::Outside && packet::is_source_routed(bytes, header.start) {
                    return Err(DropReason::Malformed);
                }
                self.bridge_ip(now, passage, inline, for_us, &header, bytes)
            }
            EthernetProtocol::Ipv6 if inline.ipv6 => {
                let header = packet::parse_v6(bytes)?;
                self.bridge_ip(now, passage, inline, for_us, &header, bytes)
            }
            _ if for_us => Err(DropReason::NotForUs),
            EthernetProtocol::Unknown(_) if kind != 0 && inline.pass.ethertypes.contains(&kind) => {
                Ok(Disposition::Forward)
            }
            _ => Err(DropReason::Protocol),
        }
    }

    fn bridge_arp(
        &mut self,
        now: Instant,
        passage: Passage,
        for_us: bool,
        bytes: &[u8],
    ) -> Result<Disposition, DropReason> {
        let arp = Self::read_arp(bytes)?;
        match passage.side {
            // Nobody outside has an inside host's address, or the gateway's.
            Port::Outside if self.tables.hosts.has_address(arp.sender) || self.is_own(arp.sender) => {
                return Err(DropReason::Spoofed);
            }
            Port::Outside => {}
            Port::Inside => {
                self.tables.hosts.learn(arp.sender, passage.source);
                self.tables.neighbours.learn(now, arp.sender, passage.source);
            }
        }
        match (self.is_own(arp.target), for_us) {
            (true, true) => Ok(Disposition::Local),
            (true, false) => Ok(Disposition::ForwardAndLocal),
            (false, false) => Ok(Disposition::Forward),
            (false, true) => Err(DropReason::NotForUs),
        }
    }

    fn bridge_ip(
        &mut self,
        now: Instant,
        passage: Passage,
        inline: &Inline,
        for_us: bool,
        header: &Header,
        bytes: &[u8],
    ) -> Result<Disposition, DropReason> {
        match passage.side {
            Port::Outside if self.tables.hosts.has_address(header.source) || self.is_own(header.source) => {
                return Err(DropReason::Spoofed);
            }
            Port::Outside => {
                if let Transport::Flow { kind: FlowKind::Udp, destination, .. } = header.transport
                    && destination == self.config.knock_port
                    && (self.is_own(header.destination) || self.tables.hosts.has_address(header.destination))
                    && !self.is_answer(now, header)
                {
                    return self.check_knock(now, header, bytes).map(Disposition::Knock);
                }
            }
            Port::Inside => {
                self.tables.hosts.learn(header.source, passage.source);
                if for_us && let Transport::Icmp6(nd::ADVERTISEMENT) = header.transport {
                    let message = Message::parse(header, bytes)?;
                    self.tables.hosts.learn(message.target, passage.source);
                    self.tables.neighbours.learn(now, message.target, passage.source);
                }
            }
        }
        let is_inside = passage.side == Port::Inside;
        if for_us {
            return self.check_local(header, is_inside).map(|()| Disposition::Local);
        }
        if is_inside {
            self.track_egress(now, passage, header);
        } else if self.tables.hosts.guards(passage.destination, header.destination) {
            self.judge(now, passage, inline, header, bytes)?;
        }
        // DHCP servers broadcast while the gateway has no address.
        let is_expected = passage.destination.is_broadcast() && self.check_local(header, is_inside).is_ok();
        Ok(if is_expected { Disposition::ForwardAndLocal } else { Disposition::Forward })
    }

    /// Whether this is the answer to a datagram of an inside host.
    fn is_answer(&mut self, now: Instant, header: &Header) -> bool {
        let tuple =
            Tuple { kind: FlowKind::Udp, client: header.source_peer(), server: header.destination_peer() };
        self.is_outbound(now, &tuple)
    }

    /// Writes the next frame to the inside that finds hosts or a loop. Returns the port to send it from, and its length.
    pub(crate) fn inline_tick(
        &mut self,
        now: Instant,
        vlans: Option<Vlans>,
        frame: &mut [u8],
    ) -> Option<(Port, usize)> {
        let own = self.own(nd::link_local(self.hardware));
        let length = match self.loop_guard.probe(now, self.hardware, frame) {
            Some(length) => length,
            None => self.tables.neighbours.next_request(now, own, frame)?,
        };
        match vlans {
            None => Some((Port::Inside, length)),
            Some(Vlans { inside, .. }) => {
                vlan::insert(frame, length, inside).map(|length| (Port::Outside, length))
            }
        }
    }
}

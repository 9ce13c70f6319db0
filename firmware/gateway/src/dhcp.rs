//! Time servers by DHCP (RFC 2132, option 42).
//!
//! The network stack neither requests nor reports them. The gateway sees its requests and the answers, so it adds the option to
//! the requests and reads it from the answers.

use core::{net::Ipv4Addr, ops::Range};

use heapless::Vec;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, UdpPacket};

use crate::{ip::is_unicast, packet, time_client::TIME_SERVERS, vlan::VLAN_TAG_LENGTH};

const ETHERNET_HEADER: usize = 14;
const UDP_HEADER: usize = 8;
/// The port of DHCP servers.
pub(crate) const SERVER_PORT: u16 = 67;
/// The port of DHCP clients.
pub(crate) const CLIENT_PORT: u16 = 68;
/// The `EtherType` of a VLAN tag.
const TAGGED: EthernetProtocol = EthernetProtocol::Unknown(0x8100);

/// Where the fields of a DHCP packet are (RFC 2131, section 2).
mod field {
    use core::ops::{Range, RangeFrom};

    pub(super) const TRANSACTION: Range<usize> = 4..8;
    /// Behind the magic cookie.
    pub(super) const OPTIONS: RangeFrom<usize> = 240..;
}

/// Options (RFC 2132).
mod option {
    pub(super) const PAD: u8 = 0;
    pub(super) const TIME_SERVERS: u8 = 42;
    pub(super) const MESSAGE_TYPE: u8 = 53;
    pub(super) const PARAMETER_REQUEST_LIST: u8 = 55;
    pub(super) const END: u8 = 255;
}

/// The message type of an answer that assigns an address.
const ACK: u8 = 5;

/// The time servers that DHCP names.
#[derive(Debug, Default)]
pub(crate) struct DhcpTimeServers {
    /// The transaction of the network stack's last request.
    transaction: Option<[u8; 4]>,
    servers: Vec<Ipv4Addr, TIME_SERVERS>,
}

impl DhcpTimeServers {
    pub(crate) fn servers(&self) -> &[Ipv4Addr] {
        &self.servers
    }

    /// Adds the option to the first `length` bytes of `frame`, if they are a request of the network stack. Returns the new length.
    pub(crate) fn on_request(&mut self, frame: &mut [u8], length: usize) -> usize {
        self.add_option(frame, length).unwrap_or(length)
    }

    fn add_option(&mut self, frame: &mut [u8], length: usize) -> Option<usize> {
        let sent = frame.get(..length)?;
        let (start, message) = find_message(sent, CLIENT_PORT, SERVER_PORT)?;
        let bytes = sent.get(message.clone())?;
        self.transaction = bytes.get(field::TRANSACTION)?.first_chunk().copied();
        let list = find_option(bytes, option::PARAMETER_REQUEST_LIST)?;
        let (count_at, at) = (message.start + list.start.checked_sub(1)?, message.start + list.start);
        if bytes.get(list)?.contains(&option::TIME_SERVERS) {
            return None;
        }
        let end = length + 1;
        let frame = frame.get_mut(..end)?;
        frame.copy_within(at..length, at + 1);
        *frame.get_mut(at)? = option::TIME_SERVERS;
        let count = frame.get_mut(count_at)?;
        // A list is far shorter than 255 bytes.
        *count = count.saturating_add(1);
        let mut packet = Ipv4Packet::new_unchecked(frame.get_mut(start..)?);
        packet.set_total_len(packet.total_len().saturating_add(1));
        packet.fill_checksum();
        let (source, destination) = (packet.src_addr(), packet.dst_addr());
        let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
        datagram.set_len(datagram.len().saturating_add(1));
        datagram.fill_checksum(&source.into(), &destination.into());
        Some(end)
    }

    /// Reads the option from a frame for the network stack, if it answers the last request.
    pub(crate) fn on_answer(&mut self, frame: &[u8]) {
        let Some(transaction) = self.transaction else { return };
        if let Some(servers) = read_answer(frame, transaction) {
            self.servers = servers;
        }
    }
}

/// The servers of the answer to this transaction: none, if the option is missing. `None` if the frame is something else.
fn read_answer(frame: &[u8], transaction: [u8; 4]) -> Option<Vec<Ipv4Addr, TIME_SERVERS>> {
    let (_, message) = find_message(frame, SERVER_PORT, CLIENT_PORT)?;
    let bytes = frame.get(message)?;
    let kind = bytes.get(find_option(bytes, option::MESSAGE_TYPE)?)?;
    if bytes.get(field::TRANSACTION)? != transaction || kind != [ACK] {
        return None;
    }
    let list = find_option(bytes, option::TIME_SERVERS).and_then(|list| bytes.get(list)).unwrap_or_default();
    let (addresses, _rest) = list.as_chunks::<4>();
    let addresses = addresses.iter().copied().map(Ipv4Addr::from);
    Some(addresses.filter(|address| is_unicast((*address).into())).take(TIME_SERVERS).collect())
}

/// Where a frame has its IPv4 packet, and where the DHCP message in it is, if it is sent between these ports.
fn find_message(frame: &[u8], from: u16, to: u16) -> Option<(usize, Range<usize>)> {
    let start = match EthernetFrame::new_checked(frame).ok()?.ethertype() {
        EthernetProtocol::Ipv4 => ETHERNET_HEADER,
        TAGGED => ETHERNET_HEADER + VLAN_TAG_LENGTH,
        _ => return None,
    };
    let bytes = frame.get(start..)?;
    // It also checks lengths and checksum.
    packet::parse_v4(bytes).ok()?;
    let packet = Ipv4Packet::new_checked(bytes).ok()?;
    if packet.next_header() != IpProtocol::Udp || packet.more_frags() || packet.frag_offset() != 0 {
        return None;
    }
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    if (datagram.src_port(), datagram.dst_port()) != (from, to) {
        return None;
    }
    let begin = start + usize::from(packet.header_len());
    Some((start, begin + UDP_HEADER..begin + usize::from(datagram.len())))
}

/// Where a DHCP message has the value of an option. It is never the first byte.
fn find_option(message: &[u8], wanted: u8) -> Option<Range<usize>> {
    let mut at = field::OPTIONS.start;
    loop {
        let kind = *message.get(at)?;
        if kind == option::END {
            return None;
        }
        if kind == option::PAD {
            at += 1;
            continue;
        }
        let begin = at + 2;
        let end = begin + usize::from(*message.get(at + 1)?);
        if kind == wanted {
            return (end <= message.len()).then_some(begin..end);
        }
        at = end;
    }
}

//! UDP datagrams in IP packets.

use std::net::IpAddr;

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice, UdpSlice, ip_number};
use pkd_core::{Packet, Port};

/// A UDP datagram with its addresses.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The source address.
    pub source: IpAddr,
    /// The destination address, as it stands in the packet.
    pub destination: IpAddr,
    /// UDP header and payload (RFC 768); may be truncated.
    udp: &'a [u8],
}

/// The type of a session of PPP over Ethernet (RFC 2516).
const PPPOE_SESSION: EtherType = EtherType(0x8864);

/// What a packet turned out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen<'a> {
    Datagram(Datagram<'a>),
    /// It may be a datagram, but ends within its headers.
    Short,
    /// Not UDP, or a fragment.
    Other,
}

impl<'a> Seen<'a> {
    /// A packet that starts with its IPv4 or IPv6 header.
    pub(crate) fn from_ip(packet: &'a [u8]) -> Self {
        LaxSlicedPacket::from_ip(packet).map_or(Self::Short, |sliced| Self::from_sliced(&sliced))
    }

    /// An Ethernet frame, with or without VLAN tags and a session of PPP over Ethernet.
    pub(crate) fn from_ethernet(frame: &'a [u8]) -> Self {
        let Ok(sliced) = LaxSlicedPacket::from_ethernet(frame) else { return Self::Short };
        match sliced.ether_payload() {
            Some(inner) if sliced.net.is_none() => match inner.ether_type {
                PPPOE_SESSION => Self::from_pppoe(inner.payload),
                EtherType::IPV4 | EtherType::IPV6 => Self::Short,
                _ => Self::Other,
            },
            _ => Self::from_sliced(&sliced),
        }
    }

    /// A session of PPP over Ethernet (RFC 2516, section 4): 6 bytes of header, then PPP.
    pub(crate) fn from_pppoe(packet: &'a [u8]) -> Self {
        const HEADER: usize = 6;
        packet.get(HEADER..).map_or(Self::Short, Self::from_ppp)
    }

    /// A PPP frame, with or without HDLC's address and control (RFC 1662, section 3.1).
    pub(crate) fn from_ppp(frame: &'a [u8]) -> Self {
        let frame = frame.strip_prefix(&[0xff, 0x03]).unwrap_or(frame);
        // The zero may be compressed away (RFC 1661, section 6.5).
        match frame.strip_prefix(&[0]).unwrap_or(frame) {
            [0x21 | 0x57, packet @ ..] => Self::from_ip(packet),
            [] => Self::Short,
            _ => Self::Other,
        }
    }

    fn from_sliced(packet: &LaxSlicedPacket<'a>) -> Self {
        let (source, destination) = match packet.net.as_ref() {
            Some(LaxNetSlice::Ipv4(ip)) => {
                (IpAddr::V4(ip.header().source_addr()), IpAddr::V4(ip.header().destination_addr()))
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                (IpAddr::V6(ip.header().source_addr()), IpAddr::V6(ip.header().destination_addr()))
            }
            Some(LaxNetSlice::Arp(_)) | None => return Self::Other,
        };
        let Some(inner) = packet.ip_payload().filter(|inner| !inner.fragmented) else { return Self::Other };
        match packet.transport.as_ref() {
            Some(TransportSlice::Udp(udp)) => {
                Self::Datagram(Datagram { source, destination, udp: udp.slice() })
            }
            None if inner.ip_number == ip_number::UDP => Self::Short,
            _ => Self::Other,
        }
    }

    pub(crate) fn datagram(self) -> Option<Datagram<'a>> {
        match self {
            Self::Datagram(datagram) => Some(datagram),
            Self::Short | Self::Other => None,
        }
    }
}

impl<'a> Datagram<'a> {
    /// Parses a packet that starts with its IPv4 or IPv6 header.
    ///
    /// `None`: not UDP, or a fragment.
    #[must_use]
    pub fn from_ip(packet: &'a [u8]) -> Option<Self> {
        Seen::from_ip(packet).datagram()
    }

    /// Parses an Ethernet frame, with or without VLAN tags and a session of PPP over Ethernet.
    #[must_use]
    pub fn from_ethernet(frame: &'a [u8]) -> Option<Self> {
        Seen::from_ethernet(frame).datagram()
    }

    /// Whether the payload is as long as the UDP header states.
    #[cfg(feature = "files")]
    pub(crate) fn is_whole(&self) -> bool {
        let payload = self.parts().map(|(_, payload)| payload.len());
        self.stated_length().zip(payload).is_some_and(|(stated, present)| present >= stated)
    }

    /// The length of the payload in bytes, as the UDP header states it. A capture may have fewer.
    #[must_use]
    pub fn stated_length(&self) -> Option<usize> {
        const HEADER: usize = 8;
        let length = self.udp.get(4..)?.first_chunk::<2>()?;
        usize::from(u16::from_be_bytes(*length)).checked_sub(HEADER)
    }

    /// The destination port and the payload, as far as present.
    #[must_use]
    pub fn parts(&self) -> Option<(Port, &'a [u8])> {
        let udp = UdpSlice::from_slice_lax(self.udp).ok()?;
        Some((Port(udp.destination_port()), udp.payload()))
    }

    /// The packet for a verifier; `None` if the length is not that of a knock.
    #[must_use]
    pub fn packet(&self) -> Option<Packet<'a>> {
        Packet::from_udp(self.udp)
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{Ethernet2Header, PacketBuilder};
    use proptest::prelude::*;

    use super::*;

    const PAYLOAD: [u8; 56] = [7; 56];

    fn ipv4(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([192, 0, 2, 7], [192, 0, 2, 1], 64)
            .udp(1000, 40_000)
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    }

    fn ipv6(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv6([9; 16], [1; 16], 64).udp(1000, 40_000).write(&mut bytes, payload).unwrap();
        bytes
    }

    #[test]
    fn a_datagram_is_found_after_its_headers() {
        let ethernet = Ethernet2Header { ether_type: EtherType::IPV4, ..Default::default() };
        let framed = [&ethernet.to_bytes()[..], &ipv4(&PAYLOAD)].concat();
        let (one, other) = (ipv4(&PAYLOAD), ipv6(&PAYLOAD));
        // Version and type, code, session, length, protocol; behind a VLAN tag, too.
        let session =
            |protocol: u8| [&[0; 12][..], &[0x88, 0x64, 0x11, 0, 0, 7, 0, 86, 0, protocol]].concat();
        let (pppoe, pppoe_v6) = ([&session(0x21), &one[..]].concat(), [&session(0x57), &other[..]].concat());
        let tagged = [&[0; 12][..], &[0x81, 0, 0, 9], &pppoe[12..]].concat();
        let v6 = ("909:909:909:909:909:909:909:909", "101:101:101:101:101:101:101:101");
        let rows = [
            (Datagram::from_ip(&one), "192.0.2.7", "192.0.2.1"),
            (Datagram::from_ip(&other), v6.0, v6.1),
            (Datagram::from_ethernet(&framed), "192.0.2.7", "192.0.2.1"),
            (Datagram::from_ethernet(&pppoe), "192.0.2.7", "192.0.2.1"),
            (Datagram::from_ethernet(&pppoe_v6), v6.0, v6.1),
            (Datagram::from_ethernet(&tagged), "192.0.2.7", "192.0.2.1"),
        ];
        for (row, (datagram, source, destination)) in rows.iter().enumerate() {
            let datagram = datagram.unwrap_or_else(|| panic!("row {row}"));
            let addresses = (datagram.source.to_string(), datagram.destination.to_string());
            assert_eq!(addresses, ((*source).to_owned(), (*destination).to_owned()), "row {row}");
            let packet = datagram.packet().unwrap_or_else(|| panic!("row {row}"));
            assert_eq!((packet.destination_port.0, packet.payload), (40_000, &PAYLOAD[..]), "row {row}");
        }
    }

    #[test]
    fn other_lengths_are_not_knocks() {
        for length in [0, 55, 57, 500] {
            let bytes = ipv4(&vec![7; length]);
            let datagram = Datagram::from_ip(&bytes).unwrap();
            assert!(datagram.packet().is_none(), "{length} bytes");
            assert_eq!(datagram.parts(), Some((Port(40_000), &vec![7; length][..])));
        }
        let whole = ipv4(&PAYLOAD);
        for missing in 1..=56 {
            let cut = &whole[..whole.len() - missing];
            assert!(
                Datagram::from_ip(cut).is_none_or(|datagram| datagram.packet().is_none()),
                "{missing} missing"
            );
        }
    }

    #[test]
    fn fragments_and_other_protocols_are_skipped() {
        let mut first = ipv4(&PAYLOAD);
        first[6] |= 0x20;
        let mut later = ipv4(&PAYLOAD);
        later[7] = 1;
        let mut tcp = ipv4(&PAYLOAD);
        tcp[9] = 6;
        for (row, packet) in [&first[..], &later, &tcp, &[], &[0x45], &[0; 84]].iter().enumerate() {
            assert!(Datagram::from_ip(packet).is_none(), "row {row}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for datagram in [Datagram::from_ip(&bytes), Datagram::from_ethernet(&bytes)].into_iter().flatten() {
                let _ = (datagram.packet(), datagram.parts());
            }
        }
    }
}

//! UDP datagrams in IP packets.

use std::net::IpAddr;

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice, UdpSlice};
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

impl<'a> Datagram<'a> {
    /// Parses a packet that starts with its IPv4 or IPv6 header.
    ///
    /// `None`: not UDP, or a fragment.
    #[must_use]
    pub fn from_ip(packet: &'a [u8]) -> Option<Self> {
        Self::from_sliced(&LaxSlicedPacket::from_ip(packet).ok()?)
    }

    /// Parses an Ethernet frame, with or without VLAN tags.
    #[must_use]
    pub fn from_ethernet(frame: &'a [u8]) -> Option<Self> {
        Self::from_sliced(&LaxSlicedPacket::from_ethernet(frame).ok()?)
    }

    fn from_sliced(packet: &LaxSlicedPacket<'a>) -> Option<Self> {
        let (source, destination) = match packet.net.as_ref()? {
            LaxNetSlice::Ipv4(ip) => {
                (IpAddr::V4(ip.header().source_addr()), IpAddr::V4(ip.header().destination_addr()))
            }
            LaxNetSlice::Ipv6(ip) => {
                (IpAddr::V6(ip.header().source_addr()), IpAddr::V6(ip.header().destination_addr()))
            }
            LaxNetSlice::Arp(_) => return None,
        };
        if packet.ip_payload()?.fragmented {
            return None;
        }
        match packet.transport.as_ref()? {
            TransportSlice::Udp(udp) => Some(Self { source, destination, udp: udp.slice() }),
            _ => None,
        }
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
        let ethernet = Ethernet2Header { ether_type: etherparse::EtherType::IPV4, ..Default::default() };
        let framed = [&ethernet.to_bytes()[..], &ipv4(&PAYLOAD)].concat();
        let (one, other) = (ipv4(&PAYLOAD), ipv6(&PAYLOAD));
        let rows = [
            (Datagram::from_ip(&one), "192.0.2.7", "192.0.2.1"),
            (Datagram::from_ip(&other), "909:909:909:909:909:909:909:909", "101:101:101:101:101:101:101:101"),
            (Datagram::from_ethernet(&framed), "192.0.2.7", "192.0.2.1"),
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

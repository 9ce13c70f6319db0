//! Link-layer headers in captures.

use std::fmt;

use pcap_parser::Linktype;

use crate::datagram::Seen;

/// The type of the link-layer headers, by its number at tcpdump.org/linktypes.html.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkType(u32);

impl LinkType {
    /// The field of a pcap file, whose upper half has other properties of the link.
    pub(crate) fn of_pcap(Linktype(field): Linktype) -> Self {
        const TYPE: u32 = 0xffff;
        Self(field.cast_unsigned() & TYPE)
    }

    pub(crate) fn of_pcapng(Linktype(field): Linktype) -> Self {
        Self(field.cast_unsigned())
    }

    /// The name that tcpdump and Wireshark have for it, of types that are often captured.
    fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            6 => "IEEE802_5",
            10 => "FDDI",
            50 => "PPP_HDLC",
            104 => "C_HDLC",
            105 => "IEEE802_11",
            107 => "FRELAY",
            119 => "IEEE802_11_PRISM",
            127 => "IEEE802_11_RADIOTAP",
            147..=162 => "USER0 to USER15",
            163 => "IEEE802_11_AVS",
            187 => "BLUETOOTH_HCI_H4",
            189 => "USB_LINUX",
            192 => "PPI",
            195 => "IEEE802_15_4_WITHFCS",
            201 => "BLUETOOTH_HCI_H4_WITH_PHDR",
            220 => "USB_LINUX_MMAPPED",
            227 => "CAN_SOCKETCAN",
            230 => "IEEE802_15_4_NOFCS",
            249 => "USBPCAP",
            252 => "WIRESHARK_UPPER_PDU",
            253 => "NETLINK",
            _ => return None,
        })
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// What a packet of this link is. `None`: the link type is not supported.
pub(crate) fn seen(link: LinkType, bytes: &[u8]) -> Option<Seen<'_>> {
    Some(match link.0 {
        // Loopback of the BSDs (NULL, LOOP): the address family.
        0 | 108 => after(bytes, 4, Seen::from_ip),
        // ETHERNET.
        1 => Seen::from_ethernet(bytes),
        // PPP, and PPP_ETHER: PPP over Ethernet.
        9 => Seen::from_ppp(bytes),
        51 => Seen::from_pppoe(bytes),
        // RAW, in files of some systems by the numbers that they have themselves; IPV4, IPV6.
        12 | 14 | 101 | 228 | 229 => Seen::from_ip(bytes),
        // LINUX_SLL and LINUX_SLL2: `-i any` on Linux.
        113 => cooked(bytes, 14, 16),
        276 => cooked(bytes, 0, 20),
        // NFLOG captures have netlink attributes.
        239 => nflog_payload(bytes).map_or(Seen::Short, Seen::from_ip),
        _ => return None,
    })
}

fn after<'a>(bytes: &'a [u8], length: usize, read: impl FnOnce(&'a [u8]) -> Seen<'a>) -> Seen<'a> {
    bytes.get(length..).map_or(Seen::Short, read)
}

/// A packet behind a header of `length` bytes with the type of Ethernet at `place`.
fn cooked(bytes: &[u8], place: usize, length: usize) -> Seen<'_> {
    const PPPOE_SESSION: [u8; 2] = [0x88, 0x64];
    let is_session = bytes.get(place..).is_some_and(|rest| rest.starts_with(&PPPOE_SESSION));
    after(bytes, length, if is_session { Seen::from_pppoe } else { Seen::from_ip })
}

/// The attribute `NFULA_PAYLOAD` after the 4-byte header. Lengths and types are in the byte order of the capturing machine,
/// which is assumed to be this one's.
fn nflog_payload(bytes: &[u8]) -> Option<&[u8]> {
    const PAYLOAD: u16 = 9;
    let mut rest = bytes.get(4..)?;
    loop {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (kind, _) = after.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        if u16::from_ne_bytes(*kind) == PAYLOAD {
            return rest.get(4..length);
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::Datagram;

    fn packet() -> Vec<u8> {
        let mut bytes = Vec::new();
        let to = PacketBuilder::ipv4([192, 0, 2, 7], [192, 0, 2, 1], 64).udp(1_000, 40_000);
        to.write(&mut bytes, &[7; 56]).unwrap();
        bytes
    }

    /// Attributes as in an NFLOG capture, after the header.
    fn nflog(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        for (kind, value) in attributes {
            let length = u16::try_from(value.len() + 4).unwrap();
            bytes.extend([length.to_ne_bytes(), kind.to_ne_bytes()].concat());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn a_datagram_is_found_after_each_link_header() {
        let packet = packet();
        let after = |length: usize| [vec![0; length], packet.clone()].concat();
        let mut ethernet = vec![0; 12];
        ethernet.extend([0x08, 0x00]);
        ethernet.extend(&packet);
        let session = [&[0x11, 0, 0, 7, 0, 86, 0, 0x21][..], &packet].concat();
        let cooked = |place: usize, length: usize| {
            let mut header = vec![0; length];
            header[place..place + 2].copy_from_slice(&[0x88, 0x64]);
            [header, session.clone()].concat()
        };
        // link type, bytes, whether a datagram is found
        let rows = [
            ("Ethernet", 1, ethernet.clone(), true),
            ("raw IP", 101, packet.clone(), true),
            ("IPv4", 228, packet.clone(), true),
            ("loopback", 0, after(4), true),
            ("OpenBSD loopback", 108, after(4), true),
            ("PPP", 9, [&[0xff, 3, 0, 0x21][..], &packet].concat(), true),
            ("PPP without its header, and a short protocol", 9, [&[0x21][..], &packet].concat(), true),
            ("PPP of another protocol", 9, [&[0xc0, 0x21][..], &packet].concat(), false),
            ("a PPPoE session", 51, session.clone(), true),
            ("all interfaces", 113, after(16), true),
            ("all interfaces, a PPPoE session", 113, cooked(14, 16), true),
            ("all interfaces, version 2", 276, after(20), true),
            ("all interfaces, version 2, a PPPoE session", 276, cooked(0, 20), true),
            ("NFLOG", 239, nflog(&[(1, &[1; 5]), (9, &packet)]), true),
            ("NFLOG without a payload", 239, nflog(&[(1, &[1; 5])]), false),
            ("NFLOG with an empty attribute", 239, vec![0; 12], false),
            ("an unknown link", 999, packet.clone(), false),
            ("the wrong link", 101, ethernet, false),
            ("shorter than the link header", 113, vec![0; 15], false),
            ("nothing", 239, Vec::new(), false),
        ];
        for (name, link, bytes, is_there) in rows {
            let found = seen(LinkType(link), &bytes).and_then(Seen::datagram);
            assert_eq!(found.is_some(), is_there, "{name}");
            let payload = found.as_ref().and_then(Datagram::packet).map(|packet| packet.payload.to_vec());
            assert_eq!(payload, is_there.then(|| vec![7; 56]), "{name}");
        }
    }

    #[test]
    fn a_link_type_has_its_name_and_number() {
        let (wifi, unknown) = (LinkType::of_pcapng(Linktype(127)), LinkType::of_pcapng(Linktype(999)));
        assert_eq!([wifi, unknown].map(|link| link.to_string()), ["IEEE802_11_RADIOTAP (127)", "999"]);
        // A frame check sequence of 4 bytes is in the upper half.
        assert_eq!(LinkType::of_pcap(Linktype(0x4400_0001)), LinkType(1));
    }
}

//! Link-layer headers in captures.

use pcap_parser::Linktype;

use crate::Datagram;

/// A packet with its link type.
#[derive(Clone, Copy)]
pub(crate) struct Captured<'a> {
    pub(crate) link: Linktype,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Captured<'a> {
    /// `None`: not UDP, a fragment, or an unsupported link type.
    pub(crate) fn datagram(self) -> Option<Datagram<'a>> {
        match self.link {
            Linktype::ETHERNET => Datagram::from_ethernet(self.bytes),
            Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 => Datagram::from_ip(self.bytes),
            // 4, 16 and 20 bytes precede the IP header: BSD loopback, and `-i any` on Linux.
            Linktype::NULL | Linktype::LOOP => Datagram::from_ip(self.bytes.get(4..)?),
            Linktype::LINUX_SLL => Datagram::from_ip(self.bytes.get(16..)?),
            LINUX_SLL2 => Datagram::from_ip(self.bytes.get(20..)?),
            // NFLOG captures have netlink attributes.
            Linktype::NFLOG => Datagram::from_ip(nflog_payload(self.bytes)?),
            _ => None,
        }
    }
}

/// `LINKTYPE_LINUX_SLL2`.
const LINUX_SLL2: Linktype = Linktype(276);

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
        // link type, bytes, whether a datagram is found
        let rows = [
            ("Ethernet", Linktype::ETHERNET, ethernet.clone(), true),
            ("raw IP", Linktype::RAW, packet.clone(), true),
            ("IPv4", Linktype::IPV4, packet.clone(), true),
            ("loopback", Linktype::NULL, after(4), true),
            ("OpenBSD loopback", Linktype::LOOP, after(4), true),
            ("all interfaces", Linktype::LINUX_SLL, after(16), true),
            ("all interfaces, version 2", LINUX_SLL2, after(20), true),
            ("NFLOG", Linktype::NFLOG, nflog(&[(1, &[1; 5]), (9, &packet)]), true),
            ("NFLOG without a payload", Linktype::NFLOG, nflog(&[(1, &[1; 5])]), false),
            ("NFLOG with an empty attribute", Linktype::NFLOG, vec![0; 12], false),
            ("an unknown link", Linktype(999), packet.clone(), false),
            ("the wrong link", Linktype::RAW, ethernet, false),
            ("shorter than the link header", Linktype::LINUX_SLL, vec![0; 15], false),
            ("nothing", Linktype::NFLOG, Vec::new(), false),
        ];
        for (name, link, bytes, is_there) in rows {
            let found = Captured { link, bytes: &bytes }.datagram();
            assert_eq!(found.is_some(), is_there, "{name}");
            let payload = found.as_ref().and_then(Datagram::packet).map(|packet| packet.payload.to_vec());
            assert_eq!(payload, is_there.then(|| vec![7; 56]), "{name}");
        }
    }
}

//! What stands before a packet's IP header in a capture.

use pcap_parser::Linktype;

use crate::Datagram;

/// A packet, and what it begins with.
#[derive(Clone, Copy)]
pub(crate) struct Captured<'a> {
    pub(crate) link: Linktype,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Captured<'a> {
    /// `None`: it is no UDP, a fragment, or comes over a link that nobody knows here.
    pub(crate) fn datagram(self) -> Option<Datagram<'a>> {
        match self.link {
            Linktype::ETHERNET => Datagram::from_ethernet(self.bytes),
            Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 => Datagram::from_ip(self.bytes),
            // Before the IP header they have 4, 16 and 20 bytes: loopback of BSD, and `-i any` of Linux.
            Linktype::NULL | Linktype::LOOP => Datagram::from_ip(self.bytes.get(4..)?),
            Linktype::LINUX_SLL => Datagram::from_ip(self.bytes.get(16..)?),
            LINUX_SLL2 => Datagram::from_ip(self.bytes.get(20..)?),
            // NFLOG's own captures have attributes, as netlink has them.
            Linktype::NFLOG => Datagram::from_ip(nflog_payload(self.bytes)?),
            _ => None,
        }
    }
}

/// `LINKTYPE_LINUX_SLL2`.
const LINUX_SLL2: Linktype = Linktype(276);

/// The attribute `NFULA_PAYLOAD` behind the 4 bytes of the header: length and kind in the order of the machine that
/// captured, which is taken for ours; then the bytes.
fn nflog_payload(bytes: &[u8]) -> Option<&[u8]> {
    const PAYLOAD: u16 = 9;
    let mut rest = bytes.get(4..)?;
    loop {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let (kind, _) = behind.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        if u16::from_ne_bytes(*kind) == PAYLOAD {
            return rest.get(4..length);
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

//! The UDP datagrams of a capture file, pcap or pcapng.

use anyhow::{Result, bail};
use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use pcap_parser::{
    Block, Linktype, PcapBlockOwned, PcapError, create_reader, traits::PcapNGPacketBlock as _,
};
use pkd_core::UnixSeconds;

/// Bytes of the longest packet that can be read.
const LONGEST: usize = 1024 * 1024;
/// `LINKTYPE_LINUX_SLL2`, which pcap-parser has no name for.
const LINUX_SLL2: Linktype = Linktype(276);

/// One datagram, and when it was seen.
pub(super) struct Datagram {
    /// Which packet of the file it is, from 1.
    pub(super) number: u64,
    pub(super) time: UnixSeconds,
    pub(super) source: String,
    pub(super) destination_port: u16,
    pub(super) payload: Vec<u8>,
}

/// Whether these bytes begin a capture (pcap in both orders of bytes and with both kinds of fractions, or pcapng).
pub(super) fn is_one(bytes: &[u8]) -> bool {
    const MAGIC: [[u8; 4]; 5] = [
        [0xa1, 0xb2, 0xc3, 0xd4],
        [0xd4, 0xc3, 0xb2, 0xa1],
        [0xa1, 0xb2, 0x3c, 0x4d],
        [0x4d, 0x3c, 0xb2, 0xa1],
        [0x0a, 0x0d, 0x0d, 0x0a],
    ];
    MAGIC.iter().any(|magic| bytes.starts_with(magic))
}

/// The datagrams of a capture, in their order.
///
/// # Errors
/// It is damaged, or ends in the middle of a packet.
pub(super) fn datagrams(capture: &[u8]) -> Result<Vec<Datagram>> {
    let mut found = Vec::new();
    let mut number = 0;
    let mut keep = |link: Option<Linktype>, time: u64, bytes: &[u8]| {
        number += 1;
        found.extend(link.and_then(|link| datagram(link, number, UnixSeconds(time), bytes)));
    };
    let mut reader = match create_reader(LONGEST, capture) {
        Ok(reader) => reader,
        Err(error) => bail!("it is no capture: {error:?}"),
    };
    let mut of_file = None;
    let mut interfaces = Vec::new();
    loop {
        let (length, block) = match reader.next() {
            Ok(next) => next,
            Err(PcapError::Eof) => return Ok(found),
            Err(PcapError::Incomplete(_)) => {
                if let Err(error) = reader.refill() {
                    bail!("it ends in the middle of a packet: {error:?}");
                }
                continue;
            }
            Err(error) => bail!("it is damaged: {error:?}"),
        };
        match block {
            PcapBlockOwned::LegacyHeader(header) => of_file = Some(header.network),
            PcapBlockOwned::Legacy(packet) => keep(of_file, packet.ts_sec.into(), packet.data),
            PcapBlockOwned::NG(Block::SectionHeader(_)) => interfaces.clear(),
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                let begin = u64::try_from(interface.ts_offset()).unwrap_or(0);
                interfaces.push((interface.linktype, begin, interface.ts_resolution().unwrap_or(1_000_000)));
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let interface = usize::try_from(packet.if_id).ok().and_then(|place| interfaces.get(place));
                let time =
                    interface.map_or(0, |&(_, begin, per_second)| packet.decode_ts(begin, per_second).0);
                keep(interface.map(|&(link, ..)| link), u64::from(time), packet.packet_data());
            }
            PcapBlockOwned::NG(_) => {}
        }
        reader.consume(length);
    }
}

fn datagram(link: Linktype, number: u64, time: UnixSeconds, bytes: &[u8]) -> Option<Datagram> {
    // Before the IP header there are so many bytes.
    let ip = |behind: usize| LaxSlicedPacket::from_ip(bytes.get(behind..)?).ok();
    let packet = match link {
        Linktype::ETHERNET => LaxSlicedPacket::from_ethernet(bytes).ok(),
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 => ip(0),
        Linktype::NULL | Linktype::LOOP => ip(4),
        Linktype::LINUX_SLL => ip(16),
        LINUX_SLL2 => ip(20),
        _ => None,
    }?;
    let source = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => ip.header().source_addr().to_string(),
        LaxNetSlice::Ipv6(ip) => ip.header().source_addr().to_string(),
        LaxNetSlice::Arp(_) => return None,
    };
    let TransportSlice::Udp(udp) = packet.transport.as_ref()? else { return None };
    if packet.ip_payload()?.fragmented {
        return None;
    }
    let (destination_port, payload) = (udp.destination_port(), udp.payload().to_vec());
    Some(Datagram { number, time, source, destination_port, payload })
}

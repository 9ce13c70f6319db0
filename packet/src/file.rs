//! Capture files, pcap and pcapng.

use std::io::Read;

use anyhow::{Result, bail};
use pcap_parser::{
    Block, Linktype, PcapBlockOwned, PcapError, PcapHeader, create_reader, traits::PcapNGPacketBlock,
};
use pkd_core::UnixSeconds;

use crate::{Datagram, link::Captured};

/// Maximum packet size in bytes.
const MAX_PACKET: usize = 1024 * 1024;

/// Whether these bytes start a capture file: pcap of either byte order and timestamp resolution, or pcapng.
#[must_use]
pub fn is_file(bytes: &[u8]) -> bool {
    const MAGIC: [[u8; 4]; 5] = [
        [0xa1, 0xb2, 0xc3, 0xd4],
        [0xd4, 0xc3, 0xb2, 0xa1],
        [0xa1, 0xb2, 0x3c, 0x4d],
        [0x4d, 0x3c, 0xb2, 0xa1],
        [0x0a, 0x0d, 0x0d, 0x0a],
    ];
    MAGIC.iter().any(|magic| bytes.starts_with(magic))
}

/// Reads a capture file and passes on each UDP datagram with its packet number, from 1, and its time. Returns the number of
/// packets.
///
/// # Errors
/// It is not a capture file, is damaged, or is truncated. Complete packets before the damage have been passed on.
pub fn each_datagram(
    source: impl Read + Send,
    mut each: impl FnMut(u64, UnixSeconds, &Datagram<'_>),
) -> Result<u64> {
    let mut packets = 0;
    each_packet(source, |time, packet| {
        packets += 1;
        if let Some(datagram) = packet.and_then(Captured::datagram) {
            each(packets, time, &datagram);
        }
    })?;
    Ok(packets)
}

/// A packet of an unknown interface is `None`.
fn each_packet(
    source: impl Read + Send,
    mut each: impl FnMut(UnixSeconds, Option<Captured<'_>>),
) -> Result<()> {
    let mut reader = match create_reader(MAX_PACKET, source) {
        Ok(reader) => reader,
        Err(PcapError::HeaderNotRecognized | PcapError::Eof | PcapError::Incomplete(_)) => {
            bail!("not a capture file (pcap or pcapng)")
        }
        Err(error) => bail!("not a capture file: {error:?}"),
    };
    let mut legacy: Option<PcapHeader> = None;
    let mut interfaces: Vec<(Linktype, u64, u64)> = Vec::new();
    let mut in_section = false;
    loop {
        // The reader subtracts 12 from the length of some blocks before it checks the length.
        if in_section && is_shorter_than_its_header(reader.data()) {
            bail!("damaged: a block is shorter than its header");
        }
        match reader.next() {
            Ok((offset, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) => legacy = Some(header),
                    PcapBlockOwned::Legacy(packet) => {
                        let link = legacy.as_ref().map(|header| header.network);
                        let time = UnixSeconds(packet.ts_sec.into());
                        each(time, link.map(|link| Captured { link, bytes: packet.data }));
                    }
                    PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                        interfaces.clear();
                        in_section = true;
                    }
                    PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                        let resolution = interface.ts_resolution().unwrap_or(1_000_000);
                        let offset = u64::try_from(interface.ts_offset()).unwrap_or(0);
                        interfaces.push((interface.linktype, resolution, offset));
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                        let found = usize::try_from(packet.if_id).ok().and_then(|at| interfaces.get(at));
                        let time = found.map_or(0, |&(_, resolution, offset)| {
                            u64::from(packet.decode_ts(offset, resolution).0)
                        });
                        let bytes = packet.packet_data();
                        each(UnixSeconds(time), found.map(|&(link, ..)| Captured { link, bytes }));
                    }
                    PcapBlockOwned::NG(_) => {}
                }
                reader.consume(offset);
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::UnexpectedEof) => bail!("truncated: the file ends within a packet or block"),
            Err(PcapError::Incomplete(_)) => match reader.refill() {
                Ok(()) => {}
                Err(error) => bail!("truncated: {error:?}"),
            },
            Err(error) => bail!("damaged: {error:?}"),
        }
    }
}

/// Whether the next pcapng block has a length (4 bytes after the 4 bytes of its type) too small for its own header and
/// trailer. No block up to [`MAX_PACKET`] looks like that in the other byte order.
fn is_shorter_than_its_header(block: &[u8]) -> bool {
    const HEADER: u32 = 12;
    let length = block.split_first_chunk::<4>().and_then(|(_kind, rest)| rest.first_chunk::<4>());
    length.is_some_and(|length| u32::from_le_bytes(*length) < HEADER || u32::from_be_bytes(*length) < HEADER)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const RAW: u32 = 101;
    const TIME: u32 = 1_800_000_000;

    fn packet() -> Vec<u8> {
        let mut bytes = Vec::new();
        let to = PacketBuilder::ipv4([192, 0, 2, 7], [192, 0, 2, 1], 64).udp(1_000, 40_000);
        to.write(&mut bytes, &[7; 56]).unwrap();
        bytes
    }

    fn little_endian(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn length(bytes: &[u8]) -> u32 {
        u32::try_from(bytes.len()).unwrap()
    }

    /// A pcap file with these packets of raw IP.
    fn pcap(packets: &[&[u8]]) -> Vec<u8> {
        let mut file = little_endian(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, RAW]);
        for packet in packets {
            file.extend(little_endian(&[TIME, 5, length(packet), length(packet)]));
            file.extend(*packet);
        }
        file
    }

    /// A block of a pcapng file. Its content is filled up to whole words.
    fn block(kind: u32, content: &[u8]) -> Vec<u8> {
        let mut content = content.to_vec();
        content.resize(content.len().next_multiple_of(4), 0);
        let length = length(&content) + 12;
        [&little_endian(&[kind, length])[..], &content, &length.to_le_bytes()].concat()
    }

    fn section_header() -> Vec<u8> {
        block(0x0a0d_0d0a, &little_endian(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]))
    }

    /// An interface of raw IP whose times are in units of 10 to the minus `digits` seconds.
    fn interface(digits: u8) -> Vec<u8> {
        block(1, &[&little_endian(&[RAW, 65_535, 0x0001_0009])[..], &[digits, 0, 0, 0], &[0; 4]].concat())
    }

    /// A packet of an interface, at so many of its units.
    fn enhanced(interface: u32, time: u64, packet: &[u8]) -> Vec<u8> {
        let [high, low] = [time >> 32, time & u64::from(u32::MAX)].map(|half| u32::try_from(half).unwrap());
        let head = little_endian(&[interface, high, low, length(packet), length(packet)]);
        block(6, &[&head, packet].concat())
    }

    /// Numbers and times of the datagrams, and how many packets there are.
    fn datagrams(file: &[u8]) -> (Vec<(u64, u64)>, Result<u64>) {
        let mut found = Vec::new();
        let ended = each_datagram(file, |number, time, _| found.push((number, time.0)));
        (found, ended)
    }

    #[test]
    fn a_pcap_file_is_read_to_its_end() {
        let packet = packet();
        let (found, ended) = datagrams(&pcap(&[&packet, &[0; 20], &packet]));
        assert_eq!((found, ended.unwrap()), (vec![(1, TIME.into()), (3, TIME.into())], 3));
    }

    #[test]
    fn a_pcapng_file_has_times_in_the_unit_of_each_interface() {
        let (packet, time) = (packet(), u64::from(TIME));
        let file = [
            section_header(),
            interface(6),
            interface(9),
            enhanced(0, time * 1_000_000 + 5, &packet),
            enhanced(1, time * 1_000_000_000 + 5, &packet),
            // Nobody knows the link of an interface that is not there.
            enhanced(2, time, &packet),
        ];
        let (found, ended) = datagrams(&file.concat());
        assert_eq!((found, ended.unwrap()), (vec![(1, time), (2, time)], 3));
        // A new section has interfaces of its own.
        let file = [section_header(), interface(6), section_header(), enhanced(0, time, &packet)];
        let (found, ended) = datagrams(&file.concat());
        assert_eq!((found, ended.unwrap()), (vec![], 1));
    }

    #[test]
    fn what_comes_before_the_damage_is_passed_on() {
        let file = pcap(&[&packet(), &packet()]);
        let (found, ended) = datagrams(file.split_last_chunk::<9>().unwrap().0);
        assert_eq!(found, [(1, TIME.into())]);
        assert_eq!(ended.unwrap_err().to_string(), "truncated: the file ends within a packet or block");
    }

    #[test]
    fn other_files_are_refused() {
        for other in [&b""[..], b"GIF89a", &[0xa1, 0xb2], &packet()] {
            assert!(!is_file(other), "{other:?}");
            let error = datagrams(other).1.unwrap_err().to_string();
            assert_eq!(error, "not a capture file (pcap or pcapng)", "{other:?}");
        }
        assert!(is_file(&pcap(&[])) && is_file(&section_header()));
    }

    /// A pcapng section, and a block of this type and length.
    fn section(kind: u32, length: u32) -> Vec<u8> {
        let words = [0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28, kind, length, 0, length];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_block_that_is_shorter_than_its_header_is_damage() {
        // Process information, a block of Apple, and an unknown one.
        for kind in [0x8000_0001, 0x7777_7777] {
            for length in [0, 4, 8, 11, 1 << 24] {
                let error = each_packet(&section(kind, length)[..], |_, _| {}).unwrap_err().to_string();
                assert!(error.starts_with("damaged: "), "{kind:x} of {length}: {error}");
            }
        }
        each_packet(&section(0x7777_7777, 16)[..], |_, _| {}).unwrap();
    }
}

//! Capture files, pcap and pcapng.

use std::io::Read;

use anyhow::{Result, bail};
use pcap_parser::{
    Block, PcapBlockOwned, PcapError, PcapHeader, create_reader, traits::PcapNGPacketBlock as _,
};
use pkd_core::UnixSeconds;

use crate::{
    captured::{Captured, Content, Span},
    link::LinkType,
    section::{OBSOLETE_PACKET, Section},
};

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

/// Reads a capture file and passes on each of its packets.
///
/// # Errors
/// It is not a capture file, is damaged, or is truncated. Complete packets before the damage have been passed on.
pub fn each_packet(source: impl Read + Send, mut each: impl FnMut(&Captured<'_>)) -> Result<()> {
    let mut reader = match create_reader(MAX_PACKET, source) {
        Ok(reader) => reader,
        Err(PcapError::HeaderNotRecognized | PcapError::Eof | PcapError::Incomplete(_)) => {
            bail!("not a capture file (pcap or pcapng)")
        }
        Err(error) => bail!("not a capture file: {error:?}"),
    };
    let mut legacy: Option<PcapHeader> = None;
    let mut section: Option<Section> = None;
    let mut number = 0;
    let mut pass = |(time, content): (Option<UnixSeconds>, Content<'_>)| {
        number += 1;
        each(&Captured { number, time, content });
    };
    loop {
        // The reader subtracts 12 from the length of some blocks before it checks the length.
        if section.is_some() && is_shorter_than_its_header(reader.data()) {
            bail!("damaged: a block is shorter than its header");
        }
        match reader.next() {
            Ok((offset, block)) => {
                match (block, &mut section) {
                    (PcapBlockOwned::LegacyHeader(header), _) => legacy = Some(header),
                    (PcapBlockOwned::Legacy(packet), _) => {
                        let link = legacy.as_ref().map(|header| LinkType::of_pcap(header.network));
                        let span = Span { bytes: packet.data, original: packet.origlen };
                        pass((Some(UnixSeconds(packet.ts_sec.into())), Content::of(link, span)));
                    }
                    (PcapBlockOwned::NG(Block::SectionHeader(header)), section) => {
                        *section = Some(Section::new(header.big_endian()));
                    }
                    (PcapBlockOwned::NG(Block::InterfaceDescription(interface)), Some(section)) => {
                        section.add(&interface);
                    }
                    (PcapBlockOwned::NG(Block::EnhancedPacket(packet)), Some(section)) => {
                        let span = Span { bytes: packet.packet_data(), original: packet.origlen };
                        pass(section.packet(packet.if_id, [packet.ts_high, packet.ts_low], span));
                    }
                    (PcapBlockOwned::NG(Block::SimplePacket(packet)), Some(section)) => {
                        pass(section.simple(packet.data, packet.origlen));
                    }
                    (PcapBlockOwned::NG(Block::Unknown(block)), Some(section))
                        if section.number(block.block_type) == OBSOLETE_PACKET =>
                    {
                        match section.obsolete(block.data) {
                            Some(packet) => pass(packet),
                            None => bail!("damaged: a packet block is shorter than its header"),
                        }
                    }
                    (PcapBlockOwned::NG(_), _) => {}
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
    use proptest::prelude::*;

    use super::*;
    use crate::Cut;

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
        let (mut found, mut packets) = (Vec::new(), 0);
        let ended = each_packet(file, |packet| {
            packets = packet.number;
            if let Content::Datagram(_) = packet.content {
                found.push((packet.number, packet.time.map_or(0, |time| time.0)));
            }
        });
        (found, ended.map(|()| packets))
    }

    #[test]
    fn a_pcap_file_is_read_to_its_end() {
        let packet = packet();
        let (found, ended) = datagrams(&pcap(&[&packet, &[0; 20], &packet]));
        assert_eq!((found, ended.unwrap()), (vec![(1, TIME.into()), (3, TIME.into())], 3));
    }

    /// What `Content` is, in a word, and the time.
    fn contents(file: &[u8]) -> Vec<(String, Option<u64>)> {
        let mut found = Vec::new();
        let each = |packet: &Captured<'_>| {
            let word = match packet.content {
                Content::Datagram(datagram) => {
                    format!("datagram of {}", datagram.parts().map_or(0, |(_, payload)| payload.len()))
                }
                Content::Cut { datagram, cut: Cut { kept, original } } => {
                    let stated = datagram.and_then(|datagram| datagram.stated_length());
                    format!("{kept} of {original}, {stated:?}")
                }
                Content::UnknownLink(link) => format!("link {link}"),
                Content::UnknownInterface => "no interface".to_owned(),
                Content::Other => "other".to_owned(),
            };
            found.push((word, packet.time.map(|time| time.0)));
        };
        each_packet(file, each).unwrap();
        found
    }

    #[test]
    fn a_pcapng_file_has_times_in_the_unit_of_each_interface() {
        let (packet, time) = (packet(), u64::from(TIME));
        // if_tsresol, and how many of its units a second has.
        let units: [(u8, u64); 8] = [
            (0, 1),
            (6, 1_000_000),
            (9, 1_000_000_000),
            (0x80, 1),
            (0x8a, 1024),
            (0x94, 1 << 20),
            (0xa0, 1 << 32),
            (0xa1, 1 << 33),
        ];
        let mut file = section_header();
        for (row, (unit, per_second)) in (0..).zip(units) {
            file.extend(interface(unit));
            file.extend(enhanced(row, time * per_second + per_second / 2, &packet));
        }
        let (found, ended) = datagrams(&file);
        assert_eq!((found, ended.unwrap()), ((1..=8).map(|number| (number, time)).collect(), 8));
        // Units that do not fit into 64 bits.
        for unit in [20, 0x7f, 0xc0, 0xff] {
            let file = [section_header(), interface(unit), enhanced(0, u64::MAX, &packet)].concat();
            assert_eq!(datagrams(&file).0, [(1, 0)], "{unit:#x}");
        }
        // Nobody knows the link of an interface that is not there, and a new section has interfaces of its own.
        let file = [section_header(), interface(6), enhanced(1, time, &packet), section_header()];
        let file = [file.concat(), enhanced(0, time, &packet)].concat();
        assert_eq!(contents(&file), [("no interface".to_owned(), None), ("no interface".to_owned(), None)]);
    }

    #[test]
    fn simple_and_obsolete_packet_blocks_are_read() {
        let (packet, time) = (packet(), u64::from(TIME));
        let simple = |packet: &[u8]| block(3, &[&length(packet).to_le_bytes(), packet].concat());
        let [high, low] = [0x0006_6517, 0x2898_8000_u32];
        assert_eq!(u64::from(high) << 32 | u64::from(low), time * 1_000_000, "the test's own time");
        let head = little_endian(&[0x0003_0000, high, low, length(&packet), length(&packet)]);
        let obsolete = block(2, &[&head, &packet[..]].concat());
        let file = [section_header(), interface(6), simple(&packet), obsolete.clone()].concat();
        let datagram = "datagram of 56".to_owned();
        assert_eq!(contents(&file), [(datagram.clone(), None), (datagram.clone(), Some(time))]);
        // In the other byte order each number is reversed, and the packets are not.
        let big = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let file = [
            big(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 0x0001_0000, u32::MAX, u32::MAX, 28]),
            big(&[1, 20, RAW << 16, 65_535, 20]),
            big(&[3, 100, 84]),
            packet.clone(),
            big(&[100, 2, 116, 3, high, low, 84, 84]),
            packet.clone(),
            big(&[116]),
        ];
        assert_eq!(contents(&file.concat()), [(datagram.clone(), None), (datagram, Some(time))]);
        // One that is shorter than it says is damage.
        let head = little_endian(&[0, 0, 0, 1000, 1000]);
        let error = datagrams(&[section_header(), interface(6), block(2, &head)].concat()).1.unwrap_err();
        assert_eq!(error.to_string(), "damaged: a packet block is shorter than its header");
    }

    #[test]
    fn what_the_snap_length_cut_off_is_told() {
        let packet = packet();
        let cut = |kept: usize| {
            let mut file = pcap(&[]);
            file.extend(little_endian(&[TIME, 5, u32::try_from(kept).unwrap(), length(&packet)]));
            file.extend(&packet[..kept]);
            contents(&file).pop().unwrap().0
        };
        assert_eq!(cut(84), "datagram of 56");
        assert_eq!([cut(83), cut(28)], ["83 of 84, Some(56)", "28 of 84, Some(56)"]);
        assert_eq!(
            [cut(27), cut(20), cut(19), cut(0)],
            ["27", "20", "19", "0"].map(|kept| format!("{kept} of 84, None"))
        );
        // Other protocols stay what they are, and so does what was sent so short.
        let mut tcp = packet.clone();
        tcp[9] = 6;
        let words = little_endian(&[TIME, 5, 30, 84]);
        assert_eq!(contents(&[pcap(&[]), words, tcp[..30].to_vec()].concat())[0].0, "other");
        assert_eq!(contents(&pcap(&[&packet[..27]]))[0].0, "other");
        // Only a simple packet block leaves it to the snap length of the interface.
        let snapped = block(1, &little_endian(&[RAW, 30]));
        let simple = block(3, &[&84_u32.to_le_bytes(), &packet[..30]].concat());
        assert_eq!(contents(&[section_header(), snapped, simple].concat())[0].0, "30 of 84, Some(56)");
    }

    proptest! {
        #[test]
        fn no_file_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8), is_ng: bool) {
            let packet = packet();
            let old = block(2, &[&little_endian(&[0, 0, 9, length(&packet), length(&packet)]), &packet[..]].concat());
            let simple = block(3, &[&length(&packet).to_le_bytes(), &packet[..]].concat());
            let blocks = [section_header(), interface(6), enhanced(0, 5, &packet), old, simple];
            let mut file = if is_ng { blocks.concat() } else { pcap(&[&packet, &packet]) };
            for (place, byte) in changes {
                let place = place.index(file.len());
                file[place] = byte;
            }
            let _ = each_packet(&file[..], |_| {});
        }
    }

    #[test]
    fn unknown_links_are_told() {
        let mut file = pcap(&[&packet()]);
        file[20] = 127;
        assert_eq!(contents(&file)[0].0, "link IEEE802_11_RADIOTAP (127)");
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
                let error = each_packet(&section(kind, length)[..], |_| {}).unwrap_err().to_string();
                assert!(error.starts_with("damaged: "), "{kind:x} of {length}: {error}");
            }
        }
        each_packet(&section(0x7777_7777, 16)[..], |_| {}).unwrap();
    }
}

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
    use super::*;

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

//! What a door would have said to the datagrams of a capture file (pcap or pcapng).

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};
use pcap_parser::{
    Block, Linktype, PcapBlockOwned, PcapError, PcapHeader, create_reader, traits::PcapNGPacketBlock,
};
use pkd_core::{Knock, Reason, UnixSeconds, Verdict};

use crate::{config::Config, datagram::Datagram, door::Door, floor::Saved, guards::Guards, journal::Journal};

/// Bytes of the longest packet that can be read.
const LONGEST: usize = 1024 * 1024;

/// Prints a line for each UDP datagram that a rule would hand over or that nearly is a knock, and a summary. Each is
/// held against the clock of its capture, by a door that remembers nothing from before.
///
/// # Errors
/// The file cannot be read, or is no capture; or the output cannot be written.
pub fn replay(config: Config, file: &Path, out: &mut impl Write) -> Result<()> {
    let name = file.display();
    let source = File::open(file).with_context(|| format!("cannot read {name}"))?;
    replay_from(config, &name.to_string(), source, out)
}

/// The same for what a file holds; `name` is for errors.
///
/// # Errors
/// As [`replay`].
pub fn replay_from(
    config: Config,
    name: &str,
    source: impl io::Read + Send,
    out: &mut impl Write,
) -> Result<()> {
    let start = Saved { floor: UnixSeconds(0), clean: true };
    let widest = config.widest();
    let start = Saved::start(Some(start), UnixSeconds(0), widest);
    let guards = Guards::open(Journal::nowhere()?, start, UnixSeconds(0), widest)?;
    let port = config.gate.port;
    let mut door = Door::new(config, guards)?;
    let (mut packets, mut datagrams) = (0_u64, 0_u64);
    let mut wrong = Ok(());
    each_packet(source, |time, packet| {
        packets += 1;
        if let Some(datagram) = packet.and_then(Captured::datagram)
            && wrong.is_ok()
        {
            datagrams += 1;
            wrong = explain(&mut door, packets, time, port, &datagram, out);
        }
    })
    .with_context(|| format!("cannot read {name}"))?;
    wrong.context("cannot write")?;
    let of = |verdict| door.counters().of(verdict);
    writeln!(
        out,
        "{packets} packets, {datagrams} of them UDP datagrams: {} would have been accepted",
        of(Verdict::Accept)
    )
    .context("cannot write")
}

fn explain(
    door: &mut Door,
    number: u64,
    time: UnixSeconds,
    port: Option<u16>,
    datagram: &Datagram<'_>,
    out: &mut impl Write,
) -> io::Result<()> {
    let Some(packet) = datagram.packet() else { return Ok(()) };
    let Some(knock) = Knock::parse(packet.payload) else { return Ok(()) };
    let (to, source) = (packet.destination_port.0, datagram.source);
    let begin = format!("packet {number}, from {source} to port {to}, tag {}: ", knock.tag());
    if port.is_some_and(|port| port != to) {
        return writeln!(out, "{begin}not looked at, gate: port is another");
    }
    let (verdict, guard) = door.check(time, datagram);
    let off = match knock.time() {
        ahead if ahead >= time => format!("{} s ahead of", ahead.since(time)),
        behind => format!("{} s behind", time.since(behind)),
    };
    let name = |guard| {
        let users = door.config().users.iter();
        users.clone().find(|(_, user)| Some(user.guard) == guard).map_or("", |(name, _)| name)
    };
    let why = match verdict {
        Verdict::Accept => format!("accept; user {}, whose clock is {off} the capture's", name(guard)),
        Verdict::Ignore(Reason::Length) => "length".to_owned(),
        Verdict::Ignore(Reason::Tag) => "tag; no active user has it".to_owned(),
        Verdict::Ignore(Reason::Window) => format!("window; its time is {off} the capture's"),
        Verdict::Ignore(Reason::Replay) => {
            "replay; the capture has it twice, or a later one before it".to_owned()
        }
        Verdict::Ignore(Reason::Digest) => {
            "digest; made with another key, for another port, or altered".to_owned()
        }
    };
    writeln!(out, "{begin}{why}")
}

/// A packet, and what it begins with.
#[derive(Clone, Copy)]
struct Captured<'a> {
    link: Linktype,
    bytes: &'a [u8],
}

impl<'a> Captured<'a> {
    fn datagram(self) -> Option<Datagram<'a>> {
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

/// Reads the file from begin to end. A packet whose interface is not known is `None`.
fn each_packet(
    source: impl io::Read + Send,
    mut each: impl FnMut(UnixSeconds, Option<Captured<'_>>),
) -> Result<()> {
    let mut reader = match create_reader(LONGEST, source) {
        Ok(reader) => reader,
        Err(PcapError::HeaderNotRecognized | PcapError::Eof | PcapError::Incomplete(_)) => {
            bail!("it is no capture file (pcap or pcapng)")
        }
        Err(error) => bail!("it is no capture file: {error:?}"),
    };
    let mut legacy: Option<PcapHeader> = None;
    let mut interfaces: Vec<(Linktype, u64, u64)> = Vec::new();
    let mut in_section = false;
    loop {
        // The reader takes 12 from the length of some kinds of blocks before it looks at it.
        if in_section && is_shorter_than_its_frame(reader.data()) {
            bail!("it is damaged: a block is shorter than its own frame");
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
                Err(error) => bail!("it ends in the middle of a packet: {error:?}"),
            },
            Err(error) => bail!("it is damaged: {error:?}"),
        }
    }
}

/// Whether a block of pcapng begins here whose length, 4 bytes behind 4 of its kind, has no room for these and for the
/// length once more. No block that [`LONGEST`] lets in looks so in the other order of bytes.
fn is_shorter_than_its_frame(block: &[u8]) -> bool {
    const FRAME: u32 = 12;
    let length = block.split_first_chunk::<4>().and_then(|(_kind, rest)| rest.first_chunk::<4>());
    length.is_some_and(|length| u32::from_le_bytes(*length) < FRAME || u32::from_be_bytes(*length) < FRAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section of pcapng, and a block of this kind behind it that says this length.
    fn section(kind: u32, length: u32) -> Vec<u8> {
        let words = [0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28, kind, length, 0, length];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_block_that_is_shorter_than_its_frame_is_damage() {
        // Process information, Apple's own, and one that nobody knows.
        for kind in [0x8000_0001, 0x7777_7777] {
            for length in [0, 4, 8, 11, 1 << 24] {
                let told = each_packet(&section(kind, length)[..], |_, _| {}).unwrap_err().to_string();
                assert!(told.starts_with("it is damaged: "), "{kind:x} of {length}: {told}");
            }
        }
        each_packet(&section(0x7777_7777, 16)[..], |_, _| {}).unwrap();
    }
}

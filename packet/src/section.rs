//! Sections of pcapng files: byte order, interfaces, and the packets that refer to them.
//!
//! Source: `draft-ietf-opsawg-pcapng`.

use pcap_parser::InterfaceDescriptionBlock;
use pkd_core::UnixSeconds;

use crate::{
    captured::{Content, Span},
    link::LinkType,
};

/// The type of the packet block that the enhanced packet block replaced.
pub(crate) const OBSOLETE_PACKET: u32 = 2;

/// A section that has begun.
pub(crate) struct Section {
    is_big_endian: bool,
    interfaces: Vec<Interface>,
}

struct Interface {
    link: LinkType,
    /// Maximum bytes of a packet; 0: no limit.
    snap_length: u32,
    unit: Unit,
    /// Seconds to add to all times.
    offset: i64,
}

/// The unit of an interface's times: a power of a second.
struct Unit(u8);

impl Unit {
    /// Whole seconds. The high bit of `if_tsresol` means a power of two, else it is one of ten.
    fn seconds(&self, time: u64) -> u64 {
        let exponent = u32::from(self.0 & 0x7f);
        let base: u64 = if self.0 & 0x80 == 0 { 10 } else { 2 };
        // A unit too small for 64 bits leaves no whole second.
        base.checked_pow(exponent).map_or(0, |per_second| time / per_second)
    }
}

impl Section {
    pub(crate) fn new(is_big_endian: bool) -> Self {
        Self { is_big_endian, interfaces: Vec::new() }
    }

    pub(crate) fn add(&mut self, interface: &InterfaceDescriptionBlock<'_>) {
        // The parser reads this option in one byte order only.
        let offset = interface.if_tsoffset;
        self.interfaces.push(Interface {
            link: LinkType::of_pcapng(interface.linktype),
            snap_length: interface.snaplen,
            unit: Unit(interface.if_tsresol),
            offset: if self.is_big_endian { offset.swap_bytes() } else { offset },
        });
    }

    /// A number of this section that was read as a little-endian one.
    pub(crate) fn number(&self, number: u32) -> u32 {
        if self.is_big_endian { number.swap_bytes() } else { number }
    }

    /// The packet of an interface; `time` is its higher and lower half.
    pub(crate) fn packet<'a>(
        &self,
        interface: u32,
        time: [u32; 2],
        span: Span<'a>,
    ) -> (Option<UnixSeconds>, Content<'a>) {
        let found = usize::try_from(interface).ok().and_then(|at| self.interfaces.get(at));
        let [high, low] = time.map(u64::from);
        let time = found.map(|interface| {
            let seconds = interface.unit.seconds(high << 32 | low);
            UnixSeconds(seconds.saturating_add_signed(interface.offset))
        });
        (time, Content::of(found.map(|interface| interface.link), span))
    }

    /// A simple packet block: of the first interface, without a time. Padding follows the packet.
    pub(crate) fn simple<'a>(&self, data: &'a [u8], original: u32) -> (Option<UnixSeconds>, Content<'a>) {
        let found = self.interfaces.first();
        let limit = found.map_or(0, |interface| interface.snap_length);
        let kept = if limit == 0 { original } else { original.min(limit) };
        let bytes = usize::try_from(kept).ok().and_then(|kept| data.get(..kept)).unwrap_or(data);
        (None, Content::of(found.map(|interface| interface.link), Span { bytes, original }))
    }

    /// An obsolete packet block: interface and drops of 16 bits each, time, two lengths, the packet. `None`: it is shorter.
    pub(crate) fn obsolete<'a>(&self, block: &'a [u8]) -> Option<(Option<UnixSeconds>, Content<'a>)> {
        let (interface, rest) = block.split_first_chunk::<2>()?;
        let (_drops, rest) = rest.split_first_chunk::<2>()?;
        let (high, rest) = self.word(rest)?;
        let (low, rest) = self.word(rest)?;
        let (kept, rest) = self.word(rest)?;
        let (original, data) = self.word(rest)?;
        let interface =
            if self.is_big_endian { u16::from_be_bytes(*interface) } else { u16::from_le_bytes(*interface) };
        let bytes = data.get(..usize::try_from(kept).ok()?)?;
        Some(self.packet(interface.into(), [high, low], Span { bytes, original }))
    }

    fn word<'a>(&self, bytes: &'a [u8]) -> Option<(u32, &'a [u8])> {
        let (word, rest) = bytes.split_first_chunk::<4>()?;
        Some((self.number(u32::from_le_bytes(*word)), rest))
    }
}

//! UF2, the format of the files that a board's USB drive takes.
//!
//! Blocks of 512 bytes, each complete in itself (Microsoft's UF2 specification; RP2350 data sheet, section 5.5.2).

/// Length of a block in bytes.
pub const BLOCK: usize = 512;
/// Bytes of flash in each block: a page of it. The RP2350 takes no other length.
pub const PAGE: usize = 256;

const START: [u32; 2] = [0x0a32_4655, 0x9e5d_5157];
const END: u32 = 0x0ab1_6f30;
/// The family is set.
const HAS_FAMILY: u32 = 0x2000;
/// [`PAGE`], as it stands in a block.
const PAGE_LENGTH: u32 = 256;
/// Where the bytes of flash are in a block.
const DATA: usize = 32;

/// What the RP2350's boot ROM does with a file (data sheet, section 5.5.3). Without a partition table, it writes both kinds to
/// the addresses in the file, and leaves the rest of the flash as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A program for the Arm cores: `rp2350-arm-s`.
    Image,
    /// Anything else: `data`.
    Data,
}

impl Family {
    /// The family's number.
    #[must_use]
    pub const fn id(self) -> u32 {
        match self {
            Self::Image => 0xe48b_ff59,
            Self::Data => 0xe48b_ff58,
        }
    }
}

/// A file that has `bytes` written to flash from `address` on, which is the start of a page. What the last page has behind them
/// becomes 0xff, as in erased flash.
pub fn blocks(family: Family, address: u32, bytes: &[u8]) -> impl Iterator<Item = [u8; BLOCK]> {
    let count = u32::try_from(bytes.chunks(PAGE).len()).unwrap_or(u32::MAX);
    bytes.chunks(PAGE).zip(0_u32..).map(move |(page, number)| {
        let at = address.wrapping_add(number.wrapping_mul(PAGE_LENGTH));
        let head = [START[0], START[1], HAS_FAMILY, at, PAGE_LENGTH, number, count, family.id()];
        let mut block = [0; BLOCK];
        put(&mut block, 0, head.into_iter().flat_map(u32::to_le_bytes));
        put(&mut block, DATA, page.iter().copied().chain(core::iter::repeat(0xff)).take(PAGE));
        put(&mut block, BLOCK - 4, END.to_le_bytes().into_iter());
        block
    })
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: impl Iterator<Item = u8>) {
    block.iter_mut().skip(at).zip(bytes).for_each(|(slot, byte)| *slot = byte);
}

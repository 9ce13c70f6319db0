//! Checksums: the Internet checksum, its incremental update (RFC 1624, equation 3), and CRC-32.

/// The difference between the old and the new data that a checksum covers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChecksumDelta(u32);

impl ChecksumDelta {
    pub(crate) fn word(self, old: u16, new: u16) -> Self {
        self.add((!old).into()).add(new.into())
    }

    /// Replaces four bytes at an even place.
    pub(crate) fn replace(self, slot: &mut [u8; 4], new: u32) -> Self {
        let old = u32::from_be_bytes(*slot);
        *slot = new.to_be_bytes();
        self.add(!old).add(new)
    }

    /// In ones' complement, where a carry is worth one.
    fn add(self, value: u32) -> Self {
        let (sum, carry) = self.0.overflowing_add(value);
        Self(sum + u32::from(carry))
    }

    /// Returns the updated checksum. A wrong checksum stays wrong.
    pub(crate) fn apply(self, checksum: u16) -> u16 {
        let sum = self.add((!checksum).into()).0;
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        // Two folds leave 16 bits.
        !u16::try_from(sum & 0xffff).unwrap_or_default()
    }

    /// Like [`apply`](Self::apply), for UDP, where 0 means "no checksum" (RFC 768).
    pub(crate) fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            checksum => checksum,
        }
    }
}

/// The sum of 16-bit words that a checksum is computed from (RFC 1071). All pieces but the last must have even lengths.
///
/// smoltcp's version adds two bytes at a time. Every frame is summed here, so this one adds four.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u32);

impl Sum {
    /// Adds at most 64 KiB in total.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let mut sum = u64::from(self.0);
        let mut chunks = bytes.chunks_exact(4);
        for chunk in &mut chunks {
            if let Some(chunk) = chunk.first_chunk() {
                sum += u64::from(u32::from_be_bytes(*chunk));
            }
        }
        let mut rest = [0; 4];
        rest.iter_mut().zip(chunks.remainder()).for_each(|(slot, byte)| *slot = *byte);
        sum += u64::from(u32::from_be_bytes(rest));
        Self::fold(sum)
    }

    /// Adds the carries back in (RFC 1071, section 2).
    fn fold(sum: u64) -> Self {
        let sum = (sum & 0xffff_ffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        Self(u32::try_from(sum).unwrap_or(0))
    }

    /// An IPv4 header without options, and nothing else: nothing can be added to it.
    #[inline(always)]
    #[allow(clippy::inline_always)] // saves each frame 40 instructions
    pub(crate) fn header(bytes: &[u8; 20]) -> Self {
        let word = |at: usize| {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
            word.map_or(0, |word| u64::from(u32::from_be_bytes(*word)))
        };
        // A loop would take twice as long.
        let sum = word(0) + word(4) + word(8) + word(12) + word(16);
        let low = u32::try_from(sum & 0xffff_ffff).unwrap_or(0);
        // In ones' complement a carry is worth one.
        let (sum, carry) = low.overflowing_add(u32::try_from(sum >> 32).unwrap_or(0));
        Self(sum + u32::from(carry))
    }

    pub(crate) fn words(self, words: &[u32]) -> Self {
        words.iter().fold(self, |sum, word| Self(sum.0 + (word >> 16) + (word & 0xffff)))
    }

    pub(crate) fn word(self, word: u16) -> Self {
        Self(self.0 + u32::from(word))
    }

    /// Whether the summed data includes a correct checksum.
    pub(crate) fn is_valid(self) -> bool {
        self.checksum() == 0
    }

    /// The checksum of data whose own field for it is 0.
    pub(crate) fn checksum(self) -> u16 {
        let sum = (self.0 & 0xffff) + (self.0 >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        !u16::try_from(sum & 0xffff).unwrap_or_default()
    }
}

/// The CRC-32 of Ethernet (IEEE 802.3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crc32(u32);

impl Crc32 {
    pub(crate) const fn new() -> Self {
        Self(!0)
    }

    pub(crate) fn update(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 ^= u32::from(*byte);
            for _ in 0..8 {
                self.0 = (self.0 >> 1) ^ if self.0 & 1 == 1 { 0xedb8_8320 } else { 0 };
            }
        }
        self
    }

    pub(crate) const fn finish(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_matches_the_published_check_value() {
        // The check value in catalogues of CRCs.
        assert_eq!(Crc32::new().update(b"123456789").finish(), 0xcbf4_3926);
        assert_eq!(Crc32::new().update(b"1234").update(b"56789").finish(), 0xcbf4_3926);
    }

    #[test]
    fn the_sum_matches_rfc_1071_at_every_length() {
        // The example in RFC 1071, section 3, and its complement.
        let example = [0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7];
        assert!(Sum::default().bytes(&example).word(!0xddf2).is_valid());
        assert!(!Sum::default().bytes(&example).word(!0xddf3).is_valid());
        for length in 0..70 {
            let bytes: [u8; 70] = core::array::from_fn(|at| u8::try_from(at * 37 % 251).unwrap_or(0));
            let piece = bytes.get(..length).unwrap();
            let byte = |pair: &[u8], at: usize| u32::from(pair.get(at).copied().unwrap_or(0));
            let slow: u32 = piece.chunks(2).map(|pair| byte(pair, 0) << 8 | byte(pair, 1)).sum();
            let folded = u16::try_from((slow & 0xffff) + (slow >> 16)).unwrap();
            assert!(Sum::default().bytes(piece).word(!folded).is_valid(), "{length}");
        }
    }

    #[test]
    fn an_incremental_update_matches_rfc_1624() {
        // The example in RFC 1624, section 4: equation 3 gives 0x0000 where RFC 1141 gave 0xffff.
        assert_eq!(ChecksumDelta::default().word(0x5555, 0x3285).apply(0xdd2f), 0x0000);
        assert_eq!(ChecksumDelta::default().word(0x5555, 0x3285).apply_udp(0xdd2f), 0xffff);
        assert_eq!(ChecksumDelta::default().word(0x5555, 0x3285).apply_udp(0), 0);
    }
}

//! HMAC-SHA-256 (RFC 2104) for messages of up to 119 bytes, with the pads hashed in advance.

use sha2::block_api::compress256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::digest::{INITIAL_HASH, put, put_slice, to_bytes};

const BLOCK: usize = 64;
/// Bytes that SHA-256 puts after a message at least.
const PADDING: usize = 9;

/// A key, as the states of SHA-256 after its two pads.
#[derive(Clone)]
pub(crate) struct Hmac {
    inner: [u32; 8],
    outer: [u32; 8],
}

impl Drop for Hmac {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

impl ZeroizeOnDrop for Hmac {}

impl Hmac {
    /// `key` has at most 64 bytes.
    pub(crate) fn new(key: &[u8]) -> Self {
        let state = |pad: u8| {
            let mut block = [pad; BLOCK];
            block.iter_mut().zip(key).for_each(|(slot, byte)| *slot ^= byte);
            let mut state = INITIAL_HASH;
            compress256(&mut state, &[block]);
            block.zeroize();
            state
        };
        Self { inner: state(0x36), outer: state(0x5c) }
    }

    /// The MAC of the parts, one after the other.
    pub(crate) fn of<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut blocks = [[0; BLOCK]; 2];
        let mut rest = blocks.as_flattened_mut();
        for part in parts {
            rest = put_slice(rest, part);
        }
        let length = (2 * BLOCK).saturating_sub(rest.len());
        let [first, _] = &blocks;
        let hash = if length.saturating_add(PADDING) <= BLOCK {
            finish(self.inner, &mut [*first], length)
        } else {
            finish(self.inner, &mut blocks, length)
        };
        let mut block = [[0; BLOCK]];
        put(block.as_flattened_mut(), &hash);
        finish(self.outer, &mut block, hash.len())
    }
}

/// Pads a message of `length` bytes that comes after one block (FIPS 180-4, section 5.1.1), and hashes it.
fn finish(mut state: [u32; 8], blocks: &mut [[u8; BLOCK]], length: usize) -> [u8; 32] {
    let bytes = blocks.as_flattened_mut();
    if let Some(end) = bytes.get_mut(length) {
        *end = 0x80;
    }
    if let Some(slot) = bytes.last_chunk_mut() {
        *slot = bits(length).to_be_bytes();
    }
    compress256(&mut state, blocks);
    to_bytes(&state)
}

/// The length of the message and the block before it, in bits.
fn bits(length: usize) -> u64 {
    u64::try_from(length).unwrap_or_default().saturating_add(64).saturating_mul(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2, and messages on both sides of the end of a block.
    #[test]
    fn known_answers() {
        let of = |key: &[u8], message: &[u8]| Hmac::new(key).of([message]);
        let expected: [u8; 32] = [
            0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7,
            0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43,
        ];
        assert_eq!(of(b"Jefe", b"what do ya want for nothing?"), expected);
    }
}

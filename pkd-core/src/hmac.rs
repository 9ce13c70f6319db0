//! SHA-256 of messages in pieces, and HMAC-SHA-256 (RFC 2104) with the pads hashed in advance.

use sha2::block_api::compress256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    digest::{INITIAL_HASH, put, put_slice, put_words, to_bytes},
    secret::wipe,
};

const BLOCK: usize = 64;
/// Bytes of a pad and of a hash.
const HASHED: usize = BLOCK + 32;

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
        Self { inner: after_pad(0x36, key), outer: after_pad(0x5c, key) }
    }

    /// The MAC of these parts, one after the other.
    #[cold]
    #[inline(never)]
    pub(crate) fn of_parts(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.of(|message| parts.iter().for_each(|part| message.put(part)))
    }

    /// The MAC of what `write` puts into the message.
    pub(crate) fn of(&self, write: impl FnOnce(&mut Message)) -> [u8; 32] {
        let mut message = Message::after_a_block(self.inner);
        write(&mut message);
        message.finish(&self.outer);
        to_bytes(&message.state)
    }
}

/// The state of SHA-256 after the key in this pad.
#[cold]
#[inline(never)]
fn after_pad(pad: u8, key: &[u8]) -> [u32; 8] {
    let mut block = [pad; BLOCK];
    block.iter_mut().zip(key).for_each(|(slot, byte)| *slot ^= byte);
    let mut state = INITIAL_HASH;
    compress256(&mut state, &[block]);
    wipe(&mut block);
    state
}

/// What is being hashed. Only one block at a time is kept, and no caller of SHA-256 has a large frame: kernels have
/// little stack.
pub(crate) struct Message {
    state: [u32; 8],
    block: [[u8; BLOCK]; 1],
    /// Of all that was put, and of the block before it.
    length: usize,
}

impl Message {
    fn after_a_block(state: [u32; 8]) -> Self {
        Self { state, block: [[0; BLOCK]; 1], length: BLOCK }
    }

    /// The first 8 bytes of the SHA-256 of these parts, which are wiped.
    #[cold]
    pub(crate) fn start_of_hash(parts: &[&[u8]]) -> u64 {
        let mut message = Self { state: INITIAL_HASH, block: [[0; BLOCK]; 1], length: 0 };
        for part in parts {
            message.put(part);
        }
        message.pad();
        wipe(message.block.as_flattened_mut());
        let [high, low, ..] = message.state;
        u64::from(high) << 32 | u64::from(low)
    }

    #[inline(never)]
    pub(crate) fn put(&mut self, mut part: &[u8]) {
        while !part.is_empty() {
            let length = self.space().len().min(part.len());
            let Some((now, later)) = part.split_at_checked(length) else { return };
            put_slice(self.space(), now);
            self.length = self.length.wrapping_add(length);
            part = later;
            if self.length.is_multiple_of(BLOCK) {
                compress256(&mut self.state, &self.block);
            }
        }
    }

    /// What the block has room for.
    fn space(&mut self) -> &mut [u8] {
        let used = self.length % BLOCK;
        self.block.as_flattened_mut().get_mut(used..).unwrap_or_default()
    }

    /// Ends the message, and puts its hash into the one that begins with the state `outer`, which ends too.
    #[inline(never)]
    fn finish(&mut self, outer: &[u32; 8]) {
        self.pad();
        put_words(self.block.as_flattened_mut(), &self.state);
        (self.state, self.length) = (*outer, HASHED);
        self.pad();
    }

    /// FIPS 180-4, section 5.1.1. There is always room for the first byte.
    fn pad(&mut self) {
        let bits = u64::try_from(self.length).unwrap_or_default().saturating_mul(8);
        let space = put(self.space(), &[0x80]);
        let is_enough = space.len() >= size_of_val(&bits);
        space.fill(0);
        if !is_enough {
            compress256(&mut self.state, &self.block);
            self.block = [[0; BLOCK]; 1];
        }
        if let Some(slot) = self.block.as_flattened_mut().last_chunk_mut() {
            *slot = bits.to_be_bytes();
        }
        compress256(&mut self.state, &self.block);
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn known_answer() {
        let expected: [u8; 32] = [
            0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7,
            0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43,
        ];
        assert_eq!(Hmac::new(b"Jefe").of(|message| message.put(b"what do ya want for nothing?")), expected);
    }

    /// Lengths on both sides of each end of a block, in pieces of any size.
    #[test]
    fn it_is_the_same_as_by_the_definition() {
        let bytes: [u8; 200] = core::array::from_fn(|at| u8::try_from(at).unwrap());
        let pad = |pad: u8| core::array::from_fn::<_, BLOCK, _>(|at| pad ^ *b"Jefe".get(at).unwrap_or(&0));
        for length in 0..bytes.len() {
            let text = bytes.get(..length).unwrap();
            let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
            let expected = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
            for piece in [1, 7, 64, 200] {
                let hash =
                    Hmac::new(b"Jefe").of(|message| text.chunks(piece).for_each(|part| message.put(part)));
                assert_eq!(hash, *expected, "{length} bytes in pieces of {piece}");
            }
        }
    }
}

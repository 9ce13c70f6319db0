//! The digest, which proves that a knock's sender has the key.

use core::fmt;

use sha2::{Digest as _, Sha256, block_api::compress256};
use subtle::{Choice, ConstantTimeEq};

use crate::{Key, Port, packet::HEAD_LENGTH};

/// SHA-256's initial hash value (FIPS 180-4, section 5.3.3).
pub(crate) const INITIAL_HASH: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Length of the message that [`Digest::classic`] hashes, in bits: 68 bytes.
const CLASSIC_BITS: u64 = 8 * 68;

/// A SHA-256 over a knock and its key.
///
/// A digest computed for a stranger's bytes ([`Knock::expected_digest`](crate::Knock::expected_digest)) turns them into
/// a valid knock, so `Debug` does not show it, and there is no `==`: use [`matches`](Self::matches).
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Digest([u8; Digest::LENGTH]);

impl Digest {
    /// Length of a digest in bytes.
    pub const LENGTH: usize = 32;

    /// A digest from its bytes, as a datagram contains them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The bytes. Do not log or send those of a digest that was computed for a stranger.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// Hashes the port twice, the knock's first 24 bytes, and the key; 68 bytes in all.
    ///
    /// The original hashed source and destination port, which its sender made equal.
    pub(crate) fn classic(port: Port, head: &[u8; HEAD_LENGTH], key: &Key) -> Self {
        // The message has a fixed length, so it is padded here (FIPS 180-4, section 5.1.1): a hasher for pieces of
        // any length makes a knock cost a tenth more.
        let port = port.0.to_be_bytes();
        let mut blocks = [[0; 64]; 2];
        let rest = put(blocks.as_flattened_mut(), &port);
        let rest = put(put(put(rest, &port), head), key.as_bytes());
        put(rest, &[0x80]);
        if let Some(length) = blocks.as_flattened_mut().last_chunk_mut() {
            *length = CLASSIC_BITS.to_be_bytes();
        }
        let mut state = INITIAL_HASH;
        compress256(&mut state, &blocks);
        Self(to_bytes(&state))
    }

    /// Hashes the knock's first 24 bytes and the key, as versions before 1.0 did.
    pub(crate) fn before_1_0(head: &[u8; HEAD_LENGTH], key: &Key) -> Self {
        Self(Sha256::new().chain_update(head).chain_update(key.as_bytes()).finalize().into())
    }

    /// Whether both digests are equal. Takes the same time wherever they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let mut equal = Choice::from(1);
        for (ours, theirs) in self.0.chunks_exact(8).zip(other.0.chunks_exact(8)) {
            if let (Some(ours), Some(theirs)) = (ours.first_chunk(), theirs.first_chunk()) {
                equal &= u64::from_ne_bytes(*ours).ct_eq(&u64::from_ne_bytes(*theirs));
            }
        }
        equal.into()
    }

    /// The first 8 bytes, big endian; enough to distinguish the accepted knocks of one second.
    pub(crate) fn id(&self) -> u64 {
        self.0.first_chunk().map_or(0, |id| u64::from_be_bytes(*id))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// A state of SHA-256, as its hash has it.
pub(crate) fn to_bytes(state: &[u32; 8]) -> [u8; Digest::LENGTH] {
    let mut bytes = [0; Digest::LENGTH];
    put_words(&mut bytes, state);
    bytes
}

/// Writes a state of SHA-256 to the start of `bytes`, as its hash has it.
#[inline(never)]
pub(crate) fn put_words(bytes: &mut [u8], state: &[u32; 8]) {
    if let Some(slots) = bytes.as_chunks_mut().0.first_chunk_mut() {
        *slots = state.map(u32::to_be_bytes);
    }
}

/// Writes `part` to the start of `bytes` and returns the rest. All parts of a digest fit.
pub(crate) fn put<'a, const N: usize>(bytes: &'a mut [u8], part: &[u8; N]) -> &'a mut [u8] {
    match bytes.split_first_chunk_mut() {
        Some((start, rest)) => {
            *start = *part;
            rest
        }
        None => &mut [],
    }
}

/// The same for a part whose length is not known when this is compiled.
pub(crate) fn put_slice<'a>(bytes: &'a mut [u8], part: &[u8]) -> &'a mut [u8] {
    match bytes.split_at_mut_checked(part.len()) {
        Some((start, rest)) => {
            start.copy_from_slice(part);
            rest
        }
        None => &mut [],
    }
}

//! The digest that seals a knock.

use sha2::{Digest as _, Sha256, block_api::compress256};
use subtle::{Choice, ConstantTimeEq};

use crate::{Key, Port, wire::HEAD_LENGTH};

/// What SHA-256 begins with (FIPS 180-4, section 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Bits of what [`Digest::classic`] hashes: 68 bytes.
const CLASSIC_BITS: u64 = 8 * 68;

/// A SHA-256 over a knock and its key.
///
/// Computed for bytes of a stranger ([`Knock::expected_digest`](crate::Knock::expected_digest)) it is what
/// the stranger lacks: do not log or send it. It has no `==`; use [`matches`](Self::matches).
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Over port, port again, the knock's first 24 bytes, and the key; 68 bytes in all.
    ///
    /// The original hashed source and destination port, which its sender made equal.
    pub(crate) fn classic(port: Port, head: &[u8; HEAD_LENGTH], key: &Key) -> Self {
        // The message has one length, so it is padded here (FIPS 180-4, section 5.1.1): a hasher that takes pieces
        // of any length costs a knock a tenth more.
        let port = port.0.to_be_bytes();
        let mut blocks = [[0; 64]; 2];
        let rest = put(blocks.as_flattened_mut(), &port);
        let rest = put(put(put(rest, &port), head), key.as_bytes());
        put(rest, &[0x80]);
        if let Some(length) = blocks.as_flattened_mut().last_chunk_mut() {
            *length = CLASSIC_BITS.to_be_bytes();
        }
        let mut state = INITIAL;
        compress256(&mut state, &blocks);
        let mut digest = [0; 32];
        state.iter().fold(&mut digest[..], |rest, word| put(rest, &word.to_be_bytes()));
        Self(digest)
    }

    /// Over the knock's first 24 bytes and the key.
    pub(crate) fn before_1_0(head: &[u8; HEAD_LENGTH], key: &Key) -> Self {
        Self(Sha256::new().chain_update(head).chain_update(key.as_bytes()).finalize().into())
    }

    /// Whether both are the same, in a time that does not tell where they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let mut same = Choice::from(1);
        for (ours, theirs) in self.0.chunks_exact(8).zip(other.0.chunks_exact(8)) {
            if let (Some(ours), Some(theirs)) = (ours.first_chunk(), theirs.first_chunk()) {
                same &= u64::from_ne_bytes(*ours).ct_eq(&u64::from_ne_bytes(*theirs));
            }
        }
        same.into()
    }

    /// The first 8 bytes; enough to tell the accepted knocks of one second apart.
    pub(crate) fn id(&self) -> u64 {
        self.0.first_chunk().map_or(0, |id| u64::from_be_bytes(*id))
    }
}

/// Writes `part` to the start of `bytes`, and gives what is behind it. All parts of a digest fit.
fn put<'a, const N: usize>(bytes: &'a mut [u8], part: &[u8; N]) -> &'a mut [u8] {
    match bytes.split_first_chunk_mut() {
        Some((place, behind)) => {
            *place = *part;
            behind
        }
        None => &mut [],
    }
}

//! The digest that seals a knock.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::{Key, Port, wire::HEAD_LENGTH};

/// A SHA-256 over a knock and its key.
///
/// Computed for bytes of a stranger ([`Knock::sealed_with`](crate::Knock::sealed_with)) it is what
/// the stranger lacks: do not log or send it. It has no `==`; use [`matches`](Self::matches).
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Over port, port again, the knock's first 24 bytes, and the key; 68 bytes in all.
    ///
    /// The original hashed source and destination port, which its sender made equal.
    pub(crate) fn classic(port: Port, head: &[u8; HEAD_LENGTH], key: &Key) -> Self {
        let port = port.0.to_be_bytes();
        Self(
            Sha256::new()
                .chain_update(port)
                .chain_update(port)
                .chain_update(head)
                .chain_update(key.as_bytes())
                .finalize()
                .into(),
        )
    }

    /// Over the knock's first 24 bytes and the key.
    pub(crate) fn before_1_0(head: &[u8; HEAD_LENGTH], key: &Key) -> Self {
        Self(Sha256::new().chain_update(head).chain_update(key.as_bytes()).finalize().into())
    }

    /// Whether both are the same, in a time that does not tell where they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// The first 8 bytes; enough to tell the accepted knocks of one second apart.
    pub(crate) fn id(&self) -> u64 {
        self.0.first_chunk().map_or(0, |id| u64::from_be_bytes(*id))
    }
}

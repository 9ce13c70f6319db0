//! The name of a replay cache, under which its floor is saved.

use core::{fmt, num::ParseIntError, str::FromStr};

use crate::{Key, Tag, hmac::Message};

/// Identifies the cache of a format, a tag and a key, by the first 8 bytes of a SHA-256 that does not reveal them. Its text
/// is 16 hexadecimal digits.
///
/// ```
/// use pkd_core::{CacheId, Key, Tag};
///
/// let id = CacheId::classic(Tag::parse("SSHK")?, &Key::parse("test")?);
/// assert_eq!(id.to_string().parse(), Ok(id));
/// # Ok::<(), pkd_core::SecretError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheId([u8; CacheId::LENGTH]);

impl CacheId {
    /// Length of an ID in bytes.
    pub const LENGTH: usize = 8;

    /// The cache that all classic rules with this tag and key share.
    #[must_use]
    pub fn classic(tag: Tag, key: &Key) -> Self {
        Self::named(b"pkdd cache", tag, key)
    }

    /// The same for format 2.
    #[must_use]
    pub fn format2(tag: Tag, key: &Key) -> Self {
        Self::named(b"pkdd cache of format 2", tag, key)
    }

    /// An ID from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    fn named(purpose: &[u8], tag: Tag, key: &Key) -> Self {
        Self(Message::start_of_hash(&[purpose, &tag.0, key.as_bytes()]).to_be_bytes())
    }
}

impl fmt::Display for CacheId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for CacheId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u64::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn an_id_is_the_start_of_a_hash_of_its_purpose_tag_and_key() {
        let (tag, key) = (Tag(*b"SSHK"), Key::parse("0x00ff12").unwrap());
        let ids = [CacheId::classic(tag, &key), CacheId::format2(tag, &key)];
        for (id, purpose) in ids.iter().zip(["pkdd cache", "pkdd cache of format 2"]) {
            let hash = Sha256::new()
                .chain_update(purpose)
                .chain_update(tag.0)
                .chain_update(key.as_bytes())
                .finalize();
            assert_eq!(hash.first_chunk(), Some(id.as_bytes()), "{purpose}");
        }
    }
}

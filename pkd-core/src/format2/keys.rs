//! What is derived from a shared key, once, when a rule is made.

use core::fmt;

use siphasher::sip::SipHasher24;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::hmac::Hmac;
use crate::{Key, NONCE_LENGTH, Port, Tag, digest::put, packet::HEAD_LENGTH};

/// Key of a SipHash.
const SIP_KEY: usize = 16;

/// The keys that format 2 derives from a shared key and its tag: HKDF (RFC 5869) with SHA-256, no salt, and
/// `pkd2` and the tag as info.
#[derive(Clone)]
pub struct Keys {
    hint: [u8; SIP_KEY],
    mask: [u8; SIP_KEY],
    filter: [u8; SIP_KEY],
    auth: Hmac,
}

impl Keys {
    /// Derives them: 14 blocks of SHA-256, so not for each packet.
    #[must_use]
    pub fn new(key: &Key, tag: Tag) -> Self {
        let mut secret = Hmac::new(&[0; 32]).of([&key.as_bytes()[..]]);
        let expand = Hmac::new(&secret);
        let mut first = expand.of([b"pkd2", &tag.0[..], &[1]]);
        let mut second = expand.of([&first[..], b"pkd2", &tag.0, &[2]]);
        let mut third = expand.of([&second[..], b"pkd2", &tag.0, &[3]]);
        let mut keys =
            Self { hint: [0; SIP_KEY], mask: [0; SIP_KEY], filter: [0; SIP_KEY], auth: Hmac::new(&[]) };
        let mut auth = [0; 32];
        let slots = keys.hint.iter_mut().chain(&mut keys.mask).chain(&mut keys.filter).chain(&mut auth);
        slots.zip(first.iter().chain(&second).chain(&third)).for_each(|(slot, byte)| *slot = *byte);
        keys.auth = Hmac::new(&auth);
        for bytes in [&mut secret, &mut first, &mut second, &mut third, &mut auth] {
            bytes.zeroize();
        }
        keys
    }

    /// The first bytes of knocks made in a slot.
    pub(crate) fn hint(&self, slot: u64) -> [u8; 4] {
        let [a, b, c, d, ..] = sip(&self.hint, &slot.to_le_bytes()).to_le_bytes();
        [a, b, c, d]
    }

    /// What hides the time, the flags and the request.
    pub(crate) fn mask(&self, nonce: &[u8; NONCE_LENGTH]) -> u64 {
        sip(&self.mask, nonce)
    }

    pub(crate) fn filter(&self, head: &[u8; HEAD_LENGTH], port: Port) -> u64 {
        let mut message = [0; HEAD_LENGTH + 2];
        put(put(&mut message, head), &port.0.to_be_bytes());
        sip(&self.filter, &message)
    }

    pub(crate) fn auth<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        self.auth.of(parts)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        for key in [&mut self.hint, &mut self.mask, &mut self.filter] {
            key.zeroize();
        }
    }
}

impl ZeroizeOnDrop for Keys {}

fn sip(key: &[u8; SIP_KEY], message: &[u8]) -> u64 {
    SipHasher24::new_with_key(key).hash(message)
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

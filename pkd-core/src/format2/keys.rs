//! What is derived from a shared key, once, when a rule is made.

use core::fmt;

use super::sip::SipKey;
use crate::{
    Key, NONCE_LENGTH, Port, Tag,
    digest::put,
    hmac::{Hmac, Message},
    secret::wipe,
};

/// The keys that format 2 derives from a shared key and its tag: HKDF (RFC 5869) with SHA-256, no salt, and
/// `pkd2` and the tag as info. They are wiped when dropped.
#[derive(Clone)]
pub struct Keys {
    hint: SipKey,
    mask: SipKey,
    filter: SipKey,
    auth: Hmac,
}

impl Keys {
    /// Derives them: 14 blocks of SHA-256, so not for each packet.
    #[must_use]
    #[cold]
    pub fn new(key: &Key, tag: Tag) -> Self {
        let mut secret = Hmac::new(&[0; 32]).of_parts(&[key.as_bytes()]);
        let expand = Hmac::new(&secret);
        wipe(&mut secret);
        // 96 bytes, of which the last 16 are not used.
        let mut output = [[0; 16]; 6];
        let mut last = [0; 32];
        for (number, keys) in (1..).zip(output.as_chunks_mut::<2>().0) {
            let before = if number == 1 { &[][..] } else { &last };
            last = expand.of_parts(&[before, b"pkd2", &tag.0, &[number]]);
            put(keys.as_flattened_mut(), &last);
        }
        wipe(&mut last);
        let [hint, mask, filter, auth @ .., _] = &output;
        let keys = Self {
            hint: SipKey::new(hint),
            mask: SipKey::new(mask),
            filter: SipKey::new(filter),
            auth: Hmac::new(auth.as_flattened()),
        };
        wipe(output.as_flattened_mut());
        keys
    }

    /// The first bytes of knocks made in a slot, as a little-endian number.
    pub(crate) fn hint(&self, slot: u32) -> u32 {
        let [a, b, c, d, ..] = self.hint.hash([slot.into()], 0, 8).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// What hides the time, the flags and the request.
    pub(crate) fn mask(&self, nonce: &[u8; NONCE_LENGTH]) -> u64 {
        let word = nonce.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let rest = nonce.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        self.mask.hash([word], rest.into(), 12)
    }

    /// The filter of a head, in words as they are in a little-endian machine's memory.
    pub(crate) fn filter(&self, head: [u64; 3], port: Port) -> u64 {
        self.filter.hash(head, port.0.swap_bytes().into(), 26)
    }

    pub(crate) fn auth(&self, write: impl FnOnce(&mut Message)) -> [u8; 32] {
        self.auth.of(write)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `tests/vectors/format2.json`, which has more.
    #[test]
    fn keys_are_derived_as_the_specification_says() {
        let keys = Keys::new(&Key::parse("test").unwrap(), Tag::parse("SSHK").unwrap());
        let bytes = |digits: u128| digits.to_be_bytes();
        let (hint, mask, filter) = (
            bytes(0x2529_21df_4728_c62c_0c3b_e6bf_002e_159d),
            bytes(0xb60d_8e1d_7caa_49fa_fd16_e14f_c365_1544),
            bytes(0xe4a5_3e6e_d01e_4754_3bc8_86e8_dfdb_d1c1),
        );
        let same = |own: &SipKey, known| own.hash([1], 2, 3) == SipKey::new(&known).hash([1], 2, 3);
        assert!(same(&keys.hint, hint) && same(&keys.mask, mask) && same(&keys.filter, filter));
        let auth = [
            bytes(0x55e2_abe0_c07e_a803_91f3_413a_da4e_1d55),
            bytes(0x1760_933b_216b_b749_1c16_28b1_c7de_a787),
        ];
        let write = |message: &mut Message| message.put(b"message");
        assert_eq!(keys.auth(write), Hmac::new(auth.as_flattened()).of(write));
    }
}

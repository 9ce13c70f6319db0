//! SipHash-2-4 (Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012) for messages whose length is fixed.
//!
//! The crates for it take bytes of any length, a piece at a time, which makes a check of a forgery cost a third more.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A key, as the state that it begins with.
#[derive(Clone)]
pub(crate) struct SipKey([u64; 4]);

impl SipKey {
    #[cold]
    #[inline(never)]
    pub(crate) fn new(key: &[u8; 16]) -> Self {
        let key = u128::from_le_bytes(*key);
        let word = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
        let (a, b) = (word(key), word(key >> 64));
        Self([
            a ^ 0x736f_6d65_7073_6575,
            b ^ 0x646f_7261_6e64_6f6d,
            a ^ 0x6c79_6765_6e65_7261,
            b ^ 0x7465_6462_7974_6573,
        ])
    }

    /// The hash of whole words and `rest`, which are the last bytes of a message of `length` bytes, up to seven.
    pub(crate) fn hash<const N: usize>(&self, words: [u64; N], rest: u64, length: u8) -> u64 {
        let last = rest | u64::from(length) << 56;
        if cfg!(target_pointer_width = "64") {
            return words.into_iter().fold(self.state(), State::take).take(last).finish();
        }
        self.hash_words(&words, last)
    }

    fn state(&self) -> State {
        let [v0, v1, v2, v3] = self.0;
        State(v0, v1, v2, v3)
    }

    /// One function for all lengths, with loops: on 32-bit processors a round takes 200 bytes of code.
    #[inline(never)]
    fn hash_words(&self, words: &[u64], last: u64) -> u64 {
        let mut state = self.state();
        for at in 0..=words.len() {
            state = state.take(words.get(at).copied().unwrap_or(last));
        }
        state.finish()
    }
}

impl Drop for SipKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for SipKey {}

#[derive(Clone, Copy)]
struct State(u64, u64, u64, u64);

impl State {
    #[inline]
    fn round(self) -> Self {
        let Self(mut v0, mut v1, mut v2, mut v3) = self;
        v0 = v0.wrapping_add(v1);
        v1 = v1.rotate_left(13) ^ v0;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v3);
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.wrapping_add(v3);
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.wrapping_add(v1);
        v1 = v1.rotate_left(17) ^ v2;
        v2 = v2.rotate_left(32);
        Self(v0, v1, v2, v3)
    }

    #[inline]
    fn take(self, word: u64) -> Self {
        let Self(v0, v1, v2, v3) = self;
        let Self(v0, v1, v2, v3) = Self(v0, v1, v2, v3 ^ word).round().round();
        Self(v0 ^ word, v1, v2, v3)
    }

    #[inline]
    fn finish(self) -> u64 {
        let Self(v0, v1, v2, v3) = self;
        let Self(v0, v1, v2, v3) = (0..4).fold(Self(v0, v1, v2 ^ 0xff, v3), |state, _| state.round());
        v0 ^ v1 ^ v2 ^ v3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paper's, appendix A: 15 bytes that count up, under a key that counts up.
    #[test]
    fn known_answer() {
        let key = SipKey::new(&core::array::from_fn(|at| u8::try_from(at).unwrap()));
        assert_eq!(key.hash([0x0706_0504_0302_0100], 0x000e_0d0c_0b0a_0908, 15), 0xa129_ca61_49be_45e5);
    }
}

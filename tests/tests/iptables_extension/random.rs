//! Random tags and keys.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use crate::harness::{filled, hexadecimal};

/// `SplitMix64`: the same rows in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed >> 33) % limit as u64).unwrap_or(0)
    }

    fn pick(&mut self, from: &[u8]) -> u8 {
        from[self.below(from.len())]
    }

    /// A tag or key as somebody might write it, often nearly right.
    pub(crate) fn text(&mut self, size: usize) -> String {
        const DIGITS: &[u8] = b"0123456789abcdefABCDEF";
        // No word has a NUL, and no file's line an end.
        let any = |random: &mut Self| match random.below(8) {
            0 => char::from_u32(u32::try_from(random.below(0x11_0000)).unwrap_or(0)).unwrap_or('\u{7f}'),
            _ => char::from(u8::try_from(1 + random.below(0x7f)).unwrap_or(1)),
        };
        let digits = |random: &mut Self, length| -> String {
            (0..length).map(|_| char::from(DIGITS[random.below(DIGITS.len())])).collect()
        };
        let near = [size - 1, size, size + 1][self.below(3)];
        let mut text = match self.below(4) {
            0 => (0..near).map(|_| any(self)).collect(),
            1 => format!("0x{}", digits(self, 2 * near)),
            2 => {
                let length = self.below(2 * size + 4);
                format!("0x{}", digits(self, length))
            }
            _ => {
                let length = self.below(size + 2);
                (0..length).map(|_| any(self)).collect::<String>()
            }
        };
        if self.below(4) == 0 {
            let places: Vec<usize> =
                text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
            let letter = any(self);
            text.insert(places[self.below(places.len())], letter);
        }
        text.replace('\0', "0")
    }

    /// A text to give as an option, and the bytes that it stands for.
    pub(crate) fn secret(&mut self, size: usize) -> (OsString, Vec<u8>) {
        let length = 1 + self.below(size);
        let kind = self.below(4);
        let secret: Vec<u8> = (0..length)
            .map(|_| match kind {
                0 => self.pick(b"abcXYZ0189_-.:,+/="),
                1 => self.pick(b" \t\n\r\"'\\`$!#-0xX\x01\x7f\x80\xc3\xbc\xff"),
                2 => self.pick(b"\0\0\x0041x\""),
                _ => self.pick(&(0..=255).collect::<Vec<u8>>()),
            })
            .collect();
        let given = if secret.contains(&0) || secret.starts_with(b"0x") || self.below(2) == 0 {
            format!("0x{}", hexadecimal(&secret)).into_bytes()
        } else {
            secret.clone()
        };
        (OsString::from_vec(given), filled(&secret, size))
    }
}

//! Tag and key, and their text form.

use core::{fmt, str::FromStr};

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Why a text is not a valid tag or key.
///
/// The messages contain no part of the text, because it may be a key. `libxt_pkd` has the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretError {
    /// The text is empty.
    Empty {
        /// Bytes that a text may encode.
        limit: usize,
    },
    /// The text has no digit after `0x`.
    NoDigits,
    /// The text has too many bytes.
    TooLong {
        /// Bytes that the text encodes.
        given: usize,
        /// Bytes that a text may encode.
        limit: usize,
    },
    /// A character after `0x` is not a hexadecimal digit.
    NotHexadecimal {
        /// Offset of the character in the text, in bytes; the first digit after `0x` is at 2.
        position: usize,
    },
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { limit } => write!(f, "empty: expected 1 to {limit} bytes"),
            Self::NoDigits => write!(f, "no digits after 0x"),
            Self::TooLong { given, limit } => write!(f, "too long: {given} bytes, maximum {limit}"),
            Self::NotHexadecimal { position } => {
                write!(f, "invalid character at offset {position}: expected a hexadecimal digit")
            }
        }
    }
}

impl core::error::Error for SecretError {}

/// Names the key of a knock; it is sent in clear and does not authenticate. Shorter tags are padded with zero bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Tag(pub [u8; Tag::LENGTH]);

impl Tag {
    /// Length of a tag in bytes.
    pub const LENGTH: usize = 4;

    /// Parses a tag of 1 to 4 bytes: text, or hexadecimal after `0x`.
    ///
    /// ```
    /// use pkd_core::{SecretError, Tag};
    ///
    /// assert_eq!(Tag::parse("SSH"), Ok(Tag(*b"SSH\0")));
    /// assert_eq!(Tag::parse("0x5353"), Ok(Tag(*b"SS\0\0")));
    /// assert_eq!(Tag::parse("SSHKEY"), Err(SecretError::TooLong { given: 6, limit: 4 }));
    /// ```
    ///
    /// # Errors
    /// [`SecretError`] if the text is not a valid tag.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        parse(text).map(Self)
    }
}

impl FromStr for Tag {
    type Err = SecretError;

    /// Like [`Tag::parse`].
    fn from_str(text: &str) -> Result<Self, SecretError> {
        Self::parse(text)
    }
}

impl Default for Tag {
    /// `PKD0`, as in the original.
    fn default() -> Self {
        Self(*b"PKD0")
    }
}

impl fmt::Display for Tag {
    /// As text if that is printable ASCII and parses to the same tag, otherwise as `0x…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last.saturating_add(1));
        let text = self.0.get(..used).unwrap_or(&self.0);
        let plain = !text.is_empty() && !text.starts_with(b"0x") && text.iter().all(u8::is_ascii_graphic);
        if plain && let Ok(text) = core::str::from_utf8(text) {
            return f.write_str(text);
        }
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({self})")
    }
}

/// The shared secret. Shorter keys are padded with zero bytes, so trailing zero bytes do not change a key.
///
/// ```
/// use pkd_core::Key;
///
/// let key: Key = "correct horse".parse()?;
/// assert_eq!(key, Key::parse("0x636f727265637420686f727365")?);
/// assert_eq!(format!("{key:?}"), "Key(..)");
/// # Ok::<(), pkd_core::SecretError>(())
/// ```
///
/// `Debug` does not show it, `==` takes the same time wherever two keys differ, and a dropped key is wiped. A move may
/// leave a copy of the bytes behind. The text that a key was parsed from is up to the caller.
#[derive(Clone)]
#[repr(transparent)]
pub struct Key([u8; Key::LENGTH]);

impl Key {
    /// Length of a key in bytes.
    pub const LENGTH: usize = 40;

    /// Parses a key of 1 to 40 bytes: text, or hexadecimal after `0x`.
    ///
    /// # Errors
    /// [`SecretError`] if the text is not a valid key; the error contains no part of the text.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        parse(text).map(Self)
    }

    /// A key from its 40 bytes, including padding.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The 40 bytes, including padding.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl FromStr for Key {
    type Err = SecretError;

    /// Like [`Key::parse`].
    fn from_str(text: &str) -> Result<Self, SecretError> {
        Self::parse(text)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Key {}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Overwrites a secret. Not inlined: each byte is an instruction then, and a kernel or a board has no room for many.
#[cold]
#[inline(never)]
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.zeroize();
}

/// Text as it is, or hexadecimal after `0x`, where an odd digit at the end is the high nibble of a last byte. The
/// result is padded with zero bytes.
fn parse<const N: usize>(text: &str) -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    let given = if let Some(digits) = text.strip_prefix("0x") {
        let mut slots = bytes.iter_mut();
        for (pair, position) in digits.as_bytes().chunks(2).zip((2_usize..).step_by(2)) {
            let mut nibbles = [0_u8; 2];
            for ((nibble, &digit), position) in nibbles.iter_mut().zip(pair).zip(position..) {
                *nibble = hexadecimal(digit).ok_or(SecretError::NotHexadecimal { position })?;
            }
            if let Some(slot) = slots.next() {
                let [high, low] = nibbles;
                *slot = high << 4 | low;
            }
        }
        digits.len().div_ceil(2)
    } else {
        bytes.iter_mut().zip(text.as_bytes()).for_each(|(slot, &byte)| *slot = byte);
        text.len()
    };
    match given {
        0 if text.is_empty() => Err(SecretError::Empty { limit: N }),
        0 => Err(SecretError::NoDigits),
        given if given > N => Err(SecretError::TooLong { given, limit: N }),
        _ => Ok(bytes),
    }
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

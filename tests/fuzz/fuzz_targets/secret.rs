//! Tags and keys as people write them, read once more letter by letter.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pkd_core::{Key, SecretError, Tag};

fuzz_target!(|text: &str| {
    assert_eq!(Tag::parse(text).map(|tag| tag.0.to_vec()), read(text, 4), "a tag");
    assert_eq!(Key::parse(text).map(|key| key.as_bytes().to_vec()), read(text, 40), "a key");
    if let Ok(tag) = Tag::parse(text) {
        let shown = tag.to_string();
        assert_eq!(Tag::parse(&shown), Ok(tag), "{tag:?} is shown as {shown}");
        assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown:?} is shown");
    }
    if let Ok(key) = Key::parse(text) {
        assert_eq!(format!("{key:?}"), "Key(..)");
    }
});

fn read(text: &str, size: usize) -> Result<Vec<u8>, SecretError> {
    const DIGITS: &str = "0123456789abcdef";
    let mut bytes = Vec::new();
    if text.len() >= 2 && &text.as_bytes()[..2] == b"0x" {
        let mut digits = Vec::new();
        for (position, letter) in text.char_indices().skip(2) {
            match DIGITS.find(letter.to_ascii_lowercase()) {
                Some(value) => digits.push(value as u8),
                None => return Err(SecretError::NotHexadecimal { position }),
            }
        }
        if digits.len() % 2 == 1 {
            digits.push(0);
        }
        for pair in digits.chunks(2) {
            bytes.push(pair[0] * 16 + pair[1]);
        }
    } else {
        bytes.extend(text.bytes());
    }
    if text.is_empty() {
        return Err(SecretError::Empty { limit: size });
    }
    if bytes.is_empty() {
        return Err(SecretError::NoDigits);
    }
    if bytes.len() > size {
        return Err(SecretError::TooLong { given: bytes.len(), limit: size });
    }
    bytes.resize(size, 0);
    Ok(bytes)
}

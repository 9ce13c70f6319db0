//! Keys for updates as text: 64 hexadecimal digits.

/// Reads a key.
pub(crate) fn parse(text: &str) -> Option<[u8; 32]> {
    let digits = text.trim_end().as_bytes();
    let mut key = [0; 32];
    if digits.len() != 2 * key.len() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.as_chunks::<2>().0) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(key)
}

/// Writes a key.
pub(crate) fn format(key: &[u8; 32]) -> String {
    key.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

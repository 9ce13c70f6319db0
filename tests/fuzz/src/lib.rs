//! What several targets hold pkd against: the protocol once more, and how values are taken out of bytes.

#![forbid(unsafe_code)]

pub mod reference;
pub mod reference_format2;

use libfuzzer_sys::arbitrary::{Result, Unstructured};

/// The times that matter: around now, around the ends of 32 and 64 bits, and any.
///
/// # Errors
/// The bytes are used up.
pub fn time(bytes: &mut Unstructured<'_>, now: u64) -> Result<u64> {
    const END_OF_31_BITS: u64 = 1 << 31;
    const END_OF_32_BITS: u64 = 1 << 32;
    let near = |base: u64, bytes: &mut Unstructured<'_>| {
        Ok(base.wrapping_add_signed(i64::from(bytes.arbitrary::<i8>()?)))
    };
    match bytes.arbitrary::<u8>()? % 16 {
        0 => bytes.arbitrary(),
        1 => near(0, bytes),
        2 => near(END_OF_31_BITS, bytes),
        3 => near(END_OF_32_BITS, bytes),
        _ => near(now, bytes),
    }
}

/// The windows that people set, and any.
///
/// # Errors
/// The bytes are used up.
pub fn window(bytes: &mut Unstructured<'_>) -> Result<u32> {
    Ok(match bytes.arbitrary::<u8>()? % 8 {
        0 | 1 => 0,
        2 => bytes.arbitrary()?,
        3 => u32::MAX,
        _ => u32::from(bytes.arbitrary::<u8>()?),
    })
}

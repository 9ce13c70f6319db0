//! To someone without the key, knocks are random bytes.

use pkd_core::{UnixMillis, format2::KnockParams};

use crate::{KNOCK, NOW, seal};

/// A generator of nonces that repeats (xorshift64*); a test that draws others each time would fail now and then.
fn nonces() -> impl Iterator<Item = [u8; 12]> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    std::iter::repeat_with(move || {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&next().to_le_bytes());
        nonce[8..].copy_from_slice(&next().to_le_bytes()[..4]);
        nonce
    })
}

/// Knocks of one key, one each slot, so that no two have a hint in common.
fn knocks(count: u64) -> Vec<[u8; 56]> {
    (0..count)
        .zip(nonces())
        .map(|(slot, nonce)| seal(&KnockParams { time: UnixMillis(NOW.0 + slot * 65_536), nonce, ..KNOCK }))
        .collect()
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "counts of at most millions")]
fn a_hundred_thousand_knocks_have_even_bytes_without_correlation() {
    let knocks = knocks(100_000);
    for place in 0..56 {
        let mut counts = [0_u32; 256];
        for knock in &knocks {
            counts[usize::from(knock[place])] += 1;
        }
        let expected = knocks.len() as f64 / 256.0;
        let squares: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        // Chi-squared with 255 degrees of freedom: 1 in 10,000 is outside.
        assert!((180.0..350.0).contains(&squares), "byte {place}: {squares}");
    }
    let bytes: Vec<f64> = knocks.as_flattened().iter().map(|byte| f64::from(*byte)).collect();
    let mean = bytes.iter().sum::<f64>() / bytes.len() as f64;
    let variance: f64 = bytes.iter().map(|byte| (byte - mean).powi(2)).sum();
    // Between neighbours in one knock, and between the same bytes of neighbouring knocks.
    for distance in [1, 4, 8, 56] {
        let products: f64 = bytes.iter().zip(&bytes[distance..]).map(|(a, b)| (a - mean) * (b - mean)).sum();
        let correlation = products / variance;
        assert!(correlation.abs() < 4.0 / (bytes.len() as f64).sqrt(), "distance {distance}: {correlation}");
    }
}

#[test]
fn knocks_of_different_slots_share_no_more_than_chance() {
    let knocks = knocks(2_000);
    let mut shared = 0_u32;
    for (number, one) in knocks.iter().enumerate() {
        for other in &knocks[number + 1..] {
            shared += u32::from(one[..4] == other[..4]);
        }
    }
    // Two million pairs, and 2³² hints.
    assert!(shared <= 1, "{shared} pairs begin alike");
}

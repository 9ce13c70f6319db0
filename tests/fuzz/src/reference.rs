//! The protocol as `docs/protocol.md` has it, plain and slow. It shares no line with pkd-core, not even the hash.

use std::sync::OnceLock;

/// Bytes of a knock.
pub const KNOCK: usize = 56;

/// SHA-256 (FIPS 180-4). Its constants are computed: the first bits behind the point of roots of primes.
#[must_use]
pub fn sha256(message: &[u8]) -> [u8; 32] {
    static ROOTS: OnceLock<([u32; 8], [u32; 64])> = OnceLock::new();
    let (start, constants) = ROOTS.get_or_init(|| {
        let primes: Vec<u128> =
            (2..).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).take(64).collect();
        let square = |n: u128| root(n << 64, |r| r * r);
        let cube = |n: u128| root(n << 96, |r| r * r * r);
        (std::array::from_fn(|i| square(primes[i])), std::array::from_fn(|i| cube(primes[i])))
    });
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    let mut state = *start;
    for block in padded.chunks(64) {
        let mut w: Vec<u32> =
            block.chunks(4).map(|word| u32::from_be_bytes(word.try_into().expect("4 bytes"))).collect();
        for i in 16..64 {
            let (a, b) = (w[i - 15], w[i - 2]);
            let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
            let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
        for i in 0..64 {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let one = h.wrapping_add(s1).wrapping_add(choice).wrapping_add(constants[i]).wrapping_add(w[i]);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let two = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
            (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(one), c, b, a, one.wrapping_add(two));
        }
        for (sum, word) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *sum = sum.wrapping_add(word);
        }
    }
    let mut digest = [0; 32];
    for (i, word) in state.iter().enumerate() {
        digest[4 * i..4 * i + 4].copy_from_slice(&word.to_be_bytes());
    }
    digest
}

/// The low 32 bits of the greatest `r` whose power is at most `n`.
fn root(n: u128, power: impl Fn(u128) -> u128) -> u32 {
    let mut r = 0_u128;
    for bit in (0..36).rev() {
        if power(r | 1 << bit) <= n {
            r |= 1 << bit;
        }
    }
    (r & 0xffff_ffff) as u32
}

/// A knock, byte by byte.
#[must_use]
pub fn seal(key: &[u8; 40], tag: [u8; 4], time: u64, nonce: [u8; 12], port: u16) -> [u8; KNOCK] {
    let mut knock = [0; KNOCK];
    knock[0..4].copy_from_slice(&tag);
    for (i, byte) in knock[4..12].iter_mut().enumerate() {
        *byte = (time >> (8 * i)) as u8;
    }
    knock[12..24].copy_from_slice(&nonce);
    let digest = digest(&knock, key, port);
    knock[24..56].copy_from_slice(&digest);
    knock
}

fn digest(knock: &[u8], key: &[u8; 40], port: u16) -> [u8; 32] {
    let (high, low) = ((port >> 8) as u8, port as u8);
    let mut hashed = vec![high, low, high, low];
    hashed.extend(&knock[..24]);
    hashed.extend(key);
    sha256(&hashed)
}

/// A verifier that remembers everything.
#[derive(Debug)]
pub struct Verifier {
    /// Of the rule.
    pub key: [u8; 40],
    /// Of the rule.
    pub tag: [u8; 4],
    /// Of the rule, seconds.
    pub window: u32,
    /// What earlier lives may have accepted.
    pub floor: u64,
    /// Every knock that was accepted: its time, and the first bytes of its digest.
    pub accepted: Vec<(u64, [u8; 8])>,
}

impl Verifier {
    /// The verdict's name.
    pub fn check(&mut self, now: u64, port: u16, payload: &[u8]) -> &'static str {
        if payload.len() != KNOCK {
            return "length";
        }
        if payload[0..4] != self.tag {
            return "tag";
        }
        let time: u64 = (0..8).map(|i| u64::from(payload[4 + i]) << (8 * i)).sum();
        if self.window != 0 && (i128::from(now) - i128::from(time)).abs() > i128::from(self.window) {
            return "window";
        }
        let id: [u8; 8] = payload[24..32].try_into().expect("8 bytes");
        let later = self.accepted.iter().any(|(accepted, _)| time <= *accepted);
        if time <= self.floor || self.accepted.contains(&(time, id)) || (self.window == 0 && later) {
            return "replay";
        }
        if payload[24..56] != digest(payload, &self.key, port) {
            return "digest";
        }
        self.accepted.push((time, id));
        "accept"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha256() {
        let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let rows = [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ];
        for (text, expected) in rows {
            assert_eq!(hex(sha256(text.as_bytes())), expected);
        }
    }
}

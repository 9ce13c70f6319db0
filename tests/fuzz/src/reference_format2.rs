//! Format 2 as `docs/protocol.md` has it, plain and slow. It shares no line with pkd-core.

use crate::reference::{KNOCK, sha256};

/// HMAC (RFC 2104) of a key of up to 64 bytes.
#[must_use]
pub fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let pad = |byte: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ byte).collect() };
    let inner = sha256(&[&pad(0x36)[..], message].concat());
    sha256(&[&pad(0x5c)[..], &inner].concat())
}

/// SipHash-2-4, the message byte by byte.
#[must_use]
pub fn siphash(key: &[u8], message: &[u8]) -> u64 {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    let (k0, k1) = (word(&key[..8]), word(&key[8..16]));
    let mut v: Vec<u64> = b"somepseudorandomlygeneratedbytes"
        .chunks(8)
        .zip([k0, k1, k0, k1])
        .map(|(text, key)| text.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)) ^ key)
        .collect();
    let mix = |v: &mut Vec<u64>, times: usize| {
        for _ in 0..times {
            for (a, b, turn, half) in
                [(0, 1, 13, true), (2, 3, 16, false), (0, 3, 21, false), (2, 1, 17, true)]
            {
                v[a] = v[a].wrapping_add(v[b]);
                v[b] = v[b].rotate_left(turn) ^ v[a];
                if half {
                    v[a] = v[a].rotate_left(32);
                }
            }
        }
    };
    let mut padded = message.to_vec();
    while padded.len() % 8 != 7 {
        padded.push(0);
    }
    padded.push(message.len() as u8);
    for chunk in padded.chunks(8) {
        v[3] ^= word(chunk);
        mix(&mut v, 2);
        v[0] ^= word(chunk);
    }
    v[2] ^= 0xff;
    mix(&mut v, 4);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

/// What a sender puts into a knock, and where it is seen to come from and to go to.
#[derive(Clone, Debug)]
pub struct Knock {
    /// Unix milliseconds.
    pub time: u64,
    /// Random.
    pub nonce: [u8; 12],
    /// Bit 0: the source is bound; bit 1: the destination.
    pub flags: u8,
    /// 0 opens, 1 closes.
    pub request: u8,
    /// 4 or 16 bytes.
    pub source: Vec<u8>,
    /// As many.
    pub destination: Vec<u8>,
}

/// A verifier that remembers everything.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<u8>,
    /// Seconds.
    pub window: u32,
    /// Flags that a knock must have.
    pub require: u8,
    /// Addresses outside of NAT.
    pub own: Vec<Vec<u8>>,
    /// What earlier lives may have accepted.
    pub floor: u64,
    /// Every knock that was accepted: its time and filter.
    pub accepted: Vec<(u64, [u8; 8])>,
}

impl Verifier {
    /// One that accepted nothing yet.
    #[must_use]
    pub fn new(
        key: &[u8; 40],
        tag: [u8; 4],
        window: u32,
        require: u8,
        own: Vec<Vec<u8>>,
        floor: u64,
    ) -> Self {
        let secret = hmac(&[0; 32], key);
        let (mut keys, mut last) = (Vec::new(), Vec::new());
        for number in 1..=3_u8 {
            last = hmac(&secret, &[&last[..], b"pkd2", &tag, &[number]].concat()).to_vec();
            keys.extend(&last);
        }
        Self { keys, window, require, own, floor, accepted: Vec::new() }
    }

    fn hint(&self, slot: u64) -> Vec<u8> {
        siphash(&self.keys[0..16], &slot.to_le_bytes()).to_le_bytes()[..4].to_vec()
    }

    fn auth(&self, covered: &[u8], port: u16, flags: u8, destination: &[u8], source: &[u8]) -> Vec<u8> {
        let mut message = [covered, &port.to_be_bytes()].concat();
        if flags & 2 != 0 {
            message.extend(destination);
        }
        if flags & 1 != 0 {
            message.extend(source);
        }
        hmac(&self.keys[48..80], &message)[..24].to_vec()
    }

    /// A knock, byte by byte.
    #[must_use]
    pub fn seal(&self, knock: &Knock, port: u16) -> Vec<u8> {
        let mut plain = knock.time.to_le_bytes()[..6].to_vec();
        plain.extend([knock.flags, knock.request]);
        let mask = siphash(&self.keys[16..32], &knock.nonce).to_le_bytes();
        let mut payload = self.hint((knock.time & 0xffff_ffff_ffff) >> 16);
        payload.extend(knock.nonce);
        payload.extend(plain.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        let filter = siphash(&self.keys[32..48], &[&payload[..], &port.to_be_bytes()].concat());
        payload.extend(filter.to_le_bytes());
        payload.extend(self.auth(&payload, port, knock.flags, &knock.destination, &knock.source));
        payload
    }

    /// The verdict's name.
    pub fn check(
        &mut self,
        now: u64,
        port: u16,
        payload: &[u8],
        source: &[u8],
        destination: &[u8],
    ) -> &'static str {
        if payload.len() != KNOCK {
            return "length";
        }
        let window = u64::from(self.window) * 1000;
        if (1..=300).contains(&self.window) {
            let mut slots = now.saturating_sub(window) >> 16..=now.saturating_add(window) >> 16;
            if !slots.any(|slot| self.hint(slot) == payload[..4]) {
                return "tag";
            }
        }
        let mask = siphash(&self.keys[16..32], &payload[4..16]).to_le_bytes();
        let plain: Vec<u8> = payload[16..24].iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
        let time: u64 = (0..6).map(|at| u64::from(plain[at]) << (8 * at)).sum();
        let (flags, request) = (plain[6], plain[7]);
        if self.window != 0 && now.abs_diff(time) > window {
            return "window";
        }
        let id: [u8; 8] = payload[24..32].try_into().expect("8 bytes");
        let later = self.accepted.iter().any(|(accepted, _)| time <= *accepted);
        if time <= self.floor || self.accepted.contains(&(time, id)) || (self.window == 0 && later) {
            return "replay";
        }
        if siphash(&self.keys[32..48], &[&payload[..24], &port.to_be_bytes()].concat()).to_le_bytes() != id {
            return "filter";
        }
        let outside = self.own.iter().filter(|own| own.len() == destination.len()).map(Vec::as_slice);
        let mut destinations = std::iter::once(destination).chain(outside);
        let fits = destinations.any(|to| self.auth(&payload[..32], port, flags, to, source) == payload[32..]);
        if !fits || self.hint(time >> 16) != payload[..4] {
            return "digest";
        }
        if flags & !3 != 0 || request > 1 || self.require & !flags != 0 {
            return "request";
        }
        self.accepted.push((time, id));
        if request == 0 { "accept" } else { "close" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_their_papers() {
        let counting: Vec<u8> = (0..16).collect();
        assert_eq!(siphash(&counting, &counting[..15]), 0xa129_ca61_49be_45e5);
        assert_eq!(hmac(b"Jefe", b"what do ya want for nothing?")[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }
}

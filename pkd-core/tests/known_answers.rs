//! Known answers, computed from the protocol's description with another implementation of SHA-256 (Python's hashlib).

use pkd_core::{Key, Knock, KnockParams, LENGTH, Port, Tag, UnixSeconds};

struct Row {
    name: &'static str,
    key: [u8; Key::LENGTH],
    tag: [u8; 4],
    time: u64,
    nonce: [u8; 12],
    port: u16,
    payload: [u8; LENGTH],
}

/// A key padded with zero bytes.
fn key(start: &[u8]) -> [u8; Key::LENGTH] {
    let mut key = [0; Key::LENGTH];
    key[..start.len()].copy_from_slice(start);
    key
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    assert_eq!(hex.len(), 2 * N, "{hex}");
    std::array::from_fn(|at| {
        let digits = &hex[2 * at..2 * at + 2];
        u8::from_str_radix(digits, 16).unwrap_or_else(|error| panic!("{digits}: {error}"))
    })
}

/// A selection from `tests/vectors/classic.json`.
fn table() -> [Row; 3] {
    [
        Row {
            name: "a short key",
            key: key(b"test"),
            tag: *b"SSHK",
            time: 1_700_000_000,
            nonce: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
            port: 22_222,
            payload: bytes(
                "5353484b00f15365000000000102030405060708090a0b0c\
                 bc4db423539dae010c554d60babc9001426ec37218461f36d34cf961b61703e0",
            ),
        },
        Row {
            name: "a key of 40 bytes",
            key: bytes(
                "000102030405060708090a0b0c0d0e0f10111213\
                 1415161718191a1b1c1d1e1f2021222324252627",
            ),
            tag: *b"PKD0",
            time: 1_795_287_600,
            nonce: [0xff; 12],
            port: 65_535,
            payload: bytes(
                "504b443030ea016b00000000ffffffffffffffffffffffff\
                 b13f796a92c102e782e86b5b36675908c65a68383ae8e2f3630d1789ae61c1b4",
            ),
        },
        Row {
            name: "a time beyond 32 bits",
            key: key(b"after 2106"),
            tag: *b"PKD0",
            time: 8_589_934_599,
            nonce: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
            port: 50_000,
            payload: bytes(
                "504b443007000000020000000102030405060708090a0b0c\
                 b0f77a62d3887daf73f0bdb8b8b782424c93d8ecbf7efeac683e73404b5c5ff2",
            ),
        },
    ]
}

#[test]
fn a_sealed_knock_has_the_published_bytes() {
    for Row { name, key, tag, time, nonce, port, payload } in table() {
        let key = Key::from_bytes(key);
        let params = KnockParams { key: &key, tag: Tag(tag), time: UnixSeconds(time), nonce };
        assert_eq!(Knock::seal(&params, Port(port)), payload, "{name}");
    }
}

#[test]
fn a_published_knock_matches_its_key_and_port_and_no_others() {
    for Row { name, key, port, payload, .. } in table() {
        let knock = Knock::parse(&payload).unwrap();
        let mut other = key;
        other[Key::LENGTH - 1] ^= 1;
        let (key, other) = (Key::from_bytes(key), Key::from_bytes(other));
        let matches = |key, port| knock.expected_digest(key, Port(port)).matches(&knock.digest());
        assert!(matches(&key, port), "{name}");
        assert!(!matches(&other, port), "{name}: another key");
        assert!(!matches(&key, port ^ 1), "{name}: another port");
    }
}

#[test]
fn a_knock_in_the_format_before_1_0_has_the_published_bytes() {
    let key = Key::from_bytes(key(b"test"));
    let params = KnockParams {
        key: &key,
        tag: Tag(*b"PKD0"),
        time: UnixSeconds(1_700_000_000),
        nonce: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    };
    let payload: [u8; LENGTH] = bytes(
        "504b443000f15365000000000102030405060708090a0b0c\
         bd5cc469d62a150cd1b5eff368d6e8fab435ea5ff39a0547723d6a0a53962b9c",
    );
    assert_eq!(Knock::seal_before_1_0(&params), payload);
}

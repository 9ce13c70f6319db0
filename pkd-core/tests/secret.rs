//! The text form of tags and keys.

use pkd_core::{Key, SecretError, Tag};

#[test]
fn a_tag_is_parsed_from_text_or_hexadecimal() {
    let table: [(&str, Result<[u8; 4], SecretError>); 20] = [
        ("S", Ok(*b"S\0\0\0")),
        ("SSHK", Ok(*b"SSHK")),
        (" \t\n.", Ok(*b" \t\n.")),
        ("\u{20ac}", Ok([0xe2, 0x82, 0xac, 0])),
        ("0", Ok(*b"0\0\0\0")),
        ("x1", Ok(*b"x1\0\0")),
        ("0X1f", Ok(*b"0X1f")),
        ("0x0", Ok([0; 4])),
        ("0x1", Ok([0x10, 0, 0, 0])),
        ("0x1F2e", Ok([0x1f, 0x2e, 0, 0])),
        ("0xa1b", Ok([0xa1, 0xb0, 0, 0])),
        ("0xDEADbeef", Ok([0xde, 0xad, 0xbe, 0xef])),
        ("", Err(SecretError::Empty { limit: 4 })),
        ("0x", Err(SecretError::NoDigits)),
        ("SSHKE", Err(SecretError::TooLong { given: 5, limit: 4 })),
        ("\u{20ac}\u{20ac}", Err(SecretError::TooLong { given: 6, limit: 4 })),
        ("0x123456789", Err(SecretError::TooLong { given: 5, limit: 4 })),
        ("0xg", Err(SecretError::NotHexadecimal { position: 2 })),
        ("0x12\u{e9}4", Err(SecretError::NotHexadecimal { position: 4 })),
        ("0x00000000000z", Err(SecretError::NotHexadecimal { position: 13 })),
    ];
    for (row, (text, expected)) in table.into_iter().enumerate() {
        assert_eq!(Tag::parse(text), expected.map(Tag), "row {row}: {text:?}");
        assert_eq!(text.parse(), Tag::parse(text), "row {row}: {text:?}");
    }
}

#[test]
fn an_invalid_hexadecimal_digit_is_reported_by_its_position() {
    for byte in 0..=127_u8 {
        let digit = char::from(byte);
        let actual = Tag::parse(&format!("0x1{digit}"));
        let expected = match digit.to_digit(16) {
            Some(value) => Ok(Tag([0x10 | u8::try_from(value).unwrap(), 0, 0, 0])),
            None => Err(SecretError::NotHexadecimal { position: 3 }),
        };
        assert_eq!(actual, expected, "{digit:?}");
    }
}

#[test]
fn a_key_of_40_bytes_fits_and_one_of_41_does_not() {
    let text = "k".repeat(41);
    let hexadecimal = format!("0x{}", "6b".repeat(40));
    let key = Key::from_bytes([b'k'; 40]);
    let mut short = [b'k'; 40];
    short[39] = 0;
    let too_long = SecretError::TooLong { given: 41, limit: 40 };
    let table = [
        (&text[..39], Ok(Key::from_bytes(short))),
        (&text[..40], Ok(key.clone())),
        (&hexadecimal[..], Ok(key)),
        (&text[..], Err(too_long)),
        (&format!("{hexadecimal}0"), Err(too_long)),
    ];
    for (row, (text, expected)) in table.into_iter().enumerate() {
        assert_eq!(Key::parse(text), expected, "row {row}: {text:?}");
        assert_eq!(text.parse(), Key::parse(text), "row {row}: {text:?}");
    }
}

#[test]
fn a_tag_is_shown_as_text_only_if_that_is_printable_and_parses_to_the_same_tag() {
    let table = [
        (*b"SSHK", "SSHK"),
        (*b"S\0\0\0", "S"),
        (*b"!~\"'", "!~\"'"),
        (*b"0\0\0\0", "0"),
        (*b"0X12", "0X12"),
        (*b"x0x1", "x0x1"),
        ([0; 4], "0x00000000"),
        (*b"0x\0\0", "0x30780000"),
        (*b"0x12", "0x30783132"),
        (*b"a b\0", "0x61206200"),
        (*b"a\0b\0", "0x61006200"),
        (*b"\0a\0\0", "0x00610000"),
        (*b"a\x7f\0\0", "0x617f0000"),
        (*b"a\nb\0", "0x610a6200"),
        ([0xc3, 0xbc, 0, 0], "0xc3bc0000"),
        ([0xff; 4], "0xffffffff"),
        ([0, 0, 0, 1], "0x00000001"),
    ];
    for (row, (bytes, text)) in table.into_iter().enumerate() {
        assert_eq!(Tag(bytes).to_string(), text, "row {row}");
        assert_eq!(format!("{:?}", Tag(bytes)), format!("Tag({text})"), "row {row}");
        assert_eq!(Tag::parse(text), Ok(Tag(bytes)), "row {row}");
    }
}

#[test]
fn the_default_tag_is_that_of_the_original() {
    assert_eq!(Tag::default(), Tag(*b"PKD0"));
}

#[test]
fn debug_output_of_a_key_is_redacted() {
    for text in ["secret", "0x00", "k"] {
        let key = Key::parse(text).unwrap();
        assert_eq!(format!("{key:?}"), "Key(..)");
        assert_eq!(format!("{key:#?}"), "Key(..)");
    }
}

#[test]
fn a_key_returns_its_bytes() {
    let bytes: [u8; 40] = std::array::from_fn(|place| u8::try_from(place).unwrap());
    assert_eq!(Key::from_bytes(bytes).as_bytes(), &bytes);
}

#[test]
fn errors_name_the_problem_and_never_quote_the_text() {
    let table = [
        (SecretError::Empty { limit: 40 }, "empty: expected 1 to 40 bytes"),
        (SecretError::NoDigits, "no digits after 0x"),
        (SecretError::TooLong { given: 41, limit: 40 }, "too long: 41 bytes, maximum 40"),
        (
            SecretError::NotHexadecimal { position: 7 },
            "invalid character at offset 7: expected a hexadecimal digit",
        ),
    ];
    for (error, message) in table {
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn keys_are_equal_only_if_all_bytes_are() {
    let key = Key::from_bytes([9; 40]);
    assert_eq!(key, key.clone());
    for place in 0..40 {
        let mut bytes = [9; 40];
        bytes[place] = 8;
        assert_ne!(Key::from_bytes(bytes), key, "byte {place}");
    }
}

/// Freed memory cannot be read here; zeroize tests that its writes happen.
#[test]
fn a_dropped_key_is_wiped_wherever_it_is() {
    fn wiped<T: zeroize::ZeroizeOnDrop>() -> bool {
        std::mem::needs_drop::<T>()
    }
    assert!(wiped::<Key>());
    assert!(std::mem::needs_drop::<pkd_core::Rule>());
}

//! Signed images: only those of the right key, board and version are taken, and only as they were signed.

use pkd_gateway::{
    UpdateKey,
    update::{HEADER_LENGTH, Identity, Incoming, Policy, UpdateError, Version, public_key, sign},
};

const SEED: [u8; 32] = [5; 32];
const BOARD: &str = "riscv32-virt";
const IMAGE: &[u8] = b"an image, which is as good as any other";
const CAPACITY: u32 = 4_096;

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn identity(board: &str, text: &str) -> Identity {
    Identity::new(board, version(text)).unwrap()
}

fn total(image: &[u8]) -> u32 {
    u32::try_from(HEADER_LENGTH + image.len()).unwrap()
}

/// Receives an image in pieces, as a gateway does that runs version 1.2.3.
fn receive(
    header: &[u8; HEADER_LENGTH],
    image: &[u8],
    key: Option<&UpdateKey>,
) -> Result<Version, UpdateError> {
    let policy = Policy { key, running: &identity(BOARD, "1.2.3"), capacity: CAPACITY };
    let mut incoming = Incoming::accept(header, total(image), &policy)?;
    for piece in image.chunks(7) {
        incoming.update(piece)?;
    }
    incoming.finish()
}

fn key() -> UpdateKey {
    UpdateKey { key: public_key(&SEED), allow_older: false }
}

fn signed(board: &str, text: &str) -> [u8; HEADER_LENGTH] {
    sign(&SEED, &identity(board, text), IMAGE).unwrap()
}

/// Name, board, version, key, outcome.
type Row<'a> = (&'a str, &'a str, &'a str, Option<&'a UpdateKey>, Result<Version, UpdateError>);

#[test]
fn a_signed_image_is_taken_if_it_is_for_this_board_and_newer() {
    let (strict, any) = (key(), UpdateKey { allow_older: true, ..key() });
    let other = UpdateKey { key: public_key(&[6; 32]), ..key() };
    let older = Err(UpdateError::NotNewer(version("1.2.3")));
    let table: [Row<'_>; 12] = [
        ("newer", BOARD, "1.2.4", Some(&strict), Ok(version("1.2.4"))),
        ("the same", BOARD, "1.2.3", Some(&strict), older),
        ("the same, but forced", BOARD, "1.2.3", Some(&any), Ok(version("1.2.3"))),
        ("a later minor version", BOARD, "1.10.0", Some(&strict), Ok(version("1.10.0"))),
        ("a patch older", BOARD, "1.2.2", Some(&strict), older),
        ("a major version older", BOARD, "0.9.9", Some(&strict), older),
        ("older, but forced", BOARD, "0.9.9", Some(&any), Ok(version("0.9.9"))),
        ("another board", "mps2-an386", "1.2.4", Some(&strict), Err(UpdateError::Board)),
        ("another board, forced", "mps2-an386", "1.2.4", Some(&any), Err(UpdateError::Board)),
        ("the start of the board's name", "riscv32", "1.2.4", Some(&strict), Err(UpdateError::Board)),
        ("another key", BOARD, "1.2.4", Some(&other), Err(UpdateError::Signature)),
        ("no key", BOARD, "1.2.4", None, Err(UpdateError::NoKey)),
    ];
    for (name, board, text, key, outcome) in table {
        assert_eq!(receive(&signed(board, text), IMAGE, key), outcome, "{name}");
    }
}

#[test]
fn no_bit_of_a_header_can_be_changed() {
    let good = signed(BOARD, "1.2.4");
    for at in 0..HEADER_LENGTH {
        let mut header = good;
        header[at] ^= 1 << (at % 8);
        let outcome = receive(&header, IMAGE, Some(&key()));
        let expected = if at < 6 { UpdateError::Magic } else { UpdateError::Signature };
        assert_eq!(outcome, Err(expected), "byte {at}");
    }
}

#[test]
fn an_image_that_was_altered_is_not_started() {
    let header = signed(BOARD, "1.2.4");
    for at in 0..IMAGE.len() {
        let mut image = IMAGE.to_vec();
        image[at] ^= 1;
        assert_eq!(receive(&header, &image, Some(&key())), Err(UpdateError::Digest), "byte {at}");
    }
}

#[test]
fn an_image_of_another_length_is_not_written() {
    let header = signed(BOARD, "1.2.4");
    let longer = [IMAGE, b"!"].concat();
    for image in [&IMAGE[..IMAGE.len() - 1], &longer, &[]] {
        assert_eq!(receive(&header, image, Some(&key())), Err(UpdateError::Length), "{} bytes", image.len());
    }
    let large = vec![0; usize::try_from(CAPACITY).unwrap() + 1];
    let header = sign(&SEED, &identity(BOARD, "1.2.4"), &large).unwrap();
    assert_eq!(receive(&header, &large, Some(&key())), Err(UpdateError::Length), "more than fits");
    let header = sign(&SEED, &identity(BOARD, "1.2.4"), &large[1..]).unwrap();
    assert!(receive(&header, &large[1..], Some(&key())).is_ok(), "as much as fits");
}

#[test]
fn an_image_that_ends_early_or_late_is_not_started() {
    let (header, key) = (signed(BOARD, "1.2.4"), key());
    let running = identity(BOARD, "1.2.3");
    let policy = Policy { key: Some(&key), running: &running, capacity: CAPACITY };
    let accept = || Incoming::accept(&header, total(IMAGE), &policy).unwrap();
    let mut incoming = accept();
    incoming.update(&IMAGE[1..]).unwrap();
    assert_eq!(incoming.remaining(), 1);
    assert_eq!(incoming.finish(), Err(UpdateError::Length));
    let mut incoming = accept();
    incoming.update(IMAGE).unwrap();
    assert_eq!(incoming.update(b"!"), Err(UpdateError::Length));
}

#[test]
fn impossible_images_are_not_signed() {
    assert_eq!(sign(&SEED, &identity(BOARD, "1.2.3"), b""), None, "empty");
    assert_eq!(Identity::new("seventeen letters", version("1.2.3")), None, "the board's name is too long");
    assert_eq!(identity("sixteen letters!", "1.2.3").board(), "sixteen letters!");
    for text in ["", "1", "1.2", "1.2.3.4", "1.2.x", "1.2.-3", "1.2.65536", "v1.2.3", "1..3"] {
        assert_eq!(Version::parse(text), None, "{text}");
    }
    assert_eq!(version("1.20.300").to_string(), "1.20.300");
    assert_eq!(Version::of("1", "20", "300"), Some(version("1.20.300")));
    assert_eq!(
        [Version::of("1", "2", "x"), Version::of("1", "65536", "3"), Version::of("", "2", "3")],
        [None; 3]
    );
}

/// As an image contains it.
fn bytes(board: &str, [major, minor, patch]: [u8; 3]) -> Vec<u8> {
    let mut bytes = [&b"PKD image\0"[..], &[major, 0, minor, 0, patch, 0], board.as_bytes()].concat();
    bytes.resize(32, 0);
    bytes
}

#[test]
fn an_image_says_itself_which_board_and_version_it_is() {
    let one = bytes(BOARD, [1, 2, 3]);
    let expected = identity(BOARD, "1.2.3");
    for image in [one.clone(), [b"code", &one[..], b"more"].concat(), [b"PKD image", &one[..]].concat()] {
        let found = Identity::find(&image).unwrap();
        assert_eq!(found, expected);
        assert_eq!((found.board(), found.version()), (BOARD, version("1.2.3")));
    }
    // Of two, nobody could say which one the image runs as.
    for image in [&[&one[..], &bytes(BOARD, [9, 9, 9])].concat(), &one.repeat(2), &one[..31], IMAGE, b""] {
        assert_eq!(Identity::find(image), None, "{image:?}");
    }
}

#[test]
fn the_signature_is_that_of_rfc_8032() {
    // Section 7.1, test 1: the public key of this secret.
    let seed = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44,
        0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
    ];
    let public = [
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e,
        0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
    ];
    assert_eq!(public_key(&seed), public);
}

#[test]
fn every_error_has_its_own_message() {
    let all = [
        UpdateError::NoKey,
        UpdateError::Magic,
        UpdateError::Signature,
        UpdateError::Board,
        UpdateError::NotNewer(version("1.2.3")),
        UpdateError::Returned,
        UpdateError::Length,
        UpdateError::Digest,
        UpdateError::Flash,
        UpdateError::Busy,
    ];
    let texts: std::collections::BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), all.len(), "{texts:?}");
}

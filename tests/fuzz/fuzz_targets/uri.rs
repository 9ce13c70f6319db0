//! The parts of a `knock://` URI, held against a reader that goes byte by byte.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pkd_uri::{SCHEME, Uri};

/// So long that no other word of a message is like it.
const KEY: &str = "kEyKeYkEyKeYkEyKeYkEyKeYkEyKeY";

fuzz_target!(|rest: &str| {
    // Most texts begin as they should, one in a few does not.
    let begin = if rest.starts_with('!') { "" } else { SCHEME };
    let text = format!("{begin}{}", rest.replace("KEY", KEY));
    match (Uri::read(&text), slow(text.as_bytes())) {
        (Ok(uri), Some(slow)) => {
            assert_eq!(uri, slow, "of {text:?}");
            let written = uri.to_string();
            // Each byte of a URI is one of those that RFC 3986 has.
            assert!(
                written.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)),
                "{written}"
            );
            assert_eq!(Uri::read(&written), Ok(uri), "written as {written:?}");
        }
        (Err(flaw), None) => assert!(!flaw.to_string().contains(KEY), "it tells a key: {flaw}"),
        (read, slow) => panic!("{read:?}, not {slow:?} of {text:?}"),
    }
});

/// What the text says; `None`: it is refused.
fn slow(text: &[u8]) -> Option<Uri> {
    for (at, letter) in SCHEME.bytes().enumerate() {
        if text.get(at) != Some(&letter) {
            return None;
        }
    }
    let text = &text[SCHEME.len()..];
    let end = (0..text.len()).find(|at| text[*at] == b'?')?;
    let slash = (0..end).find(|at| text[*at] == b'/').unwrap_or(end);
    let mut uri = Uri::default();
    let mut host = 0;
    for at in 0..slash {
        if text[at] == b'@' {
            uri.tag = Some(plain(&text[..at])?);
            host = at + 1;
        }
    }
    let mut colon = None;
    for at in host..slash {
        match text[at] {
            b':' => colon = Some(at),
            b']' => colon = None,
            _ => {}
        }
    }
    uri.host = plain(&text[host..colon.unwrap_or(slash)])?;
    uri.port = match colon {
        Some(colon) => Some(plain(&text[colon + 1..slash])?),
        None => None,
    };
    uri.name = plain(&text[(slash + 1).min(end)..end])?;
    let (mut start, mut equals) = (end + 1, None);
    for at in end + 1..=text.len() {
        match text.get(at) {
            None | Some(b'&') => {
                let equals = equals.take()?;
                uri.options.push((plain(&text[start..equals])?, plain(&text[equals + 1..at])?));
                start = at + 1;
            }
            Some(b'=') if equals.is_none() => equals = Some(at),
            Some(_) => {}
        }
    }
    Some(uri)
}

/// Bytes without their `%`.
fn plain(bytes: &[u8]) -> Option<String> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (mut plain, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let value = digit(bytes.get(at + 1))? * 16 + digit(bytes.get(at + 2))?;
            plain.push(u8::try_from(value).ok()?);
            at += 3;
        } else {
            plain.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(plain).ok()
}

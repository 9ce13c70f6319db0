//! `knock://` URIs, which hand a key and all that belongs to it from a gateway to a client, or from one client to another.
//! This crate knows the syntax; what options mean, and which there are, `knock import` decides.
//!
//! ```text
//! knock://TAG@HOST:PORT/NAME?OPTION=VALUE&OPTION=VALUE
//! ```

#[cfg(feature = "qr")]
mod qr;

use std::fmt::{self, Write as _};

#[cfg(feature = "qr")]
pub use qr::{QrCode, TooLong};

/// Addresses that a URI names at most: a knock goes to each.
pub const MAX_ADDRESSES: usize = 8;

/// The start of every URI.
pub const SCHEME: &str = "knock://";

/// The parts of a URI, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uri {
    /// Before the last `@`.
    pub tag: Option<String>,
    /// An IPv6 address is in brackets.
    pub host: String,
    /// After the last `:` outside brackets.
    pub port: Option<String>,
    /// The path; may be empty.
    pub name: String,
    /// In text order, with duplicates.
    pub options: Vec<(String, String)>,
}

/// Why a text is not a URI. It contains no part of the text, which may contain a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntaxError(&'static str);

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "URI: {}", self.0)
    }
}

impl std::error::Error for SyntaxError {}

impl Uri {
    /// Splits a text into its parts.
    ///
    /// # Errors
    /// It is not such a URI.
    pub fn read(text: &str) -> Result<Self, SyntaxError> {
        let rest = without_scheme(text).ok_or(SyntaxError("expected knock://"))?;
        let (rest, query) = rest.split_once('?').ok_or(SyntaxError("missing ?key="))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (tag, place) = match authority.rsplit_once('@') {
            Some((tag, place)) => (Some(unescape(tag)?), place),
            None => (None, authority),
        };
        let (inside, after) = place.split_at(place.rfind(']').map_or(0, |end| end + 1));
        let (outside, port) = match after.rsplit_once(':') {
            Some((outside, port)) => (outside, Some(unescape(port)?)),
            None => (after, None),
        };
        let option = |pair: &str| {
            let (option, value) = pair.split_once('=').ok_or(SyntaxError("option without a value"))?;
            Ok((unescape(option)?, unescape(value)?))
        };
        Ok(Self {
            tag,
            host: unescape(&format!("{inside}{outside}"))?,
            port,
            name: unescape(path)?,
            options: query.split('&').map(option).collect::<Result<_, _>>()?,
        })
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        if let Some(tag) = &self.tag {
            write!(f, "{}@", escape(tag, ""))?;
        }
        let inner = self.host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match inner {
            Some(inner) => write!(f, "[{}]", escape(inner, ":"))?,
            None => f.write_str(&escape(&self.host, ""))?,
        }
        if let Some(port) = &self.port {
            write!(f, ":{}", escape(port, ""))?;
        }
        write!(f, "/{}", escape(&self.name, ""))?;
        for (number, (option, value)) in self.options.iter().enumerate() {
            let before = if number == 0 { '?' } else { '&' };
            write!(f, "{before}{}={}", escape(option, ""), escape(value, ",:/"))?;
        }
        Ok(())
    }
}

/// Whether a text begins as a URI. A scheme may be written in capitals, as keyboards of phones do.
#[must_use]
pub fn is_uri(text: &str) -> bool {
    without_scheme(text).is_some()
}

fn without_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

/// Percent-encodes all characters but the unreserved ones (RFC 3986) and those in `harmless`.
fn escape(text: &str, harmless: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || harmless.as_bytes().contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

fn unescape(text: &str) -> Result<String, SyntaxError> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or(SyntaxError("% without two hexadecimal digits"))?);
        bytes.extend(part.bytes().skip(2));
    }
    String::from_utf8(bytes).map_err(|_| SyntaxError("not UTF-8 text"))
}

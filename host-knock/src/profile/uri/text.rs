//! The parts of a URI's text, before anybody asks what they mean.
//!
//! ```text
//! knock://TAG@HOST:PORT/NAME?OPTION=VALUE&OPTION=VALUE
//! ```

use std::fmt::{self, Write as _};

/// What a URI begins with.
pub(crate) const SCHEME: &str = "knock://";

/// What a URI consists of, each part without its `%`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uri {
    /// Left of the last `@`.
    pub(crate) tag: Option<String>,
    /// An address of IPv6 is in brackets.
    pub(crate) host: String,
    /// Behind the last `:` outside of brackets.
    pub(crate) port: Option<String>,
    /// The path. Empty: there is none.
    pub(crate) name: String,
    /// In the order of the text, twice if they are there twice.
    pub(crate) options: Vec<(String, String)>,
}

/// Why a text is no URI. It has no part of the text, which may hold a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError(&'static str);

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for SyntaxError {}

impl Uri {
    /// Takes a text apart.
    ///
    /// # Errors
    /// It is no such URI.
    pub(crate) fn read(text: &str) -> Result<Self, SyntaxError> {
        let rest = text.strip_prefix(SCHEME).ok_or(SyntaxError("URI does not begin with knock://"))?;
        let (rest, query) = rest.split_once('?').ok_or(SyntaxError("URI has no ?key="))?;
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
            let (option, value) =
                pair.split_once('=').ok_or(SyntaxError("URI has an option without a value"))?;
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

/// Letters that stand for themselves stay (RFC 3986, unreserved), and those that are harmless where the text goes.
fn escape(text: &str, harmless: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || harmless.as_bytes().contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
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
        bytes.push(byte.ok_or(SyntaxError("URI has a % without two hexadecimal digits"))?);
        bytes.extend(part.bytes().skip(2));
    }
    String::from_utf8(bytes).map_err(|_| SyntaxError("URI is not UTF-8 text"))
}

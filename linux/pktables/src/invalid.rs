//! Errors about text that cannot be parsed.

use std::fmt;

/// A text that cannot be parsed.
///
/// ```
/// let invalid = "70000".parse::<pktables::Port>().unwrap_err();
/// assert_eq!((invalid.what(), invalid.text(), invalid.why()), ("port", "70000", "expected 1–65535"));
/// assert_eq!(invalid.to_string(), "invalid port \"70000\": expected 1–65535");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub(crate) what: &'static str,
    pub(crate) text: String,
    pub(crate) why: &'static str,
}

impl Invalid {
    pub(crate) fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self { what, text: text.to_owned(), why }
    }

    /// What was expected, such as `port`.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        self.what
    }

    /// The text, or its invalid part.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The problem, such as `expected 1–65535`.
    #[must_use]
    pub const fn why(&self) -> &'static str {
        self.why
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {} {:?}: {}", self.what, self.text, self.why)
    }
}

impl std::error::Error for Invalid {}

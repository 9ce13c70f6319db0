//! Errors about text that cannot be parsed.

use std::fmt;

/// A text that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What was expected, such as `port`.
    pub what: &'static str,
    /// The text, or its invalid part.
    pub text: String,
    /// The problem, such as `expected 1–65535`.
    pub why: &'static str,
}

impl Invalid {
    pub(crate) fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self { what, text: text.to_owned(), why }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {} {:?}: {}", self.what, self.text, self.why)
    }
}

impl std::error::Error for Invalid {}

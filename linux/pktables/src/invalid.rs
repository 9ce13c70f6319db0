//! Errors about a text that cannot be parsed.

use std::fmt;

/// A text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What the text was taken for.
    pub what: &'static str,
    /// The text, or the part of it that is wrong.
    pub text: String,
    /// What is wrong with it; reads on after the text.
    pub why: &'static str,
}

impl Invalid {
    pub(crate) fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self { what, text: text.to_owned(), why }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.what, self.text, self.why)
    }
}

impl std::error::Error for Invalid {}

//! Messages on standard error.

use std::io::{self, Write as _};

/// Prints one-line messages to standard error. Write errors are ignored: there is no better place to report them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stderr {
    /// Suppresses warnings, but not errors.
    pub(crate) quiet: bool,
}

impl Stderr {
    /// Warns about something unwise that is done anyway.
    pub(crate) fn warn(self, text: &str) {
        if !self.quiet {
            Self::line(&format!("warning: {text}"));
        }
    }

    /// Tells something that was asked for.
    pub(crate) fn note(text: &str) {
        Self::line(text);
    }

    /// Reports an error.
    pub(crate) fn error(text: &str) {
        Self::line(text);
    }

    fn line(text: &str) {
        let _ = writeln!(io::stderr(), "knock: {text}");
    }
}

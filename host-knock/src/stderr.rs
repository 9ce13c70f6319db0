//! What goes to standard error.

use std::io::{self, Write as _};

/// Prints one-line messages to standard error. Whether they arrive is nobody's concern: there is no
/// better place to complain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stderr {
    /// Warnings are left out; errors never are.
    pub(crate) quiet: bool,
}

impl Stderr {
    /// Something is unwise and done nevertheless.
    pub(crate) fn warn(self, text: &str) {
        if !self.quiet {
            Self::line(&format!("warning: {text}"));
        }
    }

    /// Something is not done.
    pub(crate) fn error(text: &str) {
        Self::line(text);
    }

    fn line(text: &str) {
        let _ = writeln!(io::stderr(), "knock: {text}");
    }
}

//! What somebody at a terminal sees while knock waits.

use std::io::{self, IsTerminal as _, Write as _};

/// One line on standard error, where that is a terminal, that is written anew and goes at the end.
pub(crate) struct Progress {
    is_shown: bool,
    length: usize,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { is_shown: !quiet && io::stderr().is_terminal(), length: 0 }
    }

    /// Puts this in the place of the line before.
    pub(crate) fn show(&mut self, text: &str) {
        if self.is_shown {
            let padding = self.length.saturating_sub(text.len());
            // Whether it is seen is nobody's concern.
            let _ = write!(io::stderr(), "\rknock: {text}{}", " ".repeat(padding));
            self.length = text.len();
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.length > 0 {
            let _ = write!(io::stderr(), "\r{}\r", " ".repeat(self.length + "knock: ".len()));
            self.length = 0;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

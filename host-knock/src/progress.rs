//! Progress on a terminal while knock waits.

use std::io::{self, IsTerminal as _, Write as _};

/// A line on standard error that is rewritten and finally erased. Shown only on a terminal.
pub(crate) struct Progress {
    is_shown: bool,
    length: usize,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { is_shown: !quiet && io::stderr().is_terminal(), length: 0 }
    }

    /// Replaces the line.
    pub(crate) fn show(&mut self, text: &str) {
        if self.is_shown {
            let padding = self.length.saturating_sub(text.len());
            // A failed write only costs the display.
            let _ = write!(io::stderr(), "\rknock: {text}{}", " ".repeat(padding));
            self.length = text.len();
        }
    }

    /// Erases the line.
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

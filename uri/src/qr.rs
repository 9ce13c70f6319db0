//! A text as a QR code.

use std::fmt::{self, Write as _};

use qrcodegen::QrCodeEcc;

/// Width of the quiet zone in modules (ISO/IEC 18004, section 6.3.8).
const QUIET_ZONE: i32 = 4;

/// A QR code with the quiet zone around it.
#[derive(Clone)]
pub struct QrCode(qrcodegen::QrCode);

/// The text does not fit into a QR code: 2,331 bytes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too large for a QR code")
    }
}

impl std::error::Error for TooLong {}

impl fmt::Debug for QrCode {
    /// Not what it says: that may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QrCode(..)")
    }
}

impl QrCode {
    /// The code of a text.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn new(text: &str) -> Result<Self, TooLong> {
        qrcodegen::QrCode::encode_text(text, QrCodeEcc::Medium).map(Self).map_err(|_| TooLong)
    }

    /// Modules on a side.
    #[must_use]
    pub fn side(&self) -> u32 {
        u32::try_from(self.0.size() + 2 * QUIET_ZONE).unwrap_or_default()
    }

    /// Whether the module in this column and row is dark.
    #[must_use]
    pub fn is_dark(&self, column: u32, row: u32) -> bool {
        let inner = |place: u32| i32::try_from(place).map_or(-1, |place| place - QUIET_ZONE);
        self.0.get_module(inner(column), inner(row))
    }

    /// Lines for a terminal, with two modules per character, one above the other. Most readers want dark codes on light, so
    /// colours are set.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut text = String::new();
        for row in (0..self.side()).step_by(2) {
            text += "\x1b[30;107m";
            for column in 0..self.side() {
                text.push(match (self.is_dark(column, row), self.is_dark(column, row + 1)) {
                    (false, false) => ' ',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (true, true) => '█',
                });
            }
            let _ = writeln!(text, "\x1b[0m");
        }
        text
    }
}

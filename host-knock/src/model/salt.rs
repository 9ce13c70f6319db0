//! The salt of a passphrase.

use std::fmt;

use anyhow::{Context as _, Result};

use crate::hex;

/// 16 random bytes, so that the same passphrase derives another key for another profile. Not secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt([u8; 16]);

impl Salt {
    /// A new salt.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub(crate) fn random() -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).context("cannot get random bytes")?;
        Ok(Self(bytes))
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Parses 32 hexadecimal digits.
    ///
    /// # Errors
    /// The text is something else.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bytes = hex::bytes(text).and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .with_context(|| format!("invalid passphrase_salt {text:?}: expected 32 hexadecimal digits"))
    }
}

impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::digits(&self.0))
    }
}

//! The salt of a passphrase.

use std::fmt;

use anyhow::{Context as _, Result};

use crate::hex;

/// 16 random bytes, so that the same passphrase makes another key for another profile. They are no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt([u8; 16]);

impl Salt {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub(crate) fn random() -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
        Ok(Self(bytes))
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Reads 32 hexadecimal digits.
    ///
    /// # Errors
    /// The text is not that.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bytes = hex::bytes(text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).with_context(|| format!("passphrase_salt {text:?} is no 32 hexadecimal digits"))
    }
}

impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::digits(&self.0))
    }
}

//! Keys that are derived from a passphrase.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use argon2::{Algorithm, Argon2, Params, Version};
use pkd_core::Key;

use crate::{model::Salt, terminal};

/// The second recommended option of RFC 9106, section 4: 64 MiB, 3 passes, 4 lanes. Other parameters would derive
/// another key from the same passphrase and salt.
const KIBIBYTES: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// Length of a derived key, in bytes.
pub(crate) const KEY_LENGTH: usize = 32;
/// Minimum length in characters, because anyone who captures one knock can guess offline.
const MIN_LENGTH: usize = 12;

/// Prompts for the passphrase of a profile and derives the key.
///
/// # Errors
/// There is no terminal, or the passphrase is empty.
pub(crate) fn prompt(name: &str, salt: &Salt) -> Result<Key> {
    let passphrase = terminal::ask(&format!("Passphrase for {name}: "))
        .with_context(|| format!("no key for {name}; cannot prompt for its passphrase"))?;
    ensure!(!passphrase.is_empty(), "passphrase is empty");
    derive(&passphrase, salt)
}

/// Prompts twice for a new passphrase and derives the key.
///
/// # Errors
/// There is no terminal, the two differ, or the passphrase is too short.
pub(crate) fn prompt_new(name: &str, salt: &Salt) -> Result<Key> {
    let ask = |question: &str| terminal::ask(question).context("cannot prompt for a passphrase");
    let passphrase = ask(&format!("New passphrase for {name}: "))?;
    let length = passphrase.chars().count();
    if length < MIN_LENGTH {
        bail!(
            "passphrase has {length} characters; use at least {MIN_LENGTH}, because anyone who captures a knock can guess \
                         offline"
        );
    }
    ensure!(ask("Repeat the passphrase: ")? == passphrase, "the passphrases do not match");
    derive(&passphrase, salt)
}

fn derive(passphrase: &str, salt: &Salt) -> Result<Key> {
    let failed = |error| anyhow!("cannot derive a key: {error}");
    let params = Params::new(KIBIBYTES, PASSES, LANES, Some(KEY_LENGTH)).map_err(failed)?;
    let mut bytes = [0; Key::LENGTH];
    let (key, _filling) = bytes.split_at_mut(KEY_LENGTH);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), &salt.bytes(), key)
        .map_err(failed)?;
    Ok(Key::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    #[test]
    fn a_passphrase_always_derives_the_same_key() -> Result<()> {
        // Computed with the reference implementation (argon2-cffi).
        let salt = Salt::parse(&hex::digits(b"0123456789abcdef"))?;
        let key = derive("correct horse battery", &salt)?;
        assert_eq!(hex::digits(&key.as_bytes()[..KEY_LENGTH]), KNOWN);
        assert_eq!(key.as_bytes()[KEY_LENGTH..], [0; 8]);
        Ok(())
    }

    const KNOWN: &str = "5220483d4ba1637c5d5df43b377a7f6aed39a6159693d0029a3e4f76d50669ab";
}

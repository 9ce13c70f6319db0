//! Keys that are derived from what somebody can remember.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use argon2::{Algorithm, Argon2, Params, Version};
use pkd_core::Key;

use crate::{model::Salt, terminal};

/// The second of the two choices that RFC 9106, section 4, recommends: 64 MiB, 3 passes, 4 lanes. They are a part of
/// what a salt in a profile means; others would make another key.
const KIBIBYTES: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// Bytes of a key.
pub(crate) const KEY_LENGTH: usize = 32;
/// Whoever catches one knock can try passphrases as long as he likes.
const MIN_LENGTH: usize = 12;

/// The key of a profile, from the passphrase that the terminal asks for.
///
/// # Errors
/// There is no terminal, or nothing was typed.
pub(crate) fn prompt(name: &str, salt: &Salt) -> Result<Key> {
    let passphrase = terminal::ask(&format!("Passphrase for {name}: "))
        .with_context(|| format!("no key for {name}, cannot ask for its passphrase on the terminal"))?;
    ensure!(!passphrase.is_empty(), "passphrase is empty");
    derive(&passphrase, salt)
}

/// The key of a new passphrase, typed twice.
///
/// # Errors
/// There is no terminal, it was typed differently, or it is too short.
pub(crate) fn prompt_new(name: &str, salt: &Salt) -> Result<Key> {
    let ask = |question: &str| terminal::ask(question).context("cannot ask for a passphrase on the terminal");
    let passphrase = ask(&format!("New passphrase for {name}: "))?;
    let length = passphrase.chars().count();
    if length < MIN_LENGTH {
        bail!(
            "passphrase has {length} characters, at least {MIN_LENGTH} are needed: whoever catches one knock can \
             try passphrases as long as he likes"
        );
    }
    ensure!(ask("The same again: ")? == passphrase, "the passphrases differ");
    derive(&passphrase, salt)
}

fn derive(passphrase: &str, salt: &Salt) -> Result<Key> {
    let wrong = |error| anyhow!("cannot derive a key: {error}");
    let params = Params::new(KIBIBYTES, PASSES, LANES, Some(KEY_LENGTH)).map_err(wrong)?;
    let mut bytes = [0; Key::LENGTH];
    let (key, _filling) = bytes.split_at_mut(KEY_LENGTH);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), &salt.bytes(), key)
        .map_err(wrong)?;
    Ok(Key::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    #[test]
    fn the_key_of_a_passphrase_never_changes() -> Result<()> {
        // What the reference implementation makes of them, by way of argon2-cffi.
        let salt = Salt::parse(&hex::digits(b"0123456789abcdef"))?;
        let key = derive("correct horse battery", &salt)?;
        assert_eq!(hex::digits(&key.as_bytes()[..KEY_LENGTH]), KNOWN);
        assert_eq!(key.as_bytes()[KEY_LENGTH..], [0; 8]);
        Ok(())
    }

    const KNOWN: &str = "5220483d4ba1637c5d5df43b377a7f6aed39a6159693d0029a3e4f76d50669ab";
}

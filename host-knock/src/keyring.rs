//! Keys in the system's keyring: Secret Service on Linux, Keychain on macOS, the credential manager on Windows.

use anyhow::Result;
use pkd_core::Key;

/// The key of a profile.
///
/// # Errors
/// There is no keyring, it is locked, or has no such key.
pub(crate) fn load(name: &str) -> Result<Key> {
    backend::load(name)
}

/// Keeps the key of a profile.
///
/// # Errors
/// There is no keyring, or it does not take it.
pub(crate) fn store(name: &str, key: &Key) -> Result<()> {
    backend::store(name, key)
}

#[cfg(feature = "keyring")]
mod backend {
    use anyhow::{Result, anyhow};
    use keyring::v1::{Entry, Error};
    use pkd_core::Key;

    /// What all our entries are filed under.
    const SERVICE: &str = "knock";

    pub(super) fn load(name: &str) -> Result<Key> {
        let bytes = entry(name)?.get_secret().map_err(|error| wrong(name, &error))?;
        let bytes: [u8; Key::LENGTH] =
            bytes.try_into().map_err(|_| anyhow!("the keyring's entry for {name} is no key of knock"))?;
        Ok(Key::from_bytes(bytes))
    }

    pub(super) fn store(name: &str, key: &Key) -> Result<()> {
        entry(name)?.set_secret(key.as_bytes()).map_err(|error| wrong(name, &error))
    }

    fn entry(name: &str) -> Result<Entry> {
        if let Err(error) = Entry::store_status() {
            return Err(wrong(name, error));
        }
        Entry::new(SERVICE, name).map_err(|error| wrong(name, &error))
    }

    /// Errors of the crate may hold what was stored, so they are told in words of ours.
    fn wrong(name: &str, error: &Error) -> anyhow::Error {
        match error {
            Error::NoEntry => {
                anyhow!("the keyring has no key for {name}; make one with knock keygen {name} --keyring")
            }
            Error::PlatformFailure(_) | Error::NoDefaultStore => {
                anyhow!("there is no keyring here; it is in a desktop session's D-Bus")
            }
            Error::NoStorageAccess(_) => anyhow!("the keyring is locked"),
            _ => anyhow!("the keyring's entry for {name} cannot be used"),
        }
    }
}

#[cfg(not(feature = "keyring"))]
mod backend {
    use anyhow::{Result, bail};
    use pkd_core::Key;

    pub(super) fn load(_: &str) -> Result<Key> {
        bail!("this knock was built without keyrings")
    }

    pub(super) fn store(_: &str, _: &Key) -> Result<()> {
        bail!("this knock was built without keyrings")
    }
}

//! Keys in the system's keyring: Secret Service on Linux, Keychain on macOS, Credential Manager on Windows.

use anyhow::Result;
use pkd_core::Key;

/// Loads the key of a profile.
///
/// # Errors
/// There is no keyring, it is locked, or it has no such key.
pub(crate) fn load(name: &str) -> Result<Key> {
    backend::load(name)
}

/// Stores the key of a profile.
///
/// # Errors
/// There is no keyring, or it refuses.
pub(crate) fn store(name: &str, key: &Key) -> Result<()> {
    backend::store(name, key)
}

/// Whether there is a key of a profile.
///
/// # Errors
/// There is no keyring, or it is locked.
pub(crate) fn has(name: &str) -> Result<bool> {
    backend::has(name)
}

#[cfg(feature = "keyring")]
mod backend {
    use anyhow::{Result, anyhow};
    use keyring::v1::{Entry, Error};
    use pkd_core::Key;

    /// The service name of all entries.
    const SERVICE: &str = "knock";

    pub(super) fn load(name: &str) -> Result<Key> {
        let bytes = entry(name)?.get_secret().map_err(|error| describe(name, &error))?;
        let bytes: [u8; Key::LENGTH] =
            bytes.try_into().map_err(|_| anyhow!("the keyring entry for {name} is not a key"))?;
        Ok(Key::from_bytes(bytes))
    }

    pub(super) fn store(name: &str, key: &Key) -> Result<()> {
        entry(name)?.set_secret(key.as_bytes()).map_err(|error| describe(name, &error))
    }

    pub(super) fn has(name: &str) -> Result<bool> {
        match entry(name)?.get_secret() {
            Ok(_) => Ok(true),
            Err(Error::NoEntry) => Ok(false),
            Err(error) => Err(describe(name, &error)),
        }
    }

    fn entry(name: &str) -> Result<Entry> {
        if let Err(error) = Entry::store_status() {
            return Err(describe(name, error));
        }
        Entry::new(SERVICE, name).map_err(|error| describe(name, &error))
    }

    /// The errors of the crate may contain what was stored, so they are not shown.
    fn describe(name: &str, error: &Error) -> anyhow::Error {
        match error {
            Error::NoEntry => {
                anyhow!("the keyring has no key for {name}; create one with knock keygen {name} --keyring")
            }
            Error::PlatformFailure(_) | Error::NoDefaultStore => {
                anyhow!("no keyring available; it needs a desktop session with D-Bus")
            }
            Error::NoStorageAccess(_) => anyhow!("the keyring is locked"),
            _ => anyhow!("cannot use the keyring entry for {name}"),
        }
    }
}

#[cfg(not(feature = "keyring"))]
mod backend {
    use anyhow::{Result, bail};
    use pkd_core::Key;

    pub(super) fn load(_: &str) -> Result<Key> {
        bail!("this knock was built without keyring support")
    }

    pub(super) fn has(_: &str) -> Result<bool> {
        bail!("this knock was built without keyring support")
    }

    pub(super) fn store(_: &str, _: &Key) -> Result<()> {
        bail!("this knock was built without keyring support")
    }
}

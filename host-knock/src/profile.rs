//! What a name on the command line stands for: a host, its key, how to knock there, what that opens.

#[cfg(feature = "desktop")]
pub(crate) mod config;
#[cfg(feature = "desktop")]
pub(crate) mod import;
mod paths;
#[cfg(feature = "desktop")]
pub(crate) mod show;
#[cfg(feature = "desktop")]
pub(crate) mod uri;

use std::path::Path;

use anyhow::Result;

use crate::{ini::Ini, model::Profile, stderr::Stderr};

/// All names that are known.
#[derive(Debug, Default)]
pub(crate) struct ProfileStore {
    #[cfg(feature = "desktop")]
    config: config::Config,
    ini: Ini,
}

impl ProfileStore {
    /// Reads `chosen` alone, profiles if its name ends with `.toml` and else sections of an ini file; or what is there
    /// in the usual places.
    ///
    /// # Errors
    /// A file cannot be read or understood.
    pub(crate) fn open(chosen: Option<&Path>, stderr: Stderr) -> Result<Self> {
        match chosen {
            Some(path) if path.extension().is_some_and(|extension| extension == "toml") => {
                Self::from_toml(path)
            }
            Some(path) => Ok(Self { ini: Ini::read(path, stderr)?, ..Self::default() }),
            None => {
                let mut store = Self::default_files()?;
                if let Some(home) = paths::home() {
                    store.ini = Ini::read_if_there(&home.join(".ipt_pkd.ini"), stderr)?;
                }
                Ok(store)
            }
        }
    }

    #[cfg(feature = "desktop")]
    fn from_toml(path: &Path) -> Result<Self> {
        Ok(Self { config: config::Config::read(path)?, ..Self::default() })
    }

    #[cfg(not(feature = "desktop"))]
    fn from_toml(path: &Path) -> Result<Self> {
        anyhow::bail!("{}: this knock was built without profiles", path.display())
    }

    #[cfg(feature = "desktop")]
    fn default_files() -> Result<Self> {
        let config = paths::config_file().map(|file| config::Config::read_if_there(&file)).transpose()?;
        Ok(Self { config: config.unwrap_or_default(), ..Self::default() })
    }

    #[cfg(not(feature = "desktop"))]
    #[expect(clippy::unnecessary_wraps, reason = "with profiles it may fail")]
    fn default_files() -> Result<Self> {
        Ok(Self::default())
    }

    /// Whether something is called so.
    pub(crate) fn has(&self, name: &str) -> bool {
        #[cfg(feature = "desktop")]
        if self.config.has(name) {
            return true;
        }
        self.ini.has(name)
    }

    /// What is called so; a profile comes before a section of the ini file.
    ///
    /// # Errors
    /// It is wrong in itself; the error names file, section and option.
    pub(crate) fn profile(&self, name: &str) -> Option<Result<Profile>> {
        #[cfg(feature = "desktop")]
        if let Some(profile) = self.config.profile(name) {
            return Some(profile);
        }
        self.ini.profile(name)
    }

    /// What is called so, or is the only one with this address: ssh hands on addresses, not names.
    ///
    /// # Errors
    /// As for [`ProfileStore::profile`]; or several profiles have the address.
    pub(crate) fn profile_at(&self, host: &str) -> Option<Result<Profile>> {
        if let Some(profile) = self.profile(host) {
            return Some(profile);
        }
        #[cfg(feature = "desktop")]
        if let Some(found) = self.config.profile_at(host) {
            return Some(found);
        }
        None
    }

    /// The hosts that a word stands for: those of the group after `@`, or itself.
    ///
    /// # Errors
    /// There is no such group, or it contains itself.
    pub(crate) fn expand(&self, word: &str) -> Result<Vec<String>> {
        let Some(group) = word.strip_prefix('@') else { return Ok(vec![word.to_owned()]) };
        #[cfg(feature = "desktop")]
        return self.config.group(group);
        #[cfg(not(feature = "desktop"))]
        anyhow::bail!("there is no group {group:?}: this knock was built without profiles")
    }
}

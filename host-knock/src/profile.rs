//! Profiles by name: from the configuration file and from the ini file.

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

#[cfg(feature = "desktop")]
use crate::parse;
use crate::{ini::Ini, model::Profile, stderr::Stderr};

/// All profiles and ini sections.
#[derive(Debug, Default)]
pub(crate) struct ProfileStore {
    #[cfg(feature = "desktop")]
    config: config::Config,
    ini: Ini,
}

impl ProfileStore {
    /// Opens only `file`, which holds profiles if its name ends with `.toml`, else ini sections; without `file`, opens the
    /// files in the usual places.
    ///
    /// # Errors
    /// A file cannot be read or parsed.
    pub(crate) fn open(file: Option<&Path>, stderr: Stderr) -> Result<Self> {
        match file {
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
    #[expect(clippy::unnecessary_wraps, reason = "the other version can fail")]
    fn default_files() -> Result<Self> {
        Ok(Self::default())
    }

    /// Whether there is a profile or section with this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        #[cfg(feature = "desktop")]
        if self.config.has(name) {
            return true;
        }
        self.ini.has(name)
    }

    /// The profile with this name; a profile takes precedence over an ini section.
    ///
    /// # Errors
    /// It is invalid. The error names file, section and option.
    pub(crate) fn profile(&self, name: &str) -> Option<Result<Profile>> {
        #[cfg(feature = "desktop")]
        if let Some(profile) = self.config.profile(name) {
            return Some(profile);
        }
        self.ini.profile(name)
    }

    /// The profile with this name, or else the only one with this address: ssh passes addresses on, not names. Of several,
    /// the only one that offers the service.
    ///
    /// # Errors
    /// As for [`ProfileStore::profile`], or several profiles may be meant.
    pub(crate) fn profile_at(
        &self,
        host: &str,
        #[cfg_attr(
            not(feature = "desktop"),
            expect(unused_variables, reason = "only profiles have services")
        )]
        service: Option<&str>,
    ) -> Option<Result<Profile>> {
        if let Some(profile) = self.profile(host) {
            return Some(profile);
        }
        #[cfg(feature = "desktop")]
        if let Some(found) = self.config.profile_at(host, service) {
            return Some(found);
        }
        None
    }

    /// All names that can stand for a host, each once: profiles, sections, and groups after `@`.
    #[cfg(feature = "desktop")]
    pub(crate) fn names(&self) -> Vec<String> {
        let profiles = self.config.names();
        let sections = self.ini.names().filter(|name| !profiles.contains(name));
        // Shells expand what they complete, so anything else must not get there.
        let is_plain = |name: &&str| parse::name(name).is_ok();
        let hosts = profiles.iter().copied().chain(sections).filter(is_plain).map(str::to_owned);
        hosts.chain(self.config.groups().filter(is_plain).map(|group| format!("@{group}"))).collect()
    }

    /// The hosts that a word means: the members of a group after `@`, else the word itself.
    ///
    /// # Errors
    /// There is no such group, or it contains itself.
    pub(crate) fn expand(&self, word: &str) -> Result<Vec<String>> {
        let Some(group) = word.strip_prefix('@') else { return Ok(vec![word.to_owned()]) };
        #[cfg(feature = "desktop")]
        return self.config.group(group);
        #[cfg(not(feature = "desktop"))]
        anyhow::bail!("unknown group {group:?}: this knock was built without profiles")
    }
}

//! What a name on the command line stands for: a host, its key, how to knock there, what that opens.

#[cfg(feature = "desktop")]
pub(crate) mod config;
#[cfg(feature = "desktop")]
pub(crate) mod import;
#[cfg(feature = "desktop")]
pub(crate) mod paths;
#[cfg(feature = "desktop")]
pub(crate) mod show;
#[cfg(feature = "desktop")]
pub(crate) mod uri;

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Result;
use pkd_core::{Key, Port, Tag, Window};

use crate::{
    host::Host,
    ini::Ini,
    request::{Families, Format},
    service::Service,
    stderr::Stderr,
};

/// What a profile, or a section of an ini file, says; checked.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// The host; the profile's name, if it gives none.
    pub(crate) host: Host,
    /// Where the key is.
    pub(crate) key: KeySource,
    /// The tag, if it gives one.
    pub(crate) tag: Option<Tag>,
    /// The port that is knocked at, if it gives one.
    pub(crate) port: Option<Port>,
    /// Which of the payloads.
    pub(crate) format: Format,
    /// The addresses of the host that count.
    pub(crate) families: Families,
    /// Whether datagrams leave from the port that they go to.
    pub(crate) same_source_port: bool,
    /// Seconds that the host's clock is ahead of the right time.
    pub(crate) time_offset: i64,
    /// How many seconds the host lets a knock's time be off.
    pub(crate) window: Window,
    /// What a knock opens.
    pub(crate) services: Vec<Service>,
}

/// Where a key is.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    /// Here.
    Known(Key),
    /// In a file.
    File(PathBuf),
    /// In the system's keyring, under this name.
    #[cfg(feature = "desktop")]
    Keyring(String),
    /// In somebody's head; this is mixed in.
    #[cfg(feature = "desktop")]
    Passphrase(crate::passphrase::Salt),
    /// Nowhere that is known: the terminal is asked.
    Prompt,
}

impl Profile {
    /// A host that is no more than that.
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            key: KeySource::Prompt,
            tag: None,
            port: None,
            format: Format::Classic,
            families: Families::Both,
            same_source_port: false,
            time_offset: 0,
            window: Window::default(),
            services: Vec::new(),
        }
    }
}

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
                if let Some(home) = home() {
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

/// Whoever has no absolute home does not live where they stand.
pub(crate) fn home() -> Option<PathBuf> {
    env::home_dir().filter(|home| home.is_absolute())
}

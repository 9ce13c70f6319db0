//! What is known about a host before its key is read.

use std::path::PathBuf;

use pkd_core::{Key, Port, Tag, Window};

#[cfg(feature = "desktop")]
use super::salt::Salt;
use super::{
    host::Host,
    options::{Families, Format},
    service::Service,
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
    Passphrase(Salt),
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

//! Profiles: what is known about a host before its key is read.

use std::path::PathBuf;

use pkd_core::{Key, Port, Tag, Window};

#[cfg(feature = "desktop")]
use super::salt::Salt;
use super::{
    bind::Bind,
    hosts::Hosts,
    options::{Families, Format},
    service::Service,
};

/// A validated profile, or a section of an ini file.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// Where the host is; by default where its profile's name says.
    pub(crate) hosts: Hosts,
    /// Where the key is.
    pub(crate) key: KeySource,
    /// The tag, if set.
    pub(crate) tag: Option<Tag>,
    /// The destination port, if set.
    pub(crate) port: Option<Port>,
    /// Payload format.
    pub(crate) format: Format,
    /// What knocks of format 2 are bound to.
    pub(crate) bind: Bind,
    /// Which addresses of the host to use.
    pub(crate) families: Families,
    /// Use the destination port as source port.
    pub(crate) same_source_port: bool,
    /// Seconds that the host's clock is ahead.
    pub(crate) time_offset: i64,
    /// The gateway's window.
    pub(crate) window: Window,
    /// The last day on which the gateway accepts knocks, as `2027-12-31`.
    pub(crate) expires: Option<String>,
    /// What the user has written about it.
    pub(crate) note: Option<String>,
    /// Services that a knock opens.
    pub(crate) services: Vec<Service>,
}

/// Where a key is.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    /// In memory.
    Known(Key),
    /// In a file.
    File(PathBuf),
    /// In the system's keyring, under this name.
    #[cfg(feature = "desktop")]
    Keyring(String),
    /// Derived from a passphrase with this salt.
    #[cfg(feature = "desktop")]
    Passphrase(Salt),
    /// Unknown: prompt for it.
    Prompt,
}

impl Profile {
    /// A host with default settings.
    pub(crate) fn new(hosts: Hosts) -> Self {
        Self {
            hosts,
            key: KeySource::Prompt,
            tag: None,
            port: None,
            format: Format::Classic,
            bind: Bind::default(),
            families: Families::Both,
            same_source_port: false,
            time_offset: 0,
            window: Window::default(),
            expires: None,
            note: None,
            services: Vec::new(),
        }
    }
}

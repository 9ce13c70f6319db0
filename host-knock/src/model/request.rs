//! One knock that is ready to be made.

use pkd_core::{Key, Port, Tag};

use super::{
    host::Host,
    options::{Families, Format, Source},
    service::Service,
};

/// One host to knock at, and how.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// What was typed for it.
    pub(crate) name: String,
    /// Where.
    pub(crate) host: Host,
    /// The addresses of the host that count.
    pub(crate) families: Families,
    /// The secret shared with the host.
    pub(crate) key: Key,
    /// Which of its keys the host shall check with.
    pub(crate) tag: Tag,
    /// Destination port; `None`: a random one.
    pub(crate) port: Option<Port>,
    /// Which of the two payloads.
    pub(crate) format: Format,
    /// Where the datagram comes from.
    pub(crate) source: Source,
    /// Seconds to add to this computer's time.
    pub(crate) time_offset: i64,
    /// How many seconds the host lets a knock's time be off, as far as is known.
    #[cfg(feature = "desktop")]
    pub(crate) window: pkd_core::Window,
    /// What it opens.
    pub(crate) services: Vec<Service>,
}

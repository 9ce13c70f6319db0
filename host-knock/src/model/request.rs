//! A knock that is ready to be made.

use pkd_core::{Key, Port, Tag, format2};

use super::{
    bind::Bind,
    hosts::Hosts,
    options::{Families, Format, Source},
    outlet::Outlet,
    service::Service,
};

/// One host to knock at, and how.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The name on the command line.
    pub(crate) name: String,
    /// Where the host is. Each gets a knock of its own.
    pub(crate) hosts: Hosts,
    /// Which addresses of the host to use.
    pub(crate) families: Families,
    /// The shared secret.
    pub(crate) key: Key,
    /// Selects the key on the host.
    pub(crate) tag: Tag,
    /// Destination port; `None`: random.
    pub(crate) port: Option<Port>,
    /// Payload format.
    pub(crate) format: Format,
    /// What a knock of format 2 is bound to.
    pub(crate) bind: Bind,
    /// Whether a knock of format 2 opens or closes.
    pub(crate) action: format2::Request,
    /// Source port.
    pub(crate) source: Source,
    /// Where it leaves this computer.
    pub(crate) outlet: Outlet,
    /// Seconds to add to this computer's time.
    pub(crate) time_offset: i64,
    /// The gateway's window, if known.
    #[cfg(feature = "desktop")]
    pub(crate) window: pkd_core::Window,
    /// Services that the knock opens.
    pub(crate) services: Vec<Service>,
}

impl Request {
    /// What messages call the host.
    pub(crate) fn label(&self) -> &str {
        self.hosts.label(&self.name)
    }
}

//! The operations that both backends implement.

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;

use crate::{error::Error, service::Service, service_name::ServiceName};

/// Whether an operation changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The firewall was changed.
    Made,
    /// Nothing had to be changed.
    AlreadySo,
}

/// An address or prefix that may reach a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// The address or prefix.
    pub address: IpNet,
    /// Time left; `None`: no end.
    pub left: Option<Duration>,
    /// Packets that the grant has accepted; `None`: not counted. A renewal may reset it.
    pub packets: Option<u64>,
}

/// The grants of each service.
pub type Grants = BTreeMap<ServiceName, Vec<Grant>>;

/// Adds a grant. Of a grant and a lease of the same address, the later end counts.
#[cfg(feature = "rules")]
pub(crate) fn join(grants: &mut Vec<Grant>, new: Grant) {
    let Some(there) = grants.iter_mut().find(|grant| grant.address == new.address) else {
        grants.push(new);
        return;
    };
    there.left = there.left.zip(new.left).map(|(one, other)| one.max(other));
    there.packets = match (there.packets, new.packets) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    };
}

/// A service as the firewall has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listing {
    /// The service.
    pub service: Service,
    /// The grants, sorted by address, IPv4 first.
    pub grants: Vec<Grant>,
    /// Packets of both families that the default policy handled; `None`: not counted.
    pub default_packets: Option<u64>,
}

/// The result of [`Firewall::list`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Listings {
    /// The services that could be parsed, sorted by name.
    pub services: Vec<Listing>,
    /// What could not: one error for each service, such as a chain `pk-NAME` that another program has made.
    pub unknown: Vec<Error>,
}

impl Grant {
    /// A grant for so long; `None`: without end. Its packets are not counted.
    #[must_use]
    pub const fn new(address: IpNet, left: Option<Duration>) -> Self {
        Self { address, left, packets: None }
    }
}

/// Services and grants. Each operation is applied completely or not at all, and is idempotent.
pub trait Firewall {
    /// Guards a service. An existing one gets the new options and keeps its grants.
    ///
    /// # Errors
    /// The service is inconsistent, or the firewall refuses.
    fn init(&mut self, service: &Service) -> Result<Change, Error>;

    /// Stops guarding a service: removes its rules and grants.
    ///
    /// # Errors
    /// The firewall refuses. A missing service is not an error.
    fn remove(&mut self, name: &ServiceName) -> Result<Change, Error>;

    /// Grants an address or prefix access, for a time or without end. An existing grant is never shortened: the later end
    /// wins, and no end is the latest.
    ///
    /// # Errors
    /// There is no such service, it is not forwarded in this family, `ttl` is zero, or the firewall refuses.
    fn grant(&mut self, name: &ServiceName, address: IpNet, ttl: Option<Duration>) -> Result<Change, Error>;

    /// Revokes the grant of exactly this address or prefix.
    ///
    /// # Errors
    /// There is no such service, or the firewall refuses. A missing grant is not an error.
    fn revoke(&mut self, name: &ServiceName, address: IpNet) -> Result<Change, Error>;

    /// Revokes all grants of a service.
    ///
    /// # Errors
    /// There is no such service, or the firewall refuses.
    fn flush(&mut self, name: &ServiceName) -> Result<Change, Error>;

    /// Lists all services. One that cannot be parsed hides no other.
    ///
    /// # Errors
    /// The firewall refuses.
    fn list(&mut self) -> Result<Listings, Error>;

    /// Removes expired grants where the kernel does not do so itself; returns how many.
    ///
    /// # Errors
    /// The firewall refuses.
    fn expire(&mut self) -> Result<usize, Error>;
}

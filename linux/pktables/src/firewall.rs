//! What both back ends do.

use std::time::Duration;

use ipnet::IpNet;

use crate::{
    error::Error,
    service::{Service, ServiceName},
};

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The firewall is now different.
    Made,
    /// It already was as it should be.
    AlreadySo,
}

/// An address may pass a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who may.
    pub address: IpNet,
    /// How long still; `None`: without an end.
    pub left: Option<Duration>,
    /// Packets that this grant has let through; `None`: nobody counts. A renewal may begin anew.
    pub packets: Option<u64>,
}

/// A service as the firewall has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// What is guarded.
    pub service: Service,
    /// Who may pass, sorted by address, IPv4 first.
    pub grants: Vec<Grant>,
    /// Packets from everybody else, of both families; `None`: nobody counts.
    pub default_packets: Option<u64>,
}

/// Services and grants. Every change is made whole or not at all, and made again it changes nothing.
pub trait Firewall {
    /// Guards a service. One that is there with other options gets these, and keeps its grants.
    ///
    /// # Errors
    /// The service is contradictory, or the firewall refuses.
    fn init(&mut self, service: &Service) -> Result<Change, Error>;

    /// Guards a service no longer: its rules and grants go.
    ///
    /// # Errors
    /// The firewall refuses. A service that is not there is none.
    fn remove(&mut self, name: &ServiceName) -> Result<Change, Error>;

    /// Lets an address or prefix pass, for a time or without end. A grant that is there never ends earlier
    /// because of another one: the later end counts, and none at all is the latest.
    ///
    /// # Errors
    /// There is no such service, it cannot be reached in this family, `ttl` is zero, or the firewall refuses.
    fn grant(&mut self, name: &ServiceName, address: IpNet, ttl: Option<Duration>) -> Result<Change, Error>;

    /// Ends the grant of exactly this address or prefix.
    ///
    /// # Errors
    /// There is no such service, or the firewall refuses. A grant that is not there is none.
    fn revoke(&mut self, name: &ServiceName, address: IpNet) -> Result<Change, Error>;

    /// Ends all grants of a service.
    ///
    /// # Errors
    /// There is no such service, or the firewall refuses.
    fn flush(&mut self, name: &ServiceName) -> Result<Change, Error>;

    /// All services, sorted by name.
    ///
    /// # Errors
    /// The firewall refuses, or has rules that are not understood.
    fn list(&mut self) -> Result<Vec<Listing>, Error>;

    /// Ends what is over, where the kernel does not do so itself; how many grants these were.
    ///
    /// # Errors
    /// The firewall refuses.
    fn expire(&mut self) -> Result<usize, Error>;
}

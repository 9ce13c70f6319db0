//! The interface to a firewall.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    os::fd::BorrowedFd,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use ipnet::IpNet;
use pktables::{Change, Sender, ServiceName, address};

use crate::config::{Config, ServiceConfig};

/// An address or prefix that may reach a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveGrant {
    /// The service.
    pub service: ServiceName,
    /// The address or prefix.
    pub address: IpNet,
    /// The interface on which a link-local address may; `None`: any.
    pub interface: Option<NonZeroU32>,
    /// The time left; `None` if the grant does not end.
    pub left: Option<Duration>,
}

impl ActiveGrant {
    /// The address, prefix, or link-local address with its interface, as text.
    #[must_use]
    pub fn source(&self) -> String {
        match self.interface {
            None => address::short(self.address),
            interface => Sender::new(self.address.addr(), interface).to_string(),
        }
    }
}

/// The result of [`FirewallBackend::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// The rules are there.
    Intact,
    /// Rules are missing or have changed: [`install`](FirewallBackend::install) repairs them, then the grants of knocks
    /// have to be made again.
    Damaged,
}

/// Rules and grants of one firewall.
pub trait FirewallBackend {
    /// Guards the configured services and passes possible knocks to pkdd. Removes the guards of services that only an
    /// earlier configuration had; `list` is the file with their names. Grants stay, also those that the rules have lost,
    /// if the firewall keeps them elsewhere.
    ///
    /// # Errors
    /// The firewall refuses. Changes made so far stay, and guarded services stay guarded.
    fn install(&mut self, config: &Config, list: &Path) -> Result<Change>;

    /// Sets the first four bytes of datagrams that are passed to pkdd, each with the time until which it counts. What is
    /// installed passes them from now on, and what will be installed does.
    ///
    /// # Errors
    /// The firewall refuses.
    fn set_words(&mut self, words: &BTreeMap<[u8; 4], Option<Instant>>) -> Result<()>;

    /// Removes everything that [`install`](Self::install) has made.
    ///
    /// # Errors
    /// The firewall refuses.
    fn clear(&mut self, list: &Path) -> Result<()>;

    /// Becomes readable when a program has changed the firewall; `None`: the firewall does not notify.
    fn notifications(&self) -> Option<BorrowedFd<'_>>;

    /// Reads the notifications. Whether the rules or grants may have been changed by another program.
    ///
    /// # Errors
    /// They cannot be read.
    fn was_notified(&mut self) -> Result<bool>;

    /// Whether changes are only found by a [`check`](Self::check) each second.
    fn needs_polling(&self) -> bool;

    /// Compares the rules with those that [`install`](Self::install) has made, and follows changes of grants that other
    /// programs have made.
    ///
    /// # Errors
    /// The firewall refuses.
    fn check(&mut self, config: &Config) -> Result<Integrity>;

    /// Whether the grant of a link-local address can be bound to an interface. If not, there must be none.
    fn has_link_grants(&self) -> bool;

    /// Lets a sender reach a service, a link-local one on its interface only. An existing grant is never shortened. Grants
    /// that were made by hand stay what they are.
    ///
    /// # Errors
    /// The firewall refuses, or has lost its rules.
    fn grant(&mut self, service: &ServiceConfig, sender: Sender, ttl: Duration) -> Result<Change>;

    /// Ends a grant that [`grant`](Self::grant) has made, and no other.
    ///
    /// # Errors
    /// The firewall refuses, or has lost its rules.
    fn revoke(&mut self, service: &ServiceConfig, sender: Sender) -> Result<Change>;

    /// The active grants.
    ///
    /// # Errors
    /// The firewall refuses.
    fn list(&mut self, config: &Config) -> Result<Vec<ActiveGrant>>;

    /// Datagrams that began as a knock and were dropped beyond the rate limit, since this process started.
    ///
    /// # Errors
    /// The firewall refuses.
    fn limited(&mut self) -> Result<u64>;

    /// Whether grants end only when [`expire`](Self::expire) is called.
    fn needs_expiry(&self) -> bool;

    /// Removes grants whose time is over, if the kernel does not do so itself.
    ///
    /// # Errors
    /// The firewall refuses.
    fn expire(&mut self) -> Result<()>;

    /// Prepares for the end of this process: ends grants that nothing would bind to their interface afterwards.
    ///
    /// # Errors
    /// The firewall refuses.
    fn finish(&mut self) -> Result<()>;
}

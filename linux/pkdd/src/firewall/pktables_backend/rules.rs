//! The rules of services: pktables' for nftables or for iptables.

use std::time::Duration;

use ipnet::IpNet;
use pktables::{Change, Error, Firewall, Grants, Iptables, Nft, ServiceName};

/// pktables' rules of one kind.
pub(super) enum Rules {
    Nft(Nft),
    Iptables(Iptables),
}

impl Rules {
    pub(super) const NFT: &str = "nft\n";
    pub(super) const IPTABLES: &str = "iptables\n";

    /// What is written about it in the folder `run`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nft(_) => Self::NFT,
            Self::Iptables(_) => Self::IPTABLES,
        }
    }

    pub(super) fn firewall(&mut self) -> &mut dyn Firewall {
        match self {
            Self::Nft(nft) => nft,
            Self::Iptables(iptables) => iptables,
        }
    }

    pub(super) fn fingerprint(&mut self) -> Result<u64, Error> {
        match self {
            Self::Nft(nft) => nft.fingerprint(),
            Self::Iptables(iptables) => iptables.fingerprint(),
        }
    }

    pub(super) fn lease(
        &mut self,
        service: &ServiceName,
        address: impl Into<IpNet>,
        ttl: Duration,
    ) -> Result<Change, Error> {
        match self {
            Self::Nft(nft) => nft.lease(service, address, ttl),
            Self::Iptables(iptables) => iptables.lease(service, address, ttl),
        }
    }

    pub(super) fn release(
        &mut self,
        service: &ServiceName,
        address: impl Into<IpNet>,
    ) -> Result<Change, Error> {
        match self {
            Self::Nft(nft) => nft.release(service, address),
            Self::Iptables(iptables) => iptables.release(service, address),
        }
    }

    /// The grants that are for every interface, and what cannot be parsed.
    pub(super) fn grants(&mut self) -> Result<(Grants, Vec<Error>), Error> {
        match self {
            Self::Nft(nft) => Ok((nft.grants()?, Vec::new())),
            Self::Iptables(iptables) => iptables.grants(),
        }
    }
}

//! Leases: what a program lets in for a time, beside the grants that are made by hand. The kernel ends them.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use pktables::{Change, Firewall, Iptables, Nft, Policy, Protocol, Scope, Service, ServiceName};

use crate::{
    netns::{Netns, on_each_firewall, wait},
    topology,
};

enum Backend {
    Nft(Nft),
    Iptables(Iptables),
}

impl Backend {
    /// The kinds of leases that a firewall has.
    fn all(netns: &Netns) -> Result<Vec<(&'static str, Self)>> {
        if netns.kind.is_nft() {
            return Ok(vec![("nft", Self::Nft(Nft::open()?))]);
        }
        let rules = Self::Iptables(Iptables::default().without_ipset());
        Ok(vec![("ipset", Self::Iptables(Iptables::default())), ("rules", rules)])
    }

    fn firewall(&mut self) -> &mut dyn Firewall {
        match self {
            Self::Nft(nft) => nft,
            Self::Iptables(iptables) => iptables,
        }
    }

    fn lease(&mut self, name: &ServiceName, address: &str, seconds: u64) -> Result<Change> {
        let (address, ttl): (IpAddr, _) = (address.parse()?, Duration::from_secs(seconds));
        Ok(match self {
            Self::Nft(nft) => nft.lease(name, address, ttl)?,
            Self::Iptables(iptables) => iptables.lease(name, address, ttl)?,
        })
    }

    fn release(&mut self, name: &ServiceName, address: &str) -> Result<Change> {
        Ok(match self {
            Self::Nft(nft) => nft.release(name, address.parse::<IpAddr>()?)?,
            Self::Iptables(iptables) => iptables.release(name, address.parse::<IpAddr>()?)?,
        })
    }

    /// What a held table may copy.
    fn grants(&mut self) -> Result<Vec<IpAddr>> {
        let grants = match self {
            Self::Nft(nft) => nft.grants()?,
            Self::Iptables(iptables) => iptables.grants()?.0,
        };
        Ok(grants.into_values().flatten().map(|grant| grant.address.addr()).collect())
    }

    /// Seconds left of the address's grant or lease; `None`: no end, or none at all.
    fn left(&mut self, address: &str) -> Result<Option<u64>> {
        let listings = self.firewall().list()?.services;
        let grants = listings.into_iter().flat_map(|listing| listing.grants);
        let address = pktables::address::parse(address)?;
        let found: Vec<_> = grants.filter(|grant| grant.address == address).collect();
        ensure!(found.len() < 2, "{found:?}");
        Ok(found.first().and_then(|grant| grant.left).map(|left| left.as_secs()))
    }
}

fn service(before_nat: bool) -> Result<Service> {
    let mut scope = Scope::default();
    (scope.leases, scope.before_nat) = (true, before_nat);
    Ok(Service {
        name: "ssh".parse()?,
        protocol: Protocol::Tcp,
        ports: "22".parse()?,
        only_new: true,
        policy: Policy::Drop,
        log: None,
        forward: Vec::new(),
        scope,
    })
}

const CLIENTS: [(&str, &str); 2] = [("192.0.2.7", "192.0.2.8"), ("2001:db8::7", "2001:db8::8")];

on_each_firewall! {
    /// And no others, and it ends like any.
    fn a_lease_for_a_network_lets_its_addresses_in(netns) {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        for (kind, mut backend) in Backend::all(netns)? {
            let mut service = service(true)?;
            (service.scope.lease_prefix.v4, service.scope.lease_prefix.v6) = (29, 125);
            let prefix = service.scope.lease_prefix;
            let name = service.name.clone();
            backend.firewall().init(&service)?;
            assert_eq!(backend.firewall().init(&service)?, Change::AlreadySo, "{kind}");
            for (client, stranger) in CLIENTS {
                let network = prefix.network(client.parse()?);
                let grant = |backend: &mut Backend| -> Result<Change> {
                    let ttl = Duration::from_mins(10);
                    Ok(match backend {
                        Backend::Nft(nft) => nft.lease(&name, network, ttl)?,
                        Backend::Iptables(iptables) => iptables.lease(&name, network, ttl)?,
                    })
                };
                assert_eq!(grant(&mut backend)?, Change::Made, "{kind}: {client}");
                topology::expect(client, 22, Some("gateway"))?;
                ensure!(topology::who(stranger, 22)?.is_none(), "{kind}: {stranger}");
                assert_eq!(backend.left(&network.to_string())?.map(|left| left > 500), Some(true), "{kind}");
                // A shorter one changes nothing, and the rules stay as they are.
                assert_eq!(backend.firewall().init(&service)?, Change::AlreadySo, "{kind}");
                match &mut backend {
                    Backend::Nft(nft) => nft.release(&name, network)?,
                    Backend::Iptables(iptables) => iptables.release(&name, network)?,
                };
                ensure!(topology::who(client, 22)?.is_none(), "{kind}: {client}");
                // Who removes a grant by hand also ends a lease.
                grant(&mut backend)?;
                assert_eq!(backend.firewall().revoke(&name, network)?, Change::Made, "{kind}");
                ensure!(topology::who(client, 22)?.is_none(), "{kind}: {client}");
            }
            backend.firewall().remove(&name)?;
        }
        Ok(())
    }
}

on_each_firewall! {
    /// Nobody calls `expire`.
    fn the_kernel_ends_leases(netns) {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        for (kind, mut backend) in Backend::all(netns)? {
            for before_nat in [true, false] {
                let service = service(before_nat)?;
                let name = service.name.clone();
                backend.firewall().init(&service)?;
                assert_eq!(backend.firewall().init(&service)?, Change::AlreadySo, "{kind}");
                for (client, stranger) in CLIENTS {
                    ensure!(topology::who(client, 22)?.is_none(), "{kind}: {client}");
                    // A slow host may miss a short lease, so try again.
                    let lets_in = || {
                        assert_eq!(backend.lease(&name, client, 3)?, Change::Made, "{kind}: {client}");
                        topology::who(client, 22)
                    };
                    wait(&format!("{kind}: a lease of {client}"), lets_in, Option::is_some)?;
                    ensure!(topology::who(stranger, 22)?.is_none(), "{kind}: {stranger}");
                    wait(&format!("{kind}: its end"), || topology::who(client, 22), Option::is_none)?;
                }
                backend.firewall().remove(&name)?;
                topology::expect("192.0.2.8", 22, Some("gateway"))?;
            }
        }
        Ok(())
    }
}

on_each_firewall! {
    fn leases_and_grants_do_not_affect_each_other(netns) {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        for (kind, mut backend) in Backend::all(netns)? {
            let service = service(true)?;
            let name = service.name.clone();
            backend.firewall().init(&service)?;
            for (client, stranger) in CLIENTS {
                assert_eq!(backend.lease(&name, client, 600)?, Change::Made, "{kind}");
                assert_eq!(backend.lease(&name, client, 60)?, Change::AlreadySo, "{kind}: it is shortened");
                assert_eq!(backend.lease(&name, client, 900)?, Change::Made, "{kind}");
                ensure!(backend.left(client)?.is_some_and(|left| (890..=900).contains(&left)), "{kind}");
                topology::expect(client, 22, Some("gateway"))?;
                // A shorter grant by hand: the lease goes on, and the grant remains after it.
                netns.quietly(&[&format!("add {client} --service ssh --timeout 5m")])?;
                ensure!(backend.left(client)?.is_some_and(|left| left > 890), "{kind}");
                assert_eq!(backend.release(&name, client)?, Change::Made, "{kind}");
                ensure!(backend.left(client)?.is_some_and(|left| (200..=300).contains(&left)), "{kind}");
                topology::expect(client, 22, Some("gateway"))?;
                assert_eq!(backend.lease(&name, client, 600)?, Change::Made, "{kind}");
                // What is revoked by hand is closed.
                netns.quietly(&[&format!("delete {client} --service ssh")])?;
                ensure!(topology::who(client, 22)?.is_none(), "{kind}: {client}");
                backend.lease(&name, client, 600)?;
                backend.lease(&name, stranger, 600)?;
                netns.quietly(&["flush ssh"])?;
                for from in [client, stranger] {
                    ensure!(topology::who(from, 22)?.is_none(), "{kind}: {from}");
                }
                let zero = backend.lease(&name, client, 0).err().context("a lease of no time")?;
                ensure!(zero.to_string().contains("must not be zero"), "{zero}");
            }
            backend.firewall().remove(&name)?;
            let missing = backend.lease(&name, "192.0.2.7", 60).err().context("a lease of nothing")?;
            ensure!(missing.to_string().starts_with("unknown service \"ssh\""), "{kind}: {missing}");
        }
        Ok(())
    }
}

on_each_firewall! {
    /// It is that of another host on every link, and a held table would let all of them in.
    fn a_lease_of_a_link_local_address_is_not_copied_to_a_held_table(netns) {
        for (kind, mut backend) in Backend::all(netns)? {
            let service = service(true)?;
            let name = service.name.clone();
            backend.firewall().init(&service)?;
            for address in ["fe80::7", "febf::7", "2001:db8::7"] {
                backend.lease(&name, address, 600)?;
                ensure!(backend.left(address)?.is_some(), "{kind}: {address} is not listed");
            }
            assert_eq!(backend.grants()?, ["2001:db8::7".parse::<IpAddr>()?], "{kind}");
            // Who makes a grant by hand may want that, and the grant's end is not that of the lease.
            netns.quietly(&["add fe80::7 --service ssh --timeout 5m", "add fe80::/64 --service ssh"])?;
            let mut found = backend.grants()?;
            found.sort_unstable();
            assert_eq!(found, ["2001:db8::7".parse::<IpAddr>()?, "fe80::".parse()?, "fe80::7".parse()?], "{kind}");
            backend.firewall().remove(&name)?;
        }
        Ok(())
    }
}

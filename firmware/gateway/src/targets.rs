//! The services as frames are compared with them. One-arm mode does this for each frame, so addresses are converted only once.

use heapless::Vec;
use smoltcp::wire::EthernetAddress;

use crate::{
    SERVICES,
    config::Config,
    flow::{FlowKind, Peer},
    neighbour::Neighbours,
};

/// A service.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// Where it runs.
    inside: Peer,
    /// The port of the gateway that leads to it.
    port: u16,
    kind: FlowKind,
    /// Its host among the neighbours.
    neighbour: u8,
}

/// All services, in the configuration's order. An empty table is all zeros.
#[derive(Debug)]
pub(crate) struct Targets(Vec<Target, SERVICES>);

impl Targets {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Makes them the configured services, and their hosts the neighbours.
    pub(crate) fn set<const RULES: usize>(&mut self, config: &Config<RULES>, neighbours: &mut Neighbours) {
        neighbours.clear();
        self.0.clear();
        for service in &config.services {
            let inside = Peer::from(&service.inside);
            let fixed = config.hosts.iter().find(|host| host.address == service.inside.address);
            let neighbour = neighbours.track(inside.ip, fixed.map(|host| host.hardware));
            let target = Target {
                inside,
                port: service.port,
                kind: service.protocol.into(),
                // There is room for as many hosts as there are services.
                neighbour: neighbour.unwrap_or(u8::MAX),
            };
            let _full = self.0.push(target);
        }
    }

    /// The number of the service that a port of the gateway's IPv4 or IPv6 address leads to.
    pub(crate) fn find(&self, kind: FlowKind, port: u16, is_v4: bool) -> Option<u8> {
        let is_it =
            |target: &Target| target.port == port && target.kind == kind && target.inside.ip.is_v4() == is_v4;
        self.0.iter().zip(0..).find(|(target, _)| is_it(target)).map(|(_, number)| number)
    }

    /// Where the service with this number runs, and the MAC address of its host, if it is known.
    pub(crate) fn host<'a>(
        &'a self,
        service: u8,
        neighbours: &'a Neighbours,
    ) -> Option<(&'a Peer, &'a EthernetAddress)> {
        let target = self.0.get(usize::from(service))?;
        Some((&target.inside, neighbours.hardware(target.neighbour)?))
    }
}

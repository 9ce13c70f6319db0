//! Names of sets in the table.

use ipnet::IpNet;

use crate::service_name::ServiceName;

/// The end of the name of a set of leases.
const LEASE: &str = "/lease";

/// The name of a set: service, family and prefix length.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SetName {
    pub(crate) service: ServiceName,
    pub(crate) v6: bool,
    /// Prefix length; 32 or 128: single addresses.
    pub(crate) length: u8,
    /// For leases, which are kept apart from grants.
    pub(crate) lease: bool,
}

impl SetName {
    pub(crate) fn of(service: &ServiceName, address: IpNet) -> Self {
        let v6 = matches!(address, IpNet::V6(_));
        Self { service: service.clone(), v6, length: address.prefix_len(), lease: false }
    }

    pub(crate) fn single(service: &ServiceName, v6: bool) -> Self {
        Self { service: service.clone(), v6, length: if v6 { 128 } else { 32 }, lease: false }
    }

    pub(crate) fn leases(service: &ServiceName, address: IpNet) -> Self {
        Self { lease: true, ..Self::of(service, address) }
    }

    pub(crate) fn is_single(&self) -> bool {
        self.length == if self.v6 { 128 } else { 32 }
    }

    /// `pk-NAME-4`, `pk-NAME-4/24`, `pk-NAME-4/lease` or `pk-NAME-4/24/lease`. Service names contain no slash.
    pub(crate) fn text(&self) -> String {
        let family = if self.v6 { 6 } else { 4 };
        let single = format!("{}-{family}", self.service.chain());
        let length = if self.is_single() { String::new() } else { format!("/{}", self.length) };
        format!("{single}{length}{}", if self.lease { LEASE } else { "" })
    }

    /// Parses what [`Self::text`] formats.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (text, lease) = text.strip_suffix(LEASE).map_or((text, false), |rest| (rest, true));
        let (single, length) = match text.split_once('/') {
            Some((single, length)) => (single, Some(length.parse().ok()?)),
            None => (text, None),
        };
        let (chain, v6) = match (single.strip_suffix("-4"), single.strip_suffix("-6")) {
            (Some(chain), _) => (chain, false),
            (_, Some(chain)) => (chain, true),
            _ => return None,
        };
        let service = ServiceName::of_chain(chain)?;
        let single = Self::single(&service, v6);
        Some(Self { length: length.unwrap_or(single.length), lease, ..single })
    }
}

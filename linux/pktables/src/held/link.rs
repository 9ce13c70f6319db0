//! Grants that count on one interface.

use std::time::Duration;

use crate::{nft::set_name::SetName, sender::Sender, service_name::ServiceName};

/// The end of a set's name. No prefix length is like it.
const LINK: &str = "/link";

/// The key of a set, as nft knows it: `ipv6_addr . iface_index`, each type takes 6 bits; and its length in bytes.
pub(super) const KEY: (u32, u32) = ((8 << 6) + 20, 20);

/// A grant for a link-local address, which counts on one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkGrant {
    /// The service that it opens.
    pub service: ServiceName,
    /// The address and the interface.
    pub sender: Sender,
    /// Time left; `None`: no end.
    pub left: Option<Duration>,
}

/// The name of a service's set: `pk-NAME-6/link`.
pub(super) fn set_name(service: &ServiceName) -> String {
    SetName::single(service, true).text() + LINK
}

/// The service of a set that [`set_name`] has named.
pub(super) fn service_of(set: &str) -> Option<ServiceName> {
    let single = SetName::parse(set.strip_suffix(LINK)?)?;
    (single.v6 && single.is_single() && !single.lease).then_some(single.service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_neither_that_of_another_set_nor_of_another_service() {
        for name in ["ssh", "a-6", "a.link", "6"] {
            let service: ServiceName = name.parse().expect("a name");
            let set = set_name(&service);
            assert_eq!((SetName::parse(&set), service_of(&set)), (None, Some(service)), "{set}");
        }
        for other in
            ["pk-ssh-6", "pk-ssh-4/link", "pk-ssh-6/lease", "pk-ssh-6/lease/link", "pk-ssh-6/64/link"]
        {
            assert_eq!(service_of(other), None, "{other}");
        }
    }
}

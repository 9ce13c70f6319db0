//! Why a valid knock opens nothing.

use pktables::Sender;

/// Why a sender can have no grant; `None`: it can. A link-local address is that of another host on every link, so a grant
/// that is not bound to an interface would let in strangers. `has_link_grants`: the firewall can bind it.
#[must_use]
pub(crate) fn obstacle(has_link_grants: bool, sender: Sender) -> Option<&'static str> {
    if !sender.is_link_local() {
        return None;
    }
    if !has_link_grants {
        return Some("without nftables, a grant of a link-local address would hold on every interface");
    }
    let is_there = sender.interface_name().is_some();
    (!is_there).then_some("its interface is gone")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn a_link_local_sender_needs_an_interface_and_a_firewall_that_knows_it() {
        let (unbound, gone) = ("would hold on every interface", "its interface is gone");
        // address, interface, whether the firewall can bind it, why there is no grant; the loopback interface is the first
        let rows = [
            ("192.0.2.7", 0, false, None),
            ("2001:db8::7", 0, false, None),
            ("2001:db8::7", u32::MAX, true, None),
            ("fe80::7", 1, true, None),
            ("fe80::7", 1, false, Some(unbound)),
            ("fe80::7", 0, true, Some(gone)),
            ("fe80::7", u32::MAX, true, Some(gone)),
            ("fe80::7", 0, false, Some(unbound)),
        ];
        for (address, interface, has_link_grants, expected) in rows {
            let sender = Sender::new(address.parse().unwrap(), NonZeroU32::new(interface));
            let why = obstacle(has_link_grants, sender);
            assert_eq!(why.is_some(), expected.is_some(), "{sender}");
            assert!(expected.is_none_or(|part| why.unwrap_or_default().contains(part)), "{sender}: {why:?}");
        }
    }
}

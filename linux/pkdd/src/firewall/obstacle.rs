//! Why a valid knock opens nothing.

use pktables::Sender;

use super::FirewallBackend;

/// Why a sender can have no grant; `None`: it can. A link-local address is that of another host on every link, so a grant
/// without its interface would let in strangers.
#[must_use]
pub(crate) fn obstacle(firewall: &dyn FirewallBackend, sender: Sender) -> Option<&'static str> {
    if !sender.is_link_local() {
        return None;
    }
    if !firewall.has_link_grants() {
        return Some("without nftables, a grant of a link-local address would be for every interface");
    }
    let is_there = sender.interface_name().is_some();
    (!is_there).then_some("its interface is gone")
}

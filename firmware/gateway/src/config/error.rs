//! Why a configuration is rejected.

use core::fmt;

use super::format::VERSION;

/// Why a configuration is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The flash is erased.
    Missing,
    /// The magic number is wrong.
    Magic,
    /// It was written by a newer release, in this version of the format.
    Newer(u16),
    /// Its length is impossible, or does not match its contents.
    Length,
    /// The CRC is wrong: it was not written completely, or it has changed.
    Crc,
    /// A field has an undefined value.
    Value,
    /// It has too many services, rules or own addresses.
    TooMany,
    /// Two services have the same port, or one has a port that the gateway uses itself: for knocks, counters, DHCP, SNTP or NAT.
    Port,
    /// A service's inside host is the gateway itself, outside the gateway's network, or not a unicast address.
    Host,
    /// An Ethernet type to forward unchecked is one that contains IP, which would be a way around the gateway.
    Ethertype,
    /// An IP protocol to forward unchecked is one that is checked.
    Protocol,
    /// The gateway's IPv6 address is not a unicast address, or it has one in inline mode.
    Address6,
    /// A MAC address is not that of a single host, or is for an address that no service has.
    Hardware,
    /// One of the gateway's own addresses is not a unicast address.
    OwnAddress,
    /// Two rules have the same format, tag and key, so the second would never accept a knock.
    SameKey,
    /// A rule opens no service, or one that does not exist.
    Service,
    /// A window is longer than a day, or not 0 although there is no time server.
    Window,
    /// The VLANs of a trunk are equal or out of range.
    Vlan,
    /// A rule's `ttl` is 0.
    Ttl,
    /// The time server's name is impossible, or nothing says how to find the server: DHCP or a DNS server.
    TimeServer,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no configuration in flash",
            Self::Magic => "not a gateway configuration",
            Self::Newer(version) => {
                return write!(f, "unsupported format version {version}: expected at most {VERSION}");
            }
            Self::Length => "wrong length",
            Self::Crc => "wrong CRC",
            Self::Value => "a field has an undefined value",
            Self::TooMany => "too many services, rules or own addresses",
            Self::Port => {
                "two services share a port, or a service has port 0 or one that the gateway uses itself"
            }
            Self::Host => {
                "an inside host is not a unicast address in the gateway's network, or is the gateway itself"
            }
            Self::Ethertype => "an Ethernet type that contains IP cannot be forwarded unchecked",
            Self::Protocol => "TCP, UDP and ICMP cannot be forwarded unchecked",
            Self::Address6 => {
                "the IPv6 address is not a unicast address, or the mode is inline, which needs none"
            }
            Self::Hardware => "a MAC address is not that of a single host, or no service is at its address",
            Self::OwnAddress => "an own address is not a unicast address",
            Self::SameKey => "two rules have the same format, tag and key",
            Self::Service => "a rule opens no service, or an unknown one",
            Self::Window => "a window exceeds 86400 seconds, or is not 0 without a time server",
            Self::Vlan => "invalid VLANs: expected two different numbers, 1–4094",
            Self::Ttl => "a ttl is 0: expected at least 1 second",
            Self::TimeServer => {
                "the time server is not a host name, or cannot be found: it needs DHCP, or a name and a DNS server"
            }
        })
    }
}

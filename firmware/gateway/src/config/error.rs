//! Why a configuration is rejected.

use core::fmt;

use super::VERSION;

/// Why a configuration is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The flash is erased there.
    Missing,
    /// It does not begin as a configuration does.
    Magic,
    /// A later library made it, with this version.
    Newer(u16),
    /// Its length cannot be, or there are bytes left over or too few.
    Length,
    /// Its CRC does not hold: it was not written whole, or has changed.
    Crc,
    /// A number stands for nothing.
    Value,
    /// More services or rules than fit.
    TooMany,
    /// Two services have the same port, or one has that of knocks, counters, or of the gateway's own needs.
    Port,
    /// An inside host is the gateway itself, or does not lie in its network.
    Host,
    /// Two rules have the same tag and key, so that the second would never accept.
    SameKey,
    /// A rule opens a service that is not there, or none.
    Service,
    /// A window without a time source, or one beyond a day.
    Window,
    /// A trunk's VLANs are the same, or none that can be.
    Vlan,
    /// A ttl of nothing.
    Ttl,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there is no configuration",
            Self::Magic => "this is no configuration",
            Self::Newer(version) => {
                return write!(f, "it has version {version}, and {VERSION} is the newest known here");
            }
            Self::Length => "its length is wrong",
            Self::Crc => "its CRC is wrong",
            Self::Value => "a value stands for nothing",
            Self::TooMany => "there are too many services or rules",
            Self::Port => "two services share a port, or one has a port that the gateway itself needs",
            Self::Host => "an inside host is the gateway, or outside its network",
            Self::SameKey => "two rules have the same tag and key",
            Self::Service => "a rule opens no service, or one that is not there",
            Self::Window => "a window is over a day, or not 0 without a time server",
            Self::Vlan => "the VLANs are the same, or not within 1 to 4094",
            Self::Ttl => "a ttl is 0",
        })
    }
}

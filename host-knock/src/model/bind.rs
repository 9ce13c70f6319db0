//! Which addresses a knock of format 2 is bound to.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Result, bail};
use pkd_core::format2::Bindings;

/// The choice, before the addresses are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bind {
    /// The source, if nothing on the way is expected to change it.
    #[default]
    Auto,
    /// Exactly these.
    Only(Bindings),
}

impl Bind {
    /// Parses `auto`, `none`, or a list such as `source,destination`.
    ///
    /// # Errors
    /// The text is something else.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::Only(Bindings::NONE)),
            _ => {}
        }
        let mut bindings = Bindings::NONE;
        for word in text.split(',') {
            bindings = bindings
                | match word.trim() {
                    "source" => Bindings::SOURCE,
                    "destination" => Bindings::DESTINATION,
                    _ => bail!("invalid bind {text:?}: expected auto, none, or source and destination"),
                };
        }
        Ok(Self::Only(bindings))
    }

    /// The bindings of a knock that leaves from `local` for `destination`.
    ///
    /// A local address that is not globally routable is rewritten by a NAT before it reaches a gateway elsewhere, and
    /// NAT64 (RFC 6052, RFC 8215) rewrites every source. A knock that is bound to what the gateway does not see would be
    /// ignored.
    pub(crate) fn bindings(self, local: IpAddr, destination: IpAddr) -> Bindings {
        match self {
            Self::Only(bindings) => bindings,
            Self::Auto if is_global(local) && !is_nat64(destination) => Bindings::SOURCE,
            Self::Auto => Bindings::NONE,
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(bindings) => f.write_str(&words(*bindings).join(",")),
        }
    }
}

/// The names of the bindings, or `none`.
pub(crate) fn words(bindings: Bindings) -> Vec<&'static str> {
    let names = [(Bindings::SOURCE, "source"), (Bindings::DESTINATION, "destination")];
    let words: Vec<_> =
        names.into_iter().filter(|(one, _)| bindings.contains(*one)).map(|(_, name)| name).collect();
    if words.is_empty() { vec!["none"] } else { words }
}

/// Whether the IANA special-purpose registries (RFC 6890) call the address globally reachable.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a, b & 0xc0) == (100, 64) // between a provider and its customers (RFC 6598)
        || (a, b, c) == (192, 0, 0) // protocol assignments, among them 464XLAT (RFC 7335)
        || (a, b & 0xfe) == (198, 18); // benchmarks (RFC 2544)
    !is_special
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let is_documentation = (a, b) == (0x2001, 0xdb8) || (a, b & 0xf000) == (0x3fff, 0);
    let is_assigned_to_protocols = a == 0x2001 && b < 0x200; // RFC 2928, among them Teredo
    let is_6to4 = a == 0x2002;
    a & 0xe000 == 0x2000 && !is_documentation && !is_assigned_to_protocols && !is_6to4
}

/// Whether the address has a well-known prefix of NAT64. A provider's own prefix cannot be told from other addresses.
fn is_nat64(address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else { return false };
    matches!(address.segments(), [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0x64, 0xff9b, 1, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_binds_a_source_that_the_gateway_will_see() -> Result<()> {
        // local address, destination, whether the source is bound
        let rows = [
            ("192.168.1.20", "9.9.9.9", false),
            ("10.0.0.1", "9.9.9.9", false),
            ("172.16.0.1", "9.9.9.9", false),
            ("172.31.255.255", "9.9.9.9", false),
            ("172.32.0.1", "9.9.9.9", true),
            ("100.64.0.1", "9.9.9.9", false),
            ("100.127.255.255", "9.9.9.9", false),
            ("100.128.0.1", "9.9.9.9", true),
            ("100.63.0.1", "9.9.9.9", true),
            ("169.254.1.1", "9.9.9.9", false),
            ("127.0.0.1", "127.0.0.1", false),
            ("192.0.0.2", "9.9.9.9", false),
            ("192.0.2.1", "9.9.9.9", false),
            ("198.19.0.1", "9.9.9.9", false),
            ("198.20.0.1", "9.9.9.9", true),
            ("240.0.0.1", "9.9.9.9", false),
            ("0.0.0.0", "9.9.9.9", false),
            ("9.9.9.10", "9.9.9.9", true),
            // A gateway in the same network as a global address.
            ("9.9.9.10", "192.168.1.1", true),
            ("2620:fe::10", "2620:fe::9", true),
            ("2620:fe::10", "64:ff9b::909:909", false),
            ("2620:fe::10", "64:ff9b:1::909:909", false),
            ("2620:fe::10", "64:ff9b:0:0:1::909", true),
            ("fd00::1", "2620:fe::9", false),
            ("fe80::1", "fe80::2", false),
            ("::1", "::1", false),
            ("::", "2620:fe::9", false),
            ("2001:db8::1", "2620:fe::9", false),
            ("3fff::1", "2620:fe::9", false),
            ("2001::1", "2620:fe::9", false),
            ("2001:470::1", "2620:fe::9", true),
            ("2002:909:909::1", "2620:fe::9", false),
            ("ff02::1", "2620:fe::9", false),
            ("::ffff:9.9.9.10", "2620:fe::9", false),
        ];
        for (local, destination, expected) in rows {
            let bindings = Bind::Auto.bindings(local.parse()?, destination.parse()?);
            let expected = if expected { Bindings::SOURCE } else { Bindings::NONE };
            assert_eq!(bindings, expected, "from {local} to {destination}");
        }
        Ok(())
    }

    #[test]
    fn what_is_written_is_parsed() {
        for text in ["auto", "none", "source", "destination", "source,destination"] {
            assert_eq!(Bind::parse(text).map(|bind| bind.to_string()).ok().as_deref(), Some(text));
        }
        assert_eq!(Bind::parse("destination, source").ok(), Bind::parse("source,destination").ok());
        for text in ["", "Source", "source,", "both", "auto,source", "none,source"] {
            let error = Bind::parse(text).err().map(|error| error.to_string());
            let expected = format!("invalid bind {text:?}: expected auto, none, or source and destination");
            assert_eq!(error, Some(expected));
        }
    }
}

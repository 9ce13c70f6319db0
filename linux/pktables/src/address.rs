//! Addresses and prefixes as text.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::invalid::Invalid;

/// Parses `192.0.2.7`, `2001:db8::7`, `192.0.2.0/24` or `2001:db8::/32`.
///
/// ```
/// use pktables::address;
///
/// assert_eq!(address::short(address::parse("192.0.2.7")?), "192.0.2.7");
/// assert_eq!(address::short(address::parse("2001:db8::/32")?), "2001:db8::/32");
/// assert_eq!(address::parse("192.0.2.7/24").unwrap_err().why(), "host bits are set");
/// # Ok::<(), pktables::Invalid>(())
/// ```
///
/// # Errors
/// The text is something else, host bits are set, or the prefix covers every address (`/0`).
pub fn parse(text: &str) -> Result<IpNet, Invalid> {
    let wrong = |why| Invalid::new("address", text, why);
    let (host, length) = match text.split_once('/') {
        Some((host, length)) => (host, Some(length)),
        None => (text, None),
    };
    let host: IpAddr = host.parse().map_err(|_| match (host.is_empty(), host.contains('%')) {
        (true, _) => wrong("missing address"),
        (false, true) => wrong("rules cannot match a zone"),
        (false, false) => Invalid::new("address", host, "expected a complete IPv4 or IPv6 address"),
    })?;
    let Some(length) = length else { return Ok(canonical(host.into())) };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let most = if host.is_ipv4() { "expected 1–32" } else { "expected 1–128" };
    let prefix = length.parse().ok().filter(|_| digits).and_then(|length| IpNet::new(host, length).ok());
    let prefix = prefix.ok_or_else(|| Invalid::new("prefix length", length, most))?;
    if prefix.trunc() != prefix {
        return Err(wrong("host bits are set"));
    }
    if prefix.prefix_len() == 0 {
        return Err(wrong("matches every address; use pktables init --accept to let everyone in"));
    }
    Ok(canonical(prefix))
}

/// Clears the host bits, and turns IPv4-mapped IPv6 (`::ffff:192.0.2.7`) into IPv4, which is what the firewall sees in such
/// packets.
#[must_use]
pub fn canonical(address: IpNet) -> IpNet {
    let address = address.trunc();
    let (IpNet::V6(v6), IpAddr::V4(v4)) = (address, address.addr().to_canonical()) else { return address };
    let length = v6.prefix_len().checked_sub(96);
    length.and_then(|length| Ipv4Net::new(v4, length).ok()).map_or(address, IpNet::V4)
}

/// Whether this is a single address.
pub(crate) fn is_single(address: IpNet) -> bool {
    address.prefix_len() == address.max_prefix_len()
}

/// Formats an address; without prefix length if it is a single one.
#[must_use]
pub fn short(address: IpNet) -> String {
    if is_single(address) { address.addr().to_string() } else { address.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_prefixes_survive_parsing_and_formatting() {
        // what people write, how it is shown
        let rows = [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("128.0.0.0/1", "128.0.0.0/1"),
            ("2001:DB8::7", "2001:db8::7"),
            ("2001:db8::7/128", "2001:db8::7"),
            ("2001:db8::/32", "2001:db8::/32"),
            // IPv4 in IPv6 is IPv4, if no bit before it is missing.
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
            ("::fffe:0:0/95", "::fffe:0:0/95"),
        ];
        for (text, shown) in rows {
            let read = parse(text).map(short);
            assert_eq!(read.as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn invalid_addresses_have_a_reason() {
        let rows = [
            ("", "missing address"),
            ("/24", "missing address"),
            ("fe80::1%eth0", "rules cannot match a zone"),
            ("192.0.2", "expected a complete IPv4 or IPv6 address"),
            ("gw.example", "expected a complete IPv4 or IPv6 address"),
            ("192.0.2.0/", "expected 1–32"),
            ("192.0.2.0/33", "expected 1–32"),
            ("192.0.2.0/+24", "expected 1–32"),
            ("2001:db8::/129", "expected 1–128"),
            ("2001:db8::/x", "expected 1–128"),
            ("192.0.2.7/24", "host bits are set"),
            ("2001:db8::7/64", "host bits are set"),
            ("0.0.0.0/0", "matches every address; use pktables init --accept to let everyone in"),
            ("::/0", "matches every address; use pktables init --accept to let everyone in"),
        ];
        for (text, why) in rows {
            assert_eq!(parse(text).map_err(|invalid| invalid.why), Err(why), "{text:?}");
        }
    }

    #[test]
    fn host_bits_are_cleared() {
        let rows = [
            ("192.0.2.7/24", "192.0.2.0/24", false),
            ("192.0.2.7/32", "192.0.2.7/32", true),
            ("2001:db8::7/32", "2001:db8::/32", false),
            ("2001:db8::7/128", "2001:db8::7/128", true),
            ("::ffff:192.0.2.7/120", "192.0.2.0/24", false),
        ];
        for (from, to, single) in rows {
            let address = canonical(from.parse().expect("a prefix"));
            assert_eq!((address.to_string().as_str(), is_single(address)), (to, single), "{from}");
        }
    }
}

//! Addresses and prefixes, as people and knockd write them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::invalid::Invalid;

/// Reads `192.0.2.7`, `2001:db8::7`, `192.0.2.0/24` or `2001:db8::/32`.
///
/// # Errors
/// The text is none of these, a prefix has bits behind its length, or it is everybody (`/0`).
pub fn parse(text: &str) -> Result<IpNet, Invalid> {
    let wrong = |why| Invalid::new("address", text, why);
    let (host, length) = match text.split_once('/') {
        Some((host, length)) => (host, Some(length)),
        None => (text, None),
    };
    let host: IpAddr = host.parse().map_err(|_| match (host.is_empty(), host.contains('%')) {
        (true, _) => wrong("is empty before the length of the prefix, or altogether"),
        (false, true) => wrong("has a zone, which rules cannot hold"),
        (false, false) => Invalid::new("address", host, "is no complete IPv4 or IPv6 address"),
    })?;
    let Some(length) = length else { return Ok(canonical(host.into())) };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let most = if host.is_ipv4() { "is no number of 0 to 32" } else { "is no number of 0 to 128" };
    let prefix = length.parse().ok().filter(|_| digits).and_then(|length| IpNet::new(host, length).ok());
    let prefix = prefix.ok_or_else(|| Invalid::new("prefix length", length, most))?;
    if prefix.trunc() != prefix {
        return Err(wrong("has bits behind the length of its prefix"));
    }
    if prefix.prefix_len() == 0 {
        return Err(wrong("is everybody; pktables init --accept lets everybody in"));
    }
    Ok(canonical(prefix))
}

/// The prefix without bits behind its length; IPv4 in IPv6 (`::ffff:192.0.2.7`) as IPv4, which is what
/// such packets are in the firewall.
#[must_use]
pub fn canonical(address: IpNet) -> IpNet {
    let address = address.trunc();
    let (IpNet::V6(v6), IpAddr::V4(v4)) = (address, address.addr().to_canonical()) else { return address };
    let length = v6.prefix_len().checked_sub(96);
    length.and_then(|length| Ipv4Net::new(v4, length).ok()).map_or(address, IpNet::V4)
}

/// Whether this is one address and no more.
pub(crate) fn is_single(address: IpNet) -> bool {
    address.prefix_len() == address.max_prefix_len()
}

/// An address as people write it: without a length where it is one address.
#[must_use]
pub fn short(address: IpNet) -> String {
    if is_single(address) { address.addr().to_string() } else { address.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_prefixes_are_read_and_shown() {
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
    fn what_is_no_address_is_told_why() {
        let rows = [
            ("", "is empty before the length of the prefix, or altogether"),
            ("/24", "is empty before the length of the prefix, or altogether"),
            ("fe80::1%eth0", "has a zone, which rules cannot hold"),
            ("192.0.2", "is no complete IPv4 or IPv6 address"),
            ("gw.example", "is no complete IPv4 or IPv6 address"),
            ("192.0.2.0/", "is no number of 0 to 32"),
            ("192.0.2.0/33", "is no number of 0 to 32"),
            ("192.0.2.0/+24", "is no number of 0 to 32"),
            ("2001:db8::/129", "is no number of 0 to 128"),
            ("2001:db8::/x", "is no number of 0 to 128"),
            ("192.0.2.7/24", "has bits behind the length of its prefix"),
            ("2001:db8::7/64", "has bits behind the length of its prefix"),
            ("0.0.0.0/0", "is everybody; pktables init --accept lets everybody in"),
            ("::/0", "is everybody; pktables init --accept lets everybody in"),
        ];
        for (text, why) in rows {
            assert_eq!(parse(text).map_err(|invalid| invalid.why), Err(why), "{text:?}");
        }
    }

    #[test]
    fn bits_behind_the_length_go() {
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

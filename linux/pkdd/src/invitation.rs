//! What a client needs to knock, as a `knock://` URI.

use pkd_core::{Tag, Window, format2::Bindings};
use pkd_uri::Uri;
use pktables::Protocol;

use crate::config::{Config, User, UserRule};

/// The URI of a user, for clients who reach this host at each of `addresses`, by the first of which they know it.
pub(crate) fn uri(config: &Config, user: &User, addresses: &[String]) -> Uri {
    let address = addresses.first().map_or("", String::as_str);
    let mut options = vec![("key", key_text(user))];
    let is_new =
        |place: usize| addresses[..place].iter().all(|other| !other.eq_ignore_ascii_case(&addresses[place]));
    let further = (1..addresses.len()).filter(|place| is_new(*place));
    options.extend(further.map(|place| ("address", addresses[place].clone())));
    let services: Vec<String> = config
        .services_of(user)
        .map(|one| {
            // A client asks the lowest whether it is open.
            let udp = if one.service.protocol == Protocol::Udp { "/udp" } else { "" };
            format!("{}:{}{udp}", one.service.name, one.service.ports.first())
        })
        .collect();
    options.push(("services", services.join(",")));
    if matches!(user.rule, UserRule::Format2(_)) {
        options.push(("format", "2".to_owned()));
    }
    let bound: Vec<&str> = [(Bindings::SOURCE, "source"), (Bindings::DESTINATION, "destination")]
        .into_iter()
        .filter_map(|(binding, word)| user.require.contains(binding).then_some(word))
        .collect();
    if !bound.is_empty() {
        options.push(("bind", bound.join(",")));
    }
    if user.rule.window() != Window::default() {
        options.push(("window", user.rule.window().as_secs().to_string()));
    }
    if let Some(day) = user.expires {
        options.push(("expires", day.to_string()));
    }
    let host = if address.contains(':') && !address.starts_with('[') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    Uri {
        tag: Some(user.tag).filter(|tag| *tag != Tag::default()).map(|tag| tag.to_string()),
        host,
        port: config.gate.port.map(|port| port.to_string()),
        name: profile_name(address),
        options: options.into_iter().map(|(option, value)| (option.to_owned(), value)).collect(),
    }
}

/// The key without its padding.
fn key_text(user: &User) -> String {
    let bytes = user.key.as_bytes();
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    bytes[..length].iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// A name that `knock` accepts for a profile, by which people know the gateway.
fn profile_name(address: &str) -> String {
    let first = if address.parse::<std::net::IpAddr>().is_ok() {
        address
    } else {
        address.split('.').next().unwrap_or(address)
    };
    let plain =
        |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '-' };
    let name: String = first.trim_start_matches(['-', '.', '[', ':']).chars().map(plain).take(64).collect();
    if name.is_empty() { "gateway".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_uri_has_everything_that_the_configuration_asks_of_a_client() {
        let text = "\
[gate]
port = 40000
[service.ssh]
port = 22
[service.dns]
port = 53
protocol = 'udp'
[service.other]
port = ['8000-8100', 80]
[user.a]
tag = 'a/b'
key = '0x00ff'
services = ['ssh', 'dns']
require = ['source']
window = 20
expires = '2027-12-31'
[user.b]
tag = 'PKD0'
key = 'sesame'
format = 'classic'
services = ['other']
";
        let config = Config::parse(text, Path::new("/")).unwrap();
        let of = |name: &str, address: &str| {
            let addresses: Vec<String> = address.split(' ').map(str::to_owned).collect();
            uri(&config, &config.users[name], &addresses).to_string()
        };
        assert_eq!(
            of("a", "gw.example.net"),
            "knock://a%2Fb@gw.example.net:40000/gw?key=0x00ff&services=ssh:22,dns:53/udp&format=2&bind=source&window=20\
             &expires=2027-12-31"
        );
        assert_eq!(
            of("b", "2001:db8::1"),
            "knock://[2001:db8::1]:40000/2001-db8--1?key=0x736573616d65&services=other:80"
        );
        assert_eq!(
            of("b", "gw.example.net 2001:db8::1 GW.example.net 192.0.2.1"),
            "knock://gw.example.net:40000/gw?key=0x736573616d65&address=2001:db8::1&address=192.0.2.1&services=other:80"
        );
    }
}

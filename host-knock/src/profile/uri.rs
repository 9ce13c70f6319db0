//! A profile and its key as one line of text, for QR codes.
//!
//! ```text
//! knock://SSHK@gw.example.net:40000/office?key=0x5ec7e7&services=ssh:22,dns:53/udp
//! ```
//!
//! The tag takes the place of the user, and the profile's name that of the path. Missing parts have their defaults. Further
//! addresses of the gateway are options `address`, one each; versions that know only one address refuse the option.
//! Characters other than `A-Z a-z 0-9 - . _ ~` are percent-encoded (RFC 3986).

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use pkd_core::{Key, Port, Tag};
use pkd_uri::Uri;

use crate::{
    key,
    model::{Bind, Families, Format, Hosts, Profile, Service},
    parse,
};

/// The option that may be given several times.
const ADDRESS: &str = "address";

/// The URI of a profile with this key.
pub(crate) fn write(name: &str, profile: &Profile, key: &Key) -> String {
    let host = profile.hosts.first().as_str();
    let mut options = vec![("key", key::to_text(key))];
    options.extend(profile.hosts.further().iter().map(|host| (ADDRESS, host.to_string())));
    let services: Vec<_> = profile
        .services
        .iter()
        .map(|service| {
            let text = service.to_string();
            let (_, port) = text.split_once(' ').unwrap_or_default();
            format!("{}:{}", service.name, port.trim_end_matches("/tcp"))
        })
        .collect();
    if !services.is_empty() {
        options.push(("services", services.join(",")));
    }
    if profile.format != Format::Classic {
        options.push(("format", profile.format.as_str().to_owned()));
    }
    if profile.bind != Bind::default() {
        options.push(("bind", profile.bind.to_string()));
    }
    match profile.families {
        Families::Both => {}
        Families::V4 => options.push(("family", "ipv4".to_owned())),
        Families::V6 => options.push(("family", "ipv6".to_owned())),
    }
    if profile.same_source_port {
        options.push(("same_source_port", "1".to_owned()));
    }
    if profile.time_offset != 0 {
        options.push(("time_offset", profile.time_offset.to_string()));
    }
    if profile.window != pkd_core::Window::default() {
        options.push(("window", profile.window.as_secs().to_string()));
    }
    if let Some(day) = &profile.expires {
        options.push(("expires", day.clone()));
    }
    let uri = Uri {
        tag: Some(profile.tag.unwrap_or_default().to_string()),
        host: if host.contains(':') { format!("[{host}]") } else { host.to_owned() },
        port: profile.port.map(|Port(port)| port.to_string()),
        name: name.to_owned(),
        options: options.into_iter().map(|(option, value)| (option.to_owned(), value)).collect(),
    };
    uri.to_string()
}

/// Parses a URI; returns the profile's name, the profile and its key.
///
/// # Errors
/// The text is not such a URI. No error contains any part of the key.
pub(crate) fn read(text: &str) -> Result<(Option<String>, Profile, Key)> {
    let uri = Uri::read(text)?;
    let further = uri.options.iter().filter(|(option, _)| option == ADDRESS).map(|(_, given)| given.as_str());
    let mut profile =
        Profile::new(Hosts::parse([uri.host.as_str()].into_iter().chain(further)).context("URI")?);
    let tag = uri.tag.as_deref().map(parse::tag).transpose()?;
    profile.tag = tag.filter(|tag| *tag != Tag::default());
    profile.port = uri.port.as_deref().map(parse::port).transpose()?;
    let name = Some(uri.name).filter(|name| !name.is_empty());
    if let Some(name) = &name {
        parse::name(name)?;
    }
    let mut secret = None;
    for (row, (option, given)) in uri.options.iter().enumerate() {
        let is_first = uri.options.iter().take(row).all(|(other, _)| other != option);
        ensure!(is_first || option == ADDRESS, "URI: {option} is given twice");
        match (option.as_str(), given.as_str()) {
            (ADDRESS, _) => {}
            ("key", given) => secret = Some(key::parse(given).context("URI")?),
            ("services", given) => profile.services = services(given)?,
            ("format", given) => profile.format = Format::parse(given).context("URI")?,
            ("bind", given) => profile.bind = Bind::parse(given).context("URI")?,
            ("family", "ipv4") => profile.families = Families::V4,
            ("family", "ipv6") => profile.families = Families::V6,
            ("same_source_port", "1") => profile.same_source_port = true,
            ("time_offset", given) => profile.time_offset = parse::time_offset(given)?,
            ("window", given) => {
                let seconds =
                    given.parse().map_err(|_| anyhow!("invalid window {given:?}: expected seconds"))?;
                profile.window = pkd_core::Window::from_secs(seconds);
            }
            ("expires", given) => profile.expires = Some(parse::day(given)?),
            ("family" | "same_source_port", _) => {
                bail!("URI: invalid {option} {given:?}")
            }
            _ => bail!("URI: unknown option {option:?}"),
        }
    }
    ensure!(profile.format == Format::Two || profile.bind == Bind::default(), "URI: bind needs format=2");
    Ok((name, profile, secret.context("URI: missing ?key=")?))
}

fn services(text: &str) -> Result<Vec<Service>> {
    text.split(',')
        .map(|entry| {
            let (name, port) =
                entry.split_once(':').with_context(|| format!("service {entry:?}: missing port"))?;
            Service::parse(name, port)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_survives_parsing_and_formatting() -> Result<()> {
        let rows = [
            "knock://PKD0@gw.example.net/office?key=0x5ec7e7",
            "knock://SSHK@gw.example.net:40000/office?key=0x5ec7e7&services=ssh:22,dns:53/udp",
            "knock://0x00ff0000@[fe80::1%25eth0]:1/a?key=0x00&format=pre-1.0&family=ipv6&same_source_port=1&time_offset=-3600&window=0",
            "knock://SSHK@gw.example.net/office?key=0x5ec7e7&format=2",
            "knock://SSHK@gw.example.net/office?key=0x5ec7e7&format=2&bind=source,destination",
            "knock://SSHK@gw.example.net/office?key=0x5ec7e7&format=2&bind=none",
            "knock://SSHK@gw.example.net/office?key=0x5ec7e7&format=2&expires=2027-12-31",
            "knock://a%3Ab@192.0.2.1/a?key=0x5ec7e7&family=ipv4",
            "knock://PKD0@gw.example.net/a?key=0x5ec7e7&address=192.0.2.1&address=fe80::1%25eth0&services=ssh:22",
            "knock://PKD0@[fe80::1%25a%3F%2F%40%5D]/a?key=0x5ec7e7",
        ];
        for row in rows {
            let (name, profile, key) = read(row)?;
            assert_eq!(write(&name.unwrap_or_default(), &profile, &key), row);
            assert!(read(&row.replacen("knock", "KNOCK", 1)).is_ok());
        }
        Ok(())
    }

    #[test]
    fn errors_do_not_contain_the_key() {
        let rows = [
            ("knock:/gw?key=sesame", "URI: expected knock://"),
            ("knock://gw", "URI: missing ?key="),
            ("knock://gw?services=ssh:22", "URI: missing ?key="),
            ("knock://gw?key", "URI: option without a value"),
            (
                "knock://gw?key=0xsesame",
                "URI: invalid key: invalid character at offset 2: expected a hexadecimal digit",
            ),
            ("knock://gw?key=sesame&x=1", "URI: unknown option \"x\""),
            ("knock://gw?key=sesame&format=3", "URI: invalid format \"3\": expected classic, 2 or pre-1.0"),
            ("knock://gw?key=sesame&bind=source", "URI: bind needs format=2"),
            (
                "knock://gw?key=sesame&format=2&bind=both",
                "URI: invalid bind \"both\": expected auto, none, or source and destination",
            ),
            ("knock://gw?key=sesame&family=ipx", "URI: invalid family \"ipx\""),
            ("knock://SSHKEY@gw?key=sesame", "invalid tag \"SSHKEY\": too long: 6 bytes, maximum 4"),
            ("knock://gw:70000?key=sesame", "invalid port \"70000\": expected 1–65535"),
            ("knock://gw/a%2?key=sesame", "URI: % without two hexadecimal digits"),
            (
                "knock://gw/a%2Fb?key=sesame",
                "invalid name \"a/b\": use up to 64 letters, digits, - _ or ., and start with a letter, digit or _",
            ),
            ("knock://gw?key=%ff", "URI: not UTF-8 text"),
            ("knock://gw?key=sesame&services=ssh", "service \"ssh\": missing port"),
            (
                "knock://gw?key=sesame&services=a%20b:22",
                "invalid name \"a b\": use up to 64 letters, digits, - _ or ., and start with a letter, digit or _",
            ),
            ("knock://gw?key=sesame&key=sesame2", "URI: key is given twice"),
            ("knock://gw?key=sesame&address=gw2&address=GW", "URI: address \"GW\" is given twice"),
            ("knock://gw?key=sesame&address=10.1", "URI: invalid host \"10.1\": incomplete address"),
            (
                "knock://a?address=b&address=c&address=d&address=e&address=f&address=g&address=h&address=i&key=sesame",
                "URI: 9 addresses: expected at most 8",
            ),
            ("knock://gw?key=sesame&expires=soon", "invalid date \"soon\": expected one such as 2027-12-31"),
            ("knock://gw?key=sesame&window=-1", "invalid window \"-1\": expected seconds"),
        ];
        for (text, expected) in rows {
            let error = read(text).err().map(|error| format!("{error:#}"));
            assert_eq!(error.as_deref(), Some(expected), "{text}");
        }
    }

    proptest::proptest! {
        /// Near-URIs: what parses survives formatting, and no error contains the key.
        #[test]
        fn any_text_is_parsed_or_rejected(
            before in "(knock://)?[A-Z%:@\\[\\]0-9.a-z/]{0,24}",
            options in proptest::collection::vec(
                "(address=|services=|format=|bind=|family=|window=|time_offset=|same_source_port=|x)[a-z0-9:,/%.-]{0,12}", 0..3),
        ) {
            let text = format!("{before}?key=sesame-sesame&{}", options.join("&"));
            match read(text.trim_end_matches('&')) {
                Ok((name, profile, key)) => {
                    let written = write(&name.unwrap_or_default(), &profile, &key);
                    let again = read(&written).map(|(name, profile, key)| write(&name.unwrap_or_default(), &profile, &key));
                    proptest::prop_assert_eq!(again.ok(), Some(written));
                }
                Err(error) => proptest::prop_assert!(!format!("{error:#}").contains("sesame-sesame"), "{error:#}"),
            }
        }
    }
}

//! From what was typed to what is to be sent. Everything is checked here, before the first datagram.

use anyhow::{Result, anyhow, bail};
use pkd_core::{Key, Port, Tag};

use crate::{
    args::Args,
    host::Host,
    ini::{Ini, Profile},
    key,
    notice::Notices,
    value::{self, is_number},
};

/// One host to knock at, and how.
#[derive(Debug)]
pub(crate) struct Request {
    /// Where.
    pub(crate) host: Host,
    /// The addresses of the host that count.
    pub(crate) families: Families,
    /// The secret shared with the host.
    pub(crate) key: Key,
    /// Which of its keys the host shall check with.
    pub(crate) tag: Tag,
    /// Destination port; `None`: a random one.
    pub(crate) port: Option<Port>,
    /// Which of the two payloads.
    pub(crate) format: Format,
    /// Where the datagram comes from.
    pub(crate) source: Source,
}

/// Address families to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// IPv4 and IPv6.
    Both,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Families {
    /// What `-4` and `-6` say.
    pub(crate) fn of(ipv4: bool, ipv6: bool) -> Self {
        match (ipv4, ipv6) {
            (true, _) => Self::V4,
            (false, true) => Self::V6,
            (false, false) => Self::Both,
        }
    }
}

/// How the payload is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Since 1.0 of the original.
    Classic,
    /// Before.
    Before1_0,
}

/// The source port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The system chooses.
    Any,
    /// The same as the destination port.
    SamePort,
}

/// The words that are no options, sorted by meaning.
struct Words<'a> {
    hosts: &'a [String],
    tag: Option<&'a str>,
    port: Option<&'a str>,
}

/// What the command line and the ini file ask for, one request a host, in their order.
///
/// Files are read, and the terminal is asked with `ask` for a key that nothing else gives: last, and
/// at most once. Its argument says what the key is for.
///
/// # Errors
/// Something is wrong with an argument, a key or a file.
pub(crate) fn requests(
    args: &Args,
    ini: &Ini,
    notices: Notices,
    ask: impl FnOnce(&str) -> Result<Key>,
) -> Result<Vec<Request>> {
    let words = sort(args, ini);
    let tag = args.tag.as_deref().or(words.tag).map(value::tag).transpose()?;
    let port = args.port.as_deref().or(words.port).map(value::port).transpose()?;
    let families = Families::of(args.ipv4, args.ipv6);

    let mut targets = Vec::new();
    for word in words.hosts {
        let profile = ini.profile(word).transpose()?;
        let host = match &profile {
            Some(profile) => profile.host.clone(),
            None => Host::parse(word)?,
        };
        let wrong_family = match (families, host.address()) {
            (Families::V4, Some(address)) if address.is_ipv6() => Some("-4 allows no IPv6 address"),
            (Families::V6, Some(address)) if address.is_ipv4() => Some("-6 allows no IPv4 address"),
            _ => None,
        };
        if let Some(wrong) = wrong_family {
            bail!("host {word:?}: {wrong}");
        }
        targets.push((host, profile));
    }

    let given = match (&args.key, &args.key_file) {
        (Some(text), _) => Some(key::from_command_line(text, notices)?),
        (None, Some(path)) => Some(key::from_file(path, notices)?),
        (None, None) => None,
    };
    let keyless: Vec<_> =
        targets.iter().filter(|(_, profile)| profile.is_none()).map(|(host, _)| host.to_string()).collect();
    let fallback = match given {
        Some(_) => None,
        None if keyless.is_empty() => None,
        None => Some(ask(&purpose(&keyless, words.tag))?),
    };

    let request = |(host, profile): (Host, Option<Profile>)| {
        let section = profile.as_ref();
        let key = given.as_ref().or(section.map(|section| &section.key)).or(fallback.as_ref());
        let before_1_0 = args.before_1_0 || section.is_some_and(|section| section.before_1_0);
        Ok(Request {
            families,
            key: key.ok_or_else(|| anyhow!("no key for {host}"))?.clone(),
            tag: tag.or(section.and_then(|section| section.tag)).unwrap_or_default(),
            port: port.or(section.and_then(|section| section.port)),
            format: if before_1_0 { Format::Before1_0 } else { Format::Classic },
            source: if args.same_source_port { Source::SamePort } else { Source::Any },
            host,
        })
    };
    targets.into_iter().map(request).collect()
}

/// Tells `HOST [TAG [PORT]]` from a list of hosts. `--help` states the rule.
///
/// A tag that is taken for a host is asked for a key by that name; a host that is taken for a tag is
/// named as one in the question. So neither mistake goes unseen: both ask, because both come without a
/// key.
fn sort<'a>(args: &'a Args, ini: &Ini) -> Words<'a> {
    let told = args.tag.is_some() || args.port.is_some() || args.key.is_some() || args.key_file.is_some();
    let no_host = |word: &str| !word.is_empty() && !word.contains(['.', ':']) && !ini.has(word);
    let short = |word: &str| word.starts_with("0x") || word.len() <= Tag::LENGTH && !is_number(word);
    match args.words.as_slice() {
        [host, tag, port] if !told && no_host(tag) && is_number(port) => {
            Words { hosts: std::slice::from_ref(host), tag: Some(tag), port: Some(port) }
        }
        [host, tag] if !told && no_host(tag) && short(tag) && !ini.has(host) => {
            Words { hosts: std::slice::from_ref(host), tag: Some(tag), port: None }
        }
        hosts => Words { hosts, tag: None, port: None },
    }
}

fn purpose(hosts: &[String], tag: Option<&str>) -> String {
    let hosts = hosts.join(", ");
    tag.map_or(hosts.clone(), |tag| format!("{hosts} (tag {tag})"))
}

//! From what was typed to what is to be sent. Everything is checked here, before the first datagram.

use anyhow::{Context as _, Result, bail};
use pkd_core::{Key, Port, Tag};

use crate::{
    args::{Args, Knocking},
    host::Host,
    key,
    notice::Notices,
    profile::{Book, Profile},
    service::Service,
    value::{self, is_number},
};

/// One host to knock at, and how.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// What was typed for it.
    pub(crate) name: String,
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
    /// Seconds to add to this computer's time.
    pub(crate) time_offset: i64,
    /// How many seconds the host lets a knock's time be off, as far as is known.
    #[cfg(feature = "desktop")]
    pub(crate) window: pkd_core::Window,
    /// What it opens.
    pub(crate) services: Vec<Service>,
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

/// What the command line and the files ask for, one request a host, in their order.
///
/// Files are read, and the terminal is asked with `ask` for a key that nothing else gives: last, and
/// at most once. Its argument says what the key is for.
///
/// # Errors
/// Something is wrong with an argument, a key or a file.
pub(crate) fn requests(
    args: &Args,
    book: &Book,
    notices: Notices,
    ask: impl FnOnce(&str) -> Result<Key>,
) -> Result<Vec<Request>> {
    let words = sort(args, book);
    let knocking = Options::of(&args.knocking, words.tag, words.port)?;
    let mut targets = Vec::new();
    for word in words.hosts {
        for name in book.expand(word)? {
            let profile = book.profile(&name).transpose()?;
            targets.push(Target::of(name, profile, &knocking)?);
        }
    }
    finish(targets, &knocking, notices, words.tag, ask)
}

/// One request, for a host that ssh may have named: a profile, the address of one, or any host.
///
/// # Errors
/// As for [`requests`].
pub(crate) fn single(
    host: &str,
    knocking: &Knocking,
    book: &Book,
    notices: Notices,
    ask: impl FnOnce(&str) -> Result<Key>,
) -> Result<Request> {
    let options = Options::of(knocking, None, None)?;
    let target = Target::of(host.to_owned(), book.profile_at(host).transpose()?, &options)?;
    let request = finish(vec![target], &options, notices, None, ask)?.pop();
    request.with_context(|| format!("host {host:?} is no host"))
}

/// The options, checked; they come before what profiles say.
struct Options<'a> {
    given: &'a Knocking,
    tag: Option<Tag>,
    port: Option<Port>,
    families: Families,
    time_offset: Option<i64>,
}

impl<'a> Options<'a> {
    fn of(given: &'a Knocking, tag: Option<&str>, port: Option<&str>) -> Result<Self> {
        Ok(Self {
            given,
            tag: given.tag.as_deref().or(tag).map(value::tag).transpose()?,
            port: given.port.as_deref().or(port).map(value::port).transpose()?,
            families: Families::of(given.ipv4, given.ipv6),
            time_offset: given.time_offset.as_deref().map(value::time_offset).transpose()?,
        })
    }
}

/// A host before its key is known.
struct Target {
    name: String,
    is_known: bool,
    profile: Profile,
}

impl Target {
    fn of(name: String, profile: Option<Profile>, options: &Options<'_>) -> Result<Self> {
        let is_known = profile.is_some();
        let mut profile = match profile {
            Some(profile) => profile,
            None => Profile::of_host(Host::parse(&name)?),
        };
        if options.families != Families::Both {
            profile.families = options.families;
        }
        let wrong_family = match (profile.families, profile.host.address()) {
            (Families::V4, Some(address)) if address.is_ipv6() => Some("-4 allows no IPv6 address"),
            (Families::V6, Some(address)) if address.is_ipv4() => Some("-6 allows no IPv4 address"),
            _ => None,
        };
        if let Some(wrong) = wrong_family {
            bail!("host {name:?}: {wrong}");
        }
        Ok(Self { name, is_known, profile })
    }
}

fn finish(
    targets: Vec<Target>,
    options: &Options<'_>,
    notices: Notices,
    tag: Option<&str>,
    ask: impl FnOnce(&str) -> Result<Key>,
) -> Result<Vec<Request>> {
    let may_be_loose = options.given.insecure_key_mode;
    let given = match (&options.given.key, &options.given.key_file) {
        (Some(text), _) => Some(key::from_command_line(text, notices)?),
        (None, Some(path)) => Some(key::from_file(path, notices, may_be_loose)?),
        (None, None) => None,
    };
    let mut keys = Vec::new();
    for target in &targets {
        keys.push(match &given {
            Some(key) => Some(key.clone()),
            None => key::from_source(&target.profile.key, &target.name, notices, may_be_loose)?,
        });
    }
    let keyless = targets.iter().zip(&keys).filter(|(_, key)| key.is_none());
    let keyless: Vec<_> = keyless
        .map(
            |(target, _)| if target.is_known { target.name.clone() } else { target.profile.host.to_string() },
        )
        .collect();
    let fallback = if keyless.is_empty() { None } else { Some(ask(&purpose(&keyless, tag))?) };
    let request = |(target, key): (Target, Option<Key>)| {
        let Target { name, profile, .. } = target;
        let before_1_0 = options.given.before_1_0 || profile.format == Format::Before1_0;
        let same_port = options.given.same_source_port || profile.same_source_port;
        Ok(Request {
            key: key.or_else(|| fallback.clone()).with_context(|| format!("no key for {name}"))?,
            name,
            families: profile.families,
            tag: options.tag.or(profile.tag).unwrap_or_default(),
            port: options.port.or(profile.port),
            format: if before_1_0 { Format::Before1_0 } else { Format::Classic },
            source: if same_port { Source::SamePort } else { Source::Any },
            time_offset: options.time_offset.unwrap_or(profile.time_offset),
            #[cfg(feature = "desktop")]
            window: profile.window,
            services: profile.services,
            host: profile.host,
        })
    };
    targets.into_iter().zip(keys).map(request).collect()
}

/// Tells `HOST [TAG [PORT]]` from a list of hosts. `--help` states the rule.
///
/// A tag that is taken for a host is asked for a key by that name; a host that is taken for a tag is
/// named as one in the question. So neither mistake goes unseen: both ask, because both come without a
/// key.
fn sort<'a>(args: &'a Args, book: &Book) -> Words<'a> {
    let Knocking { tag, port, key, key_file, .. } = &args.knocking;
    let told = tag.is_some() || port.is_some() || key.is_some() || key_file.is_some();
    let no_host = |word: &str| !word.is_empty() && !word.contains(['.', ':', '@']) && !book.has(word);
    let short = |word: &str| word.starts_with("0x") || word.len() <= Tag::LENGTH && !is_number(word);
    match args.words.as_slice() {
        [host, tag, port] if !told && no_host(tag) && is_number(port) => {
            Words { hosts: std::slice::from_ref(host), tag: Some(tag), port: Some(port) }
        }
        [host, tag] if !told && no_host(tag) && short(tag) && !book.has(host) => {
            Words { hosts: std::slice::from_ref(host), tag: Some(tag), port: None }
        }
        hosts => Words { hosts, tag: None, port: None },
    }
}

fn purpose(hosts: &[String], tag: Option<&str>) -> String {
    let hosts = hosts.join(", ");
    tag.map_or(hosts.clone(), |tag| format!("{hosts} (tag {tag})"))
}

//! From the command line to requests. Everything is validated here, before the first datagram.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use pkd_core::{Key, Port, Tag, format2};

use crate::{
    cli::{Args, SendOptions},
    key,
    model::{Bind, Families, Format, Host, Hosts, Outlet, Profile, Request, Source},
    parse::{self, is_number},
    profile::ProfileStore,
    stderr::Stderr,
};

/// The positional arguments by meaning.
struct Positionals<'a> {
    hosts: &'a [String],
    tag: Option<&'a str>,
    port: Option<&'a str>,
}

/// The requests of a command line, one for each host, in order.
///
/// Reads files, and finally prompts with `ask` for a missing key, at most once. The argument of `ask` says what the key is
/// for.
///
/// # Errors
/// An argument, a key or a file is invalid.
pub(crate) fn requests(
    args: &Args,
    store: &ProfileStore,
    stderr: Stderr,
    ask: impl FnOnce(&str) -> Result<Key>,
) -> Result<Vec<Request>> {
    let words = parse_positionals(args, store);
    #[cfg(feature = "desktop")]
    let needs = Needs { format2: args.close_after.then_some("--close-after"), ..Needs::default() };
    #[cfg(not(feature = "desktop"))]
    let needs = Needs::default();
    each(&words, &args.send_options, needs, store, stderr, ask)
}

/// The requests to close what these hosts have opened.
///
/// # Errors
/// As for [`requests`], or a host uses another format than 2.
pub(crate) fn to_close(
    hosts: &[String],
    send_options: &SendOptions,
    store: &ProfileStore,
    stderr: Stderr,
    ask: impl FnOnce(&str) -> Result<Key>,
) -> Result<Vec<Request>> {
    let words = Positionals { hosts, tag: None, port: None };
    let needs = Needs { format2: Some("knock close"), ..Needs::default() };
    let mut requests = each(&words, send_options, needs, store, stderr, ask)?;
    for request in &mut requests {
        request.action = format2::Request::Close;
    }
    Ok(requests)
}

fn each(
    words: &Positionals<'_>,
    given: &SendOptions,
    needs: Needs<'_>,
    store: &ProfileStore,
    stderr: Stderr,
    ask: impl FnOnce(&str) -> Result<Key>,
) -> Result<Vec<Request>> {
    let options = Overrides::of(given, needs, words.tag, words.port)?;
    let mut drafts = Vec::new();
    for word in words.hosts {
        for name in store.expand(word)? {
            let profile = store.profile(&name).transpose()?;
            drafts.push(Draft::of(name, profile, &options)?);
        }
    }
    complete(drafts, &options, stderr, words.tag, ask)
}

/// What a command needs of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs<'a> {
    /// What only format 2 can do, as the command line names it.
    pub(crate) format2: Option<&'static str>,
    /// The service or TCP port to open, which may tell profiles with the same address apart.
    pub(crate) service: Option<&'a str>,
}

/// The request for one host as ssh may name it: a profile, its address, or any host.
///
/// # Errors
/// As for [`requests`].
pub(crate) fn single(
    host: &str,
    send_options: &SendOptions,
    needs: Needs<'_>,
    store: &ProfileStore,
    stderr: Stderr,
    ask: impl FnOnce(&str) -> Result<Key>,
) -> Result<Request> {
    let options = Overrides::of(send_options, needs, None, None)?;
    let draft = Draft::of(host.to_owned(), store.profile_at(host, needs.service).transpose()?, &options)?;
    let request = complete(vec![draft], &options, stderr, None, ask)?.pop();
    request.with_context(|| format!("no request for {host:?}"))
}

/// Validated options, which override those of profiles.
struct Overrides<'a> {
    given: &'a SendOptions,
    needs: Needs<'a>,
    format: Option<Format>,
    bind: Option<Bind>,
    tag: Option<Tag>,
    port: Option<Port>,
    families: Families,
    outlet: Outlet,
    time_offset: Option<i64>,
}

impl<'a> Overrides<'a> {
    fn of(given: &'a SendOptions, needs: Needs<'a>, tag: Option<&str>, port: Option<&str>) -> Result<Self> {
        let format = given.format.as_deref().map(Format::parse).transpose()?;
        Ok(Self {
            given,
            needs,
            format: if given.before_1_0 { Some(Format::Before1_0) } else { format },
            bind: given.bind.as_deref().map(Bind::parse).transpose()?,
            tag: given.tag.as_deref().or(tag).map(parse::tag).transpose()?,
            port: given.port.as_deref().or(port).map(parse::port).transpose()?,
            families: Families::of(given.ipv4, given.ipv6),
            outlet: outlet(given)?,
            time_offset: given.time_offset.as_deref().map(parse::time_offset).transpose()?,
        })
    }
}

/// Where the options say that knocks leave this computer.
///
/// # Errors
/// An option is invalid.
pub(crate) fn outlet(given: &SendOptions) -> Result<Outlet> {
    #[cfg(feature = "desktop")]
    let interface = given.interface.as_deref();
    #[cfg(not(feature = "desktop"))]
    let interface = None;
    Outlet::parse(interface, given.source.as_deref())
}

/// A request without its key.
struct Draft {
    name: String,
    is_known: bool,
    profile: Profile,
}

impl Draft {
    fn of(name: String, profile: Option<Profile>, options: &Overrides<'_>) -> Result<Self> {
        let is_known = profile.is_some();
        let mut profile = match profile {
            Some(profile) => profile,
            None => Profile::new(Hosts::one(Host::parse(&name)?)),
        };
        if options.families != Families::Both {
            profile.families = options.families;
        }
        profile.families = options.outlet.families(profile.families)?;
        let problem = wrong_family(profile.families, profile.hosts.first());
        if let Some(problem) = problem
            && profile.hosts.iter().all(|host| wrong_family(profile.families, host).is_some())
        {
            bail!("host {name:?}: {problem}");
        }
        profile.format = options.format.unwrap_or(profile.format);
        profile.bind = options.bind.unwrap_or(profile.bind);
        if profile.format != Format::Two
            && let Some(what) = options.needs.format2.or(options.bind.map(|_| "--bind"))
        {
            let format = profile.format.as_str();
            bail!("host {name:?}: {what} needs format 2, this is format {format}; see --format");
        }
        Ok(Self { name, is_known, profile })
    }
}

/// What is wrong with an address of another family than the allowed one.
fn wrong_family(families: Families, host: &Host) -> Option<&'static str> {
    match (families, host.address()?) {
        (Families::V4, IpAddr::V6(_)) => Some("IPv6 address, but only IPv4 is allowed"),
        (Families::V6, IpAddr::V4(_)) => Some("IPv4 address, but only IPv6 is allowed"),
        _ => None,
    }
}

fn complete(
    drafts: Vec<Draft>,
    options: &Overrides<'_>,
    stderr: Stderr,
    tag: Option<&str>,
    ask: impl FnOnce(&str) -> Result<Key>,
) -> Result<Vec<Request>> {
    let allow_insecure = options.given.insecure_key_mode;
    let given = match (&options.given.key, &options.given.key_file) {
        (Some(text), _) => Some(key::from_argument(text, stderr)?),
        (None, Some(path)) => Some(key::from_file(path, stderr, allow_insecure)?),
        (None, None) => None,
    };
    let mut keys = Vec::new();
    for draft in &drafts {
        keys.push(match &given {
            Some(key) => Some(key.clone()),
            None => key::from_source(&draft.profile.key, &draft.name, stderr, allow_insecure)?,
        });
    }
    let without_key = drafts.iter().zip(&keys).filter(|(_, key)| key.is_none());
    let without_key: Vec<_> = without_key
        .map(
            |(draft, _)| {
                if draft.is_known { draft.name.clone() } else { draft.profile.hosts.first().to_string() }
            },
        )
        .collect();
    let fallback = if without_key.is_empty() { None } else { Some(ask(&prompt_label(&without_key, tag))?) };
    let request = |(draft, key): (Draft, Option<Key>)| {
        let Draft { name, profile, .. } = draft;
        let same_port = options.given.same_source_port || profile.same_source_port;
        Ok(Request {
            key: key.or_else(|| fallback.clone()).with_context(|| format!("no key for {name}"))?,
            name,
            families: profile.families,
            tag: options.tag.or(profile.tag).unwrap_or_default(),
            port: options.port.or(profile.port),
            format: profile.format,
            bind: profile.bind,
            action: format2::Request::Open,
            source: if same_port { Source::SamePort } else { Source::Any },
            outlet: options.outlet.clone(),
            time_offset: options.time_offset.unwrap_or(profile.time_offset),
            #[cfg(feature = "desktop")]
            window: profile.window,
            services: profile.services,
            hosts: profile.hosts,
        })
    };
    drafts.into_iter().zip(keys).map(request).collect()
}

/// Distinguishes `HOST [TAG [PORT]]` from a list of hosts; `--help` states the rule.
///
/// Neither mistake goes unnoticed, because without a key both cases prompt: a tag taken for a host is named in the prompt,
/// and so is a host taken for a tag.
fn parse_positionals<'a>(args: &'a Args, store: &ProfileStore) -> Positionals<'a> {
    let SendOptions { tag, port, key, key_file, .. } = &args.send_options;
    let is_explicit = tag.is_some() || port.is_some() || key.is_some() || key_file.is_some();
    let may_be_tag = |word: &str| !word.is_empty() && !word.contains(['.', ':', '@']) && !store.has(word);
    let is_short_tag = |word: &str| word.starts_with("0x") || word.len() <= Tag::LENGTH && !is_number(word);
    match args.words.as_slice() {
        [host, tag, port] if !is_explicit && may_be_tag(tag) && is_number(port) => {
            Positionals { hosts: std::slice::from_ref(host), tag: Some(tag), port: Some(port) }
        }
        [host, tag] if !is_explicit && may_be_tag(tag) && is_short_tag(tag) && !store.has(host) => {
            Positionals { hosts: std::slice::from_ref(host), tag: Some(tag), port: None }
        }
        hosts => Positionals { hosts, tag: None, port: None },
    }
}

fn prompt_label(hosts: &[String], tag: Option<&str>) -> String {
    let hosts = hosts.join(", ");
    tag.map_or(hosts.clone(), |tag| format!("{hosts} (tag {tag})"))
}

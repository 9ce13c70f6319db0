//! The configuration file with the profiles.
//!
//! ```toml
//! [host.office]
//! address = "gw.example.net"
//! tag = "SSHK"
//! key_file = "keys/office.key"
//! services = { ssh = 22 }
//!
//! [group]
//! all = ["office", "nas.example.net"]
//! ```
//!
//! It never contains a key. Only the profiles in use are validated.

mod options;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use pkd_core::Window;
use toml_edit::{DocumentMut, Item, TableLike, Value};

use self::options::{Options, addresses};
use super::paths;
use crate::{
    atomic_file,
    model::{Families, Format, Host, Hosts, KeySource, Profile, Salt, Service},
    parse,
};

/// The options of a profile.
const OPTIONS: [&str; 15] = [
    "address",
    "bind",
    "expires",
    "family",
    "format",
    "key_file",
    "keyring",
    "passphrase_salt",
    "port",
    "same_source_port",
    "services",
    "tag",
    "time_offset",
    "window",
    "note",
];

/// How deep groups may be nested.
const MAX_GROUP_DEPTH: usize = 8;

/// The parsed file; its profiles are not validated yet.
#[derive(Debug, Default)]
pub(crate) struct Config {
    path: PathBuf,
    document: DocumentMut,
    /// The text that was read; [`Config::save`] compares it.
    text: Option<String>,
}

impl Config {
    /// Reads a file for updating; it may be missing.
    ///
    /// # Errors
    /// As for [`Config::read`], or there is no home directory.
    pub(crate) fn open_for_update(path: Option<&Path>) -> Result<Self> {
        let usual = paths::config_file();
        let path = path.or(usual.as_deref()).context("no home directory; give a file with --config")?;
        Self::read_if_there(path)
    }

    /// Reads a file that must exist.
    ///
    /// # Errors
    /// It cannot be read or parsed, or contains other tables than `host` and `group`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(path, &text)
    }

    /// Reads a file that may be missing.
    ///
    /// # Errors
    /// As for [`Config::read`].
    pub(crate) fn read_if_there(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self { path: path.to_owned(), ..Self::default() })
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
            Ok(text) => Self::parse(path, &text),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let name = path.display();
        let document = text.parse::<DocumentMut>().map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let what = error.message().lines().collect::<Vec<_>>().join("; ");
            anyhow!("{name}:{line}: {what}")
        })?;
        for (table, item) in document.iter() {
            ensure!(
                ["host", "group"].contains(&table),
                "{name}: unknown table [{table}]; expected [host.NAME] or [group]"
            );
            ensure!(item.is_table_like(), "{name}: {table}: expected a table");
        }
        Ok(Self { path: path.to_owned(), document, text: Some(text.to_owned()) })
    }

    fn table(&self, name: &str) -> Option<&dyn TableLike> {
        self.document.get(name)?.as_table_like()
    }

    /// The names of all profiles, in file order.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.table("host").into_iter().flat_map(TableLike::iter).map(|(name, _)| name).collect()
    }

    /// The names of all groups, in file order.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.table("group").into_iter().flat_map(TableLike::iter).map(|(name, _)| name)
    }

    /// Whether there is a profile with this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.table("host").is_some_and(|hosts| hosts.contains_key(name))
    }

    /// The profile with this name.
    ///
    /// # Errors
    /// An option is unknown or invalid. The error names file, profile and option.
    pub(crate) fn profile(&self, name: &str) -> Option<Result<Profile>> {
        let item = self.table("host")?.get(name)?;
        Some(self.check(name, item).with_context(|| format!("{}: [host.{name}]", self.path.display())))
    }

    /// The only profile with this address. Of several, the only one that offers the service, if one is wanted: its name or
    /// its TCP port.
    ///
    /// # Errors
    /// Several profiles may be meant, or one of them is invalid.
    pub(crate) fn profile_at(&self, address: &str, service: Option<&str>) -> Option<Result<Profile>> {
        let names = self.names_at(address);
        match (names.as_slice(), service) {
            ([], _) => None,
            ([name], _) => self.profile(name),
            (names, None) => Some(Err(self.ambiguous(names, address, "; use a profile name"))),
            (names, Some(service)) => Some(self.offering(names, address, service)),
        }
    }

    fn offering(&self, names: &[&str], address: &str, service: &str) -> Result<Profile> {
        let mut found = Vec::new();
        for name in names {
            found.extend(self.profile(name).transpose()?.map(|profile| (*name, profile)));
        }
        found.retain(|(_, profile)| Service::offers(&profile.services, service));
        match found.len() {
            1 => found.pop().map(|(_, profile)| profile).context("no profile"),
            0 => Err(self.ambiguous(
                names,
                address,
                &format!(", and none has service {service:?}; use a profile name"),
            )),
            _ => {
                let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
                Err(self.ambiguous(&names, address, &format!(" and service {service:?}; use a profile name")))
            }
        }
    }

    fn ambiguous(&self, names: &[&str], address: &str, rest: &str) -> anyhow::Error {
        anyhow!("{}: profiles {} have address {address:?}{rest}", self.path.display(), list(names))
    }

    /// The names of the profiles whose option `address` is this one, or has it in its list, in file order.
    fn names_at(&self, address: &str) -> Vec<&str> {
        let hosts = self.table("host").into_iter().flat_map(TableLike::iter);
        hosts.filter(|(_, item)| has(&given_addresses(item), address)).map(|(name, _)| name).collect()
    }

    /// Says which addresses of this new profile others have, too: a line for each.
    pub(crate) fn shared_addresses(&self, name: &str, hosts: &Hosts) -> Vec<String> {
        hosts.iter().filter_map(|host| self.shared_address(name, host.as_str())).collect()
    }

    fn shared_address(&self, name: &str, address: &str) -> Option<String> {
        let hosts = self.table("host").into_iter().flat_map(TableLike::iter);
        let is_there = |other: &str, item: &Item| match given_addresses(item) {
            given if given.is_empty() => other.eq_ignore_ascii_case(address),
            given => has(&given, address),
        };
        let mut names: Vec<&str> = hosts
            .filter(|(other, item)| *other != name && is_there(other, item))
            .map(|(other, _)| other)
            .collect();
        names.push(name);
        (names.len() > 1).then(|| {
            format!(
                "profiles {} have address {address:?}; to say which one a command is for, give it the profile's name, \
                 or with the address a service that only one of them has",
                list(&names)
            )
        })
    }

    fn check(&self, name: &str, item: &Item) -> Result<Profile> {
        parse::name(name)?;
        let table = item.as_table_like().context("expected a table")?;
        if let Some((option, _)) = table.iter().find(|(option, _)| !OPTIONS.contains(option)) {
            bail!("unknown option {option:?}; expected one of {}", OPTIONS.join(", "));
        }
        let options = Options(table);
        let mut profile = match options.addresses()? {
            Some(given) => Profile::new(Hosts::parse(given)?),
            None => Profile::new(Hosts::one(Host::parse(name)?)),
        };
        profile.tag = options.text("tag")?.map(parse::tag).transpose()?;
        profile.port = options.integer("port")?.map(|port| parse::port(&port.to_string())).transpose()?;
        profile.same_source_port = options.boolean("same_source_port")?;
        profile.time_offset = options.integer("time_offset")?.unwrap_or(0);
        parse::time_offset(&profile.time_offset.to_string())?;
        if let Some(seconds) = options.integer("window")? {
            let seconds =
                u32::try_from(seconds).map_err(|_| anyhow!("invalid window {seconds}: expected seconds"))?;
            profile.window = Window::from_secs(seconds);
        }
        profile.format = options.text("format")?.map(Format::parse).transpose()?.unwrap_or(Format::Classic);
        if let Some(bind) = options.bind()? {
            ensure!(profile.format == Format::Two, "bind needs format = \"2\"");
            profile.bind = bind;
        }
        profile.families = match options.text("family")? {
            None | Some("both") => Families::Both,
            Some("ipv4") => Families::V4,
            Some("ipv6") => Families::V6,
            Some(other) => bail!("invalid family {other:?}: expected both, ipv4 or ipv6"),
        };
        profile.expires = options.text("expires")?.map(parse::day).transpose()?;
        profile.note = options.text("note")?.map(str::to_owned);
        let salt = options.text("passphrase_salt")?.map(Salt::parse).transpose()?;
        profile.key = match (options.text("key_file")?, options.boolean("keyring")?, salt) {
            (None, false, None) => KeySource::Prompt,
            (Some(file), false, None) => KeySource::File(self.resolve(file)),
            (None, true, None) => KeySource::Keyring(name.to_owned()),
            (None, false, Some(salt)) => KeySource::Passphrase(salt),
            _ => bail!("use only one of key_file, keyring and passphrase_salt"),
        };
        profile.services = options.services()?;
        Ok(profile)
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the key file of a profile, and the same path as the profile writes it.
    pub(crate) fn key_file(&self, name: &str) -> (PathBuf, String) {
        let file = format!("keys/{name}.key");
        (self.resolve(&file), file)
    }

    /// Sets options of a profile, and creates the profile if needed; `None` removes an option. Comments stay.
    ///
    /// # Errors
    /// The name is invalid, or the file has something else in its place.
    pub(crate) fn set<'a>(
        &mut self,
        name: &str,
        options: impl IntoIterator<Item = (&'a str, Option<Value>)>,
    ) -> Result<()> {
        parse::name(name)?;
        // Text after the last table stays before the new one.
        let end = self.document.trailing().as_str().unwrap_or_default().to_owned();
        let hosts = self.document.entry("host").or_insert_with(|| {
            let mut hosts = toml_edit::Table::new();
            hosts.set_implicit(true);
            Item::Table(hosts)
        });
        let hosts = hosts.as_table_like_mut().context("host: expected a table")?;
        if !hosts.contains_key(name) {
            let mut table = toml_edit::Table::new();
            let begin = if self.text.as_deref().is_none_or(str::is_empty) { end } else { format!("{end}\n") };
            table.decor_mut().set_prefix(begin);
            hosts.insert(name, Item::Table(table));
            self.document.set_trailing("");
        }
        let hosts = self.document.get_mut("host").and_then(Item::as_table_like_mut);
        let host = hosts.and_then(|hosts| hosts.get_mut(name)).and_then(Item::as_table_like_mut);
        let host = host.with_context(|| format!("host {name}: expected a table"))?;
        for (option, value) in options {
            match value {
                Some(value) => drop(host.insert(option, Item::Value(value))),
                None => drop(host.remove(option)),
            }
        }
        Ok(())
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// It cannot be written, or has changed since it was read.
    pub(crate) fn save(&self) -> Result<()> {
        let name = self.path.display();
        let current = match fs::read_to_string(&self.path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
        };
        ensure!(current == self.text, "{name} was changed by another program; try again");
        let before = self.text.as_deref().unwrap_or_default();
        let mut text = self.document.to_string().trim_start_matches('\u{feff}').to_owned();
        // As an editor on Windows left it.
        if before.contains("\r\n") {
            text = text.replace("\r\n", "\n").replace('\n', "\r\n");
        }
        if before.starts_with('\u{feff}') {
            text.insert(0, '\u{feff}');
        }
        atomic_file::replace(&self.path, text.as_bytes())
    }

    /// Paths are relative to the directory of the file; `~/` is the home directory.
    fn resolve(&self, file: &str) -> PathBuf {
        if let Some(rest) = file.strip_prefix("~/")
            && let Some(home) = paths::home()
        {
            return home.join(rest);
        }
        self.path.parent().unwrap_or(Path::new("")).join(file)
    }

    /// The hosts of a group, in file order, without duplicates.
    ///
    /// # Errors
    /// There is no such group, or it is invalid.
    pub(crate) fn group(&self, name: &str) -> Result<Vec<String>> {
        let mut hosts = Vec::new();
        self.collect(name, MAX_GROUP_DEPTH, &mut hosts)?;
        ensure!(!hosts.is_empty(), "{}: group {name}: no members", self.path.display());
        Ok(hosts)
    }

    fn collect(&self, name: &str, depth: usize, hosts: &mut Vec<String>) -> Result<()> {
        let file = self.path.display();
        let group = self.table("group").and_then(|groups| groups.get(name));
        let Some(group) = group else {
            let file = if self.path.as_os_str().is_empty() { String::new() } else { format!("{file}: ") };
            bail!("{file}unknown group {name:?}")
        };
        let members =
            group.as_array().with_context(|| format!("{file}: group {name}: expected a list of hosts"))?;
        ensure!(depth > 0, "{file}: group {name}: nested too deep, or contains itself");
        for member in members {
            let member =
                member.as_str().with_context(|| format!("{file}: group {name}: members must be strings"))?;
            match member.strip_prefix('@') {
                Some(inner) => self.collect(inner, depth - 1, hosts)?,
                None if hosts.iter().any(|host| host == member) => {}
                None => hosts.push(member.to_owned()),
            }
        }
        Ok(())
    }
}

/// The texts of the option `address`, if it is there.
fn given_addresses(profile: &Item) -> Vec<&str> {
    profile.as_table_like().and_then(|table| addresses(table.get("address")?)).unwrap_or_default()
}

fn has(addresses: &[&str], address: &str) -> bool {
    addresses.iter().any(|given| given.eq_ignore_ascii_case(address))
}

/// `a and b both`, or `a, b and c all`.
fn list(names: &[&str]) -> String {
    match names {
        [one, other] => format!("{one} and {other} both"),
        [first @ .., last] => format!("{} and {last} all", first.join(", ")),
        [] => String::new(),
    }
}

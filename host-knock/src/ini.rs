//! The ini file of `ipt_pkd`: sections with a host, its key, and how to knock.
//!
//! ```text
//! [office]
//! host = gw.example.net
//! key = 0x5ec7e7
//! tag = SSHK
//! port = 40000
//! old = 0
//! ```
//!
//! The format is that of Python's `ConfigParser`. A value is taken literally, with quotes and backslashes, but without
//! surrounding white space; `=` or `:` precedes it. Lines that start with `#` or `;` are comments. The section `[DEFAULT]`
//! supplies defaults for all others. What `ConfigParser` accepts but nobody can mean (an option twice, values of several
//! lines, comments after values) is an error. Errors name the line and never repeat a value, which may be a key.
mod text;

use std::{
    io,
    path::{Path, PathBuf},
};

use self::text::{Section, SyntaxError};
use crate::{
    key,
    model::{Format, Host, Hosts, KeySource, Profile},
    parse, secret_file,
    stderr::Stderr,
};
use anyhow::{Context as _, Result, anyhow, bail};

const DEFAULTS: &str = "DEFAULT";

/// The sections of a file; their values are not validated yet.
#[derive(Debug, Default)]
pub(crate) struct Ini {
    path: PathBuf,
    sections: Vec<Section>,
}

impl Ini {
    /// Reads a file that must exist.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub(crate) fn read(path: &Path, stderr: Stderr) -> Result<Self> {
        Self::parse(path, &secret_file::read(path, stderr)?)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// A line cannot be parsed.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self> {
        let sections = text::parse(text)
            .map_err(|SyntaxError { line, problem }| anyhow!("{}:{line}: {problem}", path.display()))?;
        Ok(Self { path: path.to_owned(), sections })
    }

    /// Reads a file that may be missing.
    ///
    /// # Errors
    /// As for [`Ini::read`].
    pub(crate) fn read_if_there(path: &Path, stderr: Stderr) -> Result<Self> {
        match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            _ => Self::read(path, stderr),
        }
    }

    /// The names of all sections except `[DEFAULT]`.
    #[cfg(feature = "desktop")]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|section| section.name.as_str()).filter(|name| *name != DEFAULTS)
    }

    /// Whether the file has this section.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.section(name).is_some_and(|section| section.name != DEFAULTS)
    }

    /// The profile in this section; `None` if there is no such section.
    ///
    /// # Errors
    /// An option is unknown, missing or invalid. The error names file, section and option.
    pub(crate) fn profile(&self, name: &str) -> Option<Result<Profile>> {
        let section = self.section(name).filter(|_| self.has(name))?;
        Some(self.check(section).with_context(|| format!("{}: [{name}]", self.path.display())))
    }

    fn check(&self, section: &Section) -> Result<Profile> {
        let known = ["host", "key", "tag", "port", "old"];
        if let Some(entry) = section.entries.iter().find(|entry| !known.contains(&entry.option.as_str())) {
            bail!("line {}: unknown option; expected one of {}", entry.line, known.join(", "));
        }
        let value = |option: &str| {
            let sections = [Some(section), self.section(DEFAULTS)];
            let mut entries = sections.into_iter().flatten().flat_map(|section| &section.entries);
            entries.find(|entry| entry.option == option).map(|entry| entry.value.as_str())
        };
        let before_1_0 = value("old").map(parse_flag).transpose()?.unwrap_or(false);
        Ok(Profile {
            key: KeySource::Known(key::parse(value("key").context("missing key")?)?),
            tag: value("tag").map(parse::tag).transpose()?,
            port: value("port").map(parse::port).transpose()?,
            format: if before_1_0 { Format::Before1_0 } else { Format::Classic },
            ..Profile::new(Hosts::one(Host::parse(value("host").unwrap_or(&section.name))?))
        })
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }
}

fn parse_flag(text: &str) -> Result<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => bail!("invalid old {text:?}: expected 1 or 0"),
    }
}

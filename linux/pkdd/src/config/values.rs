//! Values as they are written, in TOML or as text in UCI.

use std::fmt;

use pktables::Ports;
#[cfg(feature = "rules")]
use serde::Deserialize;

use super::error::{Error, Section};

/// A number, or what was written in its place.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "rules", derive(Deserialize), serde(from = "i64"))]
pub(crate) enum Number {
    Is(i64),
    IsNot(String),
}

impl From<i64> for Number {
    fn from(number: i64) -> Self {
        Self::Is(number)
    }
}

impl From<&str> for Number {
    /// Decimal digits without a sign and without leading zeros, which some programs read as octal.
    fn from(text: &str) -> Self {
        let is_plain =
            text == "0" || !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = Some(text).filter(|_| is_plain).and_then(|text| text.parse().ok());
        number.map_or_else(|| Self::IsNot(text.to_owned()), Self::Is)
    }
}

impl Number {
    pub(crate) fn get(&self) -> Option<i64> {
        match self {
            Self::Is(number) => Some(*number),
            Self::IsNot(_) => None,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(number) => write!(f, "{number}"),
            Self::IsNot(text) => write!(f, "\"{text}\""),
        }
    }
}

/// A number, a text, or a list of both: the ports of a service, or the places that it is forwarded to.
#[derive(Clone, Debug, Default)]
pub(crate) struct WordList(pub(super) Vec<Number>);

impl WordList {
    /// The items of texts such as `22`, `8000-8100` and `80,443`.
    pub(crate) fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let mut list = Self::default();
        for text in texts {
            let items = text.split([',', ' ']).filter(|item| !item.is_empty());
            list.0.extend(items.map(Number::from));
        }
        list
    }

    /// What is written, not only what is read as a number.
    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |item: &Number| match item {
            Number::Is(number) => number.to_string(),
            Number::IsNot(text) => text.clone(),
        };
        self.0.iter().map(text).collect()
    }

    /// The ports that they name.
    pub(crate) fn ports(&self, section: &Section) -> Result<Ports, Error> {
        let port =
            |number: &Number| number.get().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        let mut ranges = Vec::new();
        for item in &self.0 {
            let range = match item {
                Number::Is(_) => port(item).map(|port| port..=port),
                Number::IsNot(text) => text
                    .split_once('-')
                    .and_then(|(first, last)| Some(port(&Number::from(first))?..=port(&Number::from(last))?)),
            };
            let wrong = || section.at("port", format!("invalid port {item}: expected 1–65535"));
            ranges.push(range.ok_or_else(wrong)?);
        }
        Ports::new(ranges).map_err(|invalid| section.at("port", invalid.to_string()))
    }
}

/// Yes or no, or what was written in its place.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "rules", derive(Deserialize), serde(from = "bool"))]
pub(crate) enum Flag {
    Is(bool),
    IsNot(String),
}

impl From<bool> for Flag {
    fn from(flag: bool) -> Self {
        Self::Is(flag)
    }
}

impl From<&str> for Flag {
    /// As in UCI.
    fn from(text: &str) -> Self {
        match text {
            "0" => Self::Is(false),
            "1" => Self::Is(true),
            _ => Self::IsNot(text.to_owned()),
        }
    }
}

impl Flag {
    pub(crate) fn check(self, section: &Section, option: &str) -> Result<bool, Error> {
        match self {
            Self::Is(flag) => Ok(flag),
            Self::IsNot(text) => Err(section.invalid(option, text, "expected 0 or 1")),
        }
    }
}

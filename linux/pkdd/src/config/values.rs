//! Values as they are written, in TOML or as text in UCI.

use std::fmt;

use serde::{Deserialize, Deserializer, de::Visitor};

use super::error::{Error, Section};

/// The name of a format: a string, or the bare number 2.
#[derive(Clone, Debug)]
pub(crate) enum FormatName {
    Text(String),
    Number(i64),
}

/// By hand: serde's code for an untagged enum takes 7 KB.
impl<'de> Deserialize<'de> for FormatName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = FormatName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"2\" or \"classic\"")
            }

            fn visit_str<E>(self, text: &str) -> Result<FormatName, E> {
                Ok(FormatName::Text(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<FormatName, E> {
                Ok(FormatName::Number(number))
            }
        }
        from.deserialize_any(Name)
    }
}

impl fmt::Display for FormatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// A number, or what was written in its place.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "i64")]
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

/// Yes or no, or what was written in its place.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "bool")]
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

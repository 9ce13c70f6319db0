//! Values as they are written, in TOML or as text in UCI.

use std::fmt;

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

//! How packets without a grant are logged by the kernel.

use std::{fmt, num::NonZeroU32, str::FromStr};

use crate::error::Invalid;

/// A line in the kernel's log for each packet, or for some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// What each line begins with.
    pub prefix: LogPrefix,
    /// How important the lines are.
    pub level: LogLevel,
    /// At most so many lines; `None`: one for each packet, which a flood of packets turns into a full log.
    pub limit: Option<LogLimit>,
}

/// Up to 29 printable ASCII characters, without `"` and `\`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPrefix(String);

impl LogPrefix {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LogPrefix {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why| Err(Invalid::new("log prefix", text, why));
        if text.len() > 29 {
            return wrong("is longer than 29 bytes");
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\') {
            return wrong("has a character that is no printable ASCII, a quotation mark or a backslash");
        }
        Ok(Self(text.to_owned()))
    }
}

/// The kernel's levels, most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the kernel's words")]
pub enum LogLevel {
    Emergency,
    Alert,
    Critical,
    Error,
    #[default]
    Warning,
    Notice,
    Info,
    Debug,
}

impl LogLevel {
    const ALL: [(Self, &[&str]); 8] = [
        (Self::Emergency, &["emerg", "panic", "0"]),
        (Self::Alert, &["alert", "1"]),
        (Self::Critical, &["crit", "2"]),
        (Self::Error, &["error", "err", "3"]),
        (Self::Warning, &["warning", "warn", "4"]),
        (Self::Notice, &["notice", "5"]),
        (Self::Info, &["info", "6"]),
        (Self::Debug, &["debug", "7"]),
    ];

    /// The word that iptables has for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(level, _)| *level == self);
        found.and_then(|(_, words)| words.first()).copied().unwrap_or_default()
    }

    /// The kernel's number, 0 to 7.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl FromStr for LogLevel {
    type Err = Invalid;

    /// Reads the names and numbers that iptables and nft take.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.iter().find(|(_, words)| words.contains(&text));
        found.map(|(level, _)| *level).ok_or_else(|| {
            Invalid::new(
                "log level",
                text,
                "is none of emerg, alert, crit, error, warning, notice, info, debug",
            )
        })
    }
}

/// At most `lines` lines in each `per`, after `burst` lines at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimit {
    /// Lines, 1 to 10,000.
    pub lines: NonZeroU32,
    /// How long they are counted.
    pub per: LogUnit,
    /// How many may come at once, 1 to 10,000.
    pub burst: NonZeroU32,
}

/// What lines are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are what they are")]
pub enum LogUnit {
    Second,
    Minute,
    Hour,
    Day,
}

impl LogUnit {
    const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

impl FromStr for LogUnit {
    type Err = Invalid;

    /// Reads the word or a beginning of it, as iptables does: `minute`, `min`, `m`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|unit| !text.is_empty() && unit.as_str().starts_with(text));
        found.ok_or_else(|| Invalid::new("log limit", text, "is none of second, minute, hour, day"))
    }
}

impl LogLimit {
    /// What iptables and nft take where no burst is given.
    pub const BURST: NonZeroU32 = NonZeroU32::new(5).expect("5 is not 0");
    const MOST: u32 = 10_000;

    /// The same with another burst.
    ///
    /// # Errors
    /// The text is no number of 1 to 10,000.
    pub fn with_burst(self, text: &str) -> Result<Self, Invalid> {
        Ok(Self { burst: Self::number("log burst", text)?, ..self })
    }

    fn number(what: &'static str, text: &str) -> Result<NonZeroU32, Invalid> {
        let number: Option<NonZeroU32> = text.parse().ok();
        number
            .filter(|number| number.get() <= Self::MOST)
            .ok_or_else(|| Invalid::new(what, text, "is no number of 1 to 10000"))
    }
}

impl FromStr for LogLimit {
    type Err = Invalid;

    /// Reads `3/minute`; a bare number is a number each second.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (lines, per) = text.split_once('/').unwrap_or((text, LogUnit::Second.as_str()));
        Ok(Self { lines: Self::number("log limit", lines)?, per: per.parse()?, burst: Self::BURST })
    }
}

impl fmt::Display for LogLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.lines, self.per.as_str())
    }
}

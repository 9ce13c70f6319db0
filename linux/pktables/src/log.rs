//! Kernel log lines for packets without a grant.

use std::{fmt, num::NonZeroU32, str::FromStr};

use crate::invalid::Invalid;

/// Logs each packet, or some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The start of each line.
    pub prefix: LogPrefix,
    /// The level of the lines.
    pub level: LogLevel,
    /// Rate limit; `None`: each packet, so a flood of packets fills the log.
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
            return wrong("longer than 29 bytes");
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\') {
            return wrong("expected printable ASCII without quotation marks and backslashes");
        }
        Ok(Self(text.to_owned()))
    }
}

/// The kernel's levels, most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the kernel's names")]
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

    /// The name that iptables uses.
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

    /// Parses the names and numbers that iptables and nft accept.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.iter().find(|(_, words)| words.contains(&text));
        found.map(|(level, _)| *level).ok_or_else(|| {
            Invalid::new(
                "log level",
                text,
                "expected emerg, alert, crit, error, warning, notice, info or debug",
            )
        })
    }
}

/// At most so many lines per unit of time, after a burst.
///
/// ```
/// let limit: pktables::LogLimit = "3/minute".parse()?;
/// assert_eq!((limit.lines().get(), limit.per(), limit.burst().get()), (3, pktables::LogUnit::Minute, 5));
/// # Ok::<(), pktables::Invalid>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimit {
    pub(crate) lines: NonZeroU32,
    pub(crate) per: LogUnit,
    pub(crate) burst: NonZeroU32,
}

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
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

    /// Parses the word or a prefix of it, as iptables does: `minute`, `min`, `m`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|unit| !text.is_empty() && unit.as_str().starts_with(text));
        found.ok_or_else(|| Invalid::new("log limit", text, "expected second, minute, hour or day"))
    }
}

impl LogLimit {
    /// The default of iptables and nft.
    pub const BURST: NonZeroU32 = NonZeroU32::new(5).expect("5 is not 0");
    const MAX: u32 = 10_000;

    /// Lines, 1 to 10,000.
    #[must_use]
    pub const fn lines(&self) -> NonZeroU32 {
        self.lines
    }

    /// The unit of time.
    #[must_use]
    pub const fn per(&self) -> LogUnit {
        self.per
    }

    /// Lines at once before the limit applies, 1 to 10,000.
    #[must_use]
    pub const fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// Sets the burst.
    ///
    /// # Errors
    /// The text is not a number from 1 to 10,000.
    pub fn with_burst(self, text: &str) -> Result<Self, Invalid> {
        Ok(Self { burst: Self::number("log burst", text)?, ..self })
    }

    fn number(what: &'static str, text: &str) -> Result<NonZeroU32, Invalid> {
        let number: Option<NonZeroU32> = text.parse().ok();
        number
            .filter(|number| number.get() <= Self::MAX)
            .ok_or_else(|| Invalid::new(what, text, "expected 1–10000"))
    }
}

impl FromStr for LogLimit {
    type Err = Invalid;

    /// Parses `3/minute`; a plain number is per second.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_up_to_29_printable_characters() {
        let character = Err("expected printable ASCII without quotation marks and backslashes");
        let (longest, one_more) = ("p".repeat(29), "p".repeat(30));
        let rows = [
            ("", Ok(())),
            (" ", Ok(())),
            ("knock: ~!'", Ok(())),
            (&longest, Ok(())),
            (&one_more, Err("longer than 29 bytes")),
            ("a\"b", character),
            ("a\\b", character),
            ("a\u{7f}", character),
            ("a\u{1f}", character),
            ("ä", character),
        ];
        for (text, expected) in rows {
            let read = text.parse::<LogPrefix>();
            assert_eq!(read.as_ref().map(drop).map_err(|invalid| invalid.why), expected, "{text:?}");
            if let Ok(prefix) = read {
                assert_eq!(prefix.as_str(), text);
            }
        }
    }

    #[test]
    fn a_level_has_the_kernels_names_and_number() {
        let rows: [(LogLevel, u8, &[&str]); 8] = [
            (LogLevel::Emergency, 0, &["emerg", "panic", "0"]),
            (LogLevel::Alert, 1, &["alert", "1"]),
            (LogLevel::Critical, 2, &["crit", "2"]),
            (LogLevel::Error, 3, &["error", "err", "3"]),
            (LogLevel::Warning, 4, &["warning", "warn", "4"]),
            (LogLevel::Notice, 5, &["notice", "5"]),
            (LogLevel::Info, 6, &["info", "6"]),
            (LogLevel::Debug, 7, &["debug", "7"]),
        ];
        for (level, number, words) in rows {
            assert_eq!((level.number(), level.as_str()), (number, words[0]), "{level:?}");
            for word in words {
                assert_eq!(word.parse(), Ok(level), "{word}");
            }
        }
        assert_eq!(LogLevel::default(), LogLevel::Warning);
        for text in ["", "8", "WARN", "war"] {
            assert!(text.parse::<LogLevel>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_limit_is_a_number_of_lines_in_a_time() {
        let number = Err("expected 1–10000");
        let unit = Err("expected second, minute, hour or day");
        let rows = [
            ("3/second", Ok("3/second")),
            ("3/sec", Ok("3/second")),
            ("3", Ok("3/second")),
            ("3/minute", Ok("3/minute")),
            ("3/min", Ok("3/minute")),
            ("3/m", Ok("3/minute")),
            ("1/hour", Ok("1/hour")),
            ("10000/day", Ok("10000/day")),
            ("10001/day", number),
            ("0/day", number),
            ("/day", number),
            ("-1/day", number),
            ("3/", unit),
            ("3/week", unit),
            ("3/minutes", unit),
        ];
        for (text, expected) in rows {
            let read = text.parse::<LogLimit>();
            assert!(
                read.as_ref().is_ok_and(|limit| limit.burst == LogLimit::BURST) == expected.is_ok(),
                "{text}"
            );
            let shown = read.map(|limit| limit.to_string()).map_err(|invalid| invalid.why);
            assert_eq!(shown, expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_burst_is_a_number_of_1_to_10000() {
        let limit: LogLimit = "3/minute".parse().expect("a limit");
        for (text, expected) in
            [("1", Some(1)), ("10000", Some(10_000)), ("10001", None), ("0", None), ("x", None)]
        {
            let read = limit.with_burst(text);
            assert_eq!(read.as_ref().ok().map(|limit| limit.burst.get()), expected, "{text}");
            if let Ok(read) = read {
                assert_eq!(LogLimit { burst: limit.burst, ..read }, limit, "{text}");
            }
        }
    }
}

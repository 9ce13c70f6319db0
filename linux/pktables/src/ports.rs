//! Ports, ranges of ports, and lists of both.

use std::{fmt, num::NonZeroU16, ops::RangeInclusive, str::FromStr};

use crate::invalid::Invalid;

/// A port, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub NonZeroU16);

impl FromStr for Port {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number.map(Self).ok_or_else(|| Invalid::new("port", text, "expected 1–65535"))
    }
}

impl From<Port> for u16 {
    fn from(port: Port) -> Self {
        port.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The ports of a service: single ones and ranges, at least one and at most [`MOST`](Self::MOST) of them. They are sorted, and
/// what overlaps or adjoins is one range.
///
/// ```
/// let ports: pktables::Ports = "8000-8100,80,443,8101".parse()?;
/// assert_eq!(ports.to_string(), "80,443,8000-8101");
/// # Ok::<(), pktables::Invalid>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ports(Vec<RangeInclusive<u16>>);

impl Ports {
    /// The most ports and ranges of a service: in the rules, each is compared with every packet.
    pub const MOST: usize = 15;

    /// Ports from the first to the last of each range.
    ///
    /// # Errors
    /// There is none, or there are more than [`MOST`](Self::MOST) after joining; one contains 0, or ends before it begins.
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Result<Self, Invalid> {
        let mut ports = Self(Vec::new());
        for range in ranges {
            if range.is_empty() {
                return Err(Invalid::new("port", &text(&range), "expected the lower port first"));
            }
            if *range.start() == 0 {
                return Err(Invalid::new("port", &text(&range), "expected 1–65535"));
            }
            ports.add(range);
        }
        match ports.0.len() {
            0 => Err(Invalid::new("port", "", "expected 1–65535")),
            1..=Self::MOST => Ok(ports),
            _ => Err(Invalid::new("port", &ports.to_string(), "more than 15 ports and ranges")),
        }
    }

    /// Joins what adjoins. By hand: the library's sort for another type takes several KB of a router's flash.
    fn add(&mut self, range: RangeInclusive<u16>) {
        let (mut first, mut last) = range.into_inner();
        self.0.retain(|other| {
            let is_apart = *other.start() > last.saturating_add(1) || first > other.end().saturating_add(1);
            if !is_apart {
                (first, last) = (first.min(*other.start()), last.max(*other.end()));
            }
            is_apart
        });
        let place = self.0.iter().take_while(|other| *other.end() < first).count();
        self.0.insert(place, first..=last);
    }

    /// The ranges, in ascending order; a single port begins and ends one.
    #[must_use]
    pub fn ranges(&self) -> &[RangeInclusive<u16>] {
        &self.0
    }

    /// The lowest port.
    #[must_use]
    pub fn first(&self) -> u16 {
        self.0.first().map_or(0, |range| *range.start())
    }

    /// The port, if it is the only one.
    #[must_use]
    pub fn single(&self) -> Option<u16> {
        match &self.0[..] {
            [range] if range.start() == range.end() => Some(*range.start()),
            _ => None,
        }
    }

    /// Whether a port is one of them.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }

    /// The lowest port that is also one of `other`.
    #[must_use]
    pub fn shared(&self, other: &Self) -> Option<u16> {
        // The lowest of several is the start of a range of one of them.
        let starts = self.0.iter().chain(&other.0).map(|range| *range.start());
        starts.filter(|port| self.contains(*port) && other.contains(*port)).min()
    }

    /// Each port and range as text: `80`, `8000-8100`.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(text)
    }
}

fn text(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        return range.start().to_string();
    }
    format!("{}-{}", range.start(), range.end())
}

impl From<Port> for Ports {
    fn from(port: Port) -> Self {
        Self(vec![port.0.get()..=port.0.get()])
    }
}

impl FromStr for Ports {
    type Err = Invalid;

    /// Parses `22`, `5060-5070` or `80,443,8000-8100`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let ranges = text.split(',').map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (Port, Port) = (first.parse()?, last.parse()?);
            Ok(first.into()..=last.into())
        });
        Self::new(ranges.collect::<Result<Vec<_>, Invalid>>()?)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_of_1_to_65535() {
        let rows = [
            ("1", Some(1)),
            ("22", Some(22)),
            ("022", Some(22)),
            ("65535", Some(65_535)),
            ("0", None),
            ("65536", None),
            ("", None),
            ("+22", None),
            ("-22", None),
            ("22 ", None),
            ("0x16", None),
            ("ssh", None),
        ];
        for (text, expected) in rows {
            let read = text.parse::<Port>().ok();
            assert_eq!(read.map(u16::from), expected, "{text:?}");
            let shown = expected.map(|number: u16| number.to_string());
            assert_eq!(read.map(|port| port.to_string()), shown, "{text:?}");
            assert_eq!(text.parse::<Ports>().ok(), read.map(Ports::from), "{text:?}");
        }
    }

    #[test]
    fn lists_are_sorted_and_what_adjoins_is_joined() {
        let most = (1..=15).map(|number| (number * 10).to_string()).collect::<Vec<_>>().join(",");
        let (number, order) = ("expected 1–65535", "expected the lower port first");
        let too_many = format!("{most},160");
        let rows = [
            ("80,443,8000-8100", Ok("80,443,8000-8100")),
            ("443,80", Ok("80,443")),
            ("80,80", Ok("80")),
            ("80-80", Ok("80")),
            ("80-90,85-95", Ok("80-95")),
            ("80-95,85-90", Ok("80-95")),
            ("81,80", Ok("80-81")),
            ("80-90,91-95,97", Ok("80-95,97")),
            ("65535,65534", Ok("65534-65535")),
            ("1-65535", Ok("1-65535")),
            ("1-65535,65535", Ok("1-65535")),
            (&most, Ok(&most)),
            (&too_many, Err("more than 15 ports and ranges")),
            ("1-200,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,40", Ok("1-200")),
            ("90-80", Err(order)),
            ("", Err(number)),
            ("80,", Err(number)),
            (",80", Err(number)),
            ("80-", Err(number)),
            ("-80", Err(number)),
            ("0-80", Err(number)),
            ("80-65536", Err(number)),
            ("80-90-95", Err(number)),
            ("80 443", Err(number)),
            ("80:90", Err(number)),
            ("http", Err(number)),
        ];
        for (text, expected) in rows {
            let read = text.parse::<Ports>().map(|ports| ports.to_string()).map_err(|invalid| invalid.why);
            assert_eq!(read, expected.map(str::to_owned), "{text:?}");
        }
        assert!(Ports::new([0..=7]).is_err() && Ports::new([]).is_err());
    }

    #[test]
    fn the_ports_of_two_lists_are_compared() {
        // two lists, the lowest port of both
        let rows = [
            ("22", "22", Some(22)),
            ("22", "23", None),
            ("80,443,8000-8100", "22,444-7999,8101", None),
            ("80,443,8000-8100", "8100-9000", Some(8_100)),
            ("80,443,8000-8100", "8050", Some(8_050)),
            ("80,443,8000-8100", "1-65535", Some(80)),
            ("8000-8100", "443,8000", Some(8_000)),
        ];
        for (one, other, expected) in rows {
            let (one, other): (Ports, Ports) = (one.parse().expect("ports"), other.parse().expect("ports"));
            assert_eq!(one.shared(&other), expected, "{one} {other}");
            assert_eq!(other.shared(&one), expected, "{other} {one}");
        }
        for (text, first, single) in [("22", 22, Some(22)), ("22-23", 22, None), ("443,80", 80, None)] {
            let ports: Ports = text.parse().expect("ports");
            assert_eq!((ports.first(), ports.single()), (first, single), "{text}");
        }
    }
}

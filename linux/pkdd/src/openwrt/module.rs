//! The kernel module's report, `/proc/net/xt_pkd`.

use pkd_core::{Timestamp, UnixMillis, UnixSeconds};

use crate::{
    caches,
    floor::{Floor, Saved},
    format::{Unit, seconds},
    status::Verdicts,
};

/// The kernel takes 4 KiB at a time, and no line is longer than 64 bytes.
pub(crate) const LINES_AT_ONCE: usize = 64;

/// The module's words about the floors of a format.
pub(crate) trait Reported: Unit {
    /// What a line to write back begins with.
    const RESTORE: &'static str;
    /// What the line begins with that all versions have.
    const GREATEST: &'static str;
}

impl Reported for UnixSeconds {
    const RESTORE: &'static str = "floor ";
    const GREATEST: &'static str = "Floor to save: ";
}

impl Reported for UnixMillis {
    const RESTORE: &'static str = "floor2-ms ";
    const GREATEST: &'static str = "Floor of format 2 to save, in ms: ";
}

/// The floors in the module's report; `None`: it has none yet.
pub(crate) fn floors<T: Reported>(report: &str) -> Option<Saved<T>> {
    let floor = |number: &str| {
        let time = number.trim().parse().ok().map(T::from_units)?;
        Some(Floor { time, is_exact: false })
    };
    let greatest = report.lines().find_map(|line| floor(line.strip_prefix(T::GREATEST)?))?;
    let restores = || report.lines().filter_map(|line| line.strip_prefix("Save: ")?.strip_prefix(T::RESTORE));
    // A module that knows no floors of keys has no such line.
    let mut floors = Saved { other: restores().find_map(floor).unwrap_or(greatest), ..Saved::default() };
    for (key, floor) in restores()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, number)| Some((key.parse().ok()?, floor(number)?)))
    {
        floors.raise(key, floor);
    }
    Some(floors)
}

/// The lines that restore them.
pub(crate) fn lines<T: Reported>(floors: &Saved<T>) -> impl Iterator<Item = String> {
    let keys = floors.keys.iter().map(|(key, floor)| format!("{}{key} {}\n", T::RESTORE, floor.time.units()));
    [line_for_all(floors.other.time)].into_iter().chain(keys)
}

/// The line that restores a floor for all keys.
pub(crate) fn line_for_all<T: Reported>(floor: T) -> String {
    format!("{}{}\n", T::RESTORE, floor.units())
}

/// What the module counts and remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) counters: Verdicts,
    pub(crate) caches: Vec<Cache>,
}

/// The replay cache of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) is_format2: bool,
    pub(crate) tag: String,
    pub(crate) report: caches::Report,
}

impl Report {
    /// Reads what it understands, so that a newer module can report more.
    pub(crate) fn parse(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("Cache: tag ") {
                report.caches.extend(Cache::parse::<UnixSeconds>(rest, false));
                continue;
            }
            if let Some(rest) = line.strip_prefix("Cache of format 2: tag ") {
                report.caches.extend(Cache::parse::<UnixMillis>(rest, true));
                continue;
            }
            let Some((name, count)) = line.split_once(": ") else { continue };
            let counters = &mut report.counters;
            let counter = match name {
                "Good packets" => &mut counters.accept,
                "Good packets that close" => &mut counters.close,
                "Packets with a wrong filter" => &mut counters.filter,
                "Packets with another request" => &mut counters.request,
                "Packets of another length" => &mut counters.length,
                "Packets with another tag" => &mut counters.tag,
                "Packets outside of time window" => &mut counters.window,
                "Replayed packets" => &mut counters.replay,
                "Packets with a wrong digest" => &mut counters.digest,
                _ => continue,
            };
            *counter = count.trim().parse().unwrap_or(*counter);
        }
        // A request to close passes the rule that opens first, which counts it, too.
        report.counters.request = report.counters.request.saturating_sub(report.counters.close);
        report
    }
}

impl Cache {
    /// `TAG rules 1 window 10 knocks 2/240 floor F newest N wait W`; a tag may contain any printable character.
    fn parse<T: Timestamp>(text: &str, is_format2: bool) -> Option<Self> {
        let time = |value: &str| value.parse().ok().map(|units| seconds(T::from_units(units)));
        let (tag, rest) = text.rsplit_once(" rules ")?;
        let mut report = caches::Report::default();
        let words: Vec<&str> = rest.split_whitespace().skip(1).collect();
        for pair in words.chunks_exact(2) {
            match pair {
                ["knocks", value] => {
                    let (knocks, capacity) = value.split_once('/')?;
                    (report.knocks, report.capacity) = (knocks.parse().ok()?, capacity.parse().ok()?);
                }
                ["floor", value] => report.floor = time(value)?,
                // 0: none.
                ["newest", value] => {
                    report.newest = Some(time(value)?).filter(|time| time.0 > 0);
                }
                ["wait", value] => {
                    report.wait = value.parse::<u64>().ok()?.div_ceil(T::PER_SECOND.into());
                }
                _ => {}
            }
        }
        Some(Self { is_format2, tag: tag.to_owned(), report })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_read_and_unknown_lines_are_not() {
        let text = "Packets outside of time window: 3\nGood packets: 4\nReplayed packets: 5\n\
                    Packets of another length: 1\nPackets with another tag: 2\nPackets with a wrong digest: 6\n\
                    Packets with a wrong filter: 8\nPackets with another request: 12\nGood packets that close: 3\n\
                    Something new: 7\n\
                    Cache of format 2: tag a rules 2 window 10 knocks 1/240 floor 17999 newest 19001 wait 10001\n\
                    Cache: tag a rules b rules 1 window 10 knocks 2/240 floor 17 newest 19 wait 11\n\
                    Floor to save: 12\n";
        let report = Report::parse(text);
        let counters = Verdicts {
            accept: 4,
            close: 3,
            length: 1,
            tag: 2,
            window: 3,
            replay: 5,
            // The module counts them as replays.
            waiting: 0,
            filter: 8,
            digest: 6,
            request: 9,
        };
        assert_eq!(report.counters, counters);
        let cache = caches::Report {
            knocks: 2,
            capacity: 240,
            floor: UnixSeconds(17),
            newest: Some(UnixSeconds(19)),
            wait: 11,
            accepted: None,
        };
        let other = caches::Report { knocks: 1, ..cache };
        let expected = [(true, "a", other), (false, "a rules b", cache)];
        let expected =
            expected.map(|(is_format2, tag, report)| Cache { is_format2, tag: tag.to_owned(), report });
        assert_eq!(report.caches, expected);
        assert_eq!(Report::parse("nonsense"), Report::default());
        assert_eq!(Report::parse("Cache: tag x rules 1 window 10 knocks none").caches, []);
        let none = Report::parse("Cache: tag x rules 1 window 10 knocks 0/240 floor 17 newest 0 wait 0");
        assert_eq!(none.caches[0].report.newest, None);
    }
}

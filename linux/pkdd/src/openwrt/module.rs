//! The kernel module's report, `/proc/net/xt_pkd`.

use pkd_core::UnixSeconds;

use crate::{caches, status::Verdicts};

/// What the module counts and remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) counters: Verdicts,
    pub(crate) caches: Vec<Cache>,
}

/// The replay cache of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) tag: String,
    pub(crate) report: caches::Report,
}

impl Report {
    /// Reads what it understands, so that a newer module can report more.
    pub(crate) fn parse(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("Cache: tag ") {
                report.caches.extend(Cache::parse(rest));
                continue;
            }
            let Some((name, count)) = line.split_once(": ") else { continue };
            let counters = &mut report.counters;
            let counter = match name {
                "Good packets" => &mut counters.accept,
                "Packets of another length" => &mut counters.length,
                "Packets with another tag" => &mut counters.tag,
                "Packets outside of time window" => &mut counters.window,
                "Replayed packets" => &mut counters.replay,
                "Packets with a wrong digest" => &mut counters.digest,
                _ => continue,
            };
            *counter = count.trim().parse().unwrap_or(*counter);
        }
        report
    }
}

impl Cache {
    /// `TAG rules 1 window 10 knocks 2/256 floor F newest N wait W`; a tag may contain any printable character.
    fn parse(text: &str) -> Option<Self> {
        let (tag, rest) = text.rsplit_once(" rules ")?;
        let mut report = caches::Report::default();
        let words: Vec<&str> = rest.split_whitespace().skip(1).collect();
        for pair in words.chunks_exact(2) {
            match pair {
                ["knocks", value] => {
                    let (knocks, capacity) = value.split_once('/')?;
                    (report.knocks, report.capacity) = (knocks.parse().ok()?, capacity.parse().ok()?);
                }
                ["floor", value] => report.floor = UnixSeconds(value.parse().ok()?),
                // 0: none.
                ["newest", value] => {
                    report.newest = Some(UnixSeconds(value.parse().ok()?)).filter(|time| time.0 > 0);
                }
                ["wait", value] => report.wait = value.parse().ok()?,
                _ => {}
            }
        }
        Some(Self { tag: tag.to_owned(), report })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_read_and_unknown_lines_are_not() {
        let text = "Packets outside of time window: 3\nGood packets: 4\nReplayed packets: 5\n\
                    Packets of another length: 1\nPackets with another tag: 2\nPackets with a wrong digest: 6\n\
                    Something new: 7\n\
                    Cache: tag a rules b rules 1 window 10 knocks 2/256 floor 17 newest 19 wait 11\n\
                    Floor to save: 12\n";
        let report = Report::parse(text);
        let counters =
            Verdicts { accept: 4, length: 1, tag: 2, window: 3, replay: 5, digest: 6, ..Verdicts::default() };
        assert_eq!(report.counters, counters);
        let cache = caches::Report {
            knocks: 2,
            capacity: 256,
            floor: UnixSeconds(17),
            newest: Some(UnixSeconds(19)),
            wait: 11,
        };
        assert_eq!(report.caches, [Cache { tag: "a rules b".to_owned(), report: cache }]);
        assert_eq!(Report::parse("nonsense"), Report::default());
        assert_eq!(Report::parse("Cache: tag x rules 1 window 10 knocks none").caches, []);
        let none = Report::parse("Cache: tag x rules 1 window 10 knocks 0/256 floor 17 newest 0 wait 0");
        assert_eq!(none.caches[0].report.newest, None);
    }
}

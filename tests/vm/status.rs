//! `/proc/net/xt_pkd` as a value.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};

pub(crate) const FILE: &str = "/proc/net/xt_pkd";

/// Entries of a cache in the kernel.
pub(crate) const CAPACITY: usize = 240;

/// The file's words for a verdict, and the protocol's.
const COUNTERS: [(&str, &str); 6] = [
    ("Packets outside of time window", "Window"),
    ("Good packets", "Accept"),
    ("Replayed packets", "Replay"),
    ("Packets of another length", "Length"),
    ("Packets with another tag", "Tag"),
    ("Packets with a wrong digest", "Digest"),
];

/// Those that are shown once there was a rule of format 2.
const FORMAT2_COUNTERS: [(&str, &str); 3] = [
    ("Packets with a wrong filter", "Filter"),
    ("Packets with another request", "Request"),
    ("Good packets that close", "Close"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) counters: BTreeMap<&'static str, u64>,
    pub(crate) caches: Vec<Cache>,
    /// None: nobody has said yet.
    pub(crate) floor_to_save: Option<u64>,
    /// Of format 2, with times in milliseconds.
    pub(crate) format2_caches: Vec<Cache>,
    pub(crate) format2_floor: Option<u64>,
    /// The lines to write back after the next start.
    pub(crate) to_save: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) tag: String,
    pub(crate) rules: u64,
    pub(crate) window: u64,
    pub(crate) knocks: String,
    pub(crate) floor: u64,
    pub(crate) newest: u64,
    pub(crate) wait: u64,
}

impl Status {
    pub(crate) fn read() -> Result<Self> {
        Self::parse(&fs::read_to_string(FILE)?)
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let mut counters = BTreeMap::new();
        for (name, verdict) in COUNTERS {
            let line = lines.next().context("too few lines")?;
            let (given, count) = line.split_once(": ").with_context(|| line.to_owned())?;
            ensure!(given == name, "{line:?} stands where {name:?} should");
            counters.insert(verdict, count.parse().with_context(|| line.to_owned())?);
        }
        counters.extend(FORMAT2_COUNTERS.map(|(_, verdict)| (verdict, 0)));
        let (mut caches, mut format2_caches) = (Vec::new(), Vec::new());
        let (mut floor_to_save, mut format2_floor, mut to_save) = (None, None, Vec::new());
        for line in lines {
            match line.split_once(": ").with_context(|| line.to_owned())? {
                ("Cache", rest) => caches.push(Cache::parse(rest).with_context(|| line.to_owned())?),
                ("Floor to save", floor) => floor_to_save = Some(floor.parse()?),
                ("Save", line) => to_save.push(line.to_owned()),
                ("Cache of format 2", rest) => {
                    format2_caches.push(Cache::parse(rest).with_context(|| line.to_owned())?);
                }
                ("Floor of format 2 to save, in ms", floor) => format2_floor = Some(floor.parse()?),
                (name, count) => {
                    let known = FORMAT2_COUNTERS.iter().find(|(known, _)| *known == name);
                    let (_, verdict) = known.with_context(|| line.to_owned())?;
                    counters.insert(verdict, count.parse().with_context(|| line.to_owned())?);
                }
            }
        }
        Ok(Self { counters, caches, floor_to_save, format2_caches, format2_floor, to_save })
    }

    pub(crate) fn total(&self) -> u64 {
        self.counters.values().sum()
    }

    /// The only cache there is.
    pub(crate) fn cache(&self) -> Result<&Cache> {
        ensure!(self.caches.len() == 1, "one cache was expected: {:?}", self.caches);
        Ok(&self.caches[0])
    }

    /// The only one of format 2.
    pub(crate) fn cache2(&self) -> Result<&Cache> {
        ensure!(
            self.format2_caches.len() == 1,
            "one cache of format 2 was expected: {:?}",
            self.format2_caches
        );
        Ok(&self.format2_caches[0])
    }

    /// The counters that moved since, and by how much.
    pub(crate) fn moved_since(&self, before: &Self) -> Vec<(&'static str, u64)> {
        let by = |(name, count): (&&'static str, &u64)| (*name, count - before.counters[name]);
        self.counters.iter().map(by).filter(|(_, by)| *by > 0).collect()
    }
}

impl Cache {
    fn parse(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let [
            "tag",
            tag,
            "rules",
            rules,
            "window",
            window,
            "knocks",
            knocks,
            "floor",
            floor,
            "newest",
            newest,
            "wait",
            wait,
        ] = words[..]
        else {
            anyhow::bail!("no cache's line");
        };
        Ok(Self {
            tag: tag.to_owned(),
            rules: rules.parse()?,
            window: window.parse()?,
            knocks: knocks.to_owned(),
            floor: floor.parse()?,
            newest: newest.parse()?,
            wait: wait.parse()?,
        })
    }
}

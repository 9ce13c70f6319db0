//! `/proc/net/xt_pkd` as a value.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};

pub(crate) const FILE: &str = "/proc/net/xt_pkd";

/// The file's words for a verdict, and the protocol's.
const COUNTERS: [(&str, &str); 6] = [
    ("Packets outside of time window", "Window"),
    ("Good packets", "Accept"),
    ("Replayed packets", "Replay"),
    ("Packets of another length", "Length"),
    ("Packets with another tag", "Tag"),
    ("Packets with a wrong digest", "Digest"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) counters: BTreeMap<&'static str, u64>,
    pub(crate) caches: Vec<Cache>,
    /// None: nobody has said yet.
    pub(crate) floor_to_save: Option<u64>,
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
        let mut caches = Vec::new();
        let mut floor_to_save = None;
        for line in lines {
            match line.split_once(": ").with_context(|| line.to_owned())? {
                ("Cache", rest) => caches.push(Cache::parse(rest).with_context(|| line.to_owned())?),
                ("Floor to save", floor) => floor_to_save = Some(floor.parse()?),
                _ => anyhow::bail!("{line:?}"),
            }
        }
        Ok(Self { counters, caches, floor_to_save })
    }

    pub(crate) fn total(&self) -> u64 {
        self.counters.values().sum()
    }

    /// The only cache there is.
    pub(crate) fn cache(&self) -> Result<&Cache> {
        ensure!(self.caches.len() == 1, "one cache was expected: {:?}", self.caches);
        Ok(&self.caches[0])
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

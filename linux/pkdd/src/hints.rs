//! The first four bytes of what may be a knock now: the tags of classic users, and the hints of those of format 2.
//!
//! The kernel passes nothing else to pkdd, and they lead to the users whose knock it may be, however many there are.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pkd_core::{UnixMillis, Window, format2::Hints};

use crate::config::{Config, UserRule};

/// The first four bytes of a payload.
pub(crate) type Word = [u8; 4];

/// Milliseconds of a slot, after which hints change.
const SLOT: u64 = 1 << 16;

/// How much longer than needed the kernel keeps a hint, in milliseconds: a clock that is set back a little makes it count
/// longer.
const SLACK: u64 = SLOT;

/// The words of all enabled users.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    hints: BTreeMap<String, Hints>,
    users: BTreeMap<Word, Vec<String>>,
    until: BTreeMap<Word, Option<Instant>>,
}

impl Words {
    pub(crate) fn new(config: &Config, now: UnixMillis) -> Self {
        let mut words = Self::default();
        words.replace(config, now);
        words
    }

    /// Makes them anew for the users of another configuration.
    pub(crate) fn replace(&mut self, config: &Config, now: UnixMillis) {
        self.hints.clear();
        for (name, user) in &config.users {
            if let UserRule::Format2(rule) = &user.rule {
                self.hints.insert(name.clone(), rule.hints(now));
            }
        }
        self.index(config, now);
    }

    /// Makes them anew if a slot has begun or the clock was set; whether it did.
    pub(crate) fn refresh(&mut self, config: &Config, now: UnixMillis) -> bool {
        let mut is_changed = false;
        for (name, hints) in &mut self.hints {
            if let Some(UserRule::Format2(rule)) = config.users.get(name).map(|user| &user.rule) {
                is_changed |= rule.refresh(hints, now);
            }
        }
        if is_changed {
            self.index(config, now);
        }
        is_changed
    }

    fn index(&mut self, config: &Config, now: UnixMillis) {
        self.users.clear();
        self.until.clear();
        let start = Instant::now();
        for (name, user) in config.users.iter().filter(|(_, user)| user.enabled) {
            match &user.rule {
                UserRule::Classic(rule) => {
                    self.until.insert(rule.tag().0, None);
                    self.users.entry(rule.tag().0).or_default().push(name.clone());
                }
                UserRule::Format2(rule) => {
                    let ends = ends(rule.window(), now);
                    let hints = self.hints.get(name).into_iter().flat_map(Hints::iter);
                    for (word, left) in hints.zip(ends) {
                        let until = start + left;
                        // The tag of a classic user counts for ever, and of two users' equal hints the later end.
                        let longest = self.until.entry(word).or_insert(Some(until));
                        *longest = longest.map(|end| end.max(until));
                        self.users.entry(word).or_default().push(name.clone());
                    }
                }
            }
        }
    }

    /// The users whose knocks may begin with this word, by name.
    pub(crate) fn users(&self, word: Word) -> &[String] {
        self.users.get(&word).map(Vec::as_slice).unwrap_or_default()
    }

    /// The hints of a user; `None` if they are none of format 2.
    pub(crate) fn of(&self, user: &str) -> Option<&Hints> {
        self.hints.get(user)
    }

    /// All words, each with the time until which it counts.
    pub(crate) fn all(&self) -> &BTreeMap<Word, Option<Instant>> {
        &self.until
    }
}

/// For how long each hint that was made at the time `now` counts, the earliest slot's first.
fn ends(window: Window, now: UnixMillis) -> impl Iterator<Item = Duration> {
    let width = u64::from(window.as_secs()) * 1_000;
    let first = now.0.saturating_sub(width) / SLOT;
    (first..).map(move |slot| {
        let end = (slot + 1) * SLOT + width + SLACK;
        Duration::from_millis(end.saturating_sub(now.0))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CONFIG: &str = "\
[service.ssh]
port = 22
[user.a]
tag = 'AAAA'
key = 'one of format 2'
services = ['ssh']
[user.b]
tag = 'BBBB'
key = 'a classic one'
format = 'classic'
services = ['ssh']
[user.c]
enabled = false
tag = 'CCCC'
key = 'disabled'
services = ['ssh']
";

    /// A slot begins at this time.
    const START: u64 = 27_466_000 * SLOT;

    #[test]
    fn words_follow_the_slots_and_lead_to_users() {
        let config = Config::parse(CONFIG, Path::new("/")).unwrap();
        let middle = UnixMillis(START + SLOT / 2);
        let mut words = Words::new(&config, middle);
        assert_eq!(words.users(*b"BBBB"), ["b"]);
        assert_eq!(words.all().get(b"BBBB"), Some(&None));
        let hints: Vec<Word> = words.all().keys().copied().filter(|word| word != b"BBBB").collect();
        // This slot and the next.
        assert_eq!(hints.len(), 2);
        assert!(hints.iter().all(|hint| words.users(*hint) == ["a"]));
        assert!(words.of("c").is_some() && words.users(*b"CCCC").is_empty(), "disabled");
        assert!(!words.refresh(&config, UnixMillis(middle.0 + 1_000)));
        // Ten seconds before the next slot, knocks of it begin to count; it is there already. Ten seconds into it the one
        // after it is added.
        assert!(!words.refresh(&config, UnixMillis(START + SLOT - 1)));
        assert!(words.refresh(&config, UnixMillis(START + SLOT + 10_000)));
        let later: Vec<Word> = words.all().keys().copied().filter(|word| word != b"BBBB").collect();
        assert_eq!((later.len(), later.iter().filter(|word| hints.contains(word)).count()), (2, 1));
        // A clock that was set leads to others.
        assert!(words.refresh(&config, UnixMillis(START + 100 * SLOT)));
        assert!(words.all().keys().all(|word| word == b"BBBB" || !later.contains(word)));
    }

    #[test]
    fn a_hint_ends_after_its_last_knock() {
        let window = Window::from_secs(10);
        let first: Vec<Duration> = ends(window, UnixMillis(START + 10_000)).take(2).collect();
        let counts = SLOT - 10_000 + 10_000 + SLACK;
        assert_eq!(first, [counts, counts + SLOT].map(Duration::from_millis));
    }
}

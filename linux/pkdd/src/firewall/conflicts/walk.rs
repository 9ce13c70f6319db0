//! Follows a packet through chains, and collects what may become of it.

use std::collections::BTreeMap;

use super::packet::Truth;

/// Chains may call each other this deep; the kernel allows 16 (nftables).
const DEEPEST: usize = 24;

/// More rules than this are not followed: chains that lead to each other may be many ways.
const MOST_RULES: u32 = 1_000_000;

/// What a rule does with a packet that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Accept,
    Drop,
    Reject,
    Return,
    Jump(String),
    Goto(String),
    /// Goes to another host or port.
    Redirect,
    /// Reaches what is looked for: the guard, or the rules that pass knocks to pkdd.
    Arrive,
    /// Ends in a way that is not followed.
    Unknown,
}

/// A rule, as one packet meets it.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// What it may do, in this order. A packet that matches nothing goes on to the next rule.
    pub(super) arms: Vec<(Truth, Action)>,
    pub(super) text: String,
}

/// A chain, as one packet meets it.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    pub(super) rules: Vec<Rule>,
}

/// The chains of a table.
pub(super) type Chains = BTreeMap<String, Chain>;

/// The place that decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) chain: String,
    /// The text of the rule; `None`: the policy.
    pub(super) rule: Option<String>,
    pub(super) rejects: bool,
}

/// Whether a packet may leave a chain, back to the one that led to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Returned {
    #[default]
    No,
    /// After the last rule.
    AtEnd,
    By(Place),
}

/// What may become of a packet. The place is the last one: if there is only one end, it decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) accepted: Option<Place>,
    pub(super) dropped: Option<Place>,
    pub(super) arrives: bool,
    pub(super) redirected: bool,
    unknown: bool,
    returned: Returned,
}

impl Fate {
    /// Where the packet is dropped, whatever is not known.
    pub(super) fn certainly_dropped(&self) -> Option<&Place> {
        let may_end_otherwise = self.accepted.is_some() || self.arrives || self.redirected || self.unknown;
        self.dropped.as_ref().filter(|_| !may_end_otherwise)
    }

    /// Where the packet is accepted, whatever is not known.
    pub(super) fn certainly_accepted(&self) -> Option<&Place> {
        let may_end_otherwise = self.dropped.is_some() || self.arrives || self.redirected || self.unknown;
        self.accepted.as_ref().filter(|_| !may_end_otherwise)
    }

    fn add(&mut self, other: Self) {
        self.accepted = other.accepted.or(self.accepted.take());
        self.dropped = other.dropped.or(self.dropped.take());
        self.arrives |= other.arrives;
        self.redirected |= other.redirected;
        self.unknown |= other.unknown;
    }
}

/// Follows a packet through a base chain.
pub(super) fn base(chains: &Chains, name: &str, drops: bool) -> Fate {
    let mut left = MOST_RULES;
    let mut fate = walk(chains, name, 0, &mut left);
    let policy = Place { chain: name.to_owned(), rule: None, rejects: false };
    match std::mem::take(&mut fate.returned) {
        Returned::No => {}
        Returned::AtEnd | Returned::By(_) if drops => fate.dropped = Some(policy),
        Returned::AtEnd => fate.accepted = Some(policy),
        Returned::By(place) => fate.accepted = Some(place),
    }
    fate
}

fn walk(chains: &Chains, name: &str, depth: usize, left: &mut u32) -> Fate {
    let mut fate = Fate::default();
    let (Some(chain), true) = (chains.get(name), depth < DEEPEST) else {
        fate.unknown = true;
        return fate;
    };
    for rule in &chain.rules {
        let Some(rest) = left.checked_sub(1) else {
            fate.unknown = true;
            return fate;
        };
        *left = rest;
        let place = |rejects| Place { chain: name.to_owned(), rule: Some(rule.text.clone()), rejects };
        for (truth, action) in &rule.arms {
            let mut ends = true;
            match (truth, action) {
                (Truth::No, _) => continue,
                (_, Action::Accept) => fate.accepted = Some(place(false)),
                (_, Action::Drop) => fate.dropped = Some(place(false)),
                (_, Action::Reject) => fate.dropped = Some(place(true)),
                (_, Action::Return) => fate.returned = Returned::By(place(false)),
                (_, Action::Redirect) => fate.redirected = true,
                (_, Action::Arrive) => fate.arrives = true,
                (_, Action::Unknown) => (fate.unknown, ends) = (true, false),
                (_, Action::Jump(to) | Action::Goto(to)) => {
                    let mut inner = walk(chains, to, depth + 1, left);
                    let returned = std::mem::take(&mut inner.returned);
                    fate.add(inner);
                    if matches!(action, Action::Jump(_)) {
                        ends = returned == Returned::No;
                    } else if returned != Returned::No {
                        fate.returned = returned;
                    }
                }
            }
            if *truth == Truth::Yes && ends {
                return fate;
            }
        }
    }
    fate.returned = Returned::AtEnd;
    fate
}

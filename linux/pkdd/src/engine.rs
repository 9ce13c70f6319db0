//! Decides about datagrams. Its only I/O is the journals of accepted knocks.

use std::{io, net::IpAddr};

use pkd_core::{
    CacheId, Counters, Knock as ClassicKnock, Packet, Reason, UnixMillis, UnixSeconds, Verdict,
    format2::{self, Addresses, Hints, Knock, Request},
    verify_any,
};
use pkd_packet::Datagram;
use pktables::Sender;

use crate::{
    caches::{Caches, Report},
    cause::Cause,
    config::{Config, ServiceConfig, User, UserRule},
    format::{Unit, seconds},
    hints::{Word, Words},
    journal::{Accepted, Effect},
    uptime::Uptime,
};

/// A decision about one datagram, with everything that the caller needs to act on it.
#[derive(Clone, Debug)]
pub enum Decision {
    /// A valid knock.
    Accept {
        /// The user whose knock it is.
        user: String,
        /// The services that it opens to its sender.
        services: Vec<ServiceConfig>,
        /// What to save, so that it is not accepted after a reboot.
        floor: NewFloor,
    },
    /// A valid request to end what the same key has opened to the sender.
    Close {
        /// The user whose request it is.
        user: String,
        /// What to save.
        floor: NewFloor,
    },
    /// Anything else, and why.
    Ignore(Cause),
}

/// The time of an accepted knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewFloor {
    /// Of a classic knock.
    Classic(CacheId, UnixSeconds),
    /// Of a knock of format 2.
    Format2(CacheId, UnixMillis),
}

impl Decision {
    /// The verdict of pkd-core.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Accept { .. } => Verdict::Accept,
            Self::Close { .. } => Verdict::Close,
            Self::Ignore(cause) => Verdict::Ignore(cause.reason()),
        }
    }
}

/// The replay caches of both formats, which share nothing.
pub struct FormatCaches {
    /// Of classic knocks.
    pub classic: Caches<UnixSeconds>,
    /// Of knocks of format 2.
    pub format2: Caches<UnixMillis>,
}

/// The configuration, the replay caches and the counters.
pub struct Engine {
    config: Config,
    own: Vec<Octets>,
    words: Words,
    caches: FormatCaches,
    counters: Counters,
    /// Knocks that had to wait, which are not among the replays of `counters`.
    waiting: u64,
}

/// The bytes of an address, as they stand in a packet.
type Octets = Vec<u8>;

impl Engine {
    /// An engine for the users of `config`. Knocks in `caches` are replays.
    ///
    /// # Errors
    /// A journal cannot be written.
    pub fn new(config: Config, caches: FormatCaches, now: UnixMillis) -> io::Result<Self> {
        let words = Words::new(&config, now);
        let own = octets(&config);
        let mut engine = Self { config, own, words, caches, counters: Counters::default(), waiting: 0 };
        engine.update_caches()?;
        Ok(engine)
    }

    /// Replaces users and services. Accepted knocks and counters stay.
    ///
    /// # Errors
    /// A journal cannot be written; the old configuration stays in force.
    pub fn reload(&mut self, config: Config, now: UnixMillis) -> io::Result<()> {
        let old = std::mem::replace(&mut self.config, config);
        self.update_caches().inspect_err(|_| self.config = old)?;
        self.own = octets(&self.config);
        self.words.replace(&self.config, now);
        Ok(())
    }

    fn update_caches(&mut self) -> io::Result<()> {
        let Self { config, caches, .. } = self;
        let of = |wanted: fn(&UserRule) -> bool| {
            let users = config.users.values().filter(move |user| wanted(&user.rule));
            users.map(|user| (user.cache, user.rule.window()))
        };
        caches.classic.take_rules(of(|rule| matches!(rule, UserRule::Classic(_))))?;
        caches.format2.take_rules(of(|rule| matches!(rule, UserRule::Format2(_))))
    }

    /// Prepares for knocks of the time `now`. Call it at least once a second: knocks of a slot (65.536 s) that it was not
    /// called for are ignored. Whether the [words](Self::words) are others now.
    pub fn refresh(&mut self, now: UnixMillis) -> bool {
        self.words.refresh(&self.config, now)
    }

    /// What may be a knock now.
    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The replay caches.
    pub fn caches(&mut self) -> &mut FormatCaches {
        &mut self.caches
    }

    /// What accepted knocks that are still needed mean for grants; those of each key in the order in which they were
    /// accepted.
    #[must_use]
    pub fn effects(&self) -> Vec<Effect> {
        let classic = self.caches.classic.accepted().iter().map(Accepted::effect);
        classic.chain(self.caches.format2.accepted().iter().map(Accepted::effect)).collect()
    }

    /// The state of a user's cache.
    #[must_use]
    pub fn report(&self, user: &User, now: UnixMillis) -> Option<Report> {
        match user.rule {
            UserRule::Classic(_) => self.caches.classic.report(user.cache, seconds(now)),
            UserRule::Format2(_) => self.caches.format2.report(user.cache, now),
        }
    }

    /// Datagrams by verdict since the process started.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Knocks since the process started that could not be told from a replay, because knocks had to wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// How far the sender's clock is ahead of the time `now`, in milliseconds, as the datagram says: only of an accepted knock
    /// that is certain. A classic knock has whole seconds.
    #[must_use]
    pub fn offset(&self, now: UnixMillis, datagram: &Datagram<'_>) -> Option<i64> {
        let payload = datagram.packet()?.payload;
        let user = self.words.users(*payload.first_chunk()?).first()?;
        let time = match &self.config.users.get(user)?.rule {
            UserRule::Classic(_) => ClassicKnock::parse(payload)?.time().0.checked_mul(1_000)?,
            UserRule::Format2(rule) => Knock::parse(payload)?.open(rule.keys()).time.0,
        };
        i64::try_from(i128::from(time) - i128::from(now.0)).ok()
    }

    /// Decides about a datagram at the time `now`, and counts it. `sender` is where it came from.
    ///
    /// Users may share a tag. If none of them accepts the knock, the reason is that of the user for whom most checks
    /// passed.
    pub fn handle(&mut self, now: UnixMillis, sender: Sender, datagram: &Datagram<'_>) -> Decision {
        let decision = match datagram.packet() {
            None => Decision::Ignore(Cause::Check(Reason::Length)),
            Some(packet) => self.handle_packet(now, sender, &packet, datagram),
        };
        match decision {
            Decision::Ignore(Cause::Waiting) => self.waiting += 1,
            _ => self.counters.count(decision.verdict()),
        }
        decision
    }

    fn handle_packet(
        &mut self,
        now: UnixMillis,
        sender: Sender,
        packet: &Packet<'_>,
        datagram: &Datagram<'_>,
    ) -> Decision {
        let Self { config, own, words, caches, .. } = self;
        let Some(word) = packet.payload.first_chunk() else {
            return Decision::Ignore(Cause::Check(Reason::Length));
        };
        let word: Word = *word;
        let at = Uptime::now();
        let own: Vec<&[u8]> = own.iter().map(Vec::as_slice).collect();
        let active: Vec<(&String, &User)> = words
            .users(word)
            .iter()
            .filter_map(|name| config.users.get_key_value(name))
            .filter(|(_, user)| user.is_active(seconds(now)) && !is_replaced(config, caches, user))
            .collect();
        let (mut is_close, mut waits) = (false, false);
        let accepted = verify_any(packet, active, |(name, user)| match &user.rule {
            UserRule::Classic(rule) => {
                let memory = &mut caches.classic.memory(user.cache, sender, at);
                let verdict = rule.verify(memory, seconds(now), packet);
                waits |= caches.classic.take_wait(user.cache, seconds(now));
                verdict
            }
            UserRule::Format2(rule) => {
                let Some(hints) = words.of(name) else { return Verdict::Ignore(Reason::Tag) };
                let memory = caches.format2.memory(user.cache, sender, at);
                let verdict = verify(rule, hints, memory, now, packet, datagram, &own);
                waits |= caches.format2.take_wait(user.cache, now);
                // To verify_any() it is accepted: nobody else can have made it.
                is_close = verdict == Verdict::Close;
                if is_close { Verdict::Accept } else { verdict }
            }
        });
        let (name, user) = match accepted {
            Ok(accepted) => accepted,
            Err(Reason::Replay) if waits => return Decision::Ignore(Cause::Waiting),
            Err(reason) => return Decision::Ignore(Cause::Check(reason)),
        };
        let floor = match &user.rule {
            UserRule::Classic(_) => newest(&caches.classic).map(|(id, time)| NewFloor::Classic(id, time)),
            UserRule::Format2(_) => newest(&caches.format2).map(|(id, time)| NewFloor::Format2(id, time)),
        };
        // What was accepted is the last entry.
        let Some(floor) = floor else { return Decision::Ignore(Cause::Check(Reason::Replay)) };
        let user_name = name.clone();
        if is_close {
            return Decision::Close { user: user_name, floor };
        }
        Decision::Accept { user: user_name, services: config.services_of(user).cloned().collect(), floor }
    }
}

/// Whether a user has a new key, and has used it.
fn is_replaced(config: &Config, caches: &FormatCaches, user: &User) -> bool {
    let new = user.replaced_by.as_ref().and_then(|name| config.users.get(name));
    new.is_some_and(|new| match new.rule {
        UserRule::Classic(_) => caches.classic.was_used(new.cache),
        UserRule::Format2(_) => caches.format2.was_used(new.cache),
    })
}

/// The verdict of a rule of format 2.
#[inline(never)]
fn verify(
    rule: &format2::Rule,
    hints: &Hints,
    mut memory: crate::caches::Memory<'_, UnixMillis>,
    now: UnixMillis,
    packet: &Packet<'_>,
    datagram: &Datagram<'_>,
    own: &[&[u8]],
) -> Verdict {
    // The journal has to know before the verdict; if the rest of the knock is not right, nothing is written.
    let request = Knock::parse(packet.payload).map(|knock| knock.open(rule.keys()).request);
    if request.and_then(Request::from_byte) == Some(Request::Close) {
        memory = memory.to_close();
    }
    let verdict = Addresses::with(datagram.source, datagram.destination, |addresses| {
        rule.verify(hints, &mut memory, now, packet, addresses, own)
    });
    // An IP packet has addresses of one family.
    verdict.unwrap_or(Verdict::Ignore(Reason::Digest))
}

fn newest<T: Unit>(caches: &Caches<T>) -> Option<(CacheId, T)> {
    caches.accepted().last().map(|accepted| (accepted.cache, accepted.id.time()))
}

fn octets(config: &Config) -> Vec<Octets> {
    let octets = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    config.gate.own_addresses.iter().map(octets).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use etherparse::PacketBuilder;
    use pkd_core::{
        Key, Knock, KnockParams, Port, Tag, Window,
        format2::{Bindings, Keys, Knock as Knock2},
    };

    use super::*;
    use crate::journal::{Entry, Journal};

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
    const MILLIS: UnixMillis = UnixMillis(1_800_000_000_000);

    const USERS: &str = "\
[service.ssh]
port = 22
[user.a]
format = 'classic'
tag = 'SAME'
key = 'one'
services = ['ssh']
[user.b]
format = 'classic'
tag = 'SAME'
key = 'two'
window = 100
services = ['ssh']
[user.c]
format = 'classic'
tag = 'GONE'
key = 'three'
services = ['ssh']
expires = '2020-01-01'
";

    fn engine(folder: &Path, text: &str) -> Engine {
        let config = Config::parse(text, folder).unwrap();
        let journal = <Journal>::open(&folder.join("journal")).unwrap();
        let start = Entry::Remembered(UnixSeconds(0));
        let classic = Caches::open(journal, &[start], NOW, Window::default()).unwrap();
        let start = Entry::Remembered(UnixMillis(0));
        let format2 = Caches::open(Journal::null().unwrap(), &[start], MILLIS, Window::default()).unwrap();
        Engine::new(config, FormatCaches { classic, format2 }, MILLIS).unwrap()
    }

    fn packet(tag: &str, key: &str, time: u64) -> Vec<u8> {
        let (tag, key) = (Tag::parse(tag).unwrap(), Key::parse(key).unwrap());
        let params = KnockParams { key: &key, tag, time: UnixSeconds(time), nonce: [1; 12] };
        let payload = Knock::seal(&params, Port(40_000));
        let mut bytes = Vec::new();
        let to = PacketBuilder::ipv4([192, 0, 2, 7], [192, 0, 2, 1], 64).udp(1_000, 40_000);
        to.write(&mut bytes, &payload).unwrap();
        bytes
    }

    /// The verdict, and the user of an accepted knock.
    fn check(engine: &mut Engine, packet: &[u8]) -> (Verdict, Option<String>) {
        let datagram = Datagram::from_ip(packet).unwrap();
        let decision = engine.handle(MILLIS, datagram.source.into(), &datagram);
        let user = match &decision {
            Decision::Accept { user, .. } | Decision::Close { user, .. } => Some(user.clone()),
            Decision::Ignore(_) => None,
        };
        (decision.verdict(), user)
    }

    #[test]
    fn users_may_share_a_tag() {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = engine(folder.path(), USERS);
        let ignored = |reason| (Verdict::Ignore(reason), None);
        let accepted = |user: &str| (Verdict::Accept, Some(user.to_owned()));
        // tag, key, seconds from now, verdict
        let table = [
            ("SAME", "one", 0, accepted("a")),
            ("SAME", "one", 0, ignored(Reason::Digest)),
            ("SAME", "two", 0, accepted("b")),
            ("SAME", "two", 99, accepted("b")),
            ("SAME", "two", 99, ignored(Reason::Replay)),
            ("SAME", "one", 99, ignored(Reason::Digest)),
            ("SAME", "one", 101, ignored(Reason::Window)),
            ("GONE", "three", 0, ignored(Reason::Tag)),
            ("NONE", "one", 0, ignored(Reason::Tag)),
        ];
        for (row, (tag, key, ahead, expected)) in table.into_iter().enumerate() {
            assert_eq!(check(&mut engine, &packet(tag, key, NOW.0 + ahead)), expected, "row {row}");
        }
        let counted: Vec<u64> =
            Verdict::CLASSIC.iter().map(|verdict| engine.counters().of(*verdict)).collect();
        assert_eq!(counted, [3, 0, 2, 1, 1, 2]);
        let addresses: Vec<String> = engine.effects().iter().map(|it| it.sender.to_string()).collect();
        assert_eq!(addresses, ["192.0.2.7"; 3]);
    }

    const FORMAT2: &str = "\
[gate]
own_addresses = ['203.0.113.9']
[service.ssh]
port = 22
[user.both]
tag = 'SAME'
key = 'in both formats'
format = 'classic'
services = ['ssh']
[user.bound]
tag = 'SAME'
key = 'in both formats'
require = ['source']
services = ['ssh']
";

    /// A knock of format 2 that leaves from 192.0.2.7, bound as given, and arrives from `source`.
    fn format2(time: u64, bindings: Bindings, request: Request, to: [u8; 4], source: [u8; 4]) -> Vec<u8> {
        let keys = Keys::new(&Key::parse("in both formats").unwrap(), Tag::parse("SAME").unwrap());
        let params = format2::KnockParams { time: UnixMillis(time), nonce: [1; 12], bindings, request };
        let addresses = Addresses::V4 { source: &[192, 0, 2, 7], destination: &to };
        let payload = Knock2::seal(&keys, &params, Port(40_000), &addresses);
        let mut bytes = Vec::new();
        let packet = PacketBuilder::ipv4(source, [192, 0, 2, 1], 64).udp(1_000, 40_000);
        packet.write(&mut bytes, &payload).unwrap();
        bytes
    }

    #[test]
    fn a_key_may_be_listed_for_both_formats_which_share_nothing() {
        const HERE: [u8; 4] = [192, 0, 2, 1];
        const THERE: [u8; 4] = [192, 0, 2, 7];
        let folder = tempfile::tempdir().unwrap();
        let mut engine = engine(folder.path(), FORMAT2);
        let ignored = |reason| (Verdict::Ignore(reason), None);
        let bound = |verdict| (verdict, Some("bound".to_owned()));
        let (now, source) = (MILLIS.0, Bindings::SOURCE);
        let both = source | Bindings::DESTINATION;
        let table = [
            (packet("SAME", "in both formats", NOW.0), (Verdict::Accept, Some("both".to_owned()))),
            (packet("SAME", "in both formats", NOW.0), ignored(Reason::Replay)),
            (format2(now, Bindings::NONE, Request::Open, HERE, THERE), ignored(Reason::Request)),
            (format2(now, source, Request::Open, HERE, [192, 0, 2, 8]), ignored(Reason::Digest)),
            (format2(now, source, Request::Open, HERE, THERE), bound(Verdict::Accept)),
            (format2(now, source, Request::Open, HERE, THERE), ignored(Reason::Replay)),
            (format2(now + 1, both, Request::Open, HERE, THERE), bound(Verdict::Accept)),
            // To the address outside the NAT, and to another gateway.
            (format2(now + 2, both, Request::Open, [203, 0, 113, 9], THERE), bound(Verdict::Accept)),
            (format2(now + 3, both, Request::Open, [203, 0, 113, 8], THERE), ignored(Reason::Digest)),
            (format2(now + 4, source, Request::Close, HERE, THERE), bound(Verdict::Close)),
            (format2(now + 4, source, Request::Close, HERE, THERE), ignored(Reason::Replay)),
            (format2(now + 11_000, source, Request::Open, HERE, THERE), ignored(Reason::Window)),
            (format2(now + 900_000, source, Request::Open, HERE, THERE), ignored(Reason::Tag)),
        ];
        for (row, (packet, expected)) in table.into_iter().enumerate() {
            assert_eq!(check(&mut engine, &packet), expected, "row {row}");
        }
        let effects: Vec<bool> = engine.effects().iter().map(|effect| effect.closes).collect();
        assert_eq!(effects, [false, false, false, false, true]);
        let Engine { caches, .. } = &engine;
        assert_eq!((caches.classic.accepted().len(), caches.format2.accepted().len()), (1, 4));
    }

    #[test]
    fn a_reload_forgets_no_knock_and_refuses_old_keys() {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = engine(folder.path(), USERS);
        let (one, two) = (packet("SAME", "one", NOW.0), packet("SAME", "two", NOW.0));
        assert_eq!(check(&mut engine, &one).0, Verdict::Accept);
        let without_a = Config::parse(&USERS.replace("'one'", "'else'"), folder.path()).unwrap();
        engine.reload(without_a, MILLIS).unwrap();
        assert_eq!(check(&mut engine, &one).0, Verdict::Ignore(Reason::Digest));
        // A new knock with the old key is refused, too.
        assert_eq!(check(&mut engine, &packet("SAME", "one", NOW.0 + 1)).0, Verdict::Ignore(Reason::Digest));
        assert_eq!(check(&mut engine, &packet("SAME", "else", NOW.0 + 1)).0, Verdict::Accept);
        assert_eq!(check(&mut engine, &two).0, Verdict::Accept);
        engine.reload(Config::parse(USERS, folder.path()).unwrap(), MILLIS).unwrap();
        for packet in [&one, &two] {
            assert!(matches!(check(&mut engine, packet).0, Verdict::Ignore(_)));
        }
        assert_eq!(engine.counters().of(Verdict::Accept), 3);
    }
}

//! Decides about datagrams. Its only I/O is the journal of accepted knocks.

use pkd_core::{Counters, Packet, Reason, UnixSeconds, Verdict, verify_any};
use pkd_packet::Datagram;
use pktables::Sender;

use crate::{
    caches::Caches,
    config::{Config, ServiceConfig},
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
    },
    /// Anything else, with the reason.
    Ignore(Reason),
}

impl Decision {
    /// The verdict, as it is counted.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Accept { .. } => Verdict::Accept,
            Self::Ignore(reason) => Verdict::Ignore(*reason),
        }
    }
}

/// The configuration, the replay caches and the counters.
pub struct Engine {
    config: Config,
    caches: Caches,
    counters: Counters,
}

impl Engine {
    /// An engine for the users of `config`. Knocks in `caches` are replays.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn new(config: Config, caches: Caches) -> std::io::Result<Self> {
        let mut engine = Self { config, caches, counters: Counters::default() };
        engine.update_caches()?;
        Ok(engine)
    }

    /// Replaces users and services. Accepted knocks and counters stay.
    ///
    /// # Errors
    /// The journal cannot be written; the old configuration stays in force.
    pub fn reload(&mut self, config: Config) -> std::io::Result<()> {
        let old = std::mem::replace(&mut self.config, config);
        self.update_caches().inspect_err(|_| self.config = old)
    }

    fn update_caches(&mut self) -> std::io::Result<()> {
        let users = self.config.users.values();
        self.caches.take_rules(users.map(|user| (user.cache, user.rule.window())))
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The replay caches.
    pub fn caches(&mut self) -> &mut Caches {
        &mut self.caches
    }

    /// Datagrams by verdict since the process started.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Decides about a datagram at the time `now`, and counts it. `sender` is where it came from.
    ///
    /// Users may share a tag. If none of them accepts the knock, the reason is that of the user for whom most checks
    /// passed.
    pub fn handle(&mut self, now: UnixSeconds, sender: Sender, datagram: &Datagram<'_>) -> Decision {
        let decision = match datagram.packet() {
            None => Decision::Ignore(Reason::Length),
            Some(packet) => self.handle_packet(now, sender, &packet),
        };
        self.counters.count(decision.verdict());
        decision
    }

    fn handle_packet(&mut self, now: UnixSeconds, sender: Sender, packet: &Packet<'_>) -> Decision {
        let Self { config, caches, .. } = self;
        let active = config.users.iter().filter(|(_, user)| user.is_active(now));
        let accepted = verify_any(packet, active, |(_, user)| {
            user.rule.verify(&mut caches.memory(user.cache, sender, Uptime::now()), now, packet)
        });
        match accepted {
            Ok((name, user)) => {
                let services = config.services_of(user).cloned().collect();
                Decision::Accept { user: name.clone(), services }
            }
            Err(reason) => Decision::Ignore(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use etherparse::PacketBuilder;
    use pkd_core::{Key, Knock, KnockParams, Port, Tag, Window};

    use super::*;
    use crate::journal::{Entry, Journal};

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    const USERS: &str = "\
[service.ssh]
port = 22
[user.a]
tag = 'SAME'
key = 'one'
services = ['ssh']
[user.b]
tag = 'SAME'
key = 'two'
window = 100
services = ['ssh']
[user.c]
tag = 'GONE'
key = 'three'
services = ['ssh']
expires = '2020-01-01'
";

    fn engine(folder: &Path, text: &str) -> Engine {
        let config = Config::parse(text, folder).unwrap();
        let journal = Journal::open(&folder.join("journal")).unwrap();
        let start = Entry::Remembered(UnixSeconds(0));
        Engine::new(config, Caches::open(journal, &[start], NOW, Window::default()).unwrap()).unwrap()
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
        let decision = engine.handle(NOW, datagram.source.into(), &datagram);
        let user = match &decision {
            Decision::Accept { user, .. } => Some(user.clone()),
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
        let addresses: Vec<String> =
            engine.caches().accepted().iter().map(|it| it.sender.to_string()).collect();
        assert_eq!(addresses, ["192.0.2.7"; 3]);
    }

    #[test]
    fn a_reload_forgets_no_knock_and_refuses_old_keys() {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = engine(folder.path(), USERS);
        let (one, two) = (packet("SAME", "one", NOW.0), packet("SAME", "two", NOW.0));
        assert_eq!(check(&mut engine, &one).0, Verdict::Accept);
        let without_a = Config::parse(&USERS.replace("'one'", "'else'"), folder.path()).unwrap();
        engine.reload(without_a).unwrap();
        assert_eq!(check(&mut engine, &one).0, Verdict::Ignore(Reason::Digest));
        // A new knock with the old key is refused, too.
        assert_eq!(check(&mut engine, &packet("SAME", "one", NOW.0 + 1)).0, Verdict::Ignore(Reason::Digest));
        assert_eq!(check(&mut engine, &packet("SAME", "else", NOW.0 + 1)).0, Verdict::Accept);
        assert_eq!(check(&mut engine, &two).0, Verdict::Accept);
        engine.reload(Config::parse(USERS, folder.path()).unwrap()).unwrap();
        for packet in [&one, &two] {
            assert!(matches!(check(&mut engine, packet).0, Verdict::Ignore(_)));
        }
        assert_eq!(engine.counters().of(Verdict::Accept), 3);
    }
}

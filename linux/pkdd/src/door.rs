//! Whether a datagram opens, and for whom.

use std::net::IpAddr;

use pkd_core::{Counters, Knock, Packet, Reason, UnixSeconds, Verdict, Verifier};
use pkd_packet::Datagram;

use crate::{caches::Caches, config::Config, journal::CacheId};

/// The users, what was accepted of them, and what was counted.
pub struct Door {
    config: Config,
    caches: Caches,
    counters: Counters,
}

impl Door {
    /// A door for these users, who begin with the memory of `caches`.
    ///
    /// # Errors
    /// There is no room to write down the users' windows.
    pub fn new(config: Config, caches: Caches) -> std::io::Result<Self> {
        let mut door = Self { config, caches, counters: Counters::default() };
        door.take_rules()?;
        Ok(door)
    }

    /// Other users and services from now on. What was accepted and counted stays.
    ///
    /// # Errors
    /// There is no room to write down the users' windows; the old configuration is in force.
    pub fn reload(&mut self, config: Config) -> std::io::Result<()> {
        let old = std::mem::replace(&mut self.config, config);
        self.take_rules().inspect_err(|_| self.config = old)
    }

    fn take_rules(&mut self) -> std::io::Result<()> {
        let users = self.config.users.values();
        self.caches.take_rules(users.map(|user| (user.cache, user.rule.window)))
    }

    /// What is in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What was accepted.
    pub fn caches(&mut self) -> &mut Caches {
        &mut self.caches
    }

    /// How many datagrams got which verdict since the process began.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Decides about a datagram at the time `now`, and counts it. The cache tells whose it was.
    ///
    /// Users may share a tag. Then the first whose knock it is counts, else the check that it came furthest to.
    pub fn check(&mut self, now: UnixSeconds, datagram: &Datagram<'_>) -> (Verdict, Option<CacheId>) {
        let (verdict, cache) = match datagram.packet() {
            None => (Verdict::Ignore(Reason::Length), None),
            Some(packet) => self.check_packet(now, datagram.source, &packet),
        };
        self.counters.count(verdict);
        (verdict, cache)
    }

    fn check_packet(
        &mut self,
        now: UnixSeconds,
        source: IpAddr,
        packet: &Packet<'_>,
    ) -> (Verdict, Option<CacheId>) {
        let Some(knock) = Knock::parse(packet.payload) else {
            return (Verdict::Ignore(Reason::Length), None);
        };
        let mut furthest = Reason::Tag;
        let users = self.config.users.values();
        for user in users.filter(|user| user.rule.tag == knock.tag() && user.is_active(now)) {
            let mut memory = self.caches.memory(user.cache, source, now);
            match Verifier::new(&user.rule, &mut memory).check(now, packet) {
                Verdict::Accept => return (Verdict::Accept, Some(user.cache)),
                Verdict::Ignore(reason) => {
                    let place = |reason| Reason::ALL.iter().position(|known| *known == reason);
                    if place(reason) > place(furthest) {
                        furthest = reason;
                    }
                }
            }
        }
        (Verdict::Ignore(furthest), None)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use etherparse::PacketBuilder;
    use pkd_core::{Key, KnockParams, Port, Tag, Window};

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

    fn door(folder: &Path, text: &str) -> Door {
        let config = Config::parse(text, folder).unwrap();
        let journal = Journal::open(&folder.join("journal")).unwrap();
        let start = Entry::Remembered(UnixSeconds(0));
        Door::new(config, Caches::open(journal, start, NOW, Window::default()).unwrap()).unwrap()
    }

    fn packet(tag: &str, key: &str, time: u64) -> Vec<u8> {
        let (tag, key) = (Tag::parse(tag).unwrap(), Key::parse(key).unwrap());
        let seal = KnockParams { key: &key, tag, time: UnixSeconds(time), nonce: [1; 12] };
        let payload = Knock::seal(&seal, Port(40_000));
        let mut bytes = Vec::new();
        let to = PacketBuilder::ipv4([192, 0, 2, 7], [192, 0, 2, 1], 64).udp(1_000, 40_000);
        to.write(&mut bytes, &payload).unwrap();
        bytes
    }

    fn check(door: &mut Door, packet: &[u8]) -> (Verdict, Option<CacheId>) {
        door.check(NOW, &Datagram::from_ip(packet).unwrap())
    }

    #[test]
    fn users_may_share_a_tag() {
        let folder = tempfile::tempdir().unwrap();
        let mut door = door(folder.path(), USERS);
        let ignored = |reason| (Verdict::Ignore(reason), None);
        let accepted = |door: &Door, user: &str| (Verdict::Accept, Some(door.config().users[user].cache));
        // tag, key, seconds from now, verdict
        let table = [
            ("SAME", "one", 0, accepted(&door, "a")),
            ("SAME", "one", 0, ignored(Reason::Digest)),
            ("SAME", "two", 0, accepted(&door, "b")),
            ("SAME", "two", 99, accepted(&door, "b")),
            ("SAME", "two", 99, ignored(Reason::Replay)),
            ("SAME", "one", 99, ignored(Reason::Digest)),
            ("SAME", "one", 101, ignored(Reason::Window)),
            ("GONE", "three", 0, ignored(Reason::Tag)),
            ("NONE", "one", 0, ignored(Reason::Tag)),
        ];
        for (row, (tag, key, ahead, expected)) in table.into_iter().enumerate() {
            assert_eq!(check(&mut door, &packet(tag, key, NOW.0 + ahead)), expected, "row {row}");
        }
        let counted: Vec<u64> =
            crate::report::verdicts().map(|verdict| door.counters().of(verdict)).collect();
        assert_eq!(counted, [3, 0, 2, 1, 1, 2]);
        let addresses: Vec<String> =
            door.caches().accepted().iter().map(|it| it.source.to_string()).collect();
        assert_eq!(addresses, ["192.0.2.7"; 3]);
    }

    #[test]
    fn a_reload_forgets_no_knock_and_lets_no_old_user_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut door = door(folder.path(), USERS);
        let (one, two) = (packet("SAME", "one", NOW.0), packet("SAME", "two", NOW.0));
        assert_eq!(check(&mut door, &one).0, Verdict::Accept);
        let without_a = Config::parse(&USERS.replace("'one'", "'else'"), folder.path()).unwrap();
        door.reload(without_a).unwrap();
        assert_eq!(check(&mut door, &one).0, Verdict::Ignore(Reason::Digest));
        // It is not only that the knock is an old one.
        assert_eq!(check(&mut door, &packet("SAME", "one", NOW.0 + 1)).0, Verdict::Ignore(Reason::Digest));
        assert_eq!(check(&mut door, &packet("SAME", "else", NOW.0 + 1)).0, Verdict::Accept);
        assert_eq!(check(&mut door, &two).0, Verdict::Accept);
        door.reload(Config::parse(USERS, folder.path()).unwrap()).unwrap();
        for packet in [&one, &two] {
            assert!(matches!(check(&mut door, packet).0, Verdict::Ignore(_)));
        }
        assert_eq!(door.counters().of(Verdict::Accept), 3);
    }
}

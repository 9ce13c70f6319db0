//! Makes the firewall's grants match the accepted knocks and the configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Result;
use pkd_core::{CacheId, UnixSeconds};
use pktables::{Change, Sender, ServiceName};

use super::{FirewallBackend, obstacle};
use crate::{
    config::{Config, ServiceConfig, User},
    journal::Effect,
    uptime::Uptime,
};

/// The longest time that a grant lasts, in seconds.
const MAX_GRANT: u64 = 86_400;

/// Makes missing grants, for the time that is left, and revokes those of users who may no longer open the service.
/// Grants made by other programs stay.
///
/// # Errors
/// The last error of the firewall; it does not stop the other changes.
pub fn reconcile(
    firewall: &mut dyn FirewallBackend,
    config: &Config,
    effects: &[Effect],
    (now, uptime): (UnixSeconds, Uptime),
) -> Result<()> {
    let mut result = Ok(());
    let mut keep_error = |change: Result<Change>| {
        if let Err(error) = change {
            result = Err(error);
        }
    };
    let (wanted, unwanted) = desired_grants(config, effects, now, uptime);
    for (name, sender) in unwanted {
        if let Some(service) = config.services.get(&name) {
            keep_error(firewall.revoke(service, sender));
        }
    }
    for ((name, sender), left) in wanted {
        let Some(service) = config.services.get(&name) else { continue };
        keep_error(match obstacle(firewall.has_link_grants(), sender) {
            None => firewall.grant(service, sender, left),
            // Its interface may have gone since the knock, and another may get its number.
            Some(_) => firewall.revoke(service, sender),
        });
    }
    result
}

/// Ends what knocks of keys that have closed it since have opened to this sender, and returns the services. What a knock
/// of another key has opened stays, for the time that it has left.
///
/// # Errors
/// The last error of the firewall; it does not stop the other changes.
pub fn close(
    firewall: &mut dyn FirewallBackend,
    config: &Config,
    effects: &[Effect],
    sender: Sender,
    (now, uptime): (UnixSeconds, Uptime),
) -> Result<Vec<String>> {
    let sender = config.gate.granted(sender);
    let is_own = |effect: &Effect| config.gate.granted(effect.sender) == sender;
    let own: Vec<Effect> = effects.iter().copied().filter(is_own).collect();
    let (wanted, _) = desired_grants(config, &own, now, uptime);
    let has_closed = |user: &&User| own.iter().any(|effect| effect.closes && effect.cache == user.cache);
    let mut services: BTreeSet<ServiceName> = BTreeSet::new();
    for user in config.users.values().filter(has_closed) {
        services.extend(config.services_of(user).map(|one| one.service.name.clone()));
    }
    let (mut closed, mut result) = (Vec::new(), Ok(()));
    for service in services.iter().filter_map(|name| config.services.get(name)) {
        let name = &service.service.name;
        let done = firewall.revoke(service, sender).and_then(|change| {
            match wanted.get(&(name.clone(), sender)) {
                // Made again, because the key that has closed may have opened for longer.
                Some(left) => firewall.grant(service, sender, *left).map(|_| Change::AlreadySo),
                None => Ok(change),
            }
        });
        match done {
            Ok(Change::Made) => closed.push(name.to_string()),
            Ok(Change::AlreadySo) => {}
            Err(error) => result = Err(error.context(format!("cannot close {name} for {sender}"))),
        }
    }
    result.map(|()| closed)
}

type GrantKey = (ServiceName, Sender);

/// Who has opened what.
pub struct Openers<'a> {
    config: &'a Config,
    effects: &'a [Effect],
    /// The place of each key's last knock from a sender.
    last: BTreeMap<(CacheId, Sender), usize>,
    uptime: Uptime,
}

impl<'a> Openers<'a> {
    /// As accepted knocks say.
    #[must_use]
    pub fn new(config: &'a Config, effects: &'a [Effect], uptime: Uptime) -> Self {
        let mut last = BTreeMap::new();
        for (place, effect) in (0..).zip(effects) {
            last.insert((effect.cache, config.gate.granted(effect.sender)), place);
        }
        Self { config, effects, last, uptime }
    }

    /// The user whose knock has opened this service to this sender last.
    #[must_use]
    pub fn of(&self, service: &ServiceName, sender: Sender) -> Option<&'a str> {
        let mut newest: Option<(Uptime, &str)> = None;
        for (name, user) in &self.config.users {
            let last = self.last.get(&(user.cache, sender)).and_then(|place| self.effects.get(*place));
            let Some(effect) = last.filter(|effect| !effect.closes) else { continue };
            let opens = |one: &ServiceConfig| {
                one.service.name == *service && left(one, effect, self.uptime).is_some()
            };
            if newest.is_none_or(|(at, _)| at <= effect.at) && self.config.services_of(user).any(opens) {
                newest = Some((effect.at, name));
            }
        }
        newest.map(|(_, name)| name)
    }
}

/// The grants that should exist, with the time left, and those that should not exist but may.
fn desired_grants(
    config: &Config,
    effects: &[Effect],
    now: UnixSeconds,
    uptime: Uptime,
) -> (BTreeMap<GrantKey, Duration>, Vec<GrantKey>) {
    let granted = |effect: &Effect| Effect { sender: config.gate.granted(effect.sender), ..*effect };
    let effects: Vec<Effect> = effects.iter().map(granted).collect();
    let mut wanted: BTreeMap<GrantKey, Duration> = BTreeMap::new();
    let mut unwanted = Vec::new();
    // Filled one by one: to collect them, the library would bring a sort of its own for each type, 8 KB of a router's flash.
    let mut by_cache: BTreeMap<CacheId, &User> = BTreeMap::new();
    by_cache.extend(config.users.values().filter(|user| user.is_active(now)).map(|user| (user.cache, user)));
    let mut closed: BTreeMap<(CacheId, Sender), usize> = BTreeMap::new();
    for (place, effect) in (0..).zip(&effects).filter(|(_, effect)| effect.closes) {
        closed.insert((effect.cache, effect.sender), place);
    }
    let recent =
        (0..).zip(&effects).filter(|(_, knock)| uptime.since(knock.at).is_none_or(|age| age < MAX_GRANT));
    for (place, knock) in recent {
        let is_closed = closed.get(&(knock.cache, knock.sender)).is_some_and(|last| place <= *last);
        let user = by_cache.get(&knock.cache).copied();
        for (name, service) in &config.services {
            let is_allowed =
                user.is_some_and(|user| config.services_of(user).any(|one| one.service.name == *name));
            let grant = (name.clone(), knock.sender);
            if !is_allowed || is_closed {
                unwanted.push(grant);
            } else if let Some(left) = left(service, knock, uptime) {
                let longest = wanted.entry(grant).or_insert(left);
                *longest = left.max(*longest);
            }
        }
    }
    unwanted.retain(|grant| !wanted.contains_key(grant));
    unwanted.sort_unstable();
    unwanted.dedup();
    (wanted, unwanted)
}

/// The time left of the grant that a knock made. The clock may be set meanwhile: it does not matter.
fn left(service: &ServiceConfig, knock: &Effect, uptime: Uptime) -> Option<Duration> {
    let age = Duration::from_secs(uptime.since(knock.at)?);
    service.ttl.checked_sub(age).filter(|left| !left.is_zero())
}

/// Whether a grant that this knock made is still active.
#[must_use]
pub fn is_in_use(config: &Config, knock: &Effect, uptime: Uptime) -> bool {
    config.services.values().any(|service| left(service, knock, uptime).is_some())
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, path::Path};

    use super::*;

    const CONFIG: &str = "\
[service.ssh]
port = 22
seconds = 30
[service.vpn]
protocol = 'udp'
port = 1194
seconds = 600
[user.a]
format = 'classic'
tag = 'AAAA'
key = 'one'
services = ['ssh', 'vpn']
[user.b]
format = 'classic'
tag = 'BBBB'
key = 'two'
services = ['ssh']
";

    fn knock(cache: CacheId, address: &str, at: u64) -> Effect {
        knock_on(cache, address, 0, at)
    }

    fn knock_on(cache: CacheId, address: &str, interface: u32, at: u64) -> Effect {
        let sender = Sender::new(address.parse().unwrap(), NonZeroU32::new(interface));
        Effect { cache, sender, at: Uptime(at), closes: false }
    }

    #[test]
    fn a_key_closes_what_it_has_opened_and_nothing_else() {
        let config = Config::parse(CONFIG, Path::new("/")).unwrap();
        let key = |user: &str| config.users[user].cache;
        let (ssh, vpn): (ServiceName, ServiceName) = ("ssh".parse().unwrap(), "vpn".parse().unwrap());
        let close = |cache, address: &str, at| Effect { closes: true, ..knock(cache, address, at) };
        let (one, other) = ("192.0.2.1", "192.0.2.2");
        let grant = |service: &ServiceName, address: &str| {
            (service.clone(), Sender::from(address.parse::<std::net::IpAddr>().unwrap()))
        };
        let opened =
            [knock(key("a"), one, 1_000), knock(key("b"), one, 1_005), knock(key("a"), other, 1_006)];
        // closes, grants that remain
        let table = [
            (vec![], vec![grant(&ssh, one), grant(&ssh, other), grant(&vpn, one), grant(&vpn, other)]),
            (
                vec![close(key("a"), one, 1_007)],
                vec![grant(&ssh, one), grant(&ssh, other), grant(&vpn, other)],
            ),
            (
                vec![close(key("a"), one, 1_007), close(key("b"), one, 1_007)],
                vec![grant(&ssh, other), grant(&vpn, other)],
            ),
            (
                vec![close(key("a"), one, 1_007), knock(key("a"), one, 1_007)],
                vec![grant(&ssh, one), grant(&ssh, other), grant(&vpn, one), grant(&vpn, other)],
            ),
            (
                vec![close(key("b"), other, 1_007)],
                vec![grant(&ssh, one), grant(&ssh, other), grant(&vpn, one), grant(&vpn, other)],
            ),
        ];
        for (row, (then, expected)) in table.into_iter().enumerate() {
            let effects = [&opened[..], &then].concat();
            let (wanted, unwanted) = desired_grants(&config, &effects, UnixSeconds(9), Uptime(1_010));
            assert_eq!(wanted.keys().cloned().collect::<Vec<_>>(), expected, "row {row}");
            assert!(unwanted.iter().all(|grant| !expected.contains(grant)), "row {row}");
        }
    }

    #[test]
    fn every_address_of_a_network_may_close_what_another_has_opened() {
        let text = format!("[gate]\nprefix4 = 24\nprefix6 = 64\n{CONFIG}");
        let config = Config::parse(&text, Path::new("/")).unwrap();
        let key = config.users["b"].cache;
        // who opens, who closes, what stays open
        let rows = [
            ("192.0.2.1", "192.0.2.99", None),
            ("192.0.2.1", "192.0.3.1", Some("192.0.2.0")),
            ("2001:db8::1", "2001:db8::f:9", None),
            ("2001:db8::1", "2001:db8:0:1::1", Some("2001:db8::")),
            // A link-local address is a host by itself.
            ("fe80::1", "fe80::2", Some("fe80::1")),
        ];
        for (opens, closes, expected) in rows {
            let effects = [knock(key, opens, 1_000), Effect { closes: true, ..knock(key, closes, 1_001) }];
            let (wanted, _) = desired_grants(&config, &effects, UnixSeconds(9), Uptime(1_010));
            let open: Vec<String> = wanted.keys().map(|(_, sender)| sender.to_string()).collect();
            assert_eq!(open, expected.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{opens} {closes}");
        }
    }

    #[test]
    fn a_grant_is_theirs_who_opened_it_last() {
        let config = Config::parse(CONFIG, Path::new("/")).unwrap();
        let (a, b) = (config.users["a"].cache, config.users["b"].cache);
        let effects = [
            knock(a, "192.0.2.1", 1_000),
            knock(b, "192.0.2.1", 1_005),
            knock(a, "192.0.2.2", 1_006),
            Effect { closes: true, ..knock(a, "192.0.2.2", 1_007) },
            // Somebody who was removed.
            knock(CacheId::from_bytes([9; 8]), "192.0.2.3", 1_006),
        ];
        let show = |now| {
            let openers = Openers::new(&config, &effects, Uptime(now));
            let senders = [1, 2, 3].map(|last| Sender::from(std::net::IpAddr::from([192, 0, 2, last])));
            let mut lines = Vec::new();
            for (service, sender) in config.services.keys().flat_map(|name| senders.map(|one| (name, one))) {
                lines.extend(openers.of(service, sender).map(|user| format!("{service} {sender} {user}")));
            }
            lines
        };
        assert_eq!(show(1_010), ["ssh 192.0.2.1 b", "vpn 192.0.2.1 a"]);
        assert_eq!(show(1_035), ["vpn 192.0.2.1 a"], "that for ssh has ended");
    }

    #[test]
    fn grants_follow_from_knocks_and_configuration() {
        let config = Config::parse(CONFIG, Path::new("/")).unwrap();
        let without_b =
            Config::parse(&CONFIG.replace("'two'\n", "'two'\nenabled = false\n"), Path::new("/")).unwrap();
        let (a, b) = (config.users["a"].cache, config.users["b"].cache);
        let knocks = [
            knock(a, "192.0.2.1", 1_000),
            knock(a, "192.0.2.2", 1_025),
            knock(b, "192.0.2.1", 1_010),
            knock(b, "2001:db8::3", 1_020),
            // Of another boot, in a folder that outlived it.
            knock(a, "192.0.2.4", 9_000),
            knock(b, "192.0.2.5", 9_000),
            // The same address on two links.
            knock_on(b, "fe80::6", u32::MAX, 1_020),
            knock_on(a, "fe80::6", u32::MAX - 1, 1_025),
        ];
        let show = |config: &Config, now| {
            // The clock has been set back far behind the knocks, which changes nothing.
            let (wanted, unwanted) = desired_grants(config, &knocks, UnixSeconds(7), Uptime(now));
            let wanted =
                wanted.iter().map(|((name, sender), left)| format!("{name} {sender} {}", left.as_secs()));
            let unwanted = unwanted.iter().map(|(name, sender)| format!("{name} {sender} none"));
            wanted.chain(unwanted).collect::<Vec<_>>()
        };
        assert_eq!(
            show(&config, 1_030),
            [
                "ssh 192.0.2.1 10",
                "ssh 192.0.2.2 25",
                "ssh 2001:db8::3 20",
                "ssh fe80::6%4294967294 25",
                "ssh fe80::6%4294967295 20",
                "vpn 192.0.2.1 570",
                "vpn 192.0.2.2 595",
                "vpn fe80::6%4294967294 595",
                "vpn 192.0.2.5 none",
                "vpn 2001:db8::3 none",
                "vpn fe80::6%4294967295 none",
            ]
        );
        // An address for which another user has knocked too keeps its grant.
        assert_eq!(
            show(&without_b, 1_029)[..2],
            ["ssh 192.0.2.1 1".to_owned(), "ssh 192.0.2.2 26".to_owned()]
        );
        assert!(show(&without_b, 1_029).contains(&"ssh 2001:db8::3 none".to_owned()));
        assert!(show(&without_b, 1_030).contains(&"vpn 2001:db8::3 none".to_owned()));
        assert!(show(&without_b, 1_030).contains(&"ssh 192.0.2.5 none".to_owned()));
        assert!(
            is_in_use(&config, &knocks[0], Uptime(1_599)) && !is_in_use(&config, &knocks[0], Uptime(1_600))
        );
    }

    #[test]
    fn a_knock_counts_exactly_as_long_as_the_longest_grant() {
        let text = CONFIG.replace("seconds = 600", "seconds = 86400");
        let config = Config::parse(&text, Path::new("/")).unwrap();
        let (vpn, address) = ("vpn".parse::<ServiceName>().unwrap(), "192.0.2.1");
        // user, age in seconds, seconds left, whether the grant is revoked
        let table = [
            ("a", 0, Some(86_400), false),
            ("a", 86_399, Some(1), false),
            ("a", 86_400, None, false),
            ("a", 86_401, None, false),
            // The user may not open it now, but may have opened it earlier.
            ("b", 86_399, None, true),
            ("b", 86_400, None, false),
        ];
        for (user, age, left, is_revoked) in table {
            let accepted = knock(config.users[user].cache, address, 1_000);
            let now = Uptime(1_000 + age);
            let (wanted, unwanted) = desired_grants(&config, &[accepted], UnixSeconds(9), now);
            let grant = (vpn.clone(), accepted.sender);
            assert_eq!(wanted.get(&grant).map(Duration::as_secs), left, "{user} after {age} s");
            assert_eq!(unwanted.contains(&grant), is_revoked, "{user} after {age} s");
            assert_eq!(is_in_use(&config, &accepted, now), age < 86_400, "{user} after {age} s");
        }
    }
}

//! Which grants follow from accepted knocks and the configuration, and making them so.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::Result;
use pkd_core::UnixSeconds;
use pktables::{Change, ServiceName};

use super::FirewallBackend;
use crate::{
    config::{Config, ServiceConfig},
    journal::Accepted,
};

/// Seconds that the longest grant lasts.
const MAX_GRANT: u64 = 86_400;

/// Makes the grants what the accepted knocks and the configuration say: gives what is missing, for the time that is
/// left, and takes back what a user may open no longer. Grants of others stay.
///
/// # Errors
/// The firewall refuses. The rest was done all the same.
pub fn reconcile(
    firewall: &mut dyn FirewallBackend,
    config: &Config,
    accepted: &[Accepted],
    now: UnixSeconds,
) -> Result<()> {
    let mut result = Ok(());
    let mut note = |done: Result<Change>| {
        if let Err(error) = done {
            result = Err(error);
        }
    };
    let (wanted, unwanted) = due(config, accepted, now);
    for (name, address) in unwanted {
        if let Some(service) = config.services.get(&name) {
            note(firewall.revoke(service, address));
        }
    }
    for ((name, address), left) in wanted {
        if let Some(service) = config.services.get(&name) {
            note(firewall.grant(service, address, left));
        }
    }
    result
}

type Passing = (ServiceName, IpAddr);

/// Who may pass and for how long, and who may have been let pass and may no longer.
fn due(
    config: &Config,
    accepted: &[Accepted],
    now: UnixSeconds,
) -> (BTreeMap<Passing, Duration>, Vec<Passing>) {
    let mut wanted: BTreeMap<Passing, Duration> = BTreeMap::new();
    let mut unwanted = Vec::new();
    for knock in accepted.iter().filter(|knock| now.since(knock.at) < MAX_GRANT) {
        let user = config.users.values().find(|user| user.cache == knock.cache && user.is_active(now));
        for (name, service) in &config.services {
            let may = user.is_some_and(|user| config.services_of(user).any(|one| one.service.name == *name));
            let passing = (name.clone(), knock.source);
            if !may {
                unwanted.push(passing);
            } else if let Some(left) = left(service, knock, now) {
                let longest = wanted.entry(passing).or_insert(left);
                *longest = left.max(*longest);
            }
        }
    }
    unwanted.retain(|passing| !wanted.contains_key(passing));
    unwanted.sort_unstable();
    unwanted.dedup();
    (wanted, unwanted)
}

/// How long still a knock lets its source pass. A clock that was set back does not make it longer.
fn left(service: &ServiceConfig, knock: &Accepted, now: UnixSeconds) -> Option<Duration> {
    service.ttl.checked_sub(Duration::from_secs(now.since(knock.at))).filter(|left| !left.is_zero())
}

/// Whether somebody passes for this knock still.
#[must_use]
pub fn is_in_use(config: &Config, knock: &Accepted, now: UnixSeconds) -> bool {
    config.services.values().any(|service| left(service, knock, now).is_some())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pkd_core::{KnockId, Window};

    use super::*;
    use crate::journal::CacheId;

    const CONFIG: &str = "\
[service.ssh]
port = 22
seconds = 30
[service.vpn]
protocol = 'udp'
port = 1194
seconds = 600
[user.a]
tag = 'AAAA'
key = 'one'
services = ['ssh', 'vpn']
[user.b]
tag = 'BBBB'
key = 'two'
services = ['ssh']
";

    fn knock(cache: CacheId, source: &str, at: u64) -> Accepted {
        Accepted {
            cache,
            id: KnockId::kept(UnixSeconds(at), 1),
            window: Window::default(),
            source: source.parse().unwrap(),
            at: UnixSeconds(at),
        }
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
            // By a clock that was ahead.
            knock(a, "192.0.2.4", 9_000),
        ];
        let show = |config: &Config, now| {
            let (wanted, unwanted) = due(config, &knocks, UnixSeconds(now));
            let wanted =
                wanted.iter().map(|((name, address), left)| format!("{name} {address} {}", left.as_secs()));
            let unwanted = unwanted.iter().map(|(name, address)| format!("{name} {address} none"));
            wanted.chain(unwanted).collect::<Vec<_>>()
        };
        assert_eq!(
            show(&config, 1_030),
            [
                "ssh 192.0.2.1 10",
                "ssh 192.0.2.2 25",
                "ssh 192.0.2.4 30",
                "ssh 2001:db8::3 20",
                "vpn 192.0.2.1 570",
                "vpn 192.0.2.2 595",
                "vpn 192.0.2.4 600",
                "vpn 2001:db8::3 none",
            ]
        );
        // An address that another user opens too stays.
        assert_eq!(
            show(&without_b, 1_029)[..2],
            ["ssh 192.0.2.1 1".to_owned(), "ssh 192.0.2.2 26".to_owned()]
        );
        assert!(show(&without_b, 1_029).contains(&"ssh 2001:db8::3 none".to_owned()));
        assert_eq!(show(&without_b, 1_030).last().unwrap(), "vpn 2001:db8::3 none");
        assert!(
            is_in_use(&config, &knocks[0], UnixSeconds(1_599))
                && !is_in_use(&config, &knocks[0], UnixSeconds(1_600))
        );
    }

    #[test]
    fn a_knock_counts_for_as_long_as_the_longest_grant_and_no_second_more() {
        let text = CONFIG.replace("seconds = 600", "seconds = 86400");
        let config = Config::parse(&text, Path::new("/")).unwrap();
        let (vpn, address) = ("vpn".parse::<ServiceName>().unwrap(), "192.0.2.1");
        // user, age, seconds that are left, whether it is taken back
        let table = [
            ("a", 0, Some(86_400), false),
            ("a", 86_399, Some(1), false),
            ("a", 86_400, None, false),
            ("a", 86_401, None, false),
            // He may not open it, and somebody may have let him while he could.
            ("b", 86_399, None, true),
            ("b", 86_400, None, false),
        ];
        for (user, age, left, is_taken_back) in table {
            let accepted = knock(config.users[user].cache, address, 1_000);
            let now = UnixSeconds(1_000 + age);
            let (wanted, unwanted) = due(&config, &[accepted], now);
            let passing = (vpn.clone(), accepted.source);
            assert_eq!(wanted.get(&passing).map(Duration::as_secs), left, "{user} after {age} s");
            assert_eq!(unwanted.contains(&passing), is_taken_back, "{user} after {age} s");
            assert_eq!(is_in_use(&config, &accepted, now), age < 86_400, "{user} after {age} s");
        }
    }
}

//! Who keeps rules and grants: pktables, or a firewall4 that has made sets for us.

use std::{collections::BTreeMap, fs, io, net::IpAddr, path::Path, time::Duration};

use anyhow::{Context, Result};
use ipnet::IpNet;
use pkd_core::UnixSeconds;
use pktables::{Backend, Change, ServiceName, SetPath, Sets};

use crate::{
    config::{Config, Firewall, Opening},
    handover::{self, Handover},
    journal::Accepted,
};

/// firewall4's table, of the family `inet`.
const FIREWALL4: &str = "fw4";

/// Seconds that the longest grant lasts.
const LONGEST: u64 = 86_400;

/// One of the two.
pub enum Keeper {
    /// Rules of our own.
    Pktables {
        /// The rules of the services.
        firewall: Box<dyn pktables::Firewall>,
        /// What they are made with.
        backend: Backend,
        /// For a look at the sets of nftables.
        sets: Sets,
    },
    /// firewall4 has rendered the rules, and has a set a service and family.
    Firewall4(Sets),
}

/// An address that may pass a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Which.
    pub service: ServiceName,
    /// Who.
    pub address: IpNet,
    /// How long still; `None`: without an end.
    pub left: Option<Duration>,
}

impl Keeper {
    /// Takes the one that the configuration names. Changes nothing.
    ///
    /// # Errors
    /// There is none on this machine.
    pub fn open(firewall: Firewall) -> Result<Self> {
        Ok(match firewall {
            Firewall::Firewall4 => Self::Firewall4(Sets::open()?),
            Firewall::Pktables(wanted) => {
                let backend = wanted.resolve()?;
                Self::Pktables { firewall: backend.open()?, backend, sets: Sets::open()? }
            }
        })
    }

    /// Guards the services, no longer guards those that an earlier configuration had, and has knocks handed over.
    /// `list` is the file that remembers which those are.
    ///
    /// # Errors
    /// The firewall refuses. What was changed before stays so; what is guarded stays guarded.
    pub fn prepare(&mut self, config: &Config, list: &Path) -> Result<()> {
        let Self::Pktables { firewall, backend, .. } = self else { return Ok(()) };
        let before = read_list(list)?;
        // Those that come are in the list before they are in the firewall, those that go after.
        write_list(list, before.iter().chain(config.services.keys()))?;
        for (name, opening) in &config.services {
            firewall.init(&opening.service).with_context(|| format!("service '{name}'"))?;
        }
        for name in before.iter().filter(|name| !config.services.contains_key(*name)) {
            firewall.remove(name).with_context(|| format!("service '{name}'"))?;
        }
        write_list(list, config.services.keys())?;
        Handover::of(config).place(*backend)
    }

    /// Takes all away that [`prepare`](Self::prepare) made.
    ///
    /// # Errors
    /// The firewall refuses.
    pub fn clear(&mut self, list: &Path) -> Result<()> {
        let Self::Pktables { firewall, backend, .. } = self else { return Ok(()) };
        for name in read_list(list)? {
            firewall.remove(&name).with_context(|| format!("service '{name}'"))?;
        }
        Handover::remove(*backend)?;
        write_list(list, [])
    }

    /// Lets an address pass.
    ///
    /// # Errors
    /// The firewall refuses, or has lost its rules.
    pub fn grant(&mut self, opening: &Opening, address: IpAddr, ttl: Duration) -> Result<Change> {
        let name = &opening.service.name;
        Ok(match self {
            Self::Pktables { firewall, .. } => firewall.grant(name, address.into(), Some(ttl))?,
            Self::Firewall4(sets) => {
                let set = set_name(name, address.is_ipv4());
                sets.grant(SetPath { table: FIREWALL4, set: &set }, address, Some(ttl))?
            }
        })
    }

    fn revoke(&mut self, opening: &Opening, address: IpAddr) -> Result<Change> {
        let name = &opening.service.name;
        Ok(match self {
            Self::Pktables { firewall, .. } => firewall.revoke(name, address.into())?,
            Self::Firewall4(sets) => {
                let set = set_name(name, address.is_ipv4());
                sets.revoke(SetPath { table: FIREWALL4, set: &set }, address)?
            }
        })
    }

    /// Who may pass now.
    ///
    /// # Errors
    /// The firewall refuses.
    pub fn list(&mut self, config: &Config) -> Result<Vec<Given>> {
        let mut given = Vec::new();
        match self {
            Self::Pktables { firewall, .. } => {
                for listing in firewall.list()? {
                    let service = listing.service.name;
                    if config.services.contains_key(&service) {
                        given.extend(listing.grants.into_iter().map(|grant| Given {
                            service: service.clone(),
                            address: grant.address,
                            left: grant.left,
                        }));
                    }
                }
            }
            Self::Firewall4(sets) => {
                for service in config.services.keys() {
                    for is_ipv4 in [true, false] {
                        let set = set_name(service, is_ipv4);
                        let elements = sets.list(SetPath { table: FIREWALL4, set: &set })?;
                        given.extend(elements.into_iter().map(|element| Given {
                            service: service.clone(),
                            address: element.address.into(),
                            left: element.left,
                        }));
                    }
                }
            }
        }
        Ok(given)
    }

    /// Whether the rules are there that [`prepare`](Self::prepare) made. With nftables that is looked at, by the sets
    /// that belong to them; a program that looks at those of iptables would cost too much, so they are taken to be.
    pub fn is_prepared(&mut self, config: &Config) -> bool {
        let Self::Pktables { backend: Backend::Nft, sets, .. } = self else { return true };
        let mut names = |table| sets.names(table).ok();
        // What cannot be looked at is taken to be there: the next grant will tell.
        let (Some(own), Some(theirs)) = (names(handover::TABLE), names(pktables::TABLE)) else { return true };
        let has = |name: &ServiceName| {
            let begin = format!("{}-", name.chain());
            theirs.iter().any(|set| set.strip_prefix(&begin).is_some_and(|rest| ["4", "6"].contains(&rest)))
        };
        !own.is_empty() && config.services.keys().all(has)
    }

    /// Ends what the kernel does not end by itself.
    ///
    /// # Errors
    /// The firewall refuses.
    pub fn sweep(&mut self) -> Result<()> {
        match self {
            Self::Pktables { firewall, .. } => firewall.sweep().map(drop).map_err(Into::into),
            Self::Firewall4(_) => Ok(()),
        }
    }

    /// Whether grants end only by [`sweep`](Self::sweep).
    #[must_use]
    pub fn needs_sweeping(&self) -> bool {
        matches!(self, Self::Pktables { backend: Backend::Iptables, .. })
    }

    /// Makes the grants what the accepted knocks and the configuration say: gives what is missing, for the time
    /// that is left, and takes back what a user may open no longer. Grants of others stay.
    ///
    /// # Errors
    /// The firewall refuses. The rest was done all the same.
    pub fn reconcile(&mut self, config: &Config, accepted: &[Accepted], now: UnixSeconds) -> Result<()> {
        let mut result = Ok(());
        let mut note = |done: Result<Change>| {
            if let Err(error) = done {
                result = Err(error);
            }
        };
        let (wanted, unwanted) = due(config, accepted, now);
        for (name, address) in unwanted {
            if let Some(opening) = config.services.get(&name) {
                note(self.revoke(opening, address));
            }
        }
        for ((name, address), left) in wanted {
            if let Some(opening) = config.services.get(&name) {
                note(self.grant(opening, address, left));
            }
        }
        result
    }
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
    for knock in accepted.iter().filter(|knock| now.since(knock.at) < LONGEST) {
        let user = config.users.values().find(|user| user.guard == knock.guard && user.is_active(now));
        for (name, opening) in &config.services {
            let may = user.is_some_and(|user| config.openings(user).any(|one| one.service.name == *name));
            let passing = (name.clone(), knock.source);
            if !may {
                unwanted.push(passing);
            } else if let Some(left) = left(opening, knock, now) {
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
fn left(opening: &Opening, knock: &Accepted, now: UnixSeconds) -> Option<Duration> {
    opening.ttl.checked_sub(Duration::from_secs(now.since(knock.at))).filter(|left| !left.is_zero())
}

/// Whether somebody passes for this knock still.
#[must_use]
pub fn is_in_use(config: &Config, knock: &Accepted, now: UnixSeconds) -> bool {
    config.services.values().any(|opening| left(opening, knock, now).is_some())
}

fn set_name(service: &ServiceName, is_ipv4: bool) -> String {
    format!("pkd_{service}_{}", if is_ipv4 { 4 } else { 6 })
}

fn read_list(path: &Path) -> Result<Vec<ServiceName>> {
    match fs::read_to_string(path) {
        Ok(text) => text
            .lines()
            .map(|line| line.parse().with_context(|| format!("{} is not as pkdd wrote it", path.display())))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write_list<'a>(path: &Path, names: impl IntoIterator<Item = &'a ServiceName>) -> Result<()> {
    let mut lines: Vec<String> = names.into_iter().map(|name| format!("{name}\n")).collect();
    lines.sort_unstable();
    lines.dedup();
    let new = path.with_extension("new");
    fs::write(&new, lines.concat())
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use pkd_core::{Mark, Window};

    use super::*;
    use crate::journal::GuardId;

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

    fn knock(guard: GuardId, source: &str, at: u64) -> Accepted {
        Accepted {
            guard,
            mark: Mark::kept(UnixSeconds(at), 1),
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
        let (a, b) = (config.users["a"].guard, config.users["b"].guard);
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
    fn the_list_of_services_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("services");
        assert!(read_list(&path).unwrap().is_empty());
        let names: Vec<ServiceName> =
            ["ssh", "a-b", "ssh"].iter().map(|name| name.parse().unwrap()).collect();
        write_list(&path, &names).unwrap();
        assert_eq!(read_list(&path).unwrap(), ["a-b".parse().unwrap(), "ssh".parse().unwrap()]);
        fs::write(&path, "ssh\n\n").unwrap();
        assert!(read_list(&path).is_err());
    }
}

//! Concurrent changes. `PKD_CHANGES` sets how many the longest of these tests makes (the full tests use 10,000).

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use pkd_netns::process::number;
use pktables::{Change, address};

use crate::netns::{Netns, on_each_firewall};

const WORKERS: usize = 8;
/// Changes by all of them if `PKD_CHANGES` does not say otherwise.
const FEW: u64 = 2_000;
/// One operation in so many is a command; the others are library calls.
const COMMANDS: usize = 10;
/// Addresses of each worker, besides the shared one.
const OWN: usize = 6;
const SHARED: &str = "192.0.2.250";

/// Deterministic random numbers: `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) % limit as u64).unwrap_or_default()
    }
}

fn own(worker: usize, place: usize) -> Result<IpNet> {
    let text = match place % 3 {
        0 => format!("192.0.2.{}", worker * OWN + place + 1),
        1 => format!("2001:db8::{worker}:{place}"),
        _ => format!("10.{worker}.{place}.0/24"),
    };
    Ok(address::parse(&text)?)
}

/// Returns the addresses that this worker leaves granted.
fn work(netns: &Netns, worker: usize, changes: u64) -> Result<Vec<IpNet>> {
    let mut dice = Dice(worker as u64);
    let mut firewall = netns.firewall()?;
    let ssh = "ssh".parse()?;
    let mut open = [false; OWN];
    for step in 0..usize::try_from(changes)? / WORKERS {
        let place = dice.below(OWN + 1);
        let add = dice.below(2) == 0;
        let Some(is_open) = open.get_mut(place) else {
            // All workers grant it, none revokes it.
            firewall.grant(&ssh, address::parse(SHARED)?, None)?;
            continue;
        };
        let who = own(worker, place)?;
        if step % COMMANDS == 0 {
            let command = if add { "add" } else { "delete" };
            netns.quietly(&[&format!("{command} {} --service ssh", address::short(who))])?;
        } else {
            let change = if add { firewall.grant(&ssh, who, None) } else { firewall.revoke(&ssh, who) }?;
            let expected = if *is_open == add { Change::AlreadySo } else { Change::Made };
            ensure!(change == expected, "step {step}: {who} was {is_open}, add {add}: {change:?}");
        }
        *is_open = add;
    }
    let left = open.iter().enumerate().filter(|(_, open)| **open);
    left.map(|(place, _)| own(worker, place)).collect()
}

on_each_firewall! {
    fn concurrent_changes_leave_the_expected_grants(netns) {
        netns.quietly(&["init ssh --port 22 --log"])?;
        let changes = number("PKD_CHANGES", FEW)?;
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let netns = Netns { kind: netns.kind };
                thread::spawn(move || work(&netns, worker, changes))
            })
            .collect();
        let mut expected = vec![address::parse(SHARED)?];
        for worker in workers {
            expected.extend(worker.join().expect("it does not panic")?);
        }
        expected.sort_unstable();
        ensure!(expected.len() > WORKERS, "{expected:?} are too few to tell much");
        let expected: Vec<String> = expected.into_iter().map(address::short).collect();
        assert_eq!(netns.granted("ssh")?, expected);
        Ok(())
    }
}

on_each_firewall! {
    /// The last writer may have read the ruleset before the longest grant was made.
    fn the_longest_concurrent_grant_wins(netns) {
        netns.quietly(&["init ssh --port 22"])?;
        let rounds: u64 = if netns.kind.is_nft() { 500 } else { 25 };
        let threads: Vec<_> = (0..WORKERS as u64)
            .map(|worker| {
                let netns = Netns { kind: netns.kind };
                thread::spawn(move || -> Result<()> {
                    let mut firewall = netns.firewall()?;
                    for round in 0..rounds {
                        // Each round its own address; the longest is another worker's each time.
                        let who = address::parse(&format!("10.0.{}.{}", round / 250, round % 250))?;
                        let seconds = 1000 * (1 + (worker + round) % WORKERS as u64);
                        firewall.grant(&"ssh".parse()?, who, Some(Duration::from_secs(seconds)))?;
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("it does not panic")?;
        }
        let listings = netns.firewall()?.list()?.services;
        let longest = Duration::from_secs(1000 * WORKERS as u64 - 500);
        let short = listings[0].grants.iter().filter(|grant| grant.left.is_none_or(|left| left < longest));
        let short: Vec<_> = short.collect();
        ensure!(short.is_empty(), "{} of {} are cut short: {short:?}", short.len(), listings[0].grants.len());
        Ok(())
    }
}

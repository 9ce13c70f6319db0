//! Commands killed at any moment.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use crate::netns::{Netns, command, on_each_firewall, run};

/// The state after a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has changed.
    Before,
    /// Partly changed.
    Half,
    /// The change is complete; the command had not ended yet.
    After,
}

/// Kills a command this long after its start; returns whether it was still running.
fn kill(netns: &Netns, words: &str, after: Duration) -> Result<bool> {
    let backend = if netns.kind.is_nft() { "nft" } else { "iptables" };
    let words: Vec<&str> = ["--backend", backend].into_iter().chain(words.split(' ')).collect();
    let begin = Instant::now();
    let mut child = command("pktables").args(words).stderr(Stdio::null()).spawn()?;
    // Busy-waits for the exact moment of the kill.
    while begin.elapsed() < after {
        thread::yield_now();
    }
    child.kill()?;
    let was_killed = child.wait()?.signal().is_some();
    // A program that it started goes on, and holds the lock until it ends.
    run("flock", ["/run/pktables.lock", "true"])?;
    Ok(was_killed)
}

/// Kills a command repeatedly, later each time until it has made its change, and earlier again after that, until every
/// wanted state has been seen.
fn kill_at_every_stage(
    wanted: &[State],
    mut attempt: impl FnMut(usize, Duration) -> Result<(bool, State)>,
) -> Result<()> {
    const LEAST: usize = 40;
    const MOST: usize = 500;
    let (mut after, mut seen) = (Duration::ZERO, Vec::new());
    for number in 0..MOST {
        let (was_killed, left) = attempt(number, after)?;
        if was_killed {
            seen.push(left);
        }
        let is_early = was_killed && left != State::After;
        after = if is_early { after + after / 16 + Duration::from_micros(50) } else { after * 7 / 8 };
        if number >= LEAST && wanted.iter().all(|left| seen.contains(left)) {
            return Ok(());
        }
    }
    bail!("of {wanted:?} no more than {seen:?} was seen");
}

on_each_firewall! {
    fn a_killed_add_or_delete_is_atomic(netns) {
        netns.quietly(&["init ssh --port 22 --log", "add 10.0.0.1 --service ssh", "add 200.0.0.1 --service ssh"])?;
        let without = ["10.0.0.1", "200.0.0.1"];
        let with = ["10.0.0.1", "192.0.2.7", "200.0.0.1"];
        let (add, delete) = ("add 192.0.2.7 --service ssh --timeout 1h", "delete 192.0.2.7 --service ssh");
        // command, its inverse, grants before and after
        for (words, back, before, after) in [(add, delete, &without[..], &with[..]), (delete, add, &with, &without)] {
            kill_at_every_stage(&[State::Before, State::After], |number, moment| {
                let was_killed = kill(netns, words, moment)?;
                let granted = netns.granted("ssh")?;
                let left = if granted == before { State::Before } else { State::After };
                ensure!(left == State::Before || granted == after, "{words}, {moment:?}: {granted:?}");
                ensure!(was_killed || left == State::After, "{words}, {moment:?}: it ended and did nothing");
                netns.quietly(&[words])?;
                ensure!(netns.granted("ssh")? == after, "{words}, kill {number}");
                netns.quietly(&[back])?;
                Ok((was_killed, left))
            })?;
            netns.quietly(&[words])?;
        }
        Ok(())
    }
}

on_each_firewall! {
    fn a_killed_init_or_remove_can_be_repeated(netns) {
        let init = "init nas --port 22 --log --forward 192.168.1.10:22 --forward [fd00::10]:22";
        let remove = "remove nas";
        netns.quietly(&[init])?;
        let whole = netns.rules()?;
        netns.quietly(&[remove])?;
        let nothing = netns.rules()?;
        // nftables changes in one transaction, iptables in one for each family.
        let all = [State::Before, State::After, State::Half];
        let wanted = if netns.kind.is_nft() { &all[..2] } else { &all };
        for (words, back, before, after) in [(init, remove, &nothing, &whole), (remove, init, &whole, &nothing)] {
            kill_at_every_stage(wanted, |number, moment| {
                let was_killed = kill(netns, words, moment)?;
                let rules = netns.rules()?;
                let left = match () {
                    () if rules == *before => State::Before,
                    () if rules == *after => State::After,
                    () => State::Half,
                };
                ensure!(wanted.contains(&left), "{words}, {moment:?}: {rules}");
                netns.quietly(&[words])?;
                ensure!(netns.rules()? == *after, "{words}, kill {number}, {moment:?}");
                netns.quietly(&[back])?;
                ensure!(netns.rules()? == *before, "{back} after {words}");
                Ok((was_killed, left))
            })?;
            netns.quietly(&[words])?;
        }
        Ok(())
    }
}

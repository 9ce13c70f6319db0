//! Floors of keys: what one user sends keeps nobody else out, across changes of rules and restarts. A new network namespace
//! is what a module that was just loaded is.

use std::{fs, net::SocketAddr, os::unix::process::CommandExt, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use pkd_core::{CacheId, Key, Tag};
use pkd_tests::Report;

use crate::{
    firewall::Firewall,
    gateway,
    namespace::{self, LOOPBACK, STATUS},
    network::{self, now},
    packet::{self, PORT},
    status::Status,
};

const LIMIT: Duration = Duration::from_secs(30);

/// The floors of keys without a cache that the module keeps.
const MOST: u64 = 1_024;

pub(crate) fn checks(report: &mut Report) {
    if let Err(error) = gateway::load() {
        return report.fail("loading the module", &error);
    }
    report.check(
        "who sends the greatest time locks out nobody else, whatever restarts and rules come",
        greatest,
    );
    report.check("a cache without a window that goes leaves the clocks of others alone", slow_clock);
    report.check("floors are restored for keys with rules and without", restored);
    report.check("of too many floors the smallest become one, and all hold", too_many);
    report.check(
        "IDs of keys are shown to root only, and others are told a floor that is great enough",
        for_root,
    );
    report.check("a line that is no key's floor is refused, and all with it", only_floors);
}

/// A key and its tag.
type User = (&'static str, &'static str);

const SPOILER: User = ("spoiler", "SPOI");
const HONEST: User = ("honest", "HONE");

fn status() -> Result<Status> {
    Status::parse(&fs::read_to_string(STATUS)?)
}

fn restore(lines: &[String]) -> Result<()> {
    // The kernel takes one page at a time.
    for lines in lines.chunks(64) {
        fs::write(STATUS, lines.join("\n") + "\n")?;
    }
    Ok(())
}

fn rule((key, tag): User, window: u32) -> String {
    format!("PREROUTING -i lo -p udp -m pkd --key {key} --tag {tag} --window {window} -j DROP")
}

fn add(firewall: &Firewall, user: User, window: u32) -> Result<()> {
    firewall.run(&format!("-t mangle -A {}", rule(user, window))).map(drop)
}

fn delete(firewall: &Firewall, user: User, window: u32) -> Result<()> {
    firewall.run(&format!("-t mangle -D {}", rule(user, window))).map(drop)
}

fn knock((key, tag): User, time: u64) -> Result<[u8; 56]> {
    packet::knock_with(key, tag, time, PORT)
}

/// Every rule counts it, those of other tags too, up to the one that accepts it.
fn is_accepted(payload: &[u8]) -> Result<bool> {
    let before = status()?;
    let rules: u64 = before.caches.iter().map(|cache| cache.rules).sum();
    packet::udp(LOOPBACK)?.send_to(payload, &SocketAddr::new(LOOPBACK, PORT).into())?;
    // Before Linux 6.5 it may not have met them yet: a busy kernel leaves that to a thread of its own.
    let is_accepted = |status: &Status| status.counters["Accept"] > before.counters["Accept"];
    let has_met_all = |status: &Status| status.total() >= before.total() + rules;
    let after = network::wait(LIMIT, status, |status| is_accepted(status) || has_met_all(status))?;
    Ok(is_accepted(&after))
}

fn id((key, tag): User) -> Result<CacheId> {
    Ok(CacheId::classic(Tag::parse(tag)?, &Key::parse(key)?))
}

fn greatest() -> Result<String> {
    let last = knock(SPOILER, u64::MAX)?;
    let honest = knock(HONEST, now()?)?;
    let saved = namespace::inside(|firewall| {
        restore(&["floor 0".to_owned()])?;
        add(firewall, SPOILER, 0)?;
        ensure!(is_accepted(&last)?, "the greatest time was not accepted");
        let line = format!("floor {} {}", id(SPOILER)?, u64::MAX);
        ensure!(status()?.to_save.contains(&line), "{:?} has no {line:?}", status()?);
        // A rule of the spoiler's that goes, and one of somebody else's that comes.
        delete(firewall, SPOILER, 0)?;
        add(firewall, HONEST, 3_600)?;
        ensure!(is_accepted(&honest)?, "the spoiler has locked out others");
        let status = status()?;
        ensure!(status.floor_to_save == Some(u64::MAX), "{status:?}");
        Ok(status.to_save)
    })?;
    let again = |saved: &[String]| {
        namespace::inside(|firewall| {
            // Before the first rule, as at a boot.
            restore(saved)?;
            let kept = status()?.to_save;
            ensure!(kept.iter().all(|line| saved.contains(line)), "{kept:?} of {saved:?}");
            add(firewall, SPOILER, 0)?;
            add(firewall, HONEST, 3_600)?;
            ensure!(!is_accepted(&last)? && !is_accepted(&honest)?, "a replay was accepted after {saved:?}");
            ensure!(is_accepted(&knock(HONEST, now()? + 1)?)?, "honest knocks are refused after {saved:?}");
            Ok(())
        })
    };
    again(&saved)?;
    let mut turned = saved.clone();
    turned.reverse();
    again(&turned).context("in the other order")?;
    Ok(saved.join(", "))
}

fn slow_clock() -> Result<String> {
    let time = now()? - 1_000;
    namespace::inside(|firewall| {
        restore(&["floor 0".to_owned()])?;
        add(firewall, SPOILER, 0)?;
        let accepted = knock(SPOILER, time)?;
        ensure!(is_accepted(&accepted)?, "the first was not accepted");
        delete(firewall, SPOILER, 0)?;
        let status = status()?;
        ensure!(status.caches.is_empty(), "the cache is still there: {status:?}");
        add(firewall, HONEST, 0)?;
        ensure!(is_accepted(&knock(HONEST, 5)?)?, "a sender whose clock started at 0 is locked out");
        add(firewall, SPOILER, 0)?;
        ensure!(!is_accepted(&accepted)?, "a replay was accepted when the rule was back");
        ensure!(is_accepted(&knock(SPOILER, time + 1)?)?, "a later knock was not");
        Ok("a clock of 1970".to_owned())
    })
}

fn restored() -> Result<String> {
    let time = now()?;
    namespace::inside(|firewall| {
        add(firewall, HONEST, 3_600)?;
        restore(&["floor 0".to_owned()])?;
        restore(&[
            format!("floor {} {}", id(SPOILER)?, time),
            format!("floor {} {}", id(HONEST)?, time + 2),
        ])?;
        add(firewall, SPOILER, 3_600)?;
        for (user, floor) in [(SPOILER, time), (HONEST, time + 2)] {
            ensure!(!is_accepted(&knock(user, floor)?)?, "{user:?} at the floor");
            ensure!(is_accepted(&knock(user, floor + 1)?)?, "{user:?} above the floor");
        }
        // A key's floor never falls.
        restore(&[format!("floor {} 1", id(SPOILER)?)])?;
        restore(&["floor 0".to_owned()])?;
        ensure!(!is_accepted(&knock(SPOILER, time)?)?, "a smaller floor was taken");
        Ok(format!("{:?}", status()?.to_save))
    })
}

fn too_many() -> Result<String> {
    let lines: Vec<_> =
        (1..=MOST + 10).map(|number| format!("floor {number:016x} {}", 100 + number)).collect();
    namespace::inside(|firewall| {
        restore(&["floor 0".to_owned()])?;
        restore(&lines)?;
        let to_save = status()?.to_save;
        ensure!(to_save.len() as u64 == MOST + 1, "{} lines", to_save.len());
        ensure!(to_save.contains(&"floor 110".to_owned()), "{:?}", to_save.last());
        // 1 to 10 have become one; the greatest is still a key's own.
        ensure!(
            to_save.contains(&format!("floor {:016x} {}", MOST + 10, MOST + 110)),
            "the greatest is gone"
        );
        add(firewall, HONEST, 0)?;
        ensure!(!is_accepted(&knock(HONEST, 110)?)?, "the floor of all keys does not hold");
        ensure!(is_accepted(&knock(HONEST, 111)?)?, "a later knock was refused");
        Ok(format!("{MOST} of {}", lines.len()))
    })
}

fn for_root() -> Result<String> {
    namespace::inside(|_| {
        restore(&["floor 3".to_owned(), format!("floor {} 5", id(HONEST)?)])?;
        let mut stranger = Command::new("cat");
        stranger.arg("/proc/net/xt_pkd").uid(1000).gid(1000);
        let shown = network::run(&mut stranger)?;
        let shown = Status::parse(&network::text(&shown.stdout))?;
        ensure!(shown.to_save == ["floor 5"], "{shown:?}");
        ensure!(status()?.to_save.len() == 2, "{:?}", status()?);
        Ok("floor 5".to_owned())
    })
}

fn only_floors() -> Result<String> {
    let key = id(HONEST)?;
    let wrong = [
        format!("floor {key}"),
        format!("floor {key} "),
        format!("floor {key} x"),
        format!("floor {key} 1 2"),
        format!("floor  {key} 1"),
        format!("floor {key}0 1"),
        format!("floor {}x 1", &key.to_string()[..15]),
        "floor 12 1".to_owned(),
        format!("floor {key} 18446744073709551616"),
        format!("floor 9\nfloor {key} 9\nfloor {key} -9"),
        format!("floor2 {key} 9"),
    ];
    namespace::inside(|_| {
        restore(&["floor 7".to_owned()])?;
        for line in &wrong {
            ensure!(fs::write(STATUS, format!("{line}\n")).is_err(), "{line:?} was taken");
        }
        let to_save = status()?.to_save;
        ensure!(to_save == ["floor 7"], "{to_save:?}");
        Ok(format!("{} lines", wrong.len()))
    })
}

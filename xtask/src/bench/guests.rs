//! Figures that are counted in guests, where an instruction takes a nanosecond.

use std::{collections::BTreeMap, sync::Mutex};

use super::pknock;
use crate::{
    guest, machine,
    prelude::*,
    qemu::Qemu,
    row::{
        Limit::{self, Instructions, OfTheBlocks},
        Row,
    },
};

/// What the guest runs. The second module is what `hmac(sha256)` is made of.
const MAIN: &str = "\
#!/bin/sh
for module in hmac sha256_generic; do modprobe $module; done
pkd-vm figures
reboot -f
";

/// All of one guest take less than this.
const LIMIT: Duration = Duration::from_mins(10);

type Figures = BTreeMap<String, f64>;

/// A guest is booted once in a run.
static KNOWN: Mutex<BTreeMap<String, Figures>> = Mutex::new(BTreeMap::new());

fn figures(name: &str) -> Result<Figures> {
    let known = || KNOWN.lock().map_err(|_| anyhow::anyhow!("a thread panicked"));
    if let Some(figures) = known()?.get(name) {
        return Ok(figures.clone());
    }
    let machine = machine::find(name)?;
    let pknock = pknock::build(machine)?;
    let guest = guest::build(machine, "bench", MAIN, pknock.as_ref())?;
    progress!("counting instructions in {name}");
    // With the clock of the guest's own time, by which some kernels measure their timer.
    let mut qemu =
        Qemu::start(machine, &guest, "utc,clock=vm", &["-icount", "shift=0,sleep=off", "-smp", "1"])?;
    let mut figures = Figures::new();
    while let Some(line) = qemu.line(LIMIT)? {
        if let Some(figure) = line.strip_prefix("vm-figure: ") {
            let words: Vec<&str> = figure.split(' ').collect();
            let [name, value, _unit] = words[..] else { bail!("this is no figure: {line}") };
            figures.insert(name.to_owned(), value.parse()?);
        }
        let Some(text) = line.strip_prefix("vm: ") else { continue };
        ensure!(!text.starts_with("FAIL"), "{name}: {text}");
        if text.contains(" passed, ") {
            known()?.insert(name.to_owned(), figures.clone());
            return Ok(figures);
        }
    }
    bail!("{name} ended without a result; its last words:\n{}", qemu.last_words())
}

fn of(figures: &Figures, name: &str) -> Result<f64> {
    figures.get(name).copied().with_context(|| format!("no figure {name}"))
}

/// Checks of both formats, with their limits on `x86_64` and on `mipsel`.
const CHECKS: &[(&str, &str, [Limit; 2])] = &[
    ("check-accepted", "a knock that is accepted, its cache full", [Limit::None; 2]),
    // On mipsel all but SHA-256 is built for size, so that both formats fit 32 KiB.
    ("check-forged", "a forgery with the right tag and time", [OfTheBlocks(1.10), OfTheBlocks(1.20)]),
    ("check-replayed", "a knock that was accepted before", [Limit::None; 2]),
    ("check-other-tag", "another tag", [Instructions(60.0), Instructions(80.0)]),
    ("check-no-knock", "another length", [Instructions(60.0), Instructions(80.0)]),
    (
        "check2-accepted",
        "format 2: a knock that is accepted, its cache full",
        [OfTheBlocks(1.35), OfTheBlocks(1.7)],
    ),
    (
        "check2-accepted-bound",
        "format 2: the same, bound to two IPv4 addresses",
        [OfTheBlocks(1.35), OfTheBlocks(1.7)],
    ),
    (
        "check2-accepted-ipv6",
        "format 2: the same, bound to two IPv6 addresses: three blocks",
        [Limit::None; 2],
    ),
    (
        "check2-forged",
        // The goals are 600 and 1,300. On mipsel the rounds of SipHash alone take 990, and they have loops, because the
        // module's code may take only 32 KiB.
        "format 2: a forgery with the hint and the time of a captured knock",
        [Instructions(600.0), Instructions(1_500.0)],
    ),
    (
        "check2-forged-full",
        "format 2: the same while its cache is full",
        [Instructions(750.0), Instructions(1_710.0)],
    ),
    ("check2-other-hint", "format 2: no knock of ours", [Instructions(60.0), Instructions(80.0)]),
    ("check2-no-knock", "format 2: another length", [Instructions(60.0), Instructions(80.0)]),
];

/// A check by verdict, beside two bare blocks; an error where one takes more than it may.
pub(super) fn checks(name: &str) -> Result<Vec<Row>> {
    let figures = figures(name)?;
    let bare = of(&figures, "two-blocks")?;
    let place = format!("{name}, QEMU");
    let mut rows = vec![Row::new("two bare SHA-256 blocks", format!("{bare:.0}"), &place)];
    for (figure, what, [x86, mipsel]) in CHECKS {
        let limit = if name.starts_with("x86_64") { x86 } else { mipsel };
        rows.push(Row::check(what, of(&figures, figure)?, bare, *limit, &place)?);
    }
    let cache = format!("{:.0} bytes", of(&figures, "cache")?);
    rows.push(Row::new("memory of a cache (240 knocks), without the kernel's part", cache, place));
    Ok(rows)
}

/// Packets through a rule, beside a rule that only drops.
pub(super) fn packets(name: &str) -> Result<Vec<Row>> {
    let figures = figures(name)?;
    let bare = of(&figures, "packet-bare")?;
    let mut rows = Vec::new();
    // With how much of the first a packet may take at most.
    for (figure, what, most) in [
        ("packet-bare", "a rule that drops, alone", None),
        ("packet-short", "-m pkd before it: another length", None),
        ("packet-other-tag", "-m pkd before it: another tag", None),
        ("packet-forged", "-m pkd before it: forgeries with the right tag and time", None),
        ("packet-users-16", "16 such rules, of users with one tag: the same forgeries", None),
        ("packet-users-256", "256 such rules: the same forgeries", None),
        ("packet2-accepted", "-m pkd --format 2 before it: knocks, bound to their source", None),
        (
            "packet2-forged",
            "-m pkd --format 2 before it: forgeries with the hint and the time of a captured knock",
            Some(1.25),
        ),
        ("packet2-noise", "-m pkd --format 2 before it: other datagrams of a knock's length", Some(1.06)),
        ("packet2-users-16", "16 such rules, of users with one tag: the same datagrams", None),
        ("packet2-users-256", "256 such rules: the same datagrams", None),
        (
            "pknock-short",
            "-m pknock (xtables-addons) before it: another length; one of its knocks' length stops this kernel",
            None,
        ),
    ] {
        let Some(value) = figures.get(figure).copied() else { continue };
        // Nanoseconds of the guest's clock are instructions.
        let rate = format!("{:.0} packets/s", 1e9 / value);
        let limit = most.map_or_else(String::new, |most: f64| format!(", at most {most:.2}"));
        let beside = format!("{value:.0} instructions each, {:.2} of the first{limit}", value / bare);
        ensure!(most.is_none_or(|most| value <= most * bare), "{name}: {what}: {beside}");
        rows.push(Row::new(what, rate, format!("{name}, QEMU, loopback")).beside(beside));
    }
    Ok(rows)
}

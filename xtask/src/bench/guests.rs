//! Figures that are counted in guests, where an instruction takes a nanosecond.

use std::{cell::RefCell, collections::BTreeMap, fmt, rc::Rc, time::Duration};

use anyhow::{Context, Result, bail, ensure};

use super::pknock;
use crate::{
    guest::{self, Extra},
    machine,
    qemu::Qemu,
    row::Row,
    run,
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

type Figures = Rc<BTreeMap<String, f64>>;

thread_local! {
    /// A guest is booted once in a run.
    static KNOWN: RefCell<BTreeMap<String, Figures>> = RefCell::default();
}

fn figures(name: &str) -> Result<Figures> {
    if let Some(known) = KNOWN.with_borrow(|known| known.get(name).cloned()) {
        return Ok(known);
    }
    let machine = machine::find(name)?;
    let pknock = pknock::build(machine)?;
    let extra = match &pknock {
        Some(built) => Extra {
            needed: &["hmac", "sha256_generic"],
            modules: std::slice::from_ref(&built.module),
            extensions: std::slice::from_ref(&built.extension),
        },
        None => Extra::default(),
    };
    let guest = guest::build_with(machine, "bench", MAIN, &extra)?;
    run::progress(&format!("counting instructions in {name}"));
    // With the clock of the guest's own time, by which some kernels measure their timer.
    let mut qemu =
        Qemu::start(machine, &guest, "utc,clock=vm", &["-icount", "shift=0,sleep=off", "-smp", "1"])?;
    let (mut figures, mut ended) = (BTreeMap::new(), false);
    while let Some(line) = qemu.line(LIMIT)? {
        if let Some(figure) = line.strip_prefix("vm-figure: ") {
            let words: Vec<&str> = figure.split(' ').collect();
            let [name, value, _unit] = words[..] else { bail!("this is no figure: {line}") };
            figures.insert(name.to_owned(), value.parse()?);
        }
        if let Some(text) = line.strip_prefix("vm: ") {
            ensure!(!text.starts_with("FAIL"), "{name}: {text}");
            if text.contains(" passed, ") {
                ended = true;
                break;
            }
        }
    }
    ensure!(ended, "{name} ended without a result; its last words:\n{}", qemu.last_words());
    let figures = Rc::new(figures);
    KNOWN.with_borrow_mut(|known| known.insert(name.to_owned(), Rc::clone(&figures)));
    Ok(figures)
}

fn of(figures: &Figures, name: &str) -> Result<f64> {
    figures.get(name).copied().with_context(|| format!("no figure {name}"))
}

/// What a check may take.
#[derive(Clone, Copy)]
enum Limit {
    OfTheBlocks(f64),
    Instructions(f64),
}

impl Limit {
    fn holds(self, value: f64, blocks: f64) -> bool {
        match self {
            Self::OfTheBlocks(ratio) => value <= ratio * blocks,
            Self::Instructions(most) => value <= most,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfTheBlocks(ratio) => write!(f, "at most {ratio:.2}"),
            Self::Instructions(most) => write!(f, "at most {most} instructions"),
        }
    }
}

/// `Rule::verify` by verdict, beside two bare blocks; an error where one takes more than it may.
pub(super) fn checks(name: &str) -> Result<Vec<Row>> {
    let figures = figures(name)?;
    let bare = of(&figures, "two-blocks")?;
    let place = format!("{name}, QEMU");
    let instructions = |value: f64| format!("{value:.0}");
    let mut rows = vec![Row::new("two bare SHA-256 blocks", instructions(bare), &place)];
    for (figure, what, limit) in [
        ("check-accepted", "a knock that is accepted, its cache full", None),
        ("check-forged", "a forgery with the right tag and time", Some(Limit::OfTheBlocks(1.10))),
        ("check-replayed", "a knock that was accepted before", None),
        ("check-other-tag", "another tag", Some(Limit::Instructions(60.0))),
        ("check-no-knock", "another length", Some(Limit::Instructions(60.0))),
    ] {
        let value = of(&figures, figure)?;
        let ratio = format!("{:.2} of the blocks", value / bare);
        // A number of instructions is one machine's.
        let is_x86 = machine::find(name)?.kernel_arch == "x86";
        let limit = limit.filter(|limit| matches!(limit, Limit::OfTheBlocks(_)) || is_x86);
        let beside = match limit {
            None => ratio,
            Some(limit) if limit.holds(value, bare) => format!("{ratio}, {limit}"),
            Some(limit) => bail!("{what} takes {value:.0} instructions on {name}, {ratio}; it may {limit}"),
        };
        rows.push(Row::new(what, instructions(value), &place).beside(beside));
    }
    rows.push(Row::new(
        "memory of a cache (256 knocks)",
        format!("{:.0} bytes", of(&figures, "cache")?),
        place,
    ));
    Ok(rows)
}

/// Packets through a rule, beside a rule that only drops.
pub(super) fn packets(name: &str) -> Result<Vec<Row>> {
    let figures = figures(name)?;
    let bare = of(&figures, "packet-bare")?;
    let place = format!("{name}, QEMU, loopback");
    let mut rows = Vec::new();
    for (figure, what) in [
        ("packet-bare", "a rule that drops, alone"),
        ("packet-short", "-m pkd before it: another length"),
        ("packet-other-tag", "-m pkd before it: another tag"),
        ("packet-forged", "-m pkd before it: forgeries with the right tag and time"),
        (
            "pknock-short",
            "-m pknock (xtables-addons) before it: another length; one of its knocks' length stops this kernel",
        ),
    ] {
        let Some(value) = figures.get(figure).copied() else { continue };
        // Nanoseconds of the guest's clock are instructions.
        rows.push(
            Row::new(what, format!("{:.0} packets/s", 1e9 / value), &place)
                .beside(format!("{value:.0} instructions each, {:.2} of the first", value / bare)),
        );
    }
    Ok(rows)
}

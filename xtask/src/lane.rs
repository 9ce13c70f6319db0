//! Boots a machine and runs the tests inside it.

use std::{fs, time::Duration};

use anyhow::{Result, bail};

use crate::{
    guest,
    machine::{Card, Machine},
    qemu::Qemu,
    run, toolchain,
};

/// What the guest runs; QEMU ends when it is done.
const MAIN: &str = "#!/bin/sh\npkd-lane\nsync\nreboot -f\n";

/// The router and its clients are both in the guest, each with a network card of its own; QEMU is
/// the cable between them.
fn cable(card: &Card) -> Vec<String> {
    let plug = |(name, number)| {
        let device = format!("{},netdev={name},mac=52:54:00:00:00:0{number}", card.device);
        ["-netdev".to_owned(), format!("hubport,id={name},hubid=0"), "-device".to_owned(), device]
    };
    [("router", 1), ("client", 2)].into_iter().flat_map(plug).collect()
}

/// A single test inside waits for less than this.
const SILENCE: Duration = Duration::from_secs(240);

/// Builds the guest, runs the lane, and fails if one of its tests does.
pub(crate) fn run(machine: &'static Machine) -> Result<()> {
    let guest = guest::build(machine, "lane", MAIN)?;
    run::progress(&format!("lane {}: booting", machine.name));
    let mut qemu = Qemu::start(machine, &guest, &cable(machine.card))?;
    let summary = watch(machine, &mut qemu);
    let log = toolchain::root().join("target").join(format!("lane-{}.log", machine.name));
    fs::write(&log, qemu.log())?;
    match summary? {
        Some(text) if text.ends_with(" 0 failed") => Ok(()),
        Some(text) => bail!("lane {}: {text}; the console is in {}", machine.name, log.display()),
        None => bail!("lane {} ended without a result; its last words:\n{}", machine.name, qemu.last_words()),
    }
}

/// Shows what the program in the guest says; its last line, if it comes to that.
fn watch(machine: &Machine, qemu: &mut Qemu) -> Result<Option<String>> {
    let mut summary = None;
    while let Some(line) = qemu.line(SILENCE)? {
        if let Some(text) = line.strip_prefix("lane: ") {
            println!("{}: {text}", machine.name);
            if text.contains(" passed, ") {
                summary = Some(text.to_owned());
            }
        }
    }
    Ok(summary)
}

//! Boots a machine and runs the tests inside it.

use crate::{
    debian::Tree,
    guest::{self, Guest},
    kernel::Built,
    kernels, kmod,
    machine::{self, Card, Machine, System},
    prelude::*,
    qemu::Qemu,
};

/// What the guest runs: at the second boot, where there is something from the first, the checks of that.
const MAIN: &str = "\
#!/bin/sh
if [ -e /etc/kept-knock ]; then pkd-vm reboot; else pkd-vm {part}; fi
echo 1 > /proc/sys/kernel/sysrq
{reboot}
";

/// Should the reboot hang, the kernel says after a while who waits for what.
const REBOOT: &str = "\
(sleep 20; echo w > /proc/sysrq-trigger) &
reboot -f";

/// One in fifty orderly reboots of Linux 6.1 and 6.12 on a QEMU with two processors does not end: the driver of the
/// card, giving its interrupt back, waits for a lock of the interrupt controller's. pkd has no part in it, so the
/// guest resets itself without asking its drivers, once the host has read the result and typed a line.
const RESET: &str = "\
read -r _ < /dev/console
echo b > /proc/sysrq-trigger";

/// The way down that a machine takes.
fn reboot(machine: &Machine) -> &'static str {
    if machine.kernel_arch == "x86" { RESET } else { REBOOT }
}

/// The router and its clients are both in the guest, each with a network card of its own; QEMU is
/// the cable between them.
fn cable(card: &Card) -> Vec<String> {
    let plug = |(name, number)| {
        let device = format!("{},netdev={name},mac=52:54:00:00:00:0{number}", card.device);
        ["-netdev".to_owned(), format!("hubport,id={name},hubid=0"), "-device".to_owned(), device]
    };
    [("router", 1), ("client", 2)].into_iter().flat_map(plug).collect()
}

/// Parts for which a guest needs packages to install.
const OF_PACKAGES: [&str; 2] = ["packages", "nft"];

/// What a guest can be asked for by name, besides `reboot`, which a second boot does.
pub(crate) const PARTS: [&str; 13] = [
    "match",
    "flood",
    "packages",
    "nft",
    SHORT,
    "differential",
    "keys",
    "processors",
    "floors",
    "format2",
    "sanitizers",
    "sanitizers-quick",
    "races",
];

/// A part that takes about a minute.
pub(crate) const SHORT: &str = "short";

/// A guest prints a line at least this often: no single check takes longer.
const TIMEOUT: Duration = Duration::from_mins(4);

/// The same under sanitizers, which slow everything down.
const SANITIZERS_TIMEOUT: Duration = Duration::from_mins(15);

/// A guest has rebooted this long after its last check.
const END: Duration = Duration::from_mins(1);

/// Where the clock of the second boot begins: long before the first.
const SET_BACK: &str = "2024-02-29T12:00:00";

/// Builds the guest, runs these parts of the checks, and fails if one of them does; the number of checks that passed.
pub(crate) fn run_part(machine: &'static Machine, part: &str) -> Result<u32> {
    let name = machine.name;
    if let Some(other) = part.split_whitespace().find(|word| !PARTS.contains(word)) {
        bail!("unknown part {other:?}: expected one or more of {}", PARTS.join(", "));
    }
    // A guest with another purpose has no packages to install.
    let has_packages = part.split_whitespace().any(|word| OF_PACKAGES.contains(&word));
    let purpose = if has_packages { "vm" } else { "match" };
    let mut guest = guest::build(machine, purpose, &main(machine, part), None)?;
    progress!("vm {name}: booting");
    let (passed, flash) = boot(machine, &guest, "utc")?;
    let Some(text) = flash else {
        // Its userland lacks what the service needs, and the vm has said so.
        let is_small = matches!(machine.system, System::Sources { .. });
        let once = is_small || part.split_whitespace().all(|word| word != "packages");
        ensure!(once, "vm {name}: the first boot left nothing for the second");
        return Ok(passed);
    };
    // A second archive behind the first adds to the guest's files.
    guest.initrd = guest.with_more_files(&cmd!("base64 --decode").read_with(text.as_bytes())?)?;
    progress!("vm {name}: booting again, with the clock set back");
    Ok(passed + boot(machine, &guest, SET_BACK)?.0)
}

/// Runs all that the machine is for, and keeps its row of the table of kernels, for [`kernels::write`].
pub(crate) fn run_whole(machine: &'static Machine) -> Result<()> {
    let checks = run_part(machine, machine.parts)?;
    kernels::passed(machine, &Tree::of(machine)?.kernel.release, checks, &kmod::built(machine))
}

/// Runs the short checks on this kernel, with this module.
pub(crate) fn run_short(machine: &'static Machine, kernel: Built, module: &Path) -> Result<()> {
    let guest = guest::build_with(machine, kernel, module, "short", &main(machine, SHORT), None)?;
    progress!("vm {}: booting with {}", machine.name, module.display());
    boot(machine, &guest, "utc").map(drop)
}

fn main(machine: &Machine, part: &str) -> String {
    MAIN.replace("{part}", part).replace("{reboot}", reboot(machine))
}

/// The match on the kernels that watch themselves.
pub(crate) fn run_sanitizers() -> Result<()> {
    machine::WATCHED.into_iter().try_for_each(run_whole)
}

/// Runs a guest to its end; how many checks passed, and what it wants its next boot to find, if that was said.
fn boot(machine: &'static Machine, guest: &Guest, clock: &str) -> Result<(u32, Option<String>)> {
    let mut qemu = Qemu::start(machine, guest, clock, &cable(machine.card))?;
    let mut flash = String::new();
    let summary = watch(machine, &mut qemu, &mut flash);
    let again = if clock == SET_BACK { "-again" } else { "" };
    let log = at("target").join(format!("vm-{}{again}.log", machine.name));
    fs::write(&log, qemu.log())?;
    match summary? {
        Some(text) => match all_passed(&text) {
            Some(passed) => Ok((passed, Some(flash).filter(|text| !text.is_empty()))),
            None => bail!("vm {}: {text}; the console is in {}", machine.name, log.display()),
        },
        None => bail!("vm {} ended without a result; its last words:\n{}", machine.name, qemu.last_words()),
    }
}

/// Shows what the program in the guest says; its last line, if it comes to that.
fn watch(machine: &Machine, qemu: &mut Qemu, flash: &mut String) -> Result<Option<String>> {
    let timeout = if machine.is_watched() { SANITIZERS_TIMEOUT } else { TIMEOUT };
    while let Some(line) = qemu.line(timeout)? {
        if let Some(text) = line.strip_prefix("vm-flash: ") {
            flash.push_str(text);
            flash.push('\n');
        }
        if let Some(text) = line.strip_prefix("vm: ") {
            println!("{}: {text}", machine.name);
            if text.contains(" passed, ") {
                wait_for_the_end(machine, qemu)?;
                return Ok(Some(text.to_owned()));
            }
        }
    }
    Ok(None)
}

/// How many passed by a guest's last line, `N passed, 0 failed`, if there were checks and all of them passed.
fn all_passed(summary: &str) -> Option<u32> {
    summary.strip_suffix(" passed, 0 failed")?.parse().ok().filter(|count| *count > 0)
}

/// A guest that has passed everything must also reboot: one that hangs then has a fault of the kernel's, or of ours.
fn wait_for_the_end(machine: &Machine, qemu: &mut Qemu) -> Result<()> {
    // It ends without that line if it has fallen over already.
    let _ = qemu.type_line("");
    let end = Instant::now() + END;
    while let Ok(Some(_)) = qemu.line(end.saturating_duration_since(Instant::now())) {}
    let (name, seconds) = (machine.name, END.as_secs());
    ensure!(
        qemu.has_ended(),
        "{name} did not reboot within {seconds} s; its last words:\n{}",
        qemu.last_words()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_every_machine_are_known() {
        for machine in machine::all() {
            let mut parts = machine.parts.split(' ');
            assert!(parts.all(|part| PARTS.contains(&part)), "{}: {:?}", machine.name, machine.parts);
        }
    }

    #[test]
    fn a_guest_that_tested_nothing_has_not_passed() {
        for (summary, expected) in [
            ("114 passed, 0 failed", Some(114)),
            ("1 passed, 0 failed", Some(1)),
            ("0 passed, 0 failed", None),
            ("114 passed, 1 failed", None),
            ("114 passed, 10 failed", None),
            (" passed, 0 failed", None),
        ] {
            assert_eq!(all_passed(summary), expected, "{summary:?}");
        }
    }
}

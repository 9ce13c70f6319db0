//! A router that goes down and comes up with its clock set back: what the first boot leaves on flash is handed
//! to the second over the console.

use std::fs;

use anyhow::{Context, Result, ensure};
use pkd_tests::Report;

use crate::{
    gateway::Gateway,
    network::{Network, later_than, now, set_clock, shell},
    packet::{self, PORT},
    router::{self, FLOOR, is_closed, service},
    status::Status,
};

/// A knock recorded by an eavesdropper.
const KEPT: &str = "/etc/kept-knock";

/// What the first boot ends with; the packages are installed and open.
pub(crate) fn goes_down(report: &mut Report, v4: &Gateway<'_>) {
    report.check("packages: when the router goes down, flash holds what was accepted", || {
        let time = now()?;
        let payload = packet::knock_with(&router::key()?, "PKD0", time, PORT)?;
        v4.expect("Accept", &payload)?;
        service("shutdown")?;
        let floors = fs::read_to_string(FLOOR)?;
        let greatest = floors.lines().next().context("no floor on flash")?;
        let floor: u64 = greatest.parse().context("the floor on flash")?;
        ensure!(floor >= time, "{floor} is on flash, {time} was accepted");
        fs::write(KEPT, payload)?;
        let flash =
            shell(&format!("find /etc/pkd {KEPT} /etc/config/pkd | cpio -o -H newc 2>/dev/null | base64"))?;
        for line in flash.lines() {
            println!("vm-flash: {line}");
        }
        Ok(format!("floor {floor}"))
    });
}

/// The second boot.
pub(crate) fn comes_up(report: &mut Report, network: &Network, v4: &Gateway<'_>) {
    report.check("reboot: the clock is before what was accepted", || {
        let (now, kept) = (now()?, kept_time()?);
        ensure!(now < kept, "it is {now}, {kept} was accepted");
        Ok(format!("by {} s", kept - now))
    });
    report.check("reboot: no knock counts before the time is known", || waits(network, v4));
    report.check("reboot: when NTP has the time, a kept knock is a replay still", || replays(v4));
    report.check("reboot: an honest knock opens, one window later", || opens(v4));
}

fn kept_time() -> Result<u64> {
    let payload = fs::read(KEPT)?;
    let (time, _) = payload.get(4..).and_then(|rest| rest.split_first_chunk()).context("no time")?;
    Ok(u64::from_le_bytes(*time))
}

fn send_kept(v4: &Gateway<'_>) -> Result<()> {
    let payload = fs::read(KEPT)?;
    v4.network.at_client(|| packet::send(v4.family.client(), v4.family.router(), PORT, &payload))
}

fn waits(network: &Network, v4: &Gateway<'_>) -> Result<String> {
    router::prepare(network.card())?;
    shell("/etc/init.d/firewall start")?;
    for package in router::PACKAGES {
        router::install(package)?;
    }
    ensure!(router::state()? == "waiting-for-time", "{}", router::status()?);
    // With the clock that the router woke with, and with one that fits the knock: nobody looks at either.
    send_kept(v4)?;
    set_clock(kept_time()? + 3)?;
    send_kept(v4)?;
    for not_yet in ["ACTION=step stratum=3", "ACTION=unsync stratum=16", "ACTION=stratum stratum=16"] {
        shell(&format!("{not_yet} sh /etc/hotplug.d/ntp/50-pkd"))?;
        ensure!(router::state()? == "waiting-for-time", "{not_yet}: {}", router::status()?);
    }
    is_closed(v4)?;
    ensure!(Status::read()?.total() == 0, "{:?}", Status::read()?);
    ensure!(shell("iptables -t mangle -S")?.matches("pkd").count() == 0, "there are rules");
    Ok("waiting-for-time".to_owned())
}

fn replays(v4: &Gateway<'_>) -> Result<String> {
    let kept = kept_time()?;
    set_clock(kept + 3)?;
    shell("ACTION=stratum stratum=3 sh /etc/hotplug.d/ntp/50-pkd")?;
    ensure!(router::state()? == "open", "{}", router::status()?);
    // The reload may have taken longer than the window of the knock.
    let verdict = v4.verdict(|| {
        set_clock(kept + 3)?;
        send_kept_here(v4)
    })?;
    ensure!(verdict == "Replay", "{verdict}, {} s after it was made", now()? - kept);
    is_closed(v4)?;
    Ok(format!("{} s after it was made", now()? - kept))
}

/// The same from a thread that is at the client already.
fn send_kept_here(v4: &Gateway<'_>) -> Result<()> {
    packet::send(v4.family.client(), v4.family.router(), PORT, &fs::read(KEPT)?)
}

fn opens(v4: &Gateway<'_>) -> Result<String> {
    let floor = Status::read()?.cache()?.floor;
    ensure!(floor > kept_time()?, "the floor is {floor}");
    v4.expect("Replay", &packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?)?;
    later_than(floor)?;
    v4.expect("Accept", &packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?)?;
    v4.ssh_answers()
}

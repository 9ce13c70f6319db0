//! The main job: closed, one knock, open to that address, closed again.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use pkd_core::{Packet, Port, ReplayGuard, UnixSeconds, Verifier};

use crate::{
    gate::{self, Gate},
    lab::now,
    packet::{KEY, PORT, TAG, knock, knock_with},
    report::Report,
    status::Status,
};

/// Seconds that the door stays open after a knock; the original's README has 60.
const OPEN: u32 = 6;

const KEY_FILE: &str = "/tmp/key";
const WRONG_KEY_FILE: &str = "/tmp/wrong-key";

pub(crate) fn claims(report: &mut Report, gate: &Gate<'_>) {
    report.claim(&gate.name("the three rules go in"), || {
        for (path, key) in [(KEY_FILE, KEY), (WRONG_KEY_FILE, "tset")] {
            fs::write(path, key)?;
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        }
        gate::reload()?;
        gate.close(OPEN)?;
        Ok(Gate::rule())
    });
    report.claim(&gate.name("SSH is refused before a knock"), || gate.ssh_is_refused());
    ignored(report, gate);
    report.claim(&gate.name("one bit turned in any of the 56 bytes is ignored"), || bits(gate));
    report.claim(&gate.name("a good knock opens SSH"), || {
        let verdict = gate.knock(&good())?;
        ensure!(verdict == "Accept", "counted as {verdict}");
        gate.ssh_answers()
    });
    report.claim(&gate.name("another address is still refused"), || {
        let banner = gate.lab.ssh(gate.family, gate.family.other())?;
        ensure!(banner.is_none(), "port 22 says {banner:?}");
        Ok(gate.family.other().to_string())
    });
    report.claim(&gate.name("the door closes again after its time"), || closes(gate));
    let mut used = Vec::new();
    report.claim(&gate.name("a replay is ignored, and counted as one"), || {
        let payload = knock(now()?)?;
        gate.expect("Accept", &payload)?;
        gate.expect("Replay", &payload)?;
        used.extend(payload);
        Ok(format!("{} bytes, twice", used.len()))
    });
    report.claim(&gate.name("with the rules flushed and added again it is still a replay"), || {
        gate.close(OPEN)?;
        gate.ssh_is_refused()?;
        gate.expect("Replay", &used)?;
        gate.ssh_is_refused()
    });
}

/// The match as rule sets and extensions of old use it.
pub(crate) fn claims_of_revision_0(report: &mut Report, gate: &Gate<'_>) {
    let old = gate.of_revision_0();
    report.claim(&old.name("the three rules go in"), || {
        gate::reload()?;
        old.close(OPEN)?;
        let refused = old.firewall.refuses(&["-A", "INPUT", "-m", "pkd", "--key-file", KEY_FILE])?;
        ensure!(refused.contains("revision"), "the extension is not that of revision 0: {refused}");
        Ok(Gate::rule())
    });
    report.claim(&old.name("a good knock opens SSH, and is a replay then"), || {
        let payload = knock(now()?)?;
        old.expect("Accept", &payload)?;
        old.expect("Replay", &payload)?;
        old.ssh_answers()
    });
    report.claim(&old.name("a rule of revision 1 with the same tag and key has the same guard"), || {
        let payload = knock(now()?)?;
        old.expect("Accept", &payload)?;
        gate.close(OPEN)?;
        gate.expect("Replay", &payload)?;
        Ok(format!("{:?}", Status::read()?.guard()?))
    });
    report.claim(&old.name("rules are saved, restored and deleted"), || {
        old.close(OPEN)?;
        let saved = old.firewall.save()?;
        old.firewall.restore(&saved)?;
        ensure!(old.firewall.save()? == saved, "saved {saved}, then {}", old.firewall.save()?);
        old.firewall.run(&format!("-A INPUT {}", Gate::rule()))?;
        old.firewall.run(&format!("-D INPUT {}", Gate::rule()))?;
        Ok("iptables-save | iptables-restore".to_owned())
    });
}

/// The same by way of nftables, as Debian's iptables and `OpenWrt`'s do it.
pub(crate) fn claims_over_nftables(report: &mut Report, gate: &Gate<'_>) {
    report.claim(&gate.name("closed, knock, open, replay ignored"), || {
        gate::reload()?;
        gate.close(OPEN)?;
        gate::unload_refused()?;
        gate.ssh_is_refused()?;
        let payload = knock(now()?)?;
        gate.expect("Accept", &payload)?;
        let banner = gate.ssh_answers()?;
        gate.expect("Replay", &payload)?;
        let saved = gate.firewall.save()?;
        gate.firewall.restore(&saved)?;
        gate.expect("Replay", &payload)?;
        gate.firewall.flush()?;
        Ok(banner)
    });
}

fn good() -> [&'static str; 6] {
    ["--tag", TAG, "--key-file", KEY_FILE, "--port", "40000"]
}

/// Each of them is ignored, under a reason of its own, and leaves the door as it was.
fn ignored(report: &mut Report, gate: &Gate<'_>) {
    type Try<'a> = (&'a str, &'a str, &'a dyn Fn() -> Result<&'static str>);
    let knock_as = |key_file: &'static str, tag: &'static str| {
        move || gate.knock(&["--tag", tag, "--key-file", key_file, "--port", "40000"])
    };
    let payload = |made: Result<[u8; 56]>| gate.verdict_of(&made?, PORT);
    let tries: [Try<'_>; 8] = [
        ("a wrong key", "Digest", &knock_as(WRONG_KEY_FILE, TAG)),
        ("a wrong tag", "Tag", &knock_as(KEY_FILE, "NOPE")),
        ("a stale time", "Window", &|| payload(knock(now()? - 100))),
        ("a time to come", "Window", &|| payload(knock(now()? + 100))),
        ("an altered byte", "Digest", &|| {
            let mut altered = knock(now()?)?;
            altered[20] ^= 1;
            payload(Ok(altered))
        }),
        ("a knock for another port", "Digest", &|| payload(knock_with(KEY, TAG, now()?, PORT + 1))),
        ("a knock of before 1.0", "Digest", &|| gate.knock(&[&good()[..], &["--pre-1.0"]].concat())),
        ("one byte less", "Length", &|| gate.verdict_of(&knock(now()?)?[..55], PORT)),
    ];
    for (what, expected, send) in tries {
        report.claim(&gate.name(&format!("{what} is ignored, and counted under its reason")), || {
            let verdict = send()?;
            ensure!(verdict == expected, "counted as {verdict}, not {expected}");
            Ok(format!("{verdict}, {}", gate.ssh_is_refused()?))
        });
    }
}

/// One bit of each byte; the verdict must be the one that user space gives.
fn bits(gate: &Gate<'_>) -> Result<String> {
    let rule = pkd_core::Rule {
        key: pkd_core::Key::parse(KEY)?,
        tag: pkd_core::Tag::parse(TAG)?,
        window: pkd_core::Window::default(),
    };
    for byte in 0..56 {
        let time = now()?;
        let mut payload = knock(time)?;
        payload[byte] ^= 1 << (byte % 8);
        let mut guard = ReplayGuard::<1>::new(UnixSeconds(0));
        let packet = Packet { destination_port: Port(PORT), payload: &payload };
        let verdict = Verifier::new(&rule, &mut guard).check(UnixSeconds(time), &packet);
        let given = gate.verdict_of(&payload, PORT)?;
        ensure!(given != "Accept", "byte {byte} turned, and accepted");
        // A low bit of the time may leave the window while the packet travels.
        if !(4..12).contains(&byte) {
            let expected = pkd_tests::word(verdict);
            ensure!(given == expected, "byte {byte}: {given}, not {expected}");
        }
    }
    gate.ssh_is_refused()
}

fn closes(gate: &Gate<'_>) -> Result<String> {
    let limit = Duration::from_secs(u64::from(OPEN) * 10);
    let start = std::time::Instant::now();
    gate.knock(&good())?;
    gate.ssh_answers()?;
    gate.closes(limit)?;
    let open = start.elapsed();
    ensure!(open + Duration::from_secs(1) >= Duration::from_secs(OPEN.into()), "closed after {open:?}");
    Ok(format!("after {} s", open.as_secs()))
}

//! The main job: closed, one knock, open to that address, closed again.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use pkd_core::{Packet, Port, ReplayCache, UnixSeconds};
use pkd_tests::Report;

use crate::{
    gateway::{self, Gateway},
    network::now,
    packet::{KEY, PORT, TAG, knock, knock_with},
    status::Status,
};

/// Seconds that the port stays open after a knock; the original's README has 60.
const OPEN: u32 = 6;

const KEY_FILE: &str = "/tmp/key";
const WRONG_KEY_FILE: &str = "/tmp/wrong-key";

pub(crate) fn checks(report: &mut Report, gateway: &Gateway<'_>) {
    report.check(&gateway.name("the three rules go in"), || {
        for (path, key) in [(KEY_FILE, KEY), (WRONG_KEY_FILE, "tset")] {
            fs::write(path, key)?;
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        }
        gateway::reload()?;
        gateway.close(OPEN)?;
        Ok(Gateway::rule())
    });
    report.check(&gateway.name("SSH is refused before a knock"), || gateway.ssh_is_refused());
    ignored(report, gateway);
    report.check(&gateway.name("one bit turned in any of the 56 bytes is ignored"), || bits(gateway));
    report.check(&gateway.name("a good knock opens SSH"), || {
        let verdict = gateway.knock(&good())?;
        ensure!(verdict == "Accept", "counted as {verdict}");
        gateway.ssh_answers()
    });
    report.check(&gateway.name("another address is still refused"), || {
        let banner = gateway.network.ssh(gateway.family, gateway.family.other())?;
        ensure!(banner.is_none(), "port 22 says {banner:?}");
        Ok(gateway.family.other().to_string())
    });
    report.check(&gateway.name("the port closes again after its time"), || closes(gateway));
    let mut used = Vec::new();
    report.check(&gateway.name("a replay is ignored, and counted as one"), || {
        let payload = knock(now()?)?;
        gateway.expect("Accept", &payload)?;
        gateway.expect("Replay", &payload)?;
        used.extend(payload);
        Ok(format!("{} bytes, twice", used.len()))
    });
    report.check(&gateway.name("with the rules flushed and added again it is still a replay"), || {
        gateway.close(OPEN)?;
        gateway.ssh_is_refused()?;
        gateway.expect("Replay", &used)?;
        gateway.ssh_is_refused()
    });
}

/// The match as rule sets and extensions of old use it.
pub(crate) fn checks_of_revision_0(report: &mut Report, gateway: &Gateway<'_>) {
    let old = gateway.of_revision_0();
    report.check(&old.name("the three rules go in"), || {
        gateway::reload()?;
        old.close(OPEN)?;
        let refused = old.firewall.refuses(&["-A", "INPUT", "-m", "pkd", "--key-file", KEY_FILE])?;
        ensure!(refused.contains("revision"), "the extension is not that of revision 0: {refused}");
        let refused = old.firewall.refuses(&["-A", "INPUT", "-m", "pkd", "--key", "k", "--format", "2"])?;
        ensure!(refused.contains("--format 2 needs revision 2"), "{refused}");
        Ok(Gateway::rule())
    });
    report.check(&old.name("a good knock opens SSH, and is a replay then"), || {
        let payload = knock(now()?)?;
        old.expect("Accept", &payload)?;
        old.expect("Replay", &payload)?;
        old.ssh_answers()
    });
    report.check(&old.name("a rule of revision 1 with the same tag and key has the same cache"), || {
        let payload = knock(now()?)?;
        old.expect("Accept", &payload)?;
        gateway.close(OPEN)?;
        gateway.expect("Replay", &payload)?;
        Ok(format!("{:?}", Status::read()?.cache()?))
    });
    report.check(&old.name("rules are saved, restored and deleted"), || {
        old.close(OPEN)?;
        let saved = old.firewall.save()?;
        old.firewall.restore(&saved)?;
        ensure!(old.firewall.save()? == saved, "saved {saved}, then {}", old.firewall.save()?);
        old.firewall.run(&format!("-A INPUT {}", Gateway::rule()))?;
        old.firewall.run(&format!("-D INPUT {}", Gateway::rule()))?;
        Ok("iptables-save | iptables-restore".to_owned())
    });
}

/// The same by way of nftables, as Debian's iptables and `OpenWrt`'s do it.
pub(crate) fn checks_over_nftables(report: &mut Report, gateway: &Gateway<'_>) {
    report.check(&gateway.name("closed, knock, open, replay ignored"), || {
        gateway::reload()?;
        gateway.close(OPEN)?;
        gateway::unload_refused()?;
        gateway.ssh_is_refused()?;
        let payload = knock(now()?)?;
        gateway.expect("Accept", &payload)?;
        let banner = gateway.ssh_answers()?;
        gateway.expect("Replay", &payload)?;
        let saved = gateway.firewall.save()?;
        gateway.firewall.restore(&saved)?;
        gateway.expect("Replay", &payload)?;
        gateway.firewall.flush()?;
        Ok(banner)
    });
}

fn good() -> [&'static str; 6] {
    ["--tag", TAG, "--key-file", KEY_FILE, "--port", "40000"]
}

/// Each of them is ignored, under a reason of its own, and leaves the port as it was.
fn ignored(report: &mut Report, gateway: &Gateway<'_>) {
    type Try<'a> = (&'a str, &'a str, &'a dyn Fn() -> Result<&'static str>);
    let knock_as = |key_file: &'static str, tag: &'static str| {
        move || gateway.knock(&["--tag", tag, "--key-file", key_file, "--port", "40000"])
    };
    let payload = |made: Result<[u8; 56]>| gateway.verdict_of(&made?, PORT);
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
        ("a knock of before 1.0", "Digest", &|| gateway.knock(&[&good()[..], &["--pre-1.0"]].concat())),
        ("one byte less", "Length", &|| gateway.verdict_of(&knock(now()?)?[..55], PORT)),
    ];
    for (what, expected, send) in tries {
        report.check(&gateway.name(&format!("{what} is ignored, and counted under its reason")), || {
            let verdict = send()?;
            ensure!(verdict == expected, "counted as {verdict}, not {expected}");
            Ok(format!("{verdict}, {}", gateway.ssh_is_refused()?))
        });
    }
}

/// One bit of each byte; the verdict must be the one that user space gives.
fn bits(gateway: &Gateway<'_>) -> Result<String> {
    let rule = pkd_core::Rule::new(
        pkd_core::Key::parse(KEY)?,
        pkd_core::Tag::parse(TAG)?,
        pkd_core::Window::default(),
    );
    for byte in 0..56 {
        let time = now()?;
        let mut payload = knock(time)?;
        payload[byte] ^= 1 << (byte % 8);
        let mut cache = ReplayCache::<1>::new(UnixSeconds(0));
        let packet = Packet { destination_port: Port(PORT), payload: &payload };
        let verdict = rule.verify(&mut cache, UnixSeconds(time), &packet);
        let actual = gateway.verdict_of(&payload, PORT)?;
        ensure!(actual != "Accept", "byte {byte} turned, and accepted");
        // A low bit of the time may leave the window while the packet travels.
        if !(4..12).contains(&byte) {
            let expected = pkd_tests::word(verdict);
            ensure!(actual == expected, "byte {byte}: {actual}, not {expected}");
        }
    }
    gateway.ssh_is_refused()
}

fn closes(gateway: &Gateway<'_>) -> Result<String> {
    let limit = Duration::from_secs(u64::from(OPEN) * 10);
    let start = std::time::Instant::now();
    gateway.knock(&good())?;
    gateway.ssh_answers()?;
    gateway.closes(limit)?;
    let open = start.elapsed();
    ensure!(open + Duration::from_secs(1) >= Duration::from_secs(OPEN.into()), "closed after {open:?}");
    Ok(format!("after {} s", open.as_secs()))
}

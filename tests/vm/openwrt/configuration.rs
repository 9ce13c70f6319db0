//! Configuration errors, reloads, and where a key must not appear.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result, ensure};

use crate::{
    gateway::Gateway,
    network::{self, later_than, now, set_clock, shell},
    nft_mode,
    packet::{self, PORT},
    router::{self, CONFIG, is_open, service, service_refuses, uci},
};

/// Configuration errors, one of each kind, and the message; pkdd's own tests have all of them.
const WRONG: &[(&str, &str)] = &[
    ("set pkd.gate.enabled=yes", "gate: invalid enabled \"yes\": expected 0 or 1"),
    ("set pkd.gate.port=70000", "gate: invalid port 70000: expected 1–65535"),
    ("set pkd.gate.zone=wann", "gate: no zone \"wann\" in /etc/config/firewall"),
    ("set pkd.gate.mark=0x5", "gate: invalid mark \"0x5\": expected 2 to 8 adjacent bits"),
    ("set pkd.gate.speed=1", "gate: unknown option \"speed\""),
    ("set pkd.other=thing", "section \"other\": unknown type \"thing\""),
    ("delete pkd.gate", "missing section gate 'gate'"),
    ("delete pkd.ssh.port", "service \"ssh\": missing port"),
    ("add_list pkd.me.service=vpn", "user \"me\": unknown service \"vpn\""),
    ("set pkd.me.key_file=/none", "user \"me\": cannot read key_file /none"),
    ("set pkd.me.key_file=/proc/version", "user \"me\": invalid key in /proc/version"),
    ("set pkd.me.key=0x", "user \"me\": invalid key: "),
    ("set firewall.@defaults[0].auto_includes=0", "option auto_includes is 0 in /etc/config/firewall"),
    ("set pkd.a-b=user", "uci: Invalid argument"),
];

pub(super) fn wrong(v4: &Gateway<'_>) -> Result<String> {
    const FIREWALL: &str = "/etc/config/firewall";
    let (good, firewall) = (fs::read_to_string(CONFIG)?, fs::read_to_string(FIREWALL)?);
    let before = router::rules()?;
    let mut refused = 0;
    for (mistake, word) in WRONG {
        if shell(&format!("uci {mistake} && uci commit")).is_err() {
            // uci itself takes no such name.
            ensure!(word.starts_with("uci:"), "uci does not take {mistake}");
            continue;
        }
        let said = service_refuses("reload");
        fs::write(CONFIG, &good)?;
        fs::write(FIREWALL, &firewall)?;
        let said = said.with_context(|| (*mistake).to_owned())?;
        ensure!(said.contains(word) && said.lines().count() == 1, "{mistake}: {said}");
        ensure!(router::rules()? == before, "{mistake} changed the rules");
        ensure!(router::state()? == "error", "{mistake}: {}", router::status()?);
        refused += 1;
    }
    let second =
        "config user 'two'\n\toption format 'classic'\n\toption tag '0x504b4430'\n\tlist service 'ssh'\n";
    for (text, word) in [
        (format!("{good}\n{second}"), "user \"two\": same tag as user \"me\""),
        (format!("{good}\nconfig user 'two\n"), "Parse error"),
    ] {
        fs::write(CONFIG, text)?;
        let said = service_refuses("reload");
        fs::write(CONFIG, &good)?;
        let said = said?;
        ensure!(said.contains(word) && said.lines().count() == 1, "{said}");
        refused += 1;
    }
    ensure!(router::rules()? == before, "the rules are {}", router::rules()?);
    is_open(v4)?;
    service("reload")?;
    ensure!(router::state()? == "open", "{}", router::status()?);
    Ok(format!("{refused} mistakes"))
}

pub(super) fn reloads(v4: &Gateway<'_>) -> Result<String> {
    let payload = packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?;
    v4.expect("Accept", &payload)?;
    is_open(v4)?;
    uci(&[
        "set pkd.web=service",
        "set pkd.web.port=80",
        "add_list pkd.me.service=web",
        "set pkd.gate.port=40000",
    ])?;
    service("reload")?;
    is_open(v4)?;
    v4.expect("Replay", &payload)?;
    for command in ["iptables", "ip6tables"] {
        let jump = shell(&format!("{command} -t mangle -S INPUT | grep -- '-j pkd'"))?;
        ensure!(jump.trim() == "-A INPUT -p udp -m udp --dport 40000 -j pkd", "{jump}");
    }
    let grants = router::status()?["gate"]["grants"].as_array().map_or(0, Vec::len);
    v4.expect("Accept", &packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?)?;
    let both = router::status()?["gate"]["grants"].as_array().map_or(0, Vec::len);
    ensure!(both == grants + 1, "{grants} grants, then {both}");
    uci(&["delete pkd.web", "del_list pkd.me.service=web"])?;
    service("reload")?;
    ensure!(!router::rules()?.contains("pkd_web"), "the set of the service is still there");
    is_open(v4)?;
    Ok("a service more, then one less".to_owned())
}

pub(super) fn secrets(v4: &Gateway<'_>) -> Result<String> {
    const SECRET: &str = "quite a secret 5417";
    uci(&[
        "set pkd.two=user",
        "set pkd.two.format=classic",
        "set pkd.two.tag=TWO",
        "add_list pkd.two.service=ssh",
        &format!("set pkd.two.key='{SECRET}'"),
    ])?;
    let stop = AtomicBool::new(false);
    let (result, seen) = thread::scope(|scope| {
        let watch = scope.spawn(|| watch_arguments(SECRET, &stop));
        let result = service("reload");
        stop.store(true, Ordering::Relaxed);
        (result, watch.join())
    });
    result?;
    let seen = seen.map_err(|_| anyhow::anyhow!("the watch ended early"))??;
    router::accepted(v4, &packet::knock_with(SECRET, "TWO", now()?, PORT)?)?;
    let key = router::key()?;
    for (place, text) in [
        ("the log", fs::read_to_string("/var/log/messages").unwrap_or_default()),
        ("the status", router::status()?.to_string() + &shell("pkd status")?),
        ("what procd knows", fs::read_to_string("/var/run/services/pkd.data")?),
        ("the rules", router::rules()?),
        ("the kernel's status", fs::read_to_string("/proc/net/xt_pkd")?),
    ] {
        ensure!(!text.contains(SECRET) && !text.contains(&key[2..]), "{place} has a key in it");
    }
    let open = shell(
        "find /tmp /var/run /run /etc/pkd -xdev -type f -perm /077 2>/dev/null | xargs grep -lF -e 'quite a secret' 2>/dev/null || true",
    )?;
    ensure!(open.trim().is_empty(), "others can read a key in {open}");
    uci(&["delete pkd.two"])?;
    service("reload")?;
    Ok(format!("{seen} command lines"))
}

/// Looks at the arguments of every program there is until `stop`; how many it saw.
fn watch_arguments(secret: &str, stop: &AtomicBool) -> Result<usize> {
    let mut seen = 0;
    while !stop.load(Ordering::Relaxed) {
        for entry in fs::read_dir("/proc")? {
            if let Ok(words) = fs::read(entry?.path().join("cmdline")) {
                seen += 1;
                let words = network::text(&words);
                ensure!(!words.contains(secret), "a program was started with {words}");
            }
        }
    }
    Ok(seen)
}

pub(super) fn deaf(v4: &Gateway<'_>) -> Result<String> {
    shell("nft flush chain inet fw4 input_wan")?;
    let status = router::status()?;
    let reason = status["reason"].as_str().unwrap_or_default().to_owned();
    ensure!(
        status["state"] == "error" && reason.contains("input_wan does not jump to pkd.input"),
        "{status}"
    );
    shell("/etc/init.d/firewall reload")?;
    ensure!(router::state()? == "open", "{}", router::status()?);
    shell(
        "iptables -t mangle -D INPUT -p udp -m udp --dport 40000 -j pkd || iptables -t mangle -D INPUT -p udp -j pkd",
    )?;
    let status = router::status()?;
    ensure!(status["state"] == "error", "{status}");
    service("reload")?;
    ensure!(router::state()? == "open", "{}", router::status()?);
    is_open(v4)?;
    Ok(reason)
}

/// What an eavesdropper recorded in one mode is sent again in the other.
pub(super) fn modes(v4: &Gateway<'_>) -> Result<String> {
    uci(&["set pkd.gate.port=any"])?;
    service("reload")?;
    let sent = now()?;
    let recorded = packet::knock_with(&router::key()?, "PKD0", sent, PORT)?;
    v4.expect("Accept", &recorded)?;
    uci(&["set pkd.gate.mode=nft"])?;
    service("reload")?;
    nft_mode::is_ready()?;
    // A reload may take longer here than the window; the knock must not be refused for its age.
    set_clock(sent + 2)?;
    nft_mode::refuses(v4, &recorded)?;
    let floor =
        || -> Result<u64> { Ok(router::status()?["gate"]["users"][0]["floor"].as_u64().unwrap_or(u64::MAX)) };
    let until = floor()?;
    later_than(until)?;
    let sent = now()?;
    let recorded = packet::knock_with(&router::key()?, "PKD0", sent, PORT)?;
    nft_mode::expect(v4, "accept", &recorded)?;
    uci(&["set pkd.gate.mode=match"])?;
    service("reload")?;
    ensure!(router::state()? == "open", "{}", router::status()?);
    set_clock(sent + 2)?;
    v4.expect("Replay", &recorded)?;
    let until = floor()?;
    later_than(until)?;
    v4.expect("Accept", &packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?)?;
    is_open(v4)?;
    Ok("match, nft, match".to_owned())
}

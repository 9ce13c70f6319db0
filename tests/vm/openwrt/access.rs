//! Who may reach a service, and for how long.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

use super::{BRIEF, LIMIT, LONG};
use crate::{
    gateway::Gateway,
    network::{self, Family, now, set_clock, shell, wait},
    packet::{self, PORT},
    router::{self, KEY_FILE, closes, is_closed, is_open, knock, service, uci},
    status::Status,
};

pub(super) fn opens(v4: &Gateway<'_>) -> Result<String> {
    let verdict = knock(v4, KEY_FILE, "PKD0")?;
    ensure!(verdict == "Accept", "{verdict}");
    is_open(v4)?;
    let status = router::status()?;
    let grant = &status["gate"]["grants"][0];
    ensure!(grant["address"] == v4.family.client().to_string() && grant["service"] == "ssh", "{status}");
    let left = grant["seconds_left"].as_u64().context("no time left")?;
    ensure!((500..=600).contains(&left), "{left} seconds left");
    let user = &status["gate"]["users"][0];
    ensure!(user["tag"] == "PKD0" && user["knocks"] == 1 && user["state"] == "active", "{status}");
    ensure!(status["gate"]["counters"]["accept"] == 1 && status["mode"] == "match", "{status}");
    Ok(format!("{left} seconds left"))
}

pub(super) fn opens_over_ipv6(v6: &Gateway<'_>) -> Result<String> {
    is_closed(v6)?;
    next_second()?;
    let verdict = knock(v6, KEY_FILE, "PKD0")?;
    ensure!(verdict == "Accept", "{verdict}");
    is_open(v6)?;
    let status = router::status()?;
    ensure!(router::grants(&status, false).len() == 1, "{status}");
    Ok(v6.family.client().to_string())
}

/// Two knocks of a second are different, but a rule of window 0 is not tested here: this only keeps the
/// order of what is counted plain.
fn next_second() -> Result<()> {
    let begin = now()?;
    wait(LIMIT, now, |time| *time > begin).map(drop)
}

pub(super) fn ends(v4: &Gateway<'_>) -> Result<String> {
    uci(&[BRIEF])?;
    service("reload")?;
    knock(v4, KEY_FILE, "PKD0")?;
    let mut stream = router::connection(v4)?;
    closes(v4)?;
    ensure!(router::grants(&router::status()?, true).is_empty(), "{}", router::status()?);
    let heard = router::still_speaks(&mut stream)?;
    Ok(format!("{heard} bytes after the end"))
}

/// A user of format 2 opens the port, and closes it early.
pub(super) fn format2(v4: &Gateway<'_>, v6: &Gateway<'_>) -> Result<String> {
    uci(&[LONG, "set pkd.me.format=2"])?;
    service("reload")?;
    shell("nft flush set inet fw4 pkd_ssh_4 && nft flush set inet fw4 pkd_ssh_6")?;
    let options = ["--format", "2", "--key-file", KEY_FILE, "--tag", "PKD0"];
    for gateway in [v4, v6] {
        is_closed(gateway)?;
        let verdict = gateway.knock(&options)?;
        ensure!(verdict == "Accept", "{:?}: {verdict}", gateway.family);
        is_open(gateway)?;
        let before = Status::read()?;
        let host = gateway.family.router().to_string();
        gateway.network.at_client(|| {
            let output = network::run(Command::new("knock").arg("close").args(options).arg(&host))?;
            ensure!(output.status.success(), "knock close: {}", network::text(&output.stderr));
            Ok(())
        })?;
        wait(LIMIT, Status::read, |after| after.counters["Close"] == before.counters["Close"] + 1)?;
        closes(gateway)?;
        ensure!(router::grants(&router::status()?, gateway.family == Family::V4).is_empty());
    }
    let status = router::status()?;
    let (user, counters) = (&status["gate"]["users"][0], &status["gate"]["counters"]);
    ensure!(user["format"] == "2" && user["knocks"] == 4, "{status}");
    ensure!(counters["close"] == 2 && counters["request"] == 0, "{status}");
    // A classic knock with the same key is none now.
    let before = Status::read()?;
    let payload = packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?;
    v4.network.at_client(|| packet::send(v4.family.client(), v4.family.router(), PORT, &payload))?;
    // Two rules look at it.
    wait(LIMIT, Status::read, |after| after.counters["Tag"] == before.counters["Tag"] + 2)?;
    is_closed(v4)?;
    uci(&["set pkd.me.format=classic"])?;
    service("reload")?;
    Ok("opened and closed over IPv4 and IPv6".to_owned())
}

pub(super) fn firewall_reloads(v4: &Gateway<'_>) -> Result<String> {
    uci(&[LONG])?;
    service("reload")?;
    knock(v4, KEY_FILE, "PKD0")?;
    let before = router::rules()?;
    shell("/etc/init.d/firewall reload")?;
    ensure!(router::rules()? == before, "the rules are now {}", router::rules()?);
    is_open(v4)?;
    Ok("the grant is there".to_owned())
}

pub(super) fn firewall_restarts(v4: &Gateway<'_>) -> Result<String> {
    let before = router::rules()?;
    for act in ["restart", "stop; /etc/init.d/firewall start"] {
        shell(&format!("/etc/init.d/firewall {act}"))?;
        ensure!(router::rules()? == before, "after {act} the rules are {}", router::rules()?);
        is_closed(v4)?;
        ensure!(knock(v4, KEY_FILE, "PKD0")? == "Accept");
        is_open(v4)?;
    }
    shell("/etc/init.d/firewall stop")?;
    ensure!(router::state()? == "stopped", "{}", router::status()?);
    shell("/etc/init.d/firewall start")?;
    Ok("two knocks".to_owned())
}

pub(super) fn card_flaps(card: &str, v4: &Gateway<'_>) -> Result<String> {
    shell(&format!("ip link set {card} down && ip link set {card} up && /etc/init.d/firewall reload"))?;
    // The router's IPv6 addresses go with the link; what follows is over IPv4.
    wait(LIMIT, || v4.ssh(), |_| true)?;
    ensure!(knock(v4, KEY_FILE, "PKD0")? == "Accept");
    is_open(v4)?;
    Ok(card.to_owned())
}

pub(super) fn users(v4: &Gateway<'_>) -> Result<String> {
    // The SSH server is `ssh`; nothing listens behind `web`, which only takes its own users.
    uci(&[
        "set pkd.web=service",
        "set pkd.web.port='80 8000-8010'",
        "add_list pkd.web.tag=WEB1",
        "set pkd.two=user",
        "set pkd.two.format=classic",
        "set pkd.two.tag=WEB1",
        "add_list pkd.two.service=web",
        "set pkd.three=user",
        "set pkd.three.format=classic",
        "set pkd.three.tag=3rd",
        "add_list pkd.three.service=web",
        "add_list pkd.three.service=ssh",
        BRIEF,
        "set pkd.web.seconds=3",
    ])?;
    service("reload")?;
    shell("nft list chain inet fw4 pkd.input | grep -qF 'tcp dport { 80, 8000-8010 }'")?;
    shell("nft flush set inet fw4 pkd_ssh_4 && nft flush set inet fw4 pkd_web_4")?;
    let mut seen = Vec::new();
    for (user, tag, opened) in
        [("two", "WEB1", vec!["web"]), ("three", "3rd", vec!["ssh"]), ("me", "PKD0", vec!["ssh"])]
    {
        let file = format!("/etc/pkd/keys/{user}.key");
        let key = fs::read_to_string(&file)?;
        router::accepted(v4, &packet::knock_with(key.trim(), tag, now()?, PORT)?)?;
        let given: Vec<String> = wait(
            LIMIT,
            || {
                let status = router::status()?;
                let services =
                    router::grants(&status, true).into_iter().map(|grant| grant["service"].as_str());
                Ok(services.map(|name| name.unwrap_or_default().to_owned()).collect())
            },
            |given: &Vec<String>| !given.is_empty(),
        )?;
        ensure!(given == opened, "{user} opened {given:?}");
        seen.push(user);
        wait(LIMIT, router::status, |status| router::grants(status, true).is_empty())?;
    }
    uci(&["delete pkd.web", "delete pkd.two", "delete pkd.three", LONG])?;
    service("reload")?;
    Ok(seen.join(", "))
}

pub(super) fn marks(v4: &Gateway<'_>) -> Result<String> {
    shell("nft flush set inet fw4 pkd_ssh_4")?;
    // As policy routing does, before anything of pkd sees the packet: the number of user 1 in pkd's bits.
    shell("iptables -t raw -A PREROUTING -p udp -j MARK --set-xmark 0x00010000/0x00ff0000")?;
    let result = (|| {
        let payload = packet::knock_with("wrong", "PKD0", now()?, PORT)?;
        v4.expect("Digest", &payload)?;
        ensure!(router::grants(&router::status()?, true).is_empty(), "{}", router::status()?);
        is_closed(v4)
    })();
    shell("iptables -t raw -F PREROUTING")?;
    result?;
    Ok("0x00010000".to_owned())
}

pub(super) fn expires(v4: &Gateway<'_>) -> Result<String> {
    let today = now()?;
    let day = shell("date -u +%Y-%m-%d")?.trim().to_owned();
    uci(&[&format!("set pkd.me.expires={day}")])?;
    service("reload")?;
    v4.expect("Accept", &packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?)?;
    ensure!(shell("pkd expired").is_err(), "the day is over already");
    set_clock(today + 86_400)?;
    let result = (|| {
        shell("pkd expired")?;
        service("reload")?;
        ensure!(router::status()?["gate"]["users"][0]["state"] == "expired", "{}", router::status()?);
        let mangle = shell("iptables -t mangle -S pkd")?;
        ensure!(!mangle.contains("-m pkd"), "{mangle}");
        ensure!(shell("pkd expired").is_err(), "it is told twice");
        Ok(())
    })();
    set_clock(today + 5)?;
    uci(&["delete pkd.me.expires"])?;
    service("reload")?;
    result?;
    Ok(day)
}

//! Our packages on a router in mode nft: no kernel module of ours and no iptables, but the daemon.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use pkd_tests::Report;

use crate::{
    gateway::Gateway,
    network::{self, later_than, now, shell, wait},
    packet::{self, PORT},
    router::{self, KEY_FILE, closes, is_closed, is_open, service, uci},
};

const PACKAGES: [&str; 3] = ["pkd-knock", "pkdd", "pkd"];
const FLOOR: &str = "/etc/pkdd/floor";
const LIMIT: Duration = Duration::from_secs(30);
/// Bytes in RAM that the daemon may take on a router.
const RESIDENT: u64 = 4 * 1024 * 1024;

pub(crate) fn checks(report: &mut Report, card: &str, v4: &Gateway<'_>, v6: &Gateway<'_>) {
    report.check("mode nft: the service does not install without its daemon", || misses_daemon(card, v6));
    report.check("mode nft: a start that fails is tried again when the configuration changes", fails);
    report.check("mode nft: a knock opens, without kernel module and without iptables", || opens(v4, v6));
    report.check("mode nft: a user of format 2 opens and closes", || format2(v4, v6));
    report.check(
        "mode nft: pkd user add lets somebody in, close shuts an address out, rotate and revoke a key",
        || user(v4),
    );
    report.check("mode nft: what is no fresh knock opens nothing, and is counted", || ignores(v4));
    report.check("mode nft: a grant ends, and a connection from before stays", || ends(v4));
    report.check("mode nft: without ctnetlink, connections go on, and the status says why", || goes_on(v4));
    report.check("mode nft: grants outlive reload, restart, and stop and start of the firewall", || {
        outlives(v4)
    });
    report.check(
        "mode nft: a reload keeps grants and what was accepted; wrong configuration changes nothing",
        || reloads(v4),
    );
    report.check("mode nft: a replaced key counts after a reload, and the old one does not", || {
        replaces_key(v4)
    });
    report.check("mode nft: a new version of the daemon is the one that runs", upgrades);
    report.check("mode nft: the daemon is nobody, and its memory is small", is_modest);
    report.check("mode nft: when the router goes down, flash holds what was accepted", || goes_down(v4));
    report.check("mode nft: removing leaves nothing", || removes(v4));
}

fn misses_daemon(card: &str, v6: &Gateway<'_>) -> Result<String> {
    // It went when the card went down.
    let address = v6.family.router();
    shell(&format!("ip addr show dev {card} | grep -qF {address}/ || ip addr add {address}/64 dev {card}"))?;
    shell(
        "rm -rf /etc/pkd /etc/pkdd /etc/config/pkd /var/run/pkd /var/run/pkdd; ! rmmod xt_pkd 2>/dev/null; nft flush ruleset",
    )?;
    shell("/etc/init.d/firewall start")?;
    router::install("pkd-knock")?;
    let said = router::install("pkd").err().context("it was installed")?.to_string();
    ensure!(said.contains("pkd depends on pkdd"), "{said}");
    router::install("pkdd")?;
    router::install("pkd")?;
    Ok(said.trim().to_owned())
}

fn fails() -> Result<String> {
    uci(&["set pkd.gate.enabled=1", "set pkd.ssh.seconds=600", "set pkd.ssh.port=0"])?;
    // A guest takes seconds for what a router does at once; a knock is to stay fresh meanwhile.
    uci(&["set pkd.me.window=120", "set pkd.me.format=classic"])?;
    let said = router::service_refuses("boot")?;
    ensure!(said.contains("service \"ssh\": invalid port 0"), "{said}");
    // procd tries again by itself when LuCI has changed the configuration.
    let triggers = fs::read_to_string("/var/run/services/pkd.triggers")?;
    ensure!(triggers.trim() == "pkd", "procd waits for {triggers}");
    uci(&["set pkd.ssh.port=22"])?;
    Ok(said.trim().to_owned())
}

fn opens(v4: &Gateway<'_>, v6: &Gateway<'_>) -> Result<String> {
    service("start")?;
    is_ready()?;
    ensure!(!fs::exists("/sys/module/xt_pkd")?, "the module is loaded");
    ensure!(!shell("nft list ruleset")?.contains("table ip mangle"), "iptables has rules");
    for gateway in [v4, v6] {
        is_closed(gateway)?;
        knock(gateway)?;
        is_open(gateway)?;
    }
    let status = router::status()?;
    ensure!(
        status["mode"] == "nft" && status["gate"]["grants"].as_array().is_some_and(|all| all.len() == 2),
        "{status}"
    );
    let user = &status["gate"]["users"][0];
    ensure!(user["tag"] == "PKD0" && user["knocks"] == 2 && user["wait"] == 0, "{status}");
    ensure!(user["state"] == "active", "{status}");
    Ok(shell("pkd status")?.lines().next().unwrap_or_default().to_owned())
}

/// A user of format 2 opens the port, and closes it early.
fn format2(v4: &Gateway<'_>, v6: &Gateway<'_>) -> Result<String> {
    uci(&["set pkd.me.format=2"])?;
    service("reload")?;
    is_ready()?;
    shell("nft flush set inet fw4 pkd_ssh_4 && nft flush set inet fw4 pkd_ssh_6")?;
    for gateway in [v4, v6] {
        for (command, verdict) in [(None, "accept"), (Some("close"), "close")] {
            let before = counter(verdict)?;
            let host = gateway.family.router().to_string();
            let options = ["--format", "2", "--key-file", KEY_FILE, "--tag", "PKD0", &host];
            gateway.network.at_client(|| {
                let output = network::run(Command::new("knock").args(command).args(options))?;
                ensure!(output.status.success(), "knock: {}", network::text(&output.stderr));
                Ok(())
            })?;
            wait(LIMIT, || counter(verdict), |count| *count == before + 1)?;
            if command.is_none() { is_open(gateway)? } else { is_closed(gateway)? }
        }
    }
    let status = router::status()?;
    ensure!(status["gate"]["users"][0]["format"] == "2", "{status}");
    uci(&["set pkd.me.format=classic"])?;
    service("reload")?;
    is_ready()?;
    Ok(shell("nft list set inet fw4 pkd.hints 2>/dev/null || echo 'no hints any more'")?.trim().to_owned())
}

/// Somebody with the key and the tag of the URI that the command prints. The service is only theirs: what others have opened
/// stays.
fn user(v4: &Gateway<'_>) -> Result<String> {
    uci(&[
        "set pkd.web=service",
        "add_list pkd.web.port=8000-8010",
        "add_list pkd.web.port=80",
        "set pkd.web.seconds=600",
        // Two users who have nothing to do with each other.
        "set pkd.bob=user",
        "set pkd.bob.tag=BOB",
        "set pkd.bob.service=web",
        "set pkd.bob_old=user",
        "set pkd.bob_old.tag=BOLD",
        "set pkd.bob_old.service=web",
    ])?;
    service("reload")?;
    is_ready()?;
    shell("nft list chain inet fw4 pkd.input | grep -qF 'tcp dport { 80, 8000-8010 }'")?;
    let host = v4.family.router().to_string();
    let uri = shell(&format!("pkd user add ann --address {host} --service web --address gw.example.net"))?;
    knows("ann", true)?;
    let (tag, rest) =
        uri.trim().strip_prefix("knock://").and_then(|rest| rest.split_once('@')).context("no URI")?;
    let (place, options) = rest.split_once('?').context("no options")?;
    ensure!(tag == "ANN" && place.starts_with(&host), "the URI has the tag {tag} and leads to {place}");
    let option = |name| options.split('&').find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
    let is_whole = option("format") == Some("2") && option("services") == Some("web:80");
    ensure!(is_whole, "{place} has another format, or other services");
    ensure!(option("address") == Some("gw.example.net"), "{place} has no second address");
    client_key("/tmp/ann.key", option("key"))?;
    let again = shell(&format!("pkd user add ann --address {host}"));
    ensure!(again.is_err(), "a second ann was made");
    let elements = || shell("nft -j list set inet fw4 pkd_web_4");
    let client = v4.family.client().to_string();
    knock_as_ann(v4, "/tmp/ann.key", "accept")?;
    wait(LIMIT, elements, |set| set.contains(&client))?;
    let status = router::status()?;
    let theirs = |grant: &&serde_json::Value| grant["service"] == "web" && grant["user"] == "ann";
    ensure!(router::grants(&status, true).iter().any(theirs), "{status}");
    let events = shell("pkd events")?;
    let last = events.lines().last().unwrap_or_default();
    ensure!(last.ends_with(&format!(" ann from {client} opened web for 600 s")), "{events}");
    shell(&format!("pkd close {client}"))?;
    ensure!(!elements()?.contains(&client), "it is still open");
    let before = fs::read_to_string("/etc/config/pkd")?;
    ensure!(shell("pkd user rotate ann --address x --until soon").is_err(), "soon is no date");
    ensure!(fs::read_to_string("/etc/config/pkd")? == before, "the configuration has changed");
    let uri = shell(&format!("pkd user rotate ann --address {host}"))?;
    let new = uri.split(['?', '&']).find_map(|option| option.strip_prefix("key="));
    client_key("/tmp/ann2.key", new)?;
    knows("ann_old", true)?;
    ensure!(!elements()?.contains(&client), "the new daemon has opened it again");
    for (key, verdict) in [("/tmp/ann.key", "accept"), ("/tmp/ann2.key", "accept"), ("/tmp/ann.key", "tag")] {
        knock_as_ann(v4, key, verdict)?;
    }
    let users = shell("pkd user list")?;
    ensure!(users.contains("old key, until that of ann was used, until 20"), "{users}");
    let json: serde_json::Value = serde_json::from_str(&shell("pkd user list --json")?)?;
    ensure!(json[0]["name"] == "ann" && json[1]["name"] == "ann_old" && json[2].is_object(), "{json}");
    shell("pkd user revoke ann")?;
    knows("ann", false)?;
    wait(LIMIT, elements, |set| !set.contains(&client))?;
    for name in ["ann", "ann_old"] {
        ensure!(!fs::exists(format!("/etc/pkd/keys/{name}.key"))?, "the key of {name} is still there");
        ensure!(shell(&format!("uci get pkd.{name}")).is_err(), "{name} is still there");
    }
    shell("pkd user revoke bob")?;
    ensure!(shell("uci get pkd.bob_old")?.trim() == "user", "bob_old went with bob");
    fs::remove_file("/etc/pkd/keys/bob_old.key")?;
    uci(&["delete pkd.bob_old", "delete pkd.web"])?;
    service("stop")?;
    let refused = shell("pkd close 192.0.2.7").err().context("an address was closed without a gate")?;
    ensure!(format!("{refused:#}").contains("the gate is not running, so nothing is open"), "{refused:#}");
    service("start")?;
    is_ready()?;
    Ok(format!("tag {tag}"))
}

fn client_key(path: &str, key: Option<&str>) -> Result<()> {
    fs::write(path, format!("{}\n", key.context("no key")?))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(Into::into)
}

/// Knocks with a key of ann's, and waits until it is counted so.
fn knock_as_ann(v4: &Gateway<'_>, key: &str, verdict: &str) -> Result<()> {
    let before = counter(verdict)?;
    let host = v4.family.router().to_string();
    v4.network.at_client(|| {
        let options = ["--format", "2", "--key-file", key, "--tag", "ANN", &host];
        let output = network::run(Command::new("knock").args(options))?;
        ensure!(output.status.success(), "knock: {}", network::text(&output.stderr));
        Ok(())
    })?;
    wait(LIMIT, || counter(verdict), |count| *count == before + 1).map(drop)
}

/// Waits for the daemon that has taken the user over, or has lost it.
fn knows(name: &str, whether: bool) -> Result<()> {
    let known = |status: &serde_json::Value| {
        let users = status["gate"]["users"].as_array();
        users.map(|users| users.iter().any(|user| user["name"] == name))
    };
    wait(LIMIT, router::status, |status| known(status) == Some(whether)).map(drop)
}

/// The daemon answers.
pub(crate) fn is_ready() -> Result<()> {
    let ready = wait(LIMIT, router::state, |state| state == "open").map(drop);
    ready.with_context(|| shell("tail -n 5 /var/log/messages").unwrap_or_default())
}

fn counter(name: &str) -> Result<u64> {
    router::status()?["gate"]["counters"][name].as_u64().with_context(|| format!("no counter {name}"))
}

/// Sends a payload from the client, and waits until it is counted so.
pub(crate) fn expect(gateway: &Gateway<'_>, verdict: &str, payload: &[u8]) -> Result<()> {
    let before = counter(verdict)?;
    gateway
        .network
        .at_client(|| packet::send(gateway.family.client(), gateway.family.router(), PORT, payload))?;
    wait(LIMIT, || counter(verdict), |count| *count == before + 1).map(drop)
}

/// Sends a knock that was accepted before, and waits until it is refused: as a replay, or because all knocks have to wait.
pub(crate) fn refuses(gateway: &Gateway<'_>, payload: &[u8]) -> Result<()> {
    let refused = || Ok(counter("replay")? + counter("waiting")?);
    let before = refused()?;
    gateway
        .network
        .at_client(|| packet::send(gateway.family.client(), gateway.family.router(), PORT, payload))?;
    wait(LIMIT, refused, |count| *count == before + 1).map(drop)
}

/// Knocks with the program, as `pkd client` says to.
fn knock(gateway: &Gateway<'_>) -> Result<()> {
    let before = counter("accept")?;
    let host = gateway.family.router().to_string();
    gateway.network.at_client(|| {
        let output =
            network::run(Command::new("knock").args(["--key-file", KEY_FILE, "--tag", "PKD0", &host]))?;
        ensure!(output.status.success(), "knock: {}", network::text(&output.stderr));
        Ok(())
    })?;
    wait(LIMIT, || counter("accept"), |count| *count == before + 1).map(drop)
}

fn ignores(v4: &Gateway<'_>) -> Result<String> {
    let (key, time) = (router::key()?, now()?);
    let good = packet::knock_with(&key, "PKD0", time, PORT)?;
    expect(v4, "accept", &good)?;
    expect(v4, "replay", &good)?;
    expect(v4, "window", &packet::knock_with(&key, "PKD0", time - 1000, PORT)?)?;
    expect(v4, "digest", &packet::knock_with("another key", "PKD0", time, PORT)?)?;
    let counters = router::status()?["gate"]["counters"].clone();
    // Another tag is not even passed on.
    let other = packet::knock_with(&key, "ELSE", time, PORT)?;
    v4.network.at_client(|| packet::send(v4.family.client(), v4.family.router(), PORT, &other))?;
    expect(v4, "replay", &good)?;
    ensure!(router::status()?["gate"]["counters"]["tag"] == 0, "{}", router::status()?);
    Ok(counters.to_string())
}

fn ends(v4: &Gateway<'_>) -> Result<String> {
    uci(&["set pkd.ssh.seconds=3"])?;
    service("reload")?;
    is_ready()?;
    shell("nft flush set inet fw4 pkd_ssh_4")?;
    knock(v4)?;
    let mut stream = router::connection(v4)?;
    closes(v4)?;
    let heard = router::still_speaks(&mut stream)?;
    uci(&["set pkd.ssh.seconds=600"])?;
    service("reload")?;
    is_ready()?;
    Ok(format!("{heard} bytes after the end"))
}

/// These kernels do not tell what they track.
fn goes_on(v4: &Gateway<'_>) -> Result<String> {
    uci(&["set pkd.ssh.seconds=3", "set pkd.ssh.end_connections=1"])?;
    service("reload")?;
    is_ready()?;
    shell("nft list chain inet fw4 pkd.begun | grep -qF 'tcp dport 22 ct direction reply drop'")?;
    shell("nft flush set inet fw4 pkd_ssh_4")?;
    knock(v4)?;
    let mut stream = router::connection(v4)?;
    closes(v4)?;
    let trouble = || Ok(router::status()?["gate"]["trouble"].as_str().unwrap_or_default().to_owned());
    let said = wait(LIMIT, trouble, |said| said.contains("install kmod-nf-conntrack-netlink"))?;
    router::still_speaks(&mut stream)?;
    uci(&["set pkd.ssh.seconds=600", "delete pkd.ssh.end_connections"])?;
    service("reload")?;
    is_ready()?;
    ensure!(shell("nft list chain inet fw4 pkd.begun").is_err(), "the chain stays");
    wait(LIMIT, trouble, String::is_empty)?;
    Ok(said)
}

fn outlives(v4: &Gateway<'_>) -> Result<String> {
    knock(v4)?;
    let before = router::rules()?;
    for act in ["reload", "restart", "stop; /etc/init.d/firewall start"] {
        shell(&format!("/etc/init.d/firewall {act}"))?;
        ensure!(router::rules()? == before, "after {act} the rules are {}", router::rules()?);
        // Where the sets were emptied, the daemon fills them again.
        wait(LIMIT, || v4.ssh(), Option::is_some)?;
        is_open(v4)?;
    }
    Ok("three times".to_owned())
}

fn reloads(v4: &Gateway<'_>) -> Result<String> {
    let good = packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?;
    expect(v4, "accept", &good)?;
    uci(&["set pkd.web=service", "set pkd.web.port=80", "add_list pkd.me.service=web"])?;
    service("reload")?;
    is_ready()?;
    is_open(v4)?;
    expect(v4, "replay", &good)?;
    let before = router::rules()?;
    uci(&["set pkd.web.port=0"])?;
    router::service_refuses("reload")?;
    shell("echo 'no key at all, as it has far more than forty bytes in it' > /etc/pkd/keys/me.key.wrong")?;
    uci(&["set pkd.web.port=80", "set pkd.me.key_file=/etc/pkd/keys/me.key.wrong"])?;
    let said = router::service_refuses("reload")?;
    ensure!(said.contains("user \"me\": invalid key in /etc/pkd/keys/me.key.wrong"), "{said}");
    uci(&["delete pkd.me.key_file", "delete pkd.web", "del_list pkd.me.service=web"])?;
    ensure!(router::rules()? == before, "the rules are {}", router::rules()?);
    service("reload")?;
    is_ready()?;
    is_open(v4)?;
    Ok(said.trim().to_owned())
}

fn replaces_key(v4: &Gateway<'_>) -> Result<String> {
    let old = router::key()?;
    let digits = old.trim_start_matches("0x").replace(['0', '1'], "2");
    fs::write(KEY_FILE, format!("0x{digits}\n"))?;
    service("reload")?;
    is_ready()?;
    let time = now()?;
    expect(v4, "digest", &packet::knock_with(&old, "PKD0", time, PORT)?)?;
    expect(v4, "accept", &packet::knock_with(&router::key()?, "PKD0", time, PORT)?)?;
    is_open(v4)?;
    Ok("by its file".to_owned())
}

fn upgrades() -> Result<String> {
    let before = shell("pidof pkdd")?;
    // Another program of the same size and more: a byte behind its end.
    shell(
        "cp /usr/sbin/pkdd /usr/sbin/pkdd.new && echo >> /usr/sbin/pkdd.new && mv /usr/sbin/pkdd.new /usr/sbin/pkdd",
    )?;
    let script = "/usr/lib/opkg/info/pkdd.postinst";
    shell(&format!("PKG_UPGRADE=1 sh {script} configure"))?;
    is_ready()?;
    let after = shell("pidof pkdd")?;
    let program = fs::read_link(format!("/proc/{}/exe", after.trim()))?;
    ensure!(after != before && program.ends_with("pkdd"), "{before} runs {}", program.display());
    Ok(program.display().to_string())
}

fn is_modest() -> Result<String> {
    let pid = shell("pidof pkdd")?.trim().to_owned();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).with_context(|| format!("no {name} in {status}"))
    };
    ensure!(value("Uid:")?.starts_with("65534"), "it is {}", value("Uid:")?);
    // CAP_NET_ADMIN, and nothing else.
    ensure!(value("CapEff:")? == "0000000000001000", "it may {}", value("CapEff:")?);
    let resident = value("VmRSS:")?;
    let bytes = resident.trim_end_matches(" kB").parse::<u64>()? * 1024;
    // Elsewhere than on routers' CPUs, pages and words are larger.
    ensure!(!cfg!(target_arch = "mips") || bytes < RESIDENT, "{resident} are resident");
    Ok(format!("{resident} resident"))
}

fn goes_down(v4: &Gateway<'_>) -> Result<String> {
    let time = now()? + 5;
    let good = packet::knock_with(&router::key()?, "PKD0", time, PORT)?;
    expect(v4, "accept", &good)?;
    service("shutdown")?;
    let saved = fs::read_to_string(FLOOR)?;
    let (greatest, rest) = saved.split_once('\n').unwrap_or_default();
    ensure!(
        greatest == time.to_string() && rest.starts_with("clean\n"),
        "{saved} is on flash, {time} was accepted"
    );
    // A reboot empties /var/run. The time is known at once in this guest.
    shell("rm -rf /var/run/pkdd /var/run/pkd && mkdir -p /var/run/pkd && touch /var/run/pkd/time-known")?;
    service("start")?;
    is_ready()?;
    expect(v4, "replay", &good)?;
    later_than(time)?;
    knock(v4)?;
    Ok(format!("floor {time}"))
}

fn removes(v4: &Gateway<'_>) -> Result<String> {
    // By force, while pkd still needs it.
    shell("fake-opkg remove pkdd")?;
    wait(LIMIT, || Ok(shell("pidof pkdd").is_err()), |has_ended| *has_ended)?;
    is_closed(v4)?;
    for package in PACKAGES.iter().rev().filter(|package| **package != "pkdd") {
        shell(&format!("fake-opkg remove {package}"))?;
    }
    let rules = shell("nft list ruleset")?;
    ensure!(!rules.contains("pkd"), "there is still {rules}");
    shell("/etc/init.d/firewall stop")?;
    Ok("no rule".to_owned())
}

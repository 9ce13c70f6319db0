//! Our packages on a router: installed, configured, reloaded, reconfigured wrongly, and removed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use pkd_tests::Report;

use crate::{
    firewall::Back,
    gateway::{self, Gateway},
    network::{self, Network, now, set_clock, shell, wait},
    nft_mode,
    packet::{self, PORT},
    reboot,
    router::{self, CONFIG, KEY_FILE, closes, is_closed, is_open, knock, service, service_refuses, uci},
};

const LIMIT: Duration = Duration::from_secs(60);
/// How long a grant lasts in the checks that wait for its end.
const BRIEF: &str = "set pkd.ssh.seconds=3";
const LONG: &str = "set pkd.ssh.seconds=600";

pub(crate) fn checks(report: &mut Report, network: &Network, v4: &Gateway<'_>, v6: &Gateway<'_>) {
    let card = network.card();
    if !Back::Nft.is_here() {
        report.check("packages: a module for another kernel is not installed", || another_kernel(card));
        report.check("packages: module, extension and client of the packages work together", || by_hand(v4));
        report.check("packages: the service says what it misses, and changes nothing", misses_nft);
        report.skip("nft, and so the service with firewall4");
        return;
    }
    report.check("packages: a module for another kernel is not installed", || another_kernel(card));
    report.check("packages: installing them closes nothing, opens nothing and makes no key", || installs(v4));
    report
        .check("packages: the first start makes a random key and says what the client types", || starts(v4));
    report.check("packages: what it says opens the port, for one address only", || opens(v4));
    report.check("packages: over IPv6 too", || opens_over_ipv6(v6));
    report.check("packages: a grant ends, and a connection from before stays", || ends(v4));
    report.check("packages: rules and grants outlive a reload of the firewall", || firewall_reloads(v4));
    report.check("packages: rules outlive a restart, and a stop and start, of the firewall", || {
        firewall_restarts(v4)
    });
    report.check("packages: they outlive a card that goes down and up", || card_flaps(card, v4));
    report.check("packages: wrong configuration changes nothing, and the wrong part is named", || wrong(v4));
    report.check("packages: a reload keeps grants and what was accepted", || reloads(v4));
    report.check(
        "packages: each user opens the services that are his, with tags that the service takes",
        || users(v4),
    );
    report.check("packages: a mark of somebody else's is no knock", || marks(v4));
    report.check("packages: a user's last day ends", || expires(v4));
    report.check(
        "packages: a key in the configuration reaches no list of processes, no log and no status",
        || secrets(v4),
    );
    report.check("packages: an upgrade keeps configuration and key", || upgrades(v4));
    report.check(
        "packages: a firewall without our rules is an error, not a gate that is open for knocks",
        || deaf(v4),
    );
    report.check("packages: a knock of one mode is a replay in the other, there and back", || modes(v4));
    reboot::goes_down(report, v4);
    report.check("packages: disabling closes, and so does removing, which leaves nothing", || {
        removes(card, v4)
    });
    nft_mode::checks(report, card, v4, v6);
}

fn another_kernel(card: &str) -> Result<String> {
    shell("modprobe xt_pkd")?;
    gateway::reload_without_memory()?;
    shell("rmmod xt_pkd")?;
    if Back::Nft.is_here() {
        shell("nft flush ruleset")?;
    }
    router::prepare(card)?;
    let right = fs::read_to_string("/packages/kernel-version")?;
    shell("fake-opkg provide kernel 6.6.0~0-r1")?;
    let said = router::install("kmod-ipt-pkd").err().context("it was installed")?.to_string();
    ensure!(said.contains(&format!("kmod-ipt-pkd depends on kernel ={}", right.trim())), "{said}");
    ensure!(!fs::exists("/etc/modules.d/ipt-pkd")?, "a file of it is there");
    router::prepare(card)?;
    Ok(right.trim().to_owned())
}

/// Rules as they are typed without the service.
fn by_hand(v4: &Gateway<'_>) -> Result<String> {
    // What the guest came with is out of the way: only what the packages bring is there.
    shell("rm -f /usr/lib/iptables/libxt_pkd.so /usr/bin/knock && rm -f /lib/modules/*/extra/xt_pkd.ko")?;
    for package in ["kmod-ipt-pkd", "iptables-mod-pkd", "pkd-knock"] {
        router::install(package)?;
    }
    gateway::restore("floor 0")?;
    v4.close(60)?;
    is_closed(v4)?;
    let verdict = v4.knock(&["--key", packet::KEY, "--tag", packet::TAG])?;
    ensure!(verdict == "Accept", "{verdict}");
    let banner = v4.ssh_answers()?;
    v4.firewall.flush()?;
    Ok(banner)
}

fn misses_nft() -> Result<String> {
    router::install("pkdd")?;
    router::install("pkd")?;
    uci(&["set pkd.gate.enabled=1"])?;
    shell("pkd check")?;
    uci(&["set pkd.ssh.port=70000"])?;
    ensure!(shell("pkd check").is_err(), "port 70000 is taken");
    uci(&["set pkd.ssh.port=22"])?;
    let said = service_refuses("start")?;
    let line = said.lines().last().unwrap_or_default();
    ensure!(line.contains("nft or fw4 not found: install firewall4"), "{said}");
    let rules = shell("iptables -t mangle -S")?;
    ensure!(!rules.contains("pkd"), "{rules}");
    Ok(line.to_owned())
}

fn installs(v4: &Gateway<'_>) -> Result<String> {
    shell("/etc/init.d/firewall start")?;
    is_closed(v4)?;
    let before = router::rules()?;
    for package in router::PACKAGES {
        router::install(package)?;
    }
    ensure!(router::rules()? == before, "the rules are {}", router::rules()?);
    let mode = fs::metadata(CONFIG)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{CONFIG} has the mode {mode:o}");
    ensure!(!fs::exists(KEY_FILE)?, "there is a key");
    ensure!(fs::exists("/sys/module/xt_pkd")?, "the module is not loaded");
    ensure!(shell("uci get firewall.pkd.path")?.trim() == "/usr/lib/pkd/firewall-include", "no include");
    ensure!(router::state()? == "disabled", "it is {}", router::state()?);
    Ok("disabled".to_owned())
}

fn starts(v4: &Gateway<'_>) -> Result<String> {
    uci(&["set pkd.gate.enabled=1", LONG])?;
    let said = service("start")?;
    let key = router::key()?;
    ensure!(key.len() == 66 && key.starts_with("0x"), "the key has {} characters", key.len());
    ensure!(said.contains("knock --key-file me.key --tag 'PKD0' ROUTER"), "{said}");
    ensure!(!said.contains(&key[2..]), "the key was printed");
    ensure!(router::state()? == "open", "{}", router::status()?);
    is_closed(v4)?;
    for command in ["iptables", "ip6tables"] {
        let jumps = shell(&format!("{command} -t mangle -S INPUT | grep -c -- '-j pkd'"))?;
        ensure!(jumps.trim() == "1", "{command} has {jumps} jumps");
    }
    Ok(said.lines().last().unwrap_or_default().trim().to_owned())
}

fn opens(v4: &Gateway<'_>) -> Result<String> {
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

fn opens_over_ipv6(v6: &Gateway<'_>) -> Result<String> {
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

fn ends(v4: &Gateway<'_>) -> Result<String> {
    uci(&[BRIEF])?;
    service("reload")?;
    knock(v4, KEY_FILE, "PKD0")?;
    let mut stream = router::connection(v4)?;
    closes(v4)?;
    ensure!(router::grants(&router::status()?, true).is_empty(), "{}", router::status()?);
    let heard = router::still_speaks(&mut stream)?;
    Ok(format!("{heard} bytes after the end"))
}

fn firewall_reloads(v4: &Gateway<'_>) -> Result<String> {
    uci(&[LONG])?;
    service("reload")?;
    knock(v4, KEY_FILE, "PKD0")?;
    let before = router::rules()?;
    shell("/etc/init.d/firewall reload")?;
    ensure!(router::rules()? == before, "the rules are now {}", router::rules()?);
    is_open(v4)?;
    Ok("the grant is there".to_owned())
}

fn firewall_restarts(v4: &Gateway<'_>) -> Result<String> {
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

fn card_flaps(card: &str, v4: &Gateway<'_>) -> Result<String> {
    shell(&format!("ip link set {card} down && ip link set {card} up && /etc/init.d/firewall reload"))?;
    // The router's IPv6 addresses go with the link; what follows is over IPv4.
    wait(LIMIT, || v4.ssh(), |_| true)?;
    ensure!(knock(v4, KEY_FILE, "PKD0")? == "Accept");
    is_open(v4)?;
    Ok(card.to_owned())
}

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

fn wrong(v4: &Gateway<'_>) -> Result<String> {
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
    let second = "config user 'two'\n\toption tag '0x504b4430'\n\tlist service 'ssh'\n";
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

fn reloads(v4: &Gateway<'_>) -> Result<String> {
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

fn users(v4: &Gateway<'_>) -> Result<String> {
    // The SSH server is `ssh`; nothing listens behind `web`, which only takes its own users.
    uci(&[
        "set pkd.web=service",
        "set pkd.web.port=80",
        "add_list pkd.web.tag=WEB1",
        "set pkd.two=user",
        "set pkd.two.tag=WEB1",
        "add_list pkd.two.service=web",
        "set pkd.three=user",
        "set pkd.three.tag=3rd",
        "add_list pkd.three.service=web",
        "add_list pkd.three.service=ssh",
        BRIEF,
        "set pkd.web.seconds=3",
    ])?;
    service("reload")?;
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

fn marks(v4: &Gateway<'_>) -> Result<String> {
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

fn expires(v4: &Gateway<'_>) -> Result<String> {
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

fn secrets(v4: &Gateway<'_>) -> Result<String> {
    const SECRET: &str = "quite a secret 5417";
    uci(&[
        "set pkd.two=user",
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

fn upgrades(v4: &Gateway<'_>) -> Result<String> {
    let (config, key) = (fs::read_to_string(CONFIG)?, router::key()?);
    router::install("pkd")?;
    ensure!(fs::read_to_string(CONFIG)? == config && router::key()? == key, "something was replaced");
    ensure!(fs::exists("/etc/config/pkd-opkg")?, "the new configuration is not beside it");
    ensure!(router::state()? == "open", "{}", router::status()?);
    v4.expect("Accept", &packet::knock_with(&key, "PKD0", now()?, PORT)?)?;
    is_open(v4)?;
    Ok("open again".to_owned())
}

fn deaf(v4: &Gateway<'_>) -> Result<String> {
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
fn modes(v4: &Gateway<'_>) -> Result<String> {
    uci(&["set pkd.gate.port=any"])?;
    service("reload")?;
    let recorded = packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?;
    v4.expect("Accept", &recorded)?;
    uci(&["set pkd.gate.mode=nft"])?;
    service("reload")?;
    nft_mode::is_ready()?;
    nft_mode::expect(v4, "replay", &recorded)?;
    let floor =
        || -> Result<u64> { Ok(router::status()?["gate"]["users"][0]["floor"].as_u64().unwrap_or(u64::MAX)) };
    let until = floor()?;
    wait(LIMIT, now, |time| *time > until)?;
    let recorded = packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?;
    nft_mode::expect(v4, "accept", &recorded)?;
    uci(&["set pkd.gate.mode=match"])?;
    service("reload")?;
    ensure!(router::state()? == "open", "{}", router::status()?);
    v4.expect("Replay", &recorded)?;
    let until = floor()?;
    wait(LIMIT, now, |time| *time > until)?;
    v4.expect("Accept", &packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?)?;
    is_open(v4)?;
    Ok("match, nft, match".to_owned())
}

fn removes(card: &str, v4: &Gateway<'_>) -> Result<String> {
    uci(&["set pkd.gate.enabled=0"])?;
    service("reload")?;
    is_closed(v4)?;
    uci(&["set pkd.gate.enabled=1"])?;
    service("start")?;
    v4.expect("Accept", &packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?)?;
    for package in router::PACKAGES.iter().rev() {
        shell(&format!("fake-opkg remove {package}"))?;
    }
    is_closed(v4)?;
    let rules = shell("nft list ruleset")?;
    ensure!(!rules.contains("pkd"), "there is still {rules}");
    let left = shell(
        "find /usr /lib/upgrade /etc/init.d /etc/rc.d /etc/hotplug.d /etc/uci-defaults /var/run -name '*pkd*' ! -path '*/lib/pkd-revision-0*' ! -name pkd-vm ! -path '/usr/lib/*/xtables/*' | grep -v '^/var/run/pkd$' || true",
    )?;
    ensure!(left.trim().is_empty(), "there are still {left}");
    ensure!(shell("uci show firewall")?.matches("pkd").count() == 0, "{}", shell("uci show firewall")?);
    shell("rmmod xt_pkd && modprobe xt_pkd")?;
    shell("/etc/init.d/firewall stop")?;
    Ok(card.to_owned())
}

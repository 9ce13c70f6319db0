//! Our packages on a router: installed, configured, reloaded, reconfigured wrongly, and removed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    firewall::Back,
    gateway::{self, Gateway},
    network::{self, Network, now, set_clock, shell, wait},
    nft_mode,
    packet::{self, PORT},
    reboot,
    report::Report,
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
        Report::not_here("nft, and so the service with firewall4");
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
    let grant = &status["grants"][0];
    ensure!(
        grant["address"] == v4.family.client().to_string()
            && grant["service"] == "ssh"
            && grant["port"] == 22,
        "{status}"
    );
    let left = grant["seconds_left"].as_u64().context("no time left")?;
    ensure!((500..=600).contains(&left), "{left} seconds left");
    ensure!(status["counters"]["Accept"] == 1 && status["caches"][0]["tag"] == "PKD0", "{status}");
    ensure!(status["users"][0]["state"] == "active", "{status}");
    Ok(format!("{left} seconds left"))
}

fn opens_over_ipv6(v6: &Gateway<'_>) -> Result<String> {
    is_closed(v6)?;
    next_second()?;
    let verdict = knock(v6, KEY_FILE, "PKD0")?;
    ensure!(verdict == "Accept", "{verdict}");
    is_open(v6)?;
    let status = router::status()?;
    let of_ipv6 =
        status["grants"].as_array().context("no grants")?.iter().filter(|grant| grant["family"] == 6);
    ensure!(of_ipv6.count() == 1, "{status}");
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
    ensure!(
        router::status()?["grants"].as_array().is_some_and(|grants| grants.iter().all(|g| g["family"] == 6))
    );
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

/// Configuration errors, and the message for each.
const WRONG: &[(&str, &str)] = &[
    ("set pkd.gate.enabled=yes", "gate: option enabled: invalid value 'yes': expected 0 or 1"),
    ("set pkd.gate.mode=ebpf", "gate: option mode: invalid value 'ebpf': expected match or nft"),
    ("set pkd.gate.rate=0", "gate: option rate: invalid value '0': expected 1 to 1000000"),
    ("set pkd.gate.port=70000", "gate: option port: invalid value '70000': expected 1 to 65535"),
    ("set pkd.gate.port=010", "gate: option port: invalid value '010': expected 1 to 65535"),
    (
        "set pkd.gate.zone='a b'",
        "gate: option zone: invalid value 'a b': expected the name of a firewall zone",
    ),
    ("set pkd.gate.zone=wann", "gate: option zone: no zone 'wann' in /etc/config/firewall"),
    ("set pkd.gate.clock=maybe", "gate: option clock: invalid value 'maybe': expected ntp or trust"),
    ("set pkd.gate.mark=0x5", "gate: option mark: invalid value '0x5': expected 2 to 8 adjacent bits"),
    ("set pkd.gate.mark=255", "gate: option mark: invalid value '255': expected a hexadecimal mask"),
    ("set pkd.gate.speed=1", "gate 'gate': unknown option 'speed'"),
    ("set pkd.other=thing", "section 'other': unknown type 'thing'"),
    ("delete pkd.gate", "missing section gate 'gate'"),
    (
        "set pkd.ssh.protocol=sctp",
        "service 'ssh': option protocol: invalid value 'sctp': expected tcp or udp",
    ),
    ("set pkd.ssh.port=0", "service 'ssh': option port: invalid value '0': expected 1 to 65535"),
    ("delete pkd.ssh.port", "service 'ssh': missing option port"),
    (
        "set pkd.ssh.seconds=99999999999",
        "service 'ssh': option seconds: invalid value '99999999999': expected 1 to 86400",
    ),
    (
        "add_list pkd.ssh.tag=TOOLONG",
        "service 'ssh': option tag: invalid value 'TOOLONG': expected at most 4 bytes",
    ),
    ("set pkd.me.enabled=2", "user 'me': option enabled: invalid value '2': expected 0 or 1"),
    ("delete pkd.me.tag", "user 'me': missing option tag"),
    (
        "set pkd.me.tag=0x5g",
        "user 'me': option tag: invalid value '0x5g': expected hexadecimal digits after 0x",
    ),
    ("set pkd.me.window=-1", "user 'me': option window: invalid value '-1': expected 1 to 86400"),
    ("add_list pkd.me.service=vpn", "user 'me': unknown service 'vpn'"),
    ("add_list pkd.me.service='s.*'", "user 'me': unknown service 's.*'"),
    ("delete pkd.me.service", "user 'me': missing option service: a knock would open nothing"),
    (
        "set pkd.me.expires=2026-02-30",
        "user 'me': option expires: invalid value '2026-02-30': expected a date such as 2027-12-31",
    ),
    (
        "set pkd.me.expires=soon",
        "user 'me': option expires: invalid value 'soon': expected a date such as 2027-12-31",
    ),
    ("set pkd.me.key_file=key", "user 'me': option key_file: invalid value 'key': expected an absolute path"),
    ("set pkd.me.key_file=/none", "user 'me': option key_file: no such file '/none'"),
    ("set pkd.me.key_file=/proc/version", "key file /proc/version"),
    ("set pkd.me.key=0x", "me-1.key: no digits after 0x"),
    ("set pkd.a-b=user", "uci: Invalid argument"),
];

fn wrong(v4: &Gateway<'_>) -> Result<String> {
    let good = fs::read_to_string(CONFIG)?;
    let before = router::rules()?;
    let mut refused = 0;
    for (mistake, word) in WRONG {
        if shell(&format!("uci {mistake} && uci commit pkd")).is_err() {
            // uci itself takes no such name.
            ensure!(word.starts_with("uci:"), "uci does not take {mistake}");
            continue;
        }
        let said = service_refuses("reload");
        fs::write(CONFIG, &good)?;
        let said = said.with_context(|| (*mistake).to_owned())?;
        ensure!(said.contains(word) && said.lines().count() == 1, "{mistake}: {said}");
        ensure!(router::rules()? == before, "{mistake} changed the rules");
        ensure!(router::state()? == "error", "{mistake}: {}", router::status()?);
        refused += 1;
    }
    let second = "config user 'two'\n\toption tag '0x504b4430'\n\tlist service 'ssh'\n";
    for (text, word) in [
        (format!("{good}\n{second}"), "user 'two': same tag as user 'me'"),
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
    let grants = router::status()?["grants"].as_array().map_or(0, Vec::len);
    v4.expect("Accept", &packet::knock_with(&router::key()?, "PKD0", now()?, PORT)?)?;
    let both = router::status()?["grants"].as_array().map_or(0, Vec::len);
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
                let grants = status["grants"].as_array().context("no grants")?;
                Ok(grants
                    .iter()
                    .filter(|grant| grant["family"] == 4)
                    .map(|grant| grant["service"].as_str().unwrap_or_default().to_owned())
                    .collect())
            },
            |given: &Vec<String>| !given.is_empty(),
        )?;
        ensure!(given == opened, "{user} opened {given:?}");
        seen.push(user);
        wait(LIMIT, router::status, |status| {
            status["grants"].as_array().is_some_and(|grants| grants.iter().all(|grant| grant["family"] == 6))
        })?;
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
        ensure!(
            router::status()?["grants"]
                .as_array()
                .is_some_and(|grants| grants.iter().all(|g| g["family"] == 6))
        );
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
        ensure!(router::status()?["users"][0]["state"] == "expired", "{}", router::status()?);
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

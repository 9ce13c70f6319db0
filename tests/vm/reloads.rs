//! Replay caches across changes of rules, namespaces and the module.

use std::{
    os::unix::process::CommandExt,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pkd_tests::Report;

use crate::{
    gateway::{self, Gateway},
    namespace::{self, STATUS},
    network::{self, now, set_clock, wait},
    packet::{self, PORT, knock},
    status::Status,
};

const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn checks(report: &mut Report, v4: &Gateway<'_>, v6: &Gateway<'_>) {
    report.check("both families share the cache of a tag and key", || shared(v4, v6));
    report.check("the second of two rules with one tag and key sees a replay", || two_rules(v4));
    report
        .check("a cache without rules stays for its window, and leaves its key's floor behind", || idle(v4));
    report.check("without memory the cache waits one window, and says so", || waits(v4));
    report.check("a saved floor takes the place of waiting", || restored(v4));
    report.check("what is no floor is refused, and so is who is not root", || only_floors_by_root(v4));
    report.check("the floor to save covers the widest window there was", || covers(v4));
    report.check("a cache that waits is not dropped with its rules", || waits_without_rules(v4));
    report.check("a cache that goes leaves the others alone", || leaves_others(v4));
    report.check("a window wider than before waits for its own time", || wider(v4));
    far_times(report, v4);
    report.check("no replay while the module is unloaded and loaded under knocks", || reloads(v4));
    report.check("a namespace has its own caches and counters, and may go with its rules", || namespaces(v4));
}

/// The ends of 31 and of 32 bits: in 2038 and 2106.
const ENDS: [u64; 2] = [1 << 31, 1 << 32];

/// A knock counts seconds in 64 bits, and so does the kernel.
fn far_times(report: &mut Report, gateway: &Gateway<'_>) {
    let (clock, start) = match now() {
        Ok(clock) => (clock, Instant::now()),
        Err(error) => return report.fail("reading the clock", &error),
    };
    let set_back = || set_clock(clock + start.elapsed().as_secs());
    if cfg!(all(target_pointer_width = "32", not(target_env = "musl"))) {
        // The crate libc knows times of 32 bits there.
        return report.skip("a clock beyond 2038, in programs of 32 bits with glibc");
    }
    report.check("the ends of 31 and of 32 bits, in 2038 and 2106, are seconds like others", || {
        ENDS.into_iter().try_for_each(|end| {
            set_back()?;
            gateway.only("--key test --tag SSHK --window 30")?;
            walk_over(gateway, end)
        })?;
        Ok("accepted before and after".to_owned())
    });
    report.check("the clock is set back from there", || {
        set_back()?;
        Ok(format!("{}", now()?))
    });
}

fn walk_over(gateway: &Gateway<'_>, end: u64) -> Result<()> {
    let mut used = Vec::new();
    for at in [end - 2, end + 2] {
        set_clock(at)?;
        let payload = knock(now()?)?;
        gateway.expect("Accept", &payload).with_context(|| format!("at {at}"))?;
        // The program has a clock of its own to read, and its C library.
        let verdict =
            gateway.knock(&["--tag", "SSHK", "--key", "test"]).with_context(|| format!("at {at}"))?;
        ensure!(verdict == "Accept", "at {at} what knock sends is counted as {verdict}");
        used.push(payload);
    }
    // What a clock of 31 bits would show now.
    gateway.expect("Window", &knock((end + 2) % ENDS[0])?)?;
    used.iter().try_for_each(|payload| gateway.expect("Replay", payload))
}

fn shared(v4: &Gateway<'_>, v6: &Gateway<'_>) -> Result<String> {
    v4.only("--key test --tag SSHK")?;
    v6.firewall.run("-A INPUT -p udp -m pkd --key test --tag SSHK")?;
    let payload = knock(now()?)?;
    v4.expect("Accept", &payload)?;
    v6.expect("Replay", &payload)?;
    let rules = Status::read()?.cache()?.rules;
    ensure!(rules == 2, "{rules} rules");
    v6.firewall.flush()?;
    Ok("accepted over IPv4, a replay over IPv6".to_owned())
}

fn two_rules(gateway: &Gateway<'_>) -> Result<String> {
    gateway.only("--key test --tag SSHK")?;
    gateway.firewall.run("-A INPUT -p udp -m pkd --key test --tag SSHK")?;
    let before = Status::read()?;
    let payload = knock(now()?)?;
    gateway
        .network
        .at_client(|| packet::send(gateway.family.client(), gateway.family.router(), PORT, &payload))?;
    let after = wait(LIMIT, Status::read, |after| after.total() >= before.total() + 2)?;
    ensure!(after.counters["Accept"] == 1 && after.counters["Replay"] == 1, "{:?}", after.counters);
    Ok("one rule a key".to_owned())
}

fn idle(gateway: &Gateway<'_>) -> Result<String> {
    gateway.only("--key test --tag SSHK --window 3")?;
    let time = now()?;
    gateway.expect("Accept", &knock(time)?)?;
    gateway.firewall.flush()?;
    let cache = Status::read()?.cache()?.clone();
    ensure!(cache.rules == 0 && cache.newest == time, "{cache:?}");
    wait(LIMIT, Status::read, |status| status.caches.is_empty())?;
    ensure!(now()? > time + 3, "the cache went before its window was over");
    gateway.firewall.run("-A INPUT -p udp -m pkd --key other --tag OTHR")?;
    let status = Status::read()?;
    let cache = status.cache()?;
    ensure!(cache.floor == 0 && status.floor_to_save == Some(time), "{status:?}, not {time}");
    gateway.firewall.flush()?;
    gateway.firewall.run("-A INPUT -p udp -m pkd --key test --tag SSHK")?;
    let floors: Vec<_> = Status::read()?.caches.into_iter().map(|cache| (cache.tag, cache.floor)).collect();
    ensure!(floors.contains(&("SSHK".to_owned(), time)), "{floors:?}, not {time}");
    Ok(format!("floor {time}"))
}

fn waits(gateway: &Gateway<'_>) -> Result<String> {
    let before = now()?;
    gateway::reload_without_memory()?;
    let loaded = before..=now()?;
    gateway.firewall.run("-A INPUT -p udp -m pkd --key test --tag SSHK --window 4")?;
    let cache = Status::read()?.cache()?.clone();
    ensure!(loaded.contains(&(cache.floor - 4)), "{cache:?}, loaded in {loaded:?}");
    ensure!(cache.wait > 0 && cache.wait <= 5, "{cache:?}");
    gateway.expect("Replay", &knock(now()?)?)?;
    wait(LIMIT, || Ok(Status::read()?.cache()?.wait), |wait| *wait == 0)?;
    gateway.expect("Accept", &knock(now()?)?)?;
    Ok(format!("wait {} s", cache.wait))
}

fn restored(gateway: &Gateway<'_>) -> Result<String> {
    gateway.only("--key test --tag SSHK")?;
    let time = now()?;
    let (old, late) = (knock(time)?, knock(time)?);
    gateway.expect("Accept", &old)?;
    let saved = Status::read()?.floor_to_save.context("no floor to save")?;
    ensure!(saved == time, "{saved} is to be saved, not {time}");
    gateway::reload_without_memory()?;
    gateway.firewall.run("-A INPUT -p udp -m pkd --key test --tag SSHK")?;
    gateway::restore(&format!("floor {saved}"))?;
    gateway.expect("Replay", &old)?;
    gateway.expect("Replay", &late)?;
    gateway.expect("Accept", &knock(time + 1)?)?;
    // A restored floor does not lower the floor below knocks accepted since the module was loaded.
    let accepted = knock(time + 2)?;
    gateway.expect("Accept", &accepted)?;
    gateway::restore("floor 0")?;
    gateway.expect("Replay", &accepted)?;
    Ok(format!("floor {saved}"))
}

fn only_floors_by_root(gateway: &Gateway<'_>) -> Result<String> {
    gateway.only("--key test --tag SSHK")?;
    gateway::restore("floor 17")?;
    for wrong in
        ["", "floor", "floor ", "floor x", "floor -1", "floor 18446744073709551616", "17", "floor 1 2"]
    {
        ensure!(gateway::restore(wrong).is_err(), "{wrong:?} was taken");
    }
    let mut stranger = Command::new("sh");
    stranger.args(["-c", &format!("echo floor 0 > {}", crate::status::FILE)]).uid(1000).gid(1000);
    ensure!(!network::run(&mut stranger)?.status.success(), "a user without rights has set the floor");
    let cache = Status::read()?.cache()?.clone();
    ensure!(cache.floor == 17, "{cache:?}");
    Ok("floor 17 stands".to_owned())
}

fn covers(gateway: &Gateway<'_>) -> Result<String> {
    let before = now()?;
    gateway::reload_without_memory()?;
    let loaded = before..=now()?;
    let first = Status::read()?.floor_to_save;
    ensure!(first.is_none(), "without a rule nobody knows the window, and {first:?} is to be saved");
    gateway.firewall.run("-A INPUT -p udp -m pkd --key test --tag SSHK --window 1000")?;
    gateway.firewall.flush()?;
    gateway.firewall.run("-A INPUT -p udp -m pkd --key other --tag OTHR --window 1")?;
    let saved = Status::read()?.floor_to_save.context("no floor to save")?;
    ensure!(loaded.contains(&(saved - 1000)), "{saved}, loaded in {loaded:?}");
    Ok(format!("{} s after the start", saved - before))
}

fn waits_without_rules(gateway: &Gateway<'_>) -> Result<String> {
    gateway::reload_without_memory()?;
    gateway.firewall.run("-A INPUT -p udp -m pkd --key test --tag SSHK --window 1000")?;
    let floor = Status::read()?.cache()?.floor;
    gateway.firewall.flush()?;
    gateway.firewall.run("-A INPUT -p udp -m pkd --key test --tag SSHK --window 10")?;
    let cache = Status::read()?.cache()?.clone();
    ensure!(cache.floor == floor, "{cache:?} has no longer the floor {floor}");
    Ok(format!("wait {} s", cache.wait))
}

fn leaves_others(gateway: &Gateway<'_>) -> Result<String> {
    gateway.only("--key other --tag OTHR --window 60")?;
    let short = "INPUT -p udp -m pkd --key test --tag SSHK --window 1";
    gateway.firewall.run(&format!("-A {short}"))?;
    let before = Status::read()?;
    let payload = knock(now()?)?;
    gateway
        .network
        .at_client(|| packet::send(gateway.family.client(), gateway.family.router(), PORT, &payload))?;
    let after = wait(LIMIT, Status::read, |after| after.total() >= before.total() + 2)?;
    ensure!(after.counters["Accept"] == 1, "{:?}", after.counters);
    gateway.firewall.run(&format!("-D {short}"))?;
    wait(LIMIT, Status::read, |status| status.caches.len() == 1)?;
    // iptables shows the kernel all rules again with each change.
    gateway.firewall.run("-A INPUT -p tcp --dport 1 -j ACCEPT")?;
    let cache = Status::read()?.cache()?.clone();
    ensure!(cache.tag == "OTHR" && cache.floor == 0, "{cache:?}");
    Ok(format!("floor {}", cache.floor))
}

fn wider(gateway: &Gateway<'_>) -> Result<String> {
    gateway::reload_without_memory()?;
    gateway.firewall.run("-A INPUT -p udp -m pkd --key test --tag SSHK --window 1")?;
    let narrow = Status::read()?.cache()?.floor;
    gateway.firewall.run("-A INPUT -p udp -m pkd --key test --tag SSHK --window 1000")?;
    let cache = Status::read()?.cache()?.clone();
    ensure!(cache.floor == narrow + 999 && cache.window == 1000, "{cache:?} after {narrow}");
    Ok(format!("wait {} s", cache.wait))
}

/// Datagrams that were accepted come in again all the time, while the module goes and comes. The window is wider than
/// the slowest guest takes.
fn reloads(gateway: &Gateway<'_>) -> Result<String> {
    const TIMES: usize = 10;
    gateway.only("--key test --tag SSHK --window 3600")?;
    let time = now()?;
    let old: Vec<_> = [time - 20, time, time + 40].into_iter().map(knock).collect::<Result<_>>()?;
    for payload in &old {
        gateway.expect("Accept", payload)?;
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            gateway.network.at_client(|| {
                let socket = packet::udp(gateway.family.client())?;
                let router = std::net::SocketAddr::new(gateway.family.router(), PORT);
                let mut sent = 0_u64;
                while !done.load(Ordering::Relaxed) && sent < 10_000_000 {
                    for payload in &old {
                        // A closed port or a full queue may answer with an error; the next one goes.
                        sent += u64::from(socket.send_to(payload, &router.into()).is_ok());
                    }
                }
                Ok(sent)
            })
        });
        let reloaded = (0..TIMES).try_for_each(|_| {
            gateway::reload_without_memory()?;
            gateway.firewall.run("-A INPUT -p udp -m pkd --key test --tag SSHK --window 3600")?;
            let status = wait(LIMIT, Status::read, |status| status.counters["Replay"] > 100)?;
            ensure!(status.counters["Accept"] == 0, "a replay was accepted: {:?}", status.counters);
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        let sent = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        reloaded?;
        Ok(format!("{TIMES} times, {sent} replays sent"))
    })
}

fn namespaces(gateway: &Gateway<'_>) -> Result<String> {
    gateway.only("--key test --tag SSHK")?;
    gateway.expect("Accept", &knock(now()?)?)?;
    for _ in 0..5 {
        namespace::bare(|| {
            gateway.firewall.run("-A INPUT -p udp -m pkd --key test --tag SSHK")?;
            let own = Status::parse(&std::fs::read_to_string(STATUS)?)?;
            ensure!(own.total() == 0 && own.cache()?.newest == 0, "{own:?}");
            // The rule stays, and goes with the namespace.
            Ok(())
        })?;
    }
    // The kernel clears namespaces away later; their rules hold the module until then.
    wait(LIMIT, gateway::users, |users| *users == 1)?;
    let status = Status::read()?;
    ensure!(status.counters["Accept"] == 1 && status.cache()?.newest > 0, "{status:?}");
    Ok("5 of them".to_owned())
}

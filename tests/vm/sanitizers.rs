//! What only a kernel that watches itself can tell (`xtask/kernel/x86_64-sanitizers.config`): rules, namespaces and the module
//! come and go under floods, memory is refused, and nothing is lost, raced for or touched that is gone.

use std::{
    fs,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use pkd_tests::Report;

use crate::{
    gateway::{self, Gateway},
    namespace,
    network::{self, now, wait},
    packet::{self, PORT, knock},
    status::Status,
};

const DEBUGFS: &str = "/sys/kernel/debug";

/// Instrumented code on an emulated CPU.
const LIMIT: Duration = Duration::from_mins(4);

/// Most that a flood sends by itself.
const MOST_PACKETS: usize = 50_000_000;

/// Lets the kernel watch from here on.
pub(crate) fn prepare() -> Result<()> {
    network::shell(&format!("mount -t debugfs debugfs {DEBUGFS}"))?;
    // What the kernel's own start has lost is not ours.
    fs::write(format!("{DEBUGFS}/kmemleak"), "scan")?;
    fs::write(format!("{DEBUGFS}/kmemleak"), "clear")?;
    Ok(())
}

/// How often each thing is done.
pub(crate) struct Times {
    replacements: usize,
    namespaces: usize,
    reloads: usize,
    refusals: usize,
}

pub(crate) const WHOLE: Times = Times { replacements: 1_000, namespaces: 50, reloads: 20, refusals: 48 };

/// For `make test`: what goes wrong each time is seen, a race perhaps not.
pub(crate) const QUICK: Times = Times { replacements: 100, namespaces: 5, reloads: 3, refusals: 16 };

pub(crate) fn checks(report: &mut Report, gateway: &Gateway<'_>, times: &Times) {
    report.check("rules are replaced during a flood", || churn(gateway, times.replacements));
    report
        .check("namespaces with rules come and go during a flood", || namespaces(gateway, times.namespaces));
    report.check("the module comes and goes during floods from two CPUs", || reloads(gateway, times.reloads));
    report
        .check("where memory is refused a rule is refused whole", || refused_rules(gateway, times.refusals));
    report.check("where memory is refused a namespace is refused whole", || {
        refused_namespaces(gateway, times.refusals)
    });
    report.check("no memory is lost", || no_leak(gateway));
    report.check("the kernel has watched its locks to the end", watched);
}

/// Does `act` while good, replayed and forged knocks come in, from a thread on each of these CPUs.
fn during_floods(gateway: &Gateway<'_>, cpus: &[usize], act: impl FnOnce() -> Result<()>) -> Result<usize> {
    let (done, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let flood = |cpu: usize| {
            let (done, sent) = (&done, &sent);
            move || {
                gateway.network.at_client(|| {
                    let mut own = CpuSet::new();
                    own.set(cpu)?;
                    sched_setaffinity(Pid::from_raw(0), &own)?;
                    let socket = packet::udp(gateway.family.client())?;
                    let router = SocketAddr::new(gateway.family.router(), PORT).into();
                    while !done.load(Ordering::Relaxed) && sent.load(Ordering::Relaxed) < MOST_PACKETS {
                        let mut payload = knock(now()?)?;
                        // Twice as it is, then altered in its digest, its time and its tag.
                        for at in [None, None, Some(40), Some(8), Some(0)] {
                            if let Some(byte) = at.and_then(|at| payload.get_mut::<usize>(at)) {
                                *byte ^= 0x55;
                            }
                            // A full queue is what a flood is about; the next one goes.
                            sent.fetch_add(
                                usize::from(socket.send_to(&payload, &router).is_ok()),
                                Ordering::Relaxed,
                            );
                        }
                    }
                    Ok(())
                })
            }
        };
        let floods: Vec<_> = cpus.iter().map(|cpu| scope.spawn(flood(*cpu))).collect();
        let acted = act();
        done.store(true, Ordering::Relaxed);
        for flood in floods {
            flood.join().map_err(|_| anyhow::anyhow!("a flood panicked"))??;
        }
        acted
    })?;
    Ok(sent.into_inner())
}

fn churn(gateway: &Gateway<'_>, times: usize) -> Result<String> {
    gateway.only("--key test --tag SSHK")?;
    let rules = (0..times).map(|turn| {
        // A cache that stays, one of seven that come and go, and sometimes none.
        let own = ["-A INPUT -p udp -m pkd --key test --tag SSHK\n", ""][usize::from(turn % 5 == 4)];
        let other =
            format!("-A INPUT -p udp -m pkd --key other{} --tag SSHK --window {}\n", turn % 7, turn % 3);
        format!("*filter\n:INPUT ACCEPT [0:0]\n{own}{other}COMMIT\n")
    });
    let rules: String = rules.collect();
    let before = Status::read()?.total();
    let sent = during_floods(gateway, &[0], || gateway.firewall.restore(&rules))?;
    let counted = Status::read()?.total() - before;
    ensure!(counted > 0, "no packet met a rule");
    gateway.firewall.flush()?;
    Ok(format!("{times} times, {sent} sent, {counted} counted"))
}

fn namespaces(gateway: &Gateway<'_>, times: usize) -> Result<String> {
    gateway.only("--key test --tag SSHK")?;
    let sent = during_floods(gateway, &[0], || {
        for _ in 0..times {
            namespace::bare(|| {
                gateway.firewall.run("-A INPUT -p udp -m pkd --key test --tag SSHK").map(drop)
            })?;
        }
        Ok(())
    })?;
    // The kernel clears namespaces away later; their rules hold the module until then.
    wait(LIMIT, gateway::users, |users| *users == 1)?;
    Ok(format!("{times} times, {sent} sent"))
}

fn reloads(gateway: &Gateway<'_>, times: usize) -> Result<String> {
    gateway.only("--key test --tag SSHK")?;
    let sent = during_floods(gateway, &[0, 1], || {
        for _ in 0..times {
            gateway.only("--key test --tag SSHK")?;
            wait(LIMIT, || Ok(Status::read()?.total()), |total| *total > 50)?;
        }
        Ok(())
    })?;
    Ok(format!("{times} times, {sent} sent"))
}

/// What became of turns in which one request for memory was refused.
struct Refusals {
    /// Turns that failed for it.
    refused: usize,
    /// Turns that were done all the same: what the kernel's own watchers ask for on the module's way they can do without.
    done: usize,
}

/// Refuses one request for memory that is made on the module's way, each turn another one.
fn refusing(turns: usize, mut turn: impl FnMut() -> Result<bool>) -> Result<Refusals> {
    let failslab = |name: &str, value: &str| {
        fs::write(format!("{DEBUGFS}/failslab/{name}"), value).with_context(|| format!("{name} {value}"))
    };
    // The module's code and as much behind it as all of it has: name, bytes, users, who, state, address.
    let modules = fs::read_to_string("/proc/modules")?;
    let ours = modules.lines().find(|line| line.starts_with("xt_pkd ")).context("the module is not there")?;
    let words: Vec<&str> = ours.split(' ').collect();
    let size: u64 = words.get(1).context("no size")?.parse()?;
    let start = words.get(5).and_then(|word| word.strip_prefix("0x")).with_context(|| ours.to_owned())?;
    let start = u64::from_str_radix(start, 16)?;
    ensure!(start > 0, "addresses are hidden: {ours}");
    for (name, value) in [
        ("probability", "100".to_owned()),
        ("verbose", "0".to_owned()),
        ("ignore-gfp-wait", "N".to_owned()),
        ("stacktrace-depth", "32".to_owned()),
        ("require-start", format!("{start}")),
        ("require-end", format!("{}", start + size)),
    ] {
        failslab(name, &value)?;
    }
    let mut refusals = Refusals { refused: 0, done: 0 };
    for nth in 1..=turns {
        // Counts all requests of the machine; only those on our way are refused.
        failslab("interval", &nth.to_string())?;
        failslab("times", "1")?;
        let done = turn();
        let left: i64 = fs::read_to_string(format!("{DEBUGFS}/failslab/times"))?.trim().parse()?;
        failslab("times", "0")?;
        if done? {
            refusals.done += 1;
        } else {
            ensure!(left == 0, "turn {nth} fails, and nothing was refused");
            refusals.refused += 1;
        }
    }
    ensure!(refusals.refused > 0, "nothing failed: the module asks for no memory?");
    Ok(refusals)
}

fn refused_rules(gateway: &Gateway<'_>, turns: usize) -> Result<String> {
    gateway.only("--key test --tag SSHK")?;
    let held = gateway::users()?;
    let mut turn = 0;
    let Refusals { refused, done } = refusing(turns, || {
        turn += 1;
        let rule = format!("INPUT -p udp -m pkd --key new{turn} --tag SSHK");
        let done = gateway.firewall.run(&format!("-A {rule}")).is_ok();
        let rules = gateway::users()? - held;
        ensure!(rules == u32::from(done), "{rules} more rules hold the module");
        if done {
            gateway.firewall.run(&format!("-D {rule}"))?;
        }
        Ok(done)
    })?;
    gateway.expect("Accept", &knock(now()?)?)?;
    Ok(format!("{refused} refused, {done} done"))
}

fn refused_namespaces(gateway: &Gateway<'_>, turns: usize) -> Result<String> {
    gateway.only("--key test --tag SSHK")?;
    let Refusals { refused, done } = refusing(turns, || Ok(namespace::bare(|| Ok(())).is_ok()))?;
    gateway.expect("Accept", &knock(now()?)?)?;
    Ok(format!("{refused} refused, {done} done"))
}

fn no_leak(gateway: &Gateway<'_>) -> Result<String> {
    // kmemleak passes over what is younger than 5 s (MSECS_MIN_AGE), and wants to see it twice.
    const AGE: Duration = Duration::from_secs(6);
    gateway.firewall.flush()?;
    let start = Instant::now();
    let mut scans = 0;
    wait(
        LIMIT,
        || {
            fs::write(format!("{DEBUGFS}/kmemleak"), "scan")?;
            scans += 1;
            Ok(start.elapsed())
        },
        |age| *age > 2 * AGE,
    )?;
    let found = fs::read_to_string(format!("{DEBUGFS}/kmemleak"))?;
    ensure!(found.is_empty(), "{found}");
    // A watcher that has given up takes no more scans (EPERM, above) or tells it in the log.
    Ok(format!("{scans} scans"))
}

fn watched() -> Result<String> {
    let stats = fs::read_to_string("/proc/lockdep_stats")?;
    let line = stats.lines().find(|line| line.contains("debug_locks")).context("no word of debug_locks")?;
    ensure!(line.trim().ends_with('1'), "lockdep has given up: {line}");
    let classes = stats.lines().find(|line| line.contains("lock-classes")).unwrap_or_default();
    Ok(classes.split_whitespace().collect::<Vec<_>>().join(" "))
}

//! What happens at the same time on two processors, for a kernel that looks for data races
//! (`xtask/kernel/x86_64-kcsan.config`): packets, rules, reads of the status, floors and hints. The kernel reports a race
//! where two accesses meet, whether or not it did harm.

use std::{
    fs,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use pkd_core::{
    Key, Port, Tag, UnixMillis,
    format2::{Addresses, Bindings, Keys, Knock, KnockParams, Request},
};
use pkd_tests::Report;

use crate::{
    firewall::Firewall,
    gateway,
    namespace::{self, LOOPBACK, STATUS},
    network::{self, now, set_clock, wait},
    packet::{self, KEY, PORT, TAG, knock},
    status::Status,
};

/// Of the kernel's watcher.
const FIGURES: &str = "/sys/kernel/debug/kcsan";

/// How often the rules are replaced.
const REPLACEMENTS: usize = 1_000;

/// What the clock is set forward and back by: more than a slot of hints.
const STEP: u64 = 70;

/// The window of format 2, in seconds: the widest with hints.
const WINDOW: u64 = 300;

/// How old its first knock is, in milliseconds.
const AGE: u64 = 200_000;

/// Packets that are sent before the clock is set again, and within which time.
const BETWEEN: usize = 200;
const LIMIT: Duration = Duration::from_mins(4);

/// What packets are meanwhile.
const VERDICTS: [&str; 7] = ["Accept", "Replay", "Window", "Digest", "Tag", "Length", "Filter"];

/// Accesses of the module that are watched at least.
const LEAST_WATCHED: u64 = 50_000;

/// Lets the kernel's figures be read.
pub(crate) fn prepare() -> Result<()> {
    network::shell("mount -t debugfs debugfs /sys/kernel/debug").map(drop)
}

pub(crate) fn checks(report: &mut Report) {
    report.check("rules, floors, hints and the clock change while two processors match packets", everything);
    report.check("the kernel has watched the module and seen no race", watched);
}

/// Everything that the module does, at the same time, on the loopback of a namespace.
fn everything() -> Result<String> {
    gateway::load()?;
    gateway::reload()?;
    let start = now()?;
    let (done, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Until the rules have been replaced for the last time, or something fails.
    let until_done = |act: &(dyn Fn(usize) -> Result<()> + Sync)| -> Result<usize> {
        let mut turn = 0;
        let acted = (|| {
            while !done.load(Ordering::Relaxed) {
                act(turn)?;
                turn += 1;
            }
            Ok(turn)
        })();
        done.store(true, Ordering::Relaxed);
        acted
    };
    let said = namespace::inside(|firewall| {
        let before = fs::read_to_string(STATUS)?;
        let flood = |processor: usize| {
            let mut only = CpuSet::new();
            only.set(processor)?;
            sched_setaffinity(Pid::from_raw(0), &only)?;
            let socket = packet::udp(LOOPBACK)?;
            until_done(&|_| {
                for payload in payloads(start)? {
                    // A full queue is what a flood is about; the next one goes.
                    let is_sent = socket.send_to(&payload, &SocketAddr::new(LOOPBACK, PORT).into()).is_ok();
                    sent.fetch_add(usize::from(is_sent), Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let read = |_| {
            let status = fs::read_to_string(STATUS)?;
            ensure!(Status::parse(&status).is_ok(), "{status}");
            Ok(())
        };
        let restore = |turn| Ok(fs::write(STATUS, ["floor 0\n", "floor2-ms 0\n"][turn % 2])?);
        let step_clock = |turn| {
            set_clock(start + STEP * u64::try_from(turn % 2)?)?;
            // Packets are to meet the new hints.
            let before = sent.load(Ordering::Relaxed);
            let passed =
                || Ok(done.load(Ordering::Relaxed) || sent.load(Ordering::Relaxed) > before + BETWEEN);
            wait(LIMIT, passed, |passed| *passed).map(drop)
        };
        let figures = thread::scope(|scope| {
            let threads = [
                scope.spawn(|| flood(0)),
                scope.spawn(|| flood(1)),
                scope.spawn(|| until_done(&read)),
                scope.spawn(|| until_done(&read)),
                scope.spawn(|| until_done(&restore)),
                scope.spawn(|| until_done(&step_clock)),
            ];
            let replaced = replace(firewall);
            done.store(true, Ordering::Relaxed);
            let ended = threads.map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
            replaced.and_then(|()| ended.into_iter().collect::<Result<Vec<_>>>())
        })?;
        let status = Status::parse(&fs::read_to_string(STATUS)?)?;
        let moved: Vec<_> = status.moved_since(&Status::parse(&before)?);
        let missing = VERDICTS.iter().find(|verdict| !moved.iter().any(|(moved, _)| moved == *verdict));
        ensure!(missing.is_none(), "no packet was {missing:?}: {moved:?}");
        Ok(format!(
            "{} verdicts; {figures:?} turns of two floods, two readers, floors and the clock",
            status.total()
        ))
    });
    // What the clock went on since then is lost; no check needs it.
    set_clock(start)?;
    said
}

/// What a processor sends in a turn, of both formats: a knock twice, then altered in each of its fields, and one of
/// another length. Each knock is later than all before, so that it is accepted however full its cache is.
fn payloads(start: u64) -> Result<Vec<Vec<u8>>> {
    static MADE: AtomicUsize = AtomicUsize::new(1);
    let number = u64::try_from(MADE.fetch_add(1, Ordering::Relaxed))?;
    let mut payloads = vec![vec![0; 20]];
    for knock in [knock(number)?, knock2(number, start * 1_000 - AGE + number)?] {
        for at in [None, None, Some(40), Some(24), Some(8), Some(0)] {
            let mut payload = knock.to_vec();
            if let Some(byte) = at.and_then(|at| payload.get_mut::<usize>(at)) {
                *byte ^= 0x55;
            }
            payloads.push(payload);
        }
    }
    Ok(payloads)
}

/// A knock of format 2 on loopback.
fn knock2(number: u64, time: u64) -> Result<[u8; 56]> {
    let mut nonce = [4; 12];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    let params =
        KnockParams { time: UnixMillis(time), nonce, bindings: Bindings::NONE, request: Request::Open };
    let addresses = Addresses::V4 { source: &[127, 0, 0, 1], destination: &[127, 0, 0, 1] };
    let keys = Keys::new(&Key::parse(KEY)?, Tag::parse(TAG)?);
    Ok(Knock::seal(&keys, &params, Port(PORT), &addresses))
}

/// Replaces the rules again and again: a cache and hints that stay, seven caches that come and go, now and then none.
fn replace(firewall: &Firewall) -> Result<()> {
    let turn = |turn: usize| {
        let rule = |options: &str| format!("-A PREROUTING -i lo -p udp -m pkd --tag {TAG} {options}\n");
        let own = rule(&format!("--key {KEY} --window 0"))
            + &rule(&format!("--key {KEY} --format 2 --window {WINDOW}"));
        let own = [own.as_str(), ""][usize::from(turn % 5 == 4)];
        let format = ["", "--format 2"][turn % 2];
        let other = rule(&format!("--key other{} --window {} {format}", turn % 7, 1 + turn % 3));
        format!("*mangle\n:PREROUTING ACCEPT [0:0]\n{own}{other}COMMIT\n")
    };
    firewall.restore(&(0..REPLACEMENTS).map(turn).collect::<String>()).context("replacing the rules")
}

/// Whether the watcher was at work, and saw nothing: it counts what it does not report a second time, too.
fn watched() -> Result<String> {
    let figures = fs::read_to_string(FIGURES)?;
    let figure = |name: &str| -> Result<u64> {
        let line = figures.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.with_context(|| format!("no {name} in {figures}"))?.parse().with_context(|| figures.clone())
    };
    let (enabled, watched) = (figure("enabled")?, figure("setup_watchpoints")?);
    ensure!(enabled == 1 && watched >= LEAST_WATCHED, "{watched} accesses were watched: {figures}");
    for races in ["data_races", "races_unknown_origin"] {
        ensure!(figure(races)? == 0, "{figures}");
    }
    Ok(format!("{watched} accesses"))
}

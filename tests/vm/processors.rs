//! Two processors that get the same knocks at the same time.

use std::{
    fs, hint,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
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
    gateway,
    namespace::{self, LOOPBACK, STATUS},
    network::{coarse_millis, now, wait},
    packet::{self, KEY, PORT, TAG},
    status::Status,
};

/// More than a cache holds, so that knocks also leave it meanwhile.
const KNOCKS: u64 = 2_000;
/// Within which the rule has seen the last.
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn checks(report: &mut Report) {
    report.check("two processors accept each of 2,000 classic knocks once between them", || {
        // Times that rise by a second, all within the window.
        let start = now()? - KNOCKS;
        let knocks: Result<Vec<_>> = (0..KNOCKS).map(|number| packet::knock(start + number)).collect();
        race("--window 3600", &knocks?)
    });
    report.check("two processors accept each of 2,000 knocks of format 2 once between them", || {
        let keys = Keys::new(&Key::parse(KEY)?, Tag::parse(TAG)?);
        let start = coarse_millis()? - KNOCKS;
        let seal = |number: u64| {
            let params = KnockParams {
                time: UnixMillis(start + number),
                nonce: [3; 12],
                bindings: Bindings::NONE,
                request: Request::Open,
            };
            let addresses = Addresses::V4 { source: &[127, 0, 0, 1], destination: &[127, 0, 0, 1] };
            Knock::seal(&keys, &params, Port(PORT), &addresses)
        };
        race("--format 2 --window 60", &(0..KNOCKS).map(seal).collect::<Vec<_>>())
    });
}

/// Sends all of them from each of two processors, knock by knock at the same moment.
fn race(options: &str, knocks: &[[u8; 56]]) -> Result<String> {
    gateway::load()?;
    gateway::reload()?;
    let processors = thread::available_parallelism()?.get().min(2);
    namespace::inside(|firewall| {
        firewall.run(&format!(
            "-t mangle -A PREROUTING -i lo -p udp -m pkd --key {KEY} --tag {TAG} {options} -j DROP"
        ))?;
        fs::write(STATUS, "floor 0\nfloor2-ms 0\n")?;
        let arrived = AtomicUsize::new(0);
        let send_all = |processor: usize| -> Result<()> {
            let mut only = CpuSet::new();
            only.set(processor % processors)?;
            sched_setaffinity(Pid::from_raw(0), &only)?;
            let socket = packet::udp(LOOPBACK)?;
            let gateway = SocketAddr::new(LOOPBACK, PORT).into();
            for (number, knock) in knocks.iter().enumerate() {
                arrived.fetch_add(1, Ordering::AcqRel);
                while arrived.load(Ordering::Acquire) < 2 * (number + 1) {
                    // The other one needs this processor if there is no second.
                    if processors == 1 { thread::yield_now() } else { hint::spin_loop() }
                }
                socket.send_to(knock, &gateway)?;
            }
            Ok(())
        };
        let send = &|processor| {
            let ended = send_all(processor);
            if ended.is_err() {
                // The other one does not wait for it.
                arrived.store(usize::MAX / 2, Ordering::Release);
            }
            ended
        };
        thread::scope(|scope| {
            let threads = [0, 1].map(|processor| scope.spawn(move || send(processor)));
            let ended = threads.map(|thread| thread.join().map_err(|_| anyhow!("a sender panicked"))?);
            ended.into_iter().collect::<Result<()>>()
        })?;
        let status = || Status::parse(&fs::read_to_string(STATUS)?);
        let counters = wait(LIMIT, status, |status| status.total() >= 2 * KNOCKS)?.counters;
        let (accepted, replays) = (counters["Accept"], counters["Replay"]);
        ensure!(accepted == KNOCKS && replays == KNOCKS, "{counters:?}");
        Ok(format!("{accepted} accepted, {replays} replays, {processors} processors"))
    })
    .context("the race")
}

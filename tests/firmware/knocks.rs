//! One-arm mode: what a knock opens, and what strangers get.

use anyhow::{Context, Result, ensure};
use pkd_tests::Report;

use crate::{
    frame::{self, Path, SYN},
    machine::Tools,
    scenario::{CLIENT, GATEWAY, KNOCK_PORT, NAS, SSH, START, STRANGER, Scenario, config, knock},
};

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("one-arm: closed before a knock, then open to its sender only", || {
        let mut scenario = Scenario::ready(tools)?;
        ensure!(!scenario.is_open(CLIENT, 5_001)?, "open before the knock");
        let verdict = scenario.knock(CLIENT, START)?;
        ensure!(verdict == "accept", "the knock's verdict is {verdict}");
        let nat_port = scenario.connect(CLIENT, 5_002)?;
        ensure!(!scenario.is_open(STRANGER, 5_003)?, "open for a stranger");
        scenario.machine.wait_for_log("203.0.113.7 may connect")?;
        Ok(format!("the inside host sees port {nat_port}"))
    });
    report.check("one-arm: a grant expires after its ttl, and an established flow continues", || ttl(tools));
    report.check("one-arm: strangers get no reply, neither RST nor ICMP", || no_reply(tools));
    report.check("one-arm: a ping is answered if configured", || {
        let mut scenario = Scenario::ready(tools)?;
        scenario.link.send(&frame::icmp(NAS, GATEWAY, 8, b"12345678"))?;
        let echo = scenario.link.next(crate::machine::TIMEOUT)?.context("no reply")?;
        // After both headers: an echo reply with the same payload.
        ensure!(echo.get(34) == Some(&0) && echo.get(42..50) == Some(b"12345678"), "{echo:02x?}");
        Ok(format!("{} bytes", echo.len()))
    });
    report.check("one-arm: each reason to ignore a knock has its counter", || {
        let mut scenario = Scenario::ready(tools)?;
        let good = knock(START, 1);
        let mut turned = knock(START, 2);
        turned[40] ^= 1;
        let mut other_tag = knock(START, 3);
        other_tag[0] ^= 1;
        let old = knock(START - 60, 4);
        let table: [(&[u8], &str); 6] = [
            (&good[..55], "length"),
            (&other_tag, "tag"),
            (&old, "window"),
            (&turned, "digest"),
            (&good, "accept"),
            (&good, "replay"),
        ];
        for (row, (payload, expected)) in table.into_iter().enumerate() {
            let verdict = scenario.verdict(CLIENT, KNOCK_PORT, payload)?;
            ensure!(verdict == expected, "row {row}: {verdict}, expected {expected}");
        }
        Ok(format!("{} kinds", table.len()))
    });
}

fn ttl(tools: &Tools) -> Result<String> {
    let mut short = config();
    short.rules[0].ttl = 3;
    let mut scenario = Scenario::ready(tools)?;
    scenario.machine.flash.configure(&short)?;
    scenario.machine.reset()?;
    scenario.serve_time(START + 10)?;
    scenario.wait_for_host()?;
    ensure!(scenario.knock(CLIENT, START + 10)? == "accept", "the knock was not accepted");
    scenario.connect(CLIENT, 5_001)?;
    let end = std::time::Instant::now() + crate::machine::TIMEOUT;
    let mut port = 6_000;
    while scenario.is_open(CLIENT, port)? {
        ensure!(std::time::Instant::now() < end, "the grant did not expire");
        port += 1;
    }
    let seen = scenario.segment(CLIENT, 5_001, frame::ACK, crate::machine::TIMEOUT)?;
    ensure!(seen.is_some(), "the established flow ended too");
    Ok(format!("expired after {} new flows", port - 6_000))
}

fn no_reply(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    let before = scenario.counters()?;
    let mut frames = 0;
    for port in [SSH, 22, 80, 443, 9_100, KNOCK_PORT, 33_000, 68, 123, 12_300] {
        let path = Path { from: STRANGER, from_port: 5_000, to: GATEWAY, to_port: port };
        for frame in
            [frame::tcp(SYN, path, b""), frame::tcp(frame::ACK, path, b""), frame::udp(path, b"hello")]
        {
            scenario.link.send(&frame)?;
            frames += 1;
        }
    }
    for frame in scenario.until_handled()? {
        let about = frame::parse(&frame);
        ensure!(
            about.as_ref().is_some_and(|seen| seen.to.0 != STRANGER.address),
            "a reply: {about:?} {frame:02x?}"
        );
    }
    let after = scenario.counters()?;
    let dropped = |name: &str| after.of(name) - before.of(name);
    let counted = dropped("\"no_grant\"") + dropped("\"unsolicited\"") + dropped("\"length\"");
    ensure!(counted == frames, "{counted} of {frames} frames were counted");
    Ok(format!("{frames} frames to ten ports"))
}

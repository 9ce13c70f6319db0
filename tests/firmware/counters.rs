//! The counters: who reads them, and over what.

use anyhow::{Context, Result, ensure};

use crate::{
    frame::{self, Path, SYN},
    machine::{ICOUNT, ICOUNT_PER_SECOND, Tools},
    report::Report,
    scenario::{CLIENT, COUNTERS, GATEWAY, NAS, QUIET_TIME, START, Scenario},
    transfer::TcpHost,
};

/// How long the board is watched while it has nothing to do, in its own time.
const IDLE_SECONDS: usize = 5;

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("counters: an inside host reads them over HTTP, nobody else does", || http(tools));
    report.check("counters: the log has what changed", || {
        let mut scenario = Scenario::ready(tools)?;
        ensure!(scenario.knock(CLIENT, START)? == "accept", "no knock is accepted");
        scenario.machine.wait_for_log("so far accept 1")
    });
    report.check("idle: the board sleeps at least 95 % of its time", || idle_share(tools));
}

/// Counts what the board executes while nothing comes but the time server's answers. Its own clock measures the time, and
/// goes on by instructions and sleep alone: how much the host runs it changes nothing.
fn idle_share(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready_with(tools, &ICOUNT)?;
    let up = |scenario: &mut Scenario| scenario.counters().map(|counters| counters.of("pkd_uptime_seconds"));
    let began = up(&mut scenario)?;
    let before = scenario.machine.instructions()?;
    // It asks once a second; the questions are the only events of an idle board.
    for _ in 0..IDLE_SECONDS {
        scenario.tell_time(START)?;
    }
    let executed = scenario.machine.instructions()? - before;
    let seconds = up(&mut scenario)? - began;
    ensure!(executed > 0, "no instruction was counted");
    ensure!(seconds > 1, "its clock went on by {seconds} s only");
    // Both ends of its time are whole seconds: it may be up to one less.
    let possible = (seconds - 1) * ICOUNT_PER_SECOND;
    ensure!(
        executed * 20 <= possible,
        "it executes {executed} instructions in {seconds} s, and could execute {possible}"
    );
    Ok(format!("{} instructions a second of {ICOUNT_PER_SECOND}", executed / seconds))
}

fn http(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    let mut client = TcpHost::new(NAS);
    let text = client.ask(&mut scenario, GATEWAY.address, COUNTERS, b"GET /metrics HTTP/1.1\r\n\r\n")?;
    let (head, body) = text.split_once("\r\n\r\n").context("no end of the header")?;
    ensure!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    ensure!(head.contains(&format!("Content-Length: {}", body.len())), "{head}, and {} bytes", body.len());
    for name in ["# TYPE pkd_knocks_total counter", "pkd_knocks_total{verdict=\"accept\"} 0", "pkd_flows 0"] {
        ensure!(body.lines().any(|line| line == name), "no line {name} in {body}");
    }
    let path = Path { from: CLIENT, from_port: 5_000, to: GATEWAY, to_port: COUNTERS };
    scenario.link.send(&frame::tcp(SYN, path, b""))?;
    let answer = scenario.link.find(QUIET_TIME, |seen| seen.to.0 == CLIENT.address)?;
    ensure!(answer.is_none(), "somebody from outside gets {answer:?}");
    Ok(format!("{} bytes", body.len()))
}

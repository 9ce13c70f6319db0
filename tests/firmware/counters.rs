//! The counters, and how much the board does while idle.

use anyhow::{Context, Result, ensure};
use pkd_core::{Tag, Window, format2::Bindings};
use pkd_gateway::{RULES, Rule};
use pkd_tests::Report;

use crate::{
    format2::{self, Sealed},
    frame::{self, Path, SYN},
    machine::{Board, ICOUNT, ICOUNT_PER_SECOND, Tools},
    scenario::{CLIENT, COUNTERS, GATEWAY, KNOCK_PORT, NAS, START, Scenario, config},
    transfer::TcpHost,
};

/// How long the idle board is measured, in seconds of its own clock.
const IDLE_SECONDS: usize = 5;

/// Bytes of the stack that must stay free.
pub(crate) const FREE_STACK: u64 = 2_048;

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("counters: an inside host reads them over HTTP, nobody else can", || http(tools));
    report.check("stack: 2,048 bytes are never used", || free_stack(tools));
    report.check("counters: changes are logged", || {
        let mut scenario = Scenario::ready(tools)?;
        ensure!(scenario.knock(CLIENT, START)? == "accept", "the knock was not accepted");
        scenario.machine.wait_for_log("counters: accept 1")
    });
    // On the other board, each answer that the check asks for scans a stack that is 20 times as large.
    if tools.board() == Board::Mps2 {
        report.check("idle: the board sleeps at least 95 % of the time", || idle_share(tools));
    }
}

/// Counts the instructions that the board executes while it receives only the time server's replies. The board's own clock
/// measures the time. It depends only on instructions and sleep, not on the load of the host.
fn idle_share(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready_with(tools, &ICOUNT)?;
    let up = |scenario: &mut Scenario| scenario.counters().map(|counters| counters.of("pkd_uptime_seconds"));
    let began = up(&mut scenario)?;
    let before = scenario.machine.instructions()?;
    // The board sends a request every second. An idle board has no other events.
    for _ in 0..IDLE_SECONDS {
        scenario.serve_time(START)?;
    }
    let executed = scenario.machine.instructions()? - before;
    let seconds = up(&mut scenario)? - began;
    ensure!(executed > 0, "no instructions were counted");
    ensure!(seconds > 1, "the board's clock advanced by only {seconds} s");
    // Both times are in whole seconds, so the difference may be up to one second less.
    let possible = (seconds - 1) * ICOUNT_PER_SECOND;
    ensure!(
        executed * 20 <= possible,
        "executed {executed} of {possible} possible instructions in {seconds} s: expected at most 5 %"
    );
    Ok(format!("{} of {ICOUNT_PER_SECOND} instructions per second", executed / seconds))
}

/// A board with as many rules as fit, which has done everything that takes much stack.
fn free_stack(tools: &Tools) -> Result<String> {
    let mut config = format2::upgraded(config(), Bindings::NONE);
    let rule = config.rules[0].clone();
    for number in 1..RULES {
        let tag = Tag(u32::try_from(number)?.to_le_bytes());
        let knock = pkd_core::Rule::new(rule.knock.key().clone(), tag, Window::from_secs(300));
        ensure!(config.rules.push(Rule { knock, ..rule.clone() }).is_ok(), "there is no room for a rule");
    }
    let mut scenario = format2::ready(tools, &config, format2::no_wait())?;
    let open = Sealed { bindings: Bindings::NONE, ..Sealed::OPEN }.at(0);
    ensure!(scenario.verdict(CLIENT, KNOCK_PORT, &open)? == "accept", "the knock was not accepted");
    scenario.connect(CLIENT, 5_001)?;
    TcpHost::new(NAS).ask(&mut scenario, GATEWAY.address, COUNTERS, b"GET /metrics HTTP/1.1\r\n\r\n")?;
    let free = scenario.counters()?.of("pkd_stack_free_bytes");
    ensure!(free >= FREE_STACK, "{free} bytes of the stack were never used: expected at least {FREE_STACK}");
    scenario.machine.wait_for_log("bytes were never used")?;
    Ok(format!("{free} bytes were never used"))
}

fn http(tools: &Tools) -> Result<String> {
    let mut scenario = Scenario::ready(tools)?;
    let mut client = TcpHost::new(NAS);
    let text = client.ask(&mut scenario, GATEWAY.address, COUNTERS, b"GET /metrics HTTP/1.1\r\n\r\n")?;
    let (head, body) = text.split_once("\r\n\r\n").context("no end of the HTTP header")?;
    ensure!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    ensure!(head.contains(&format!("Content-Length: {}", body.len())), "{head}, and {} bytes", body.len());
    for name in ["# TYPE pkd_knocks_total counter", "pkd_knocks_total{verdict=\"accept\"} 0", "pkd_flows 0"] {
        ensure!(body.lines().any(|line| line == name), "missing line {name} in {body}");
    }
    let path = Path { from: CLIENT, from_port: 5_000, to: GATEWAY, to_port: COUNTERS };
    scenario.link.send(&frame::tcp(SYN, path, b""))?;
    let frames = scenario.until_handled()?;
    let answer =
        frames.iter().filter_map(|frame| frame::parse(frame)).find(|seen| seen.to.0 == CLIENT.address);
    ensure!(answer.is_none(), "a host outside got a reply: {answer:?}");
    Ok(format!("{} bytes", body.len()))
}

//! Where the time comes from: a server with a name, servers by DHCP, and servers that do not want to be asked.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use pkd_core::UnixSeconds;
use pkd_gateway::{Address, Config, NamedServer, RULES, TimeSource};
use pkd_tests::Report;

use crate::{
    frame::{self, Host, Parsed, Path},
    link::TimeServer,
    machine::{TIMEOUT, Tools},
    scenario::{GATEWAY, NAS, ROUTER, START, Scenario, config},
};

/// Seconds of the board's clock in which a server that has denied access must not be asked. The configured interval is one second.
const LEFT_ALONE: u64 = 5;

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("time: a server that has a name is found by DNS, and again after it fails", || named(tools));
    report.check("time: DHCP names the server", || dhcp(tools));
    report.check("time: a server that denies access is left alone", || denied(tools));
}

fn start(tools: &Tools, config: &Config<RULES>) -> Result<Scenario> {
    Scenario::start(tools, |flash| {
        flash.configure(config)?;
        flash.save_floors(UnixSeconds(START - 1_000).into())
    })
}

/// Waits for a datagram to this port, while ARP and SNTP requests are answered.
fn wait_for(scenario: &mut Scenario, port: u16) -> Result<Parsed> {
    let seen = scenario.link.find(TIMEOUT, |seen| seen.to.1 == port)?;
    seen.with_context(|| format!("nothing was sent to port {port}"))
}

fn answer(scenario: &Scenario, question: &Parsed, from: Host, to: Host, payload: &[u8]) -> Result<()> {
    let path = Path { from, from_port: question.to.1, to, to_port: question.from.1 };
    scenario.link.send(&frame::udp(path, payload))
}

/// The reply to a DNS question with one address (RFC 1035, section 4).
fn resolved(question: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let mut reply = question.to_vec();
    // A response, recursion available; one question, one answer.
    reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    // The name of the question; type A, class IN, 60 seconds, 4 bytes.
    reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    reply.extend_from_slice(&address.octets());
    reply
}

fn named(tools: &Tools) -> Result<String> {
    let mut config = config();
    config.time = TimeSource::Name(NamedServer {
        name: heapless::String::try_from("pool.ntp.example").unwrap_or_default(),
        port: 123,
        interval: 1,
        dns: Some(ROUTER.address),
    });
    let mut scenario = start(tools, &config)?;
    // A reply from elsewhere is not believed, though it has the right number.
    let question = wait_for(&mut scenario, 53)?;
    ensure!(question.payload.windows(4).any(|bytes| bytes == b"pool"), "another name: {question:?}");
    answer(&scenario, &question, NAS, GATEWAY, &resolved(&question.payload, NAS.address))?;
    answer(&scenario, &question, ROUTER, GATEWAY, &resolved(&question.payload, ROUTER.address))?;
    scenario.serve_time(START)?;
    scenario.machine.wait_for_log("time set")?;
    // The server disappears, and the name moves.
    scenario.link.time = TimeServer::silent(NAS);
    let question = wait_for(&mut scenario, 53)?;
    answer(&scenario, &question, ROUTER, GATEWAY, &resolved(&question.payload, NAS.address))?;
    scenario.serve_time(START + 100)?;
    let clock = scenario.counters()?.clock();
    ensure!((START + 100..START + 110).contains(&clock), "the clock shows {clock}");
    Ok("two questions".to_owned())
}

/// A DHCP message to the board: its type and further options (RFC 2131).
fn dhcp_reply(request: &[u8], kind: u8, options: &[u8]) -> Vec<u8> {
    let mut reply = request.get(..240).unwrap_or_default().to_vec();
    reply[0] = 2;
    reply[16..20].copy_from_slice(&GATEWAY.address.octets());
    reply.extend_from_slice(&[53, 1, kind, 54, 4]);
    reply.extend_from_slice(&ROUTER.address.octets());
    // An hour, a network of 24 bits.
    reply.extend_from_slice(&[51, 4, 0, 0, 14, 16, 1, 4, 255, 255, 255, 0]);
    reply.extend_from_slice(options);
    reply.push(255);
    reply
}

/// The value of an option in a request.
fn option(request: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = request.get(240..)?;
    while let [kind, length, more @ ..] = rest {
        let (value, behind) = more.split_at_checked((*length).into())?;
        if *kind == wanted {
            return Some(value);
        }
        rest = behind;
    }
    None
}

fn dhcp(tools: &Tools) -> Result<String> {
    let mut config = config();
    config.address = Address::Dhcp;
    config.time = TimeSource::Dhcp { interval: 1 };
    let mut scenario = start(tools, &config)?;
    let everyone = Host { address: Ipv4Addr::BROADCAST, ..GATEWAY };
    let [a, b, c, d] = NAS.address.octets();
    let servers = [42, 4, a, b, c, d];
    let mut requests = 0;
    let end = Instant::now() + TIMEOUT;
    // The network stack begins anew when the link is up, so any number of requests may come.
    while !scenario.machine.log()?.iter().any(|line| line.contains("IP address")) {
        ensure!(Instant::now() < end, "no address after {requests} requests");
        let request = scenario.link.find(Duration::from_millis(50), |seen| seen.to.1 == 67)?;
        let Some(request) = request else { continue };
        let bytes = &request.payload;
        let list = option(bytes, 55).context("no list of options is requested")?;
        ensure!([1, 3, 6, 42].iter().all(|wanted| list.contains(wanted)), "requested options: {list:?}");
        let reply = match option(bytes, 53) {
            Some([1]) => dhcp_reply(bytes, 2, &servers),
            Some([3]) => dhcp_reply(bytes, 5, &servers),
            other => bail!("a DHCP message of type {other:?}"),
        };
        answer(&scenario, &request, ROUTER, everyone, &reply)?;
        requests += 1;
    }
    scenario.link.time = TimeServer::silent(NAS);
    scenario.serve_time(START)?;
    scenario.machine.wait_for_log("time set")
}

fn denied(tools: &Tools) -> Result<String> {
    let mut scenario = start(tools, &config())?;
    scenario.link.time.tamper = |answer| {
        answer[..2].copy_from_slice(&[0xe4, 0]);
        answer[12..16].copy_from_slice(b"DENY");
    };
    scenario.serve_time(START)?;
    let line = scenario.machine.wait_for_log("denies access")?;
    let (replies, counters) = (scenario.link.time.replies, scenario.counters()?);
    ensure!(counters.of("pkd_time_refused_total") == 1, "it is not counted: {}", counters.0);
    let until = counters.of("pkd_uptime_seconds") + LEFT_ALONE;
    let end = Instant::now() + TIMEOUT;
    while scenario.counters()?.of("pkd_uptime_seconds") < until {
        ensure!(Instant::now() < end, "the board's clock stands still");
        scenario.link.next(Duration::from_millis(100))?;
    }
    let more = scenario.link.time.replies - replies;
    ensure!(more == 0, "it was asked {more} more times in {LEFT_ALONE} s");
    Ok(line)
}

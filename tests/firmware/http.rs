//! The status page and the counters over HTTP: several clients at once, slow ones, and wrong requests.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use pkd_tests::Report;

use crate::{
    frame::{self, Host, Path, SYN},
    machine::{TIMEOUT, Tools},
    scenario::{CLIENT, COUNTERS, GATEWAY, NAS, START, Scenario},
    transfer::{TcpHost, ask_all, exchange},
};

/// Further inside hosts.
const DESK: Host = Host::new(5, [192, 168, 1, 30]);
const PHONE: Host = Host::new(6, [192, 168, 1, 31]);
const LAPTOP: Host = Host::new(7, [192, 168, 1, 32]);

/// The start of a request that is never continued.
const HALF: &[u8] = b"GET / HT";
const PAGE: &[u8] = b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n";
const METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n";

pub(crate) fn checks(report: &mut Report, tools: &Tools) {
    report.check("http: two clients are served at once while a third one hangs", || several(tools));
    report.check("http: clients that hang are cut off, and make room for others", || hanging(tools));
    report.check("http: wrong methods, paths and requests have their status", || wrong(tools));
    report.check("http: a host outside gets no reply", || outside(tools));
}

fn client(host: Host, from_port: u16) -> Result<TcpHost> {
    let mut client = TcpHost::new(host);
    client.connect(GATEWAY.address, COUNTERS, from_port)?;
    Ok(client)
}

fn ready(tools: &Tools) -> Result<Scenario> {
    let mut scenario = Scenario::ready(tools)?;
    scenario.link.hosts.extend([DESK, PHONE, LAPTOP]);
    Ok(scenario)
}

/// The body of a complete response with this status.
fn body<'a>(response: &'a str, status: &str) -> Result<&'a str> {
    let (head, body) = response.split_once("\r\n\r\n").context("no end of the HTTP header")?;
    ensure!(head.starts_with(&format!("HTTP/1.1 {status} ")), "expected {status}: {head}");
    ensure!(
        head.contains(&format!("Content-Length: {}\r\n", body.len())),
        "{} bytes after {head}",
        body.len()
    );
    Ok(body)
}

/// Connects a client, and sends something without waiting for a reply.
fn hang(scenario: &mut Scenario, host: Host, from_port: u16) -> Result<TcpHost> {
    let mut hanging = client(host, from_port)?;
    let end = Instant::now() + TIMEOUT;
    let mut sent = false;
    while !sent || hanging.socket().send_queue() > 0 {
        ensure!(Instant::now() < end, "the request is not acknowledged");
        exchange(scenario, &mut [&mut hanging])?;
        sent = sent || (hanging.socket().may_send() && hanging.socket().send_slice(HALF).is_ok());
    }
    Ok(hanging)
}

fn several(tools: &Tools) -> Result<String> {
    let mut scenario = ready(tools)?;
    ensure!(scenario.knock(CLIENT, START)? == "accept", "the knock was not accepted");
    let mut hanging = hang(&mut scenario, NAS, 45_001)?;
    let (mut desk, mut phone) = (client(DESK, 45_002)?, client(PHONE, 45_003)?);
    let replies = ask_all(&mut scenario, &mut [(&mut desk, PAGE), (&mut phone, METRICS)])?;
    let [page, metrics] = &replies[..] else { bail!("{} replies", replies.len()) };
    let page = body(page, "200")?;
    for shown in
        ["<!doctype html>", "normal", "2027-01-15 08:00:", "203.0.113.7", "ssh for ", "<td>accept<td>1"]
    {
        ensure!(page.contains(shown), "the page does not show {shown}: {page}");
    }
    let metrics = body(metrics, "200")?;
    ensure!(metrics.contains("pkd_grants 1\n"), "{metrics}");
    // It still hangs: nobody was served because it was given up.
    ensure!(hanging.socket().may_recv(), "the third client was cut off early");
    Ok(format!("{} and {} bytes", page.len(), metrics.len()))
}

fn hanging(tools: &Tools) -> Result<String> {
    let mut scenario = ready(tools)?;
    let mut first = hang(&mut scenario, NAS, 45_001)?;
    let mut second = hang(&mut scenario, DESK, 45_002)?;
    // The third one sends a byte now and then, so it is never silent for long.
    let mut dripping = hang(&mut scenario, PHONE, 45_003)?;
    let end = Instant::now() + TIMEOUT;
    let mut turns = 0_u32;
    while [&mut first, &mut second, &mut dripping].into_iter().any(|host| host.socket().may_recv()) {
        ensure!(Instant::now() < end, "a client is not cut off");
        exchange(&mut scenario, &mut [&mut first, &mut second, &mut dripping])?;
        turns += 1;
        let socket = dripping.socket();
        if turns.is_multiple_of(16) && socket.may_send() {
            socket.send_slice(b"x").map_err(|error| anyhow::anyhow!("{error:?}"))?;
        }
    }
    for _ in 0..3 {
        scenario.machine.wait_for_log("client cut off")?;
    }
    let mut laptop = client(LAPTOP, 46_000)?;
    let replies = ask_all(&mut scenario, &mut [(&mut laptop, PAGE)])?;
    body(replies.first().context("no reply")?, "200")?;
    Ok(format!("{turns} turns"))
}

fn wrong(tools: &Tools) -> Result<String> {
    let mut scenario = ready(tools)?;
    let long = [&b"GET / HTTP/1.1\r\nX: "[..], &[b'x'; 3_000], b"\r\n\r\n"].concat();
    let table: [(&[u8], &str); 6] = [
        (b"GET /other HTTP/1.1\r\n\r\n", "404"),
        (b"POST / HTTP/1.1\r\n\r\n", "405"),
        (b"DELETE /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"nonsense\r\n\r\n", "400"),
        (&long, "431"),
        (METRICS, "200"),
    ];
    for (row, (request, status)) in (0_u16..).zip(table) {
        let mut client = client(NAS, 45_100 + row)?;
        let replies = ask_all(&mut scenario, &mut [(&mut client, request)])?;
        let text =
            body(replies.first().context("no reply")?, status).with_context(|| format!("row {row}"))?;
        ensure!(status == "200" || text.lines().count() == 1, "row {row}: {text}");
    }
    Ok(format!("{} requests", table.len()))
}

fn outside(tools: &Tools) -> Result<String> {
    let mut scenario = ready(tools)?;
    let path = Path { from: CLIENT, from_port: 5_000, to: GATEWAY, to_port: COUNTERS };
    scenario.link.send(&frame::tcp(SYN, path, b""))?;
    let frames = scenario.until_handled()?;
    let reply =
        frames.iter().filter_map(|frame| frame::parse(frame)).find(|seen| seen.to.0 == CLIENT.address);
    ensure!(reply.is_none(), "{reply:?}");
    Ok("no reply".to_owned())
}

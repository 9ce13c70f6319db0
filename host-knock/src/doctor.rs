//! `knock doctor`: checks the steps to an open port, one after the other.

mod clock;
mod report;

use std::{io, net::SocketAddr, time::Duration};

use anyhow::Result;
use pkd_core::{Port, Window, format2::Bindings};

use self::report::{Report, Status};
use crate::{
    connect, datagram,
    model::{Bind, Families, Hosts, Outlet, Request},
    send, socket,
};

/// How long a probe waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The last cause, and how to find out on the gateway. Which of the causes it is, nobody can see from outside.
const OTHER_FIREWALL: &str = "another firewall there stops what the knock lets in: on the gateway, pkdd status shows accepted knocks and pkdd check names such a rule.";

/// A NAT between here and the gateway.
const NAT: &str = "A NAT changes an address on the way, so the gateway ignores knocks that are bound to it: set bind = \"none\" in the profile, or use --bind none.";

/// What a connection attempt shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortState {
    Open,
    Refused,
    Silent,
    Unreachable,
}

/// What to diagnose.
pub(crate) struct Target<'a> {
    pub(crate) hosts: &'a Hosts,
    /// What messages call the host.
    pub(crate) label: &'a str,
    pub(crate) families: Families,
    pub(crate) port: Port,
    pub(crate) limit: Duration,
    /// Time server; `-`: skip the check of the clock.
    pub(crate) time_server: Option<&'a str>,
    /// Print a JSON document instead.
    pub(crate) is_json: bool,
}

/// Prints a line for each check and a conclusion; returns whether the port is open in the end. `request` reads the key.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn diagnose(target: &Target<'_>, request: impl FnOnce() -> Result<Request>) -> Result<bool> {
    let mut report = Report::new(target.is_json);
    let (is_open, conclusion) = checks(target, &mut report, request)?;
    report.end(target.hosts, target.port.0, is_open, &conclusion)?;
    Ok(is_open)
}

fn checks(
    target: &Target<'_>,
    report: &mut Report,
    request: impl FnOnce() -> Result<Request>,
) -> Result<(bool, String)> {
    let Target { hosts, label, families, port, limit, time_server, .. } = *target;
    let resolved = send::resolve_each(hosts, port, families);
    for (host, addresses) in &resolved {
        let (status, text) = match addresses {
            Ok(addresses) => {
                let list: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
                (Status::Ok, format!("name: {host} resolves to {}", list.join(", ")))
            }
            Err(error) => (Status::Fail, format!("name: {host}: {error:#}")),
        };
        report.check(status, "name", &text)?;
    }
    let Ok(addresses) = send::merged(resolved) else {
        return Ok((
            false,
            format!("{label} does not resolve: check the spelling and this computer's network."),
        ));
    };
    let request = match request() {
        Ok(request) => request,
        Err(error) => {
            report.check(Status::Fail, "key", &format!("key: {error:#}"))?;
            return Ok((false, "No key, so no knock was sent; see the line above.".to_owned()));
        }
    };
    let request = &request;
    report.check(
        Status::Ok,
        "key",
        &format!("key: found, for tag {}, format {}", request.tag, request.format.as_str()),
    )?;
    let clock = check_clock(report, request, time_server)?;

    let before = probe_all(&request.outlet, &addresses);
    report.check(
        if before == PortState::Open { Status::Note } else { Status::Ok },
        "before",
        &format!("port {} before: {}", port.0, word(before)),
    )?;
    let knock_port = datagram::destination_port(request)?;
    match send::send(request, knock_port) {
        Ok(sent) => {
            let list: Vec<_> = sent.iter().map(|address| described(request, *address)).collect();
            report.check(
                Status::Ok,
                "knock",
                &format!("knock: sent to {} port {}", list.join(", "), knock_port.0),
            )?;
        }
        Err(error) => {
            report.check(Status::Fail, "knock", &format!("knock: {error:#}"))?;
            return Ok((false, "The knock did not leave this computer: it has no route to the host, or a local firewall blocks it.".to_owned()));
        }
    }
    let after = knock_until_open(request, port, limit, &addresses);
    report.check(
        if after == PortState::Open { Status::Ok } else { Status::Fail },
        "after",
        &format!("port {} after: {}", port.0, word(after)),
    )?;
    let is_bound = addresses.iter().any(|address| binding(request, *address) != Bindings::NONE);
    if is_bound && after != PortState::Open && clock.is_none() {
        let unbound = Request { bind: Bind::Only(Bindings::NONE), ..request.clone() };
        let state = knock_until_open(&unbound, port, limit, &addresses);
        report.check(
            if state == PortState::Open { Status::Ok } else { Status::Fail },
            "unbound",
            &format!("port {} after a knock that is bound to no address: {}", port.0, word(state)),
        )?;
        if state == PortState::Open {
            return Ok((true, NAT.to_owned()));
        }
    }
    Ok((after == PortState::Open, conclusion(before, after, clock.as_deref(), port)))
}

/// Knocks until the port opens or `limit` has passed.
fn knock_until_open(request: &Request, port: Port, limit: Duration, addresses: &[SocketAddr]) -> PortState {
    match connect::knock_and_connect(request, port, limit, connect::Talk::default()) {
        Ok(_) => PortState::Open,
        Err(_) => probe_all(&request.outlet, addresses),
    }
}

/// What a knock to this address is bound to.
fn binding(request: &Request, address: SocketAddr) -> Bindings {
    send::path(&request.outlet, address).map_or(Bindings::NONE, |path| path.bindings(request))
}

/// An address that a knock was sent to, and the addresses that it is bound to.
fn described(request: &Request, address: SocketAddr) -> String {
    let to = address.ip();
    let Ok(path) = send::path(&request.outlet, address) else { return to.to_string() };
    let bindings = path.bindings(request);
    let bound = [(Bindings::SOURCE, "source", path.local), (Bindings::DESTINATION, "destination", to)];
    let bound: Vec<_> = bound
        .into_iter()
        .filter(|(one, _, _)| bindings.contains(*one))
        .map(|(_, name, address)| format!("{name} {address}"))
        .collect();
    if bound.is_empty() { to.to_string() } else { format!("{to} (bound to {})", bound.join(", ")) }
}

/// Returns how far the clock is off, if that is too far.
fn check_clock(report: &mut Report, request: &Request, server: Option<&str>) -> Result<Option<String>> {
    let window = request.window;
    if server == Some("-") {
        report.check(Status::Note, "clock", "clock: not checked")?;
        return Ok(None);
    }
    let offset = match clock::offset(server) {
        Ok(offset) => offset,
        Err(error) => {
            report.check(Status::Note, "clock", &format!("clock: no time server answers: {error:#}"))?;
            return Ok(None);
        }
    };
    let which = |seconds: f64| if seconds < 0.0 { "behind" } else { "ahead of" };
    let offset_text = format!("{:.1} s {} {}", offset.seconds.abs(), which(offset.seconds), offset.server);
    let limit = f64::from(window.as_secs());
    // With a time offset the clock of the host is what counts, and nothing can ask it.
    let is_off = window != Window::Monotonic && offset.seconds.abs() > limit && request.time_offset == 0;
    if is_off {
        report.check(
            Status::Fail,
            "clock",
            &format!("clock: {offset_text}, outside the window of {limit} s"),
        )?;
        return Ok(Some(offset_text));
    }
    report.check(Status::Ok, "clock", &format!("clock: {offset_text}; the window is {limit} s"))?;
    Ok(None)
}

fn conclusion(before: PortState, after: PortState, clock: Option<&str>, port: Port) -> String {
    let port = port.0;
    match (before, after, clock) {
        (PortState::Open, PortState::Open, _) => format!(
            "Port {port} was open before the knock: no rule closes it for this computer, or an earlier knock is still valid."
        ),
        (_, PortState::Open, Some(_)) => {
            format!("The knock opens port {port}, but this computer's clock is wrong; set it.")
        }
        (_, PortState::Open, None) => format!("The knock opens port {port}."),
        (_, _, Some(offset_text)) => {
            format!("This computer's clock is wrong ({offset_text}); set it, and knock again.")
        }
        (PortState::Silent, PortState::Refused, None) => format!(
            "The knock opens port {port}, but nothing listens there: the service is down, or uses another port."
        ),
        (_, PortState::Unreachable, None) => {
            "The host is unreachable: its network is down, or a router on the path refuses.".to_owned()
        }
        (_, PortState::Refused, None) => format!(
            "The host refuses port {port} before and after the knock: the gateway expects another key, tag, port or format, or requires a binding, its clock is wrong, nothing listens on the port, or {OTHER_FIREWALL}"
        ),
        (_, PortState::Silent, None) => format!(
            "The host does not answer: the gateway expects another key, tag, port or format, or requires a binding, its clock is wrong, the knock was lost, or {OTHER_FIREWALL}"
        ),
    }
}

/// The best state of all addresses.
fn probe_all(outlet: &Outlet, addresses: &[SocketAddr]) -> PortState {
    let states: Vec<_> = addresses.iter().map(|address| probe(outlet, *address)).collect();
    [PortState::Open, PortState::Refused, PortState::Silent]
        .into_iter()
        .find(|port| states.contains(port))
        .unwrap_or(PortState::Unreachable)
}

fn probe(outlet: &Outlet, address: SocketAddr) -> PortState {
    match socket::connect(outlet, address, PROBE_TIMEOUT) {
        Ok(_) => PortState::Open,
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => PortState::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => PortState::Silent,
            _ => PortState::Unreachable,
        },
    }
}

fn word(port: PortState) -> &'static str {
    match port {
        PortState::Open => "open",
        PortState::Refused => "refused",
        PortState::Silent => "no answer",
        PortState::Unreachable => "unreachable",
    }
}

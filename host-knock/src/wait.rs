//! `knock wait`: knocks until ports are open, and reports each of them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use pkd_core::Port;
use serde_json::{Value, json};

use crate::{
    connect::{self, Talk},
    model::Request,
};

/// What happened, up to the first port that did not open.
pub(crate) struct Report<'a> {
    request: &'a Request,
    ports: Vec<Waited>,
}

/// A port that was waited for.
struct Waited {
    port: Port,
    time: Duration,
    /// The address that accepts connections.
    outcome: Result<String>,
}

/// Waits for each port, one after the other.
pub(crate) fn wait(request: &Request, ports: Vec<Port>, limit: Duration, talk: Talk) -> Report<'_> {
    let mut report = Report { request, ports: Vec::new() };
    for port in ports {
        let begin = Instant::now();
        let stream = connect::knock_and_connect(request, port, limit, talk);
        let peer = |stream: std::net::TcpStream| stream.peer_addr().context("connection lost");
        let outcome = stream.and_then(peer).map(|address| address.ip().to_string());
        let is_open = outcome.is_ok();
        report.ports.push(Waited { port, time: begin.elapsed(), outcome });
        if !is_open {
            break;
        }
    }
    report
}

impl Report<'_> {
    pub(crate) fn is_open(&self) -> bool {
        self.ports.iter().all(|port| port.outcome.is_ok())
    }

    pub(crate) fn json(&self) -> Value {
        let ports = self.ports.iter().map(|Waited { port, time, outcome }| {
            json!({
                "port": port.0,
                "open": outcome.is_ok(),
                "address": outcome.as_ref().ok(),
                "milliseconds": u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
                "error": outcome.as_ref().err().map(|error| format!("{error:#}")),
            })
        });
        json!({
            "name": self.request.name,
            "host": self.request.hosts.first().as_str(),
            "hosts": self.request.hosts.texts(),
            "open": self.is_open(),
            "ports": ports.collect::<Vec<_>>(),
        })
    }

    /// # Errors
    /// A port did not open.
    pub(crate) fn into_result(self) -> Result<()> {
        let label = self.request.label().to_owned();
        self.ports.into_iter().try_for_each(|port| port.outcome.map(drop)).context(label)
    }
}

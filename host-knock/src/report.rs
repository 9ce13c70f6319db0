//! The results of knocks, as text, table or JSON.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result};
use pkd_core::{LENGTH, Port, format2::Request as Action};

#[cfg(feature = "desktop")]
use crate::table;
use crate::{datagram, hex, model::Request, send, stderr::Stderr};

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Errors only.
    Quiet,
    /// A line for each address, or with the payload.
    Lines,
    /// A table.
    #[cfg(feature = "desktop")]
    Table,
    /// A JSON array.
    #[cfg(feature = "desktop")]
    Json,
}

/// One knock.
#[derive(Debug)]
pub(crate) struct Sent {
    port: Port,
    /// Where it was sent; empty on a dry run.
    addresses: Vec<SocketAddr>,
    /// On a dry run, each payload, with the address that it is for if it may be bound.
    payloads: Vec<(Option<IpAddr>, [u8; LENGTH])>,
}

/// Knocks at one host; on a dry run, only makes the payload.
///
/// # Errors
/// It could not be sent.
pub(crate) fn knock(request: &Request, is_dry_run: bool) -> Result<Sent> {
    let port = datagram::destination_port(request)?;
    if is_dry_run {
        return Ok(Sent { port, addresses: Vec::new(), payloads: payloads(request, port)? });
    }
    Ok(Sent { port, addresses: send::send(request, port)?, payloads: Vec::new() })
}

fn payloads(request: &Request, port: Port) -> Result<Vec<(Option<IpAddr>, [u8; LENGTH])>> {
    if !datagram::may_be_bound(request) {
        return Ok(vec![(None, datagram::payload(request, port, None)?)]);
    }
    let bound = |address: SocketAddr| {
        let path = send::path(&request.outlet, address)?;
        Ok((Some(address.ip()), datagram::payload(request, port, Some(path))?))
    };
    send::addresses(request, port)?.into_iter().map(bound).collect()
}

/// Prints the results. Errors go to standard error, unless the style includes them.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print(style: Style, requests: &[Request], results: &[Result<Sent>]) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut print_all = || -> io::Result<()> {
        match style {
            Style::Quiet | Style::Lines => {
                for (request, result) in requests.iter().zip(results) {
                    match result {
                        Ok(sent) => write!(out, "{}", lines(style, request, sent))?,
                        Err(error) => Stderr::error(&format!("{}: {error:#}", request.label())),
                    }
                }
            }
            #[cfg(feature = "desktop")]
            Style::Table => writeln!(out, "{}", columns(requests, results))?,
            #[cfg(feature = "desktop")]
            Style::Json => writeln!(out, "{:#}", json(requests, results))?,
        }
        out.flush()
    };
    unless_gone(print_all())
}

/// Whether standard output was written. That nobody reads on, as after `| head`, is no error.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn unless_gone(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

fn lines(style: Style, request: &Request, sent: &Sent) -> String {
    let (host, port) = (request.label(), sent.port.0);
    let mut text = String::new();
    for (address, payload) in &sent.payloads {
        let place = address.map_or_else(|| host.to_owned(), |address| address.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{place} {port} {}", hex::digits(payload));
    }
    if style == Style::Lines {
        let what = match request.action {
            Action::Open => "knocked",
            Action::Close => "sent close to",
        };
        for address in &sent.addresses {
            let _ = writeln!(text, "{what} {host} ({} port {port})", address.ip());
        }
    }
    text
}

#[cfg(feature = "desktop")]
fn addresses(sent: &Sent) -> Vec<String> {
    sent.addresses.iter().map(|address| address.ip().to_string()).collect()
}

#[cfg(feature = "desktop")]
fn columns(requests: &[Request], results: &[Result<Sent>]) -> String {
    let rows = requests.iter().zip(results).map(|(request, result)| match result {
        Ok(sent) => {
            vec![request.name.clone(), "sent".to_owned(), sent.port.0.to_string(), addresses(sent).join(", ")]
        }
        Err(error) => vec![request.name.clone(), "failed".to_owned(), "-".to_owned(), format!("{error:#}")],
    });
    table::table(&["HOST", "STATUS", "PORT", "ADDRESSES"], rows)
}

#[cfg(feature = "desktop")]
fn json(requests: &[Request], results: &[Result<Sent>]) -> serde_json::Value {
    let objects = requests.iter().zip(results).map(|(request, result)| {
        let (name, host, hosts) = (&request.name, request.hosts.first().as_str(), request.hosts.texts());
        match result {
            Ok(sent) if !sent.payloads.is_empty() => {
                let payloads = sent.payloads.iter().map(|(address, payload)| {
                    serde_json::json!({ "address": address.map(|address| address.to_string()), "payload": hex::digits(payload) })
                });
                serde_json::json!({
                    "name": name, "host": host, "hosts": hosts, "sent": false, "port": sent.port.0,
                    "payloads": payloads.collect::<Vec<_>>(),
                })
            }
            Ok(sent) => serde_json::json!({
                "name": name, "host": host, "hosts": hosts, "sent": true, "port": sent.port.0, "addresses": addresses(sent),
            }),
            Err(error) => serde_json::json!({
                "name": name, "host": host, "hosts": hosts, "sent": false, "error": format!("{error:#}"),
            }),
        }
    });
    objects.collect()
}

//! `knock` opens doors that pkd guards: for each host, one datagram that only a holder of the key can
//! make, and that nobody answers.
//!
//! [`args`] is what was typed, [`request`] what it means, [`send`] what is done about it.

#![forbid(unsafe_code)]

mod args;
mod host;
mod ini;
mod key;
mod notice;
mod open;
mod profile;
mod program;
mod progress;
mod relay;
mod request;
mod secret_file;
mod send;
mod sequence;
mod service;
mod ssh;
mod terminal;
mod value;

use std::{
    env,
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use args::{Args, Instead, Knocking, Verb};
use notice::Notices;
use profile::Book;
use request::Request;
use sequence::Sequence;
use service::{Protocol, Service};

/// Not everything was sent.
const UNSENT: u8 = 1;
/// Nothing was sent, because what was typed or a file is wrong.
const USAGE: u8 = 2;

/// Why knock ends.
enum Failure {
    /// What was typed or a file is wrong; nothing was done.
    Usage(anyhow::Error),
    /// It was not done, or not all of it.
    Undone(anyhow::Error),
}

/// The code to end with.
type Outcome = Result<u8, Failure>;

/// Errors from before anything is sent.
trait Before<T> {
    fn before(self) -> Result<T, Failure>;
}

impl<T> Before<T> for Result<T> {
    fn before(self) -> Result<T, Failure> {
        self.map_err(Failure::Usage)
    }
}

/// Errors from then on.
trait Meanwhile<T> {
    fn meanwhile(self) -> Result<T, Failure>;
}

impl<T> Meanwhile<T> for Result<T> {
    fn meanwhile(self) -> Result<T, Failure> {
        self.map_err(Failure::Undone)
    }
}

fn main() -> ExitCode {
    let args = match Args::read(env::args_os()) {
        Ok(args) => args,
        Err(Instead::Answer(text)) => return finish(print(text.trim_end()).map(|()| 0).meanwhile()),
        Err(Instead::Mistake(text)) => return fail(USAGE, &text),
    };
    finish(match &args.verb {
        None => knock(&args),
        Some(Verb::Ssh(args)) => ssh(args),
        Some(Verb::Proxy(args)) => proxy(args),
        Some(Verb::Wait(args)) => wait(args),
        Some(Verb::Seq(args)) => sequence(args),
    })
}

fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Failure::Usage(error)) => fail(USAGE, &format!("{error:#}")),
        Err(Failure::Undone(error)) => fail(UNSENT, &format!("{error:#}")),
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    Notices::error(text);
    ExitCode::from(code)
}

fn notices(knocking: &Knocking) -> Notices {
    Notices { quiet: knocking.quiet }
}

fn book(knocking: &Knocking) -> Result<Book> {
    Book::open(knocking.config.as_deref(), notices(knocking))
}

fn knock(args: &Args) -> Outcome {
    let book = book(&args.knocking).before()?;
    let requests = request::requests(args, &book, notices(&args.knocking), key::from_prompt).before()?;
    knock_all(args, &requests).map(|all_sent| if all_sent { 0 } else { UNSENT }).meanwhile()
}

/// Knocks at every host, whatever happens at those before it; whether all went well.
fn knock_all(args: &Args, requests: &[Request]) -> Result<bool> {
    let mut all_sent = true;
    for request in requests {
        match knock_one(args, request) {
            Ok(report) if report.is_empty() => {}
            Ok(report) => print(&report)?,
            Err(error) => {
                all_sent = false;
                Notices::error(&format!("{}: {error:#}", request.host));
            }
        }
    }
    Ok(all_sent)
}

/// Knocks at one host; gives the lines to print.
fn knock_one(args: &Args, request: &Request) -> Result<String> {
    let port = send::destination_port(request)?;
    let host = &request.host;
    if args.dry_run {
        let mut line = format!("{host} {} ", port.0);
        for byte in send::payload(request, port)? {
            write!(line, "{byte:02x}")?;
        }
        return Ok(line);
    }
    let reached = send::send(request, port)?;
    if !args.knocking.verbose {
        return Ok(String::new());
    }
    let lines = reached.iter().map(|address| format!("knocked {host} ({} port {})", address.ip(), port.0));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn ssh(args: &args::Ssh) -> Outcome {
    let knocking = &args.knocking;
    let book = book(knocking).before()?;
    let limit = value::seconds(&args.waiting.timeout).before()?;
    let call = ssh::Call::of(&args.words, &book).before()?;
    let request =
        request::single(&call.host, knocking, &book, notices(knocking), key::from_prompt).before()?;
    let knocked = || -> Result<()> {
        match call.port {
            Some(port) => open::knock_until_open(&request, port, limit, knocking.quiet).map(drop),
            None => send::send(&request, send::destination_port(&request)?).map(drop),
        }
    };
    knocked().with_context(|| request.host.to_string()).meanwhile()?;
    call.run().meanwhile()
}

fn proxy(args: &args::Proxy) -> Outcome {
    let knocking = &args.knocking;
    let book = book(knocking).before()?;
    let limit = value::seconds(&args.waiting.timeout).before()?;
    let request =
        request::single(&args.host, knocking, &book, notices(knocking), key::from_prompt).before()?;
    let port = Service::find(&request.services, &args.service).before()?;
    let stream = open::knock_until_open(&request, port, limit, knocking.quiet);
    let relayed = stream.and_then(|stream| relay::relay(&stream));
    relayed.with_context(|| request.host.to_string()).map(|()| 0).meanwhile()
}

fn wait(args: &args::Wait) -> Outcome {
    let knocking = &args.knocking;
    let book = book(knocking).before()?;
    let limit = value::seconds(&args.waiting.timeout).before()?;
    let request =
        request::single(&args.host, knocking, &book, notices(knocking), key::from_prompt).before()?;
    let ports = match &args.service {
        Some(service) => vec![Service::find(&request.services, service).before()?],
        None => tcp_services(&request).before()?,
    };
    for port in ports {
        open::knock_until_open(&request, port, limit, knocking.quiet)
            .with_context(|| request.host.to_string())
            .meanwhile()?;
    }
    Ok(0)
}

/// The ports of which can be told whether they are open.
fn tcp_services(request: &Request) -> Result<Vec<pkd_core::Port>> {
    let ports = request.services.iter().filter(|service| service.protocol == Protocol::Tcp);
    let ports: Vec<_> = ports.map(|service| service.port).collect();
    anyhow::ensure!(
        !ports.is_empty(),
        "{}: no port is given, and no profile names a TCP service",
        request.name
    );
    Ok(ports)
}

fn sequence(args: &args::Sequence) -> Outcome {
    let sequence = Sequence::of(args).before()?;
    let lines = sequence.send().meanwhile()?;
    print(lines.trim_end()).map(|()| 0).meanwhile()
}

fn print(text: &str) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    writeln!(io::stdout(), "{text}").context("cannot write to standard output")
}

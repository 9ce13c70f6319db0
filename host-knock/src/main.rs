//! `knock` opens ports that pkd guards: for each host, one datagram that only a holder of the key can
//! make, and that nobody answers.
//!
//! [`args`] is what was typed, [`request`] what it means, [`send`] what is done about it.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(feature = "desktop"),
    allow(
        dead_code,
        clippy::needless_update,
        clippy::unused_self,
        reason = "what profiles alone say or have"
    )
)]

mod args;
mod batch;
#[cfg(feature = "desktop")]
mod doctor;
mod hexadecimal;
mod host;
mod ini;
mod key;
#[cfg(feature = "desktop")]
mod keygen;
#[cfg(feature = "desktop")]
mod keyring;
mod notice;
#[cfg(feature = "desktop")]
mod open;
#[cfg(feature = "desktop")]
mod passphrase;
mod profile;
#[cfg(feature = "desktop")]
mod program;
#[cfg(feature = "desktop")]
mod progress;
#[cfg(feature = "desktop")]
mod relay;
mod report;
mod request;
#[cfg(feature = "desktop")]
mod safe_file;
mod secret_file;
mod send;
mod sequence;
mod service;
#[cfg(feature = "desktop")]
mod share;
#[cfg(feature = "desktop")]
mod ssh;
#[cfg(feature = "desktop")]
mod table;
mod terminal;
mod value;
#[cfg(feature = "desktop")]
mod verify;

#[cfg(feature = "desktop")]
use std::time::Duration;
use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
#[cfg(feature = "desktop")]
use pkd_core::Port;

use args::{Args, Instead, Knocking, Verb};
use notice::Notices;
use profile::Book;
#[cfg(feature = "desktop")]
use request::Request;
use sequence::Sequence;
#[cfg(feature = "desktop")]
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
        #[cfg(feature = "desktop")]
        Some(Verb::Ssh(args)) => ssh(args),
        #[cfg(feature = "desktop")]
        Some(Verb::Proxy(args)) => proxy(args),
        #[cfg(feature = "desktop")]
        Some(Verb::Wait(args)) => wait(args),
        Some(Verb::Seq(args)) => sequence(args),
        #[cfg(feature = "desktop")]
        Some(verb) => at_the_desk(verb),
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
    let parallel = value::parallel(&args.parallel).before()?;
    #[cfg(feature = "desktop")]
    let limit = value::seconds(&args.timeout).before()?;
    let requests = request::requests(args, &book, notices(&args.knocking), key::from_prompt).before()?;
    let results = batch::each(&requests, parallel, |request| report::knock(request, args.dry_run));
    report::print(style(args), &requests, &results).meanwhile()?;
    if results.iter().any(Result::is_err) {
        return Ok(UNSENT);
    }
    #[cfg(feature = "desktop")]
    if let Some(command) = args.then.as_ref().filter(|_| !args.dry_run) {
        return then(command, &requests, limit, args.knocking.quiet);
    }
    Ok(0)
}

/// How it is told what came of it.
fn style(args: &Args) -> report::Style {
    #[cfg(feature = "desktop")]
    if !args.dry_run && args.json {
        return report::Style::Json;
    }
    #[cfg(feature = "desktop")]
    if !args.dry_run && !args.knocking.quiet && args.words.iter().any(|word| word.starts_with('@')) {
        return report::Style::Table;
    }
    // On a dry run the payload is what is told.
    if args.knocking.verbose || args.dry_run { report::Style::Lines } else { report::Style::Silence }
}

#[cfg(feature = "desktop")]
/// Waits for all ports that can be waited for, and becomes the shell's command.
fn then(command: &str, requests: &[Request], limit: Duration, quiet: bool) -> Outcome {
    for request in requests {
        for port in tcp_services(&request.services) {
            open::knock_until_open(request, port, limit, quiet)
                .with_context(|| request.host.to_string())
                .meanwhile()?;
        }
    }
    program::become_it(&mut program::shell(command)).context("cannot run the shell").meanwhile()
}

#[cfg(feature = "desktop")]
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

#[cfg(feature = "desktop")]
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

#[cfg(feature = "desktop")]
fn wait(args: &args::Wait) -> Outcome {
    let knocking = &args.knocking;
    let book = book(knocking).before()?;
    let limit = value::seconds(&args.waiting.timeout).before()?;
    let request =
        request::single(&args.host, knocking, &book, notices(knocking), key::from_prompt).before()?;
    let ports = ports(&request.name, &request.services, args.service.as_deref()).before()?;
    for port in ports {
        open::knock_until_open(&request, port, limit, knocking.quiet)
            .with_context(|| request.host.to_string())
            .meanwhile()?;
    }
    Ok(0)
}

#[cfg(feature = "desktop")]
/// The ports of which can be told whether they are open.
fn tcp_services(services: &[Service]) -> Vec<Port> {
    let services = services.iter().filter(|service| service.protocol == Protocol::Tcp);
    services.map(|service| service.port).collect()
}

#[cfg(feature = "desktop")]
/// The port that was asked for, or all TCP services of the profile.
fn ports(name: &str, services: &[Service], service: Option<&str>) -> Result<Vec<Port>> {
    let ports = match service {
        Some(service) => vec![Service::find(services, service)?],
        None => tcp_services(services),
    };
    anyhow::ensure!(!ports.is_empty(), "no port is given, and no profile of {name} names a TCP service");
    Ok(ports)
}

#[cfg(feature = "desktop")]
fn at_the_desk(verb: &Verb) -> Outcome {
    let text = match verb {
        Verb::List(args) => profile::show::list(args),
        Verb::Show(args) => profile::show::show(args),
        Verb::Import(args) => profile::import::import(args),
        Verb::Keygen(args) => keygen::keygen(args),
        Verb::Share(args) => share::share(args),
        Verb::Doctor(args) => return doctor(args),
        Verb::Verify(args) => return verify(args),
        Verb::Ssh(_) | Verb::Proxy(_) | Verb::Wait(_) | Verb::Seq(_) => Ok(String::new()),
    };
    print(text.before()?.trim_end()).map(|()| 0).meanwhile()
}

#[cfg(feature = "desktop")]
fn doctor(args: &args::Doctor) -> Outcome {
    let knocking = &args.knocking;
    let book = book(knocking).before()?;
    let limit = value::seconds(&args.waiting.timeout).before()?;
    let profile = book.profile_at(&args.host).transpose().before()?;
    let profile = match profile {
        Some(profile) => profile,
        None => profile::Profile::of_host(host::Host::parse(&args.host).before()?),
    };
    let of_options = request::Families::of(knocking.ipv4, knocking.ipv6);
    let families = if of_options == request::Families::Both { profile.families } else { of_options };
    let ports = ports(&args.host, &profile.services, args.service.as_deref()).before()?;
    let patient = doctor::Patient {
        host: &profile.host,
        families,
        port: ports.first().copied().unwrap_or(Port(22)),
        limit,
        time_server: args.time_server.as_deref(),
    };
    let request = || request::single(&args.host, knocking, &book, notices(knocking), key::from_prompt);
    doctor::examine(&patient, request).map(|is_open| u8::from(!is_open)).meanwhile()
}

#[cfg(feature = "desktop")]
fn verify(args: &args::Verify) -> Outcome {
    let (text, is_accepted) = verify::Case::of(args).before()?.explain().meanwhile()?;
    print(text.trim_end()).map(|()| u8::from(!is_accepted)).meanwhile()
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

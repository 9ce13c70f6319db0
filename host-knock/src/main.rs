//! `knock` opens ports that pkd guards: it sends each host one datagram that only a holder of the key can make. The host
//! never answers.
//!
//! Data flows one way: [`cli`] (arguments), [`profile`], [`key`], [`request`], [`datagram`]. Shared types are in [`model`].

#![forbid(unsafe_code)]
#![cfg_attr(
    not(feature = "desktop"),
    allow(dead_code, clippy::needless_update, clippy::unused_self, reason = "used by profiles only")
)]

#[cfg(feature = "desktop")]
mod atomic_file;
mod cli;
#[cfg(feature = "desktop")]
mod connect;
mod datagram;
#[cfg(feature = "desktop")]
mod doctor;
#[cfg(feature = "desktop")]
mod exec;
mod hex;
mod ini;
#[cfg(feature = "desktop")]
mod interrupt;
mod key;
#[cfg(feature = "desktop")]
mod keygen;
#[cfg(feature = "desktop")]
mod keyring;
mod model;
#[cfg(feature = "desktop")]
mod pair;
mod parallel;
mod parse;
#[cfg(feature = "desktop")]
mod passphrase;
mod profile;
#[cfg(feature = "desktop")]
mod progress;
#[cfg(feature = "desktop")]
mod relay;
mod report;
mod request;
mod secret_file;
mod send;
mod sequence;
#[cfg(feature = "desktop")]
mod share;
mod socket;
#[cfg(feature = "desktop")]
mod ssh;
mod stderr;
#[cfg(feature = "desktop")]
mod table;
mod terminal;
#[cfg(feature = "desktop")]
mod verify;
#[cfg(feature = "desktop")]
mod wait;

#[cfg(feature = "desktop")]
use std::time::Duration;
use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

#[cfg(feature = "desktop")]
use anyhow::Context as _;
use anyhow::Result;
#[cfg(feature = "desktop")]
use pkd_core::{Port, format2::Request as Action};

#[cfg(feature = "desktop")]
use cli::CloseOptions;
use cli::{Args, CliExit, Command, SendOptions};
#[cfg(feature = "desktop")]
use model::{Families, Host, Hosts, Profile, Request, Service};
use profile::ProfileStore;
#[cfg(feature = "desktop")]
use request::Needs;
use sequence::Sequence;
use stderr::Stderr;

/// Exit code: something could not be sent, or a port did not open.
const RUNTIME_ERROR: u8 = 1;
/// Exit code: an argument, a key or a file is invalid, and nothing was sent.
const USAGE_ERROR: u8 = 2;
/// Hosts that `knock close` sends to at the same time.
const MAX_PARALLEL_CLOSES: usize = 32;

/// Why knock fails.
enum Failure {
    Usage(anyhow::Error),
    Runtime(anyhow::Error),
}

/// The exit code.
type Outcome = Result<u8, Failure>;

/// Sorts errors by whether they came before anything was sent.
trait OrFailure<T> {
    fn usage_error(self) -> Result<T, Failure>;
    fn runtime_error(self) -> Result<T, Failure>;
}

impl<T> OrFailure<T> for Result<T> {
    fn usage_error(self) -> Result<T, Failure> {
        self.map_err(Failure::Usage)
    }

    fn runtime_error(self) -> Result<T, Failure> {
        self.map_err(Failure::Runtime)
    }
}

fn main() -> ExitCode {
    let args = match Args::read(env::args_os()) {
        Ok(args) => args,
        Err(CliExit::Help(text)) => return finish(print(text.trim_end()).map(|()| 0).runtime_error()),
        Err(CliExit::Usage(text)) => return fail(USAGE_ERROR, &text),
    };
    finish(match &args.command {
        None => knock(&args),
        #[cfg(feature = "desktop")]
        Some(Command::Ssh(args)) => ssh(args),
        #[cfg(feature = "desktop")]
        Some(Command::Proxy(args)) => proxy(args),
        #[cfg(feature = "desktop")]
        Some(Command::Wait(args)) => wait(args),
        Some(Command::Close(args)) => close(args),
        Some(Command::Seq(args)) => sequence(args),
        #[cfg(feature = "desktop")]
        Some(command) => manage(command),
    })
}

fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Failure::Usage(error)) => fail(USAGE_ERROR, &format!("{error:#}")),
        Err(Failure::Runtime(error)) => fail(RUNTIME_ERROR, &format!("{error:#}")),
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    Stderr::error(text);
    ExitCode::from(code)
}

fn diagnostics(options: &SendOptions) -> Stderr {
    Stderr { quiet: options.quiet }
}

fn open_store(options: &SendOptions) -> Result<ProfileStore> {
    ProfileStore::open(options.config.as_deref(), diagnostics(options))
}

fn knock(args: &Args) -> Outcome {
    let store = open_store(&args.send_options).usage_error()?;
    check_words(args, &store).usage_error()?;
    let parallel = parse::parallel(&args.parallel).usage_error()?;
    #[cfg(feature = "desktop")]
    let limit = parse::timeout(&args.timeout).usage_error()?;
    let requests =
        request::requests(args, &store, diagnostics(&args.send_options), key::from_prompt).usage_error()?;
    let results = parallel::map(&requests, parallel, |request| report::knock(request, args.dry_run));
    report::print(style(args), &requests, &results).runtime_error()?;
    if results.iter().any(Result::is_err) {
        return Ok(RUNTIME_ERROR);
    }
    #[cfg(feature = "desktop")]
    if let Some(command) = args.then.as_ref().filter(|_| !args.dry_run) {
        return then(command, &requests, limit, args);
    }
    Ok(0)
}

/// A mistyped command would be a host, for which knock asks for a key.
fn check_words(args: &Args, store: &ProfileStore) -> Result<()> {
    match args.similar_command() {
        Some((word, command)) if !store.has(word) => {
            anyhow::bail!(
                "unknown command {word:?}: did you mean knock {command}? For a host of that name: knock -- {word}"
            )
        }
        _ => Ok(()),
    }
}

fn close(args: &cli::Close) -> Outcome {
    let options = &args.send_options;
    let store = open_store(options).usage_error()?;
    let requests = request::to_close(&args.words, options, &store, diagnostics(options), key::from_prompt)
        .usage_error()?;
    let results =
        parallel::map(&requests, MAX_PARALLEL_CLOSES, |request| report::knock(request, args.dry_run));
    let style = if options.verbose || args.dry_run { report::Style::Lines } else { report::Style::Quiet };
    report::print(style, &requests, &results).runtime_error()?;
    Ok(if results.iter().any(Result::is_err) { RUNTIME_ERROR } else { 0 })
}

#[cfg(feature = "desktop")]
/// Ends what the requests have opened. Returns an error for each host that could not be reached.
fn close_again(requests: &[Request]) {
    for request in requests {
        let request = Request { action: Action::Close, ..request.clone() };
        if let Err(error) = report::knock(&request, false) {
            Stderr::error(&format!("{}: cannot close: {error:#}", request.label()));
        }
    }
}

/// The output format.
fn style(args: &Args) -> report::Style {
    #[cfg(feature = "desktop")]
    if args.json {
        return report::Style::Json;
    }
    #[cfg(feature = "desktop")]
    if !args.dry_run && !args.send_options.quiet && args.words.iter().any(|word| word.starts_with('@')) {
        return report::Style::Table;
    }
    // On a dry run the payload is the output.
    if args.send_options.verbose || args.dry_run { report::Style::Lines } else { report::Style::Quiet }
}

#[cfg(feature = "desktop")]
/// Waits for all TCP services, then runs a command in the shell.
fn then(command: &str, requests: &[Request], limit: Duration, args: &Args) -> Outcome {
    for request in requests {
        for port in Service::tcp_ports(&request.services) {
            connect::knock_and_connect(request, port, limit, (&args.send_options).into())
                .with_context(|| request.label().to_owned())
                .runtime_error()?;
        }
    }
    let mut shell = exec::shell(command);
    if !args.close_after {
        return exec::exec(&mut shell).context("cannot run the shell").runtime_error();
    }
    let code = exec::run(&mut shell).context("cannot run the shell");
    close_again(requests);
    code.runtime_error()
}

#[cfg(feature = "desktop")]
fn ssh(args: &cli::Ssh) -> Outcome {
    let options = &args.send_options;
    let store = open_store(options).usage_error()?;
    let limit = parse::timeout(&args.timing.timeout).usage_error()?;
    let invocation =
        ssh::Invocation::new(&args.words, &store, &request::outlet(options).usage_error()?).usage_error()?;
    let port = invocation.port.map(|port| port.0.to_string());
    let needs = needs(&args.closing, Some(port.as_deref().unwrap_or("ssh")));
    let request =
        request::single(&invocation.host, options, needs, &store, diagnostics(options), key::from_prompt)
            .usage_error()?;
    let knocked = || -> Result<Option<String>> {
        let Some(port) = invocation.port else {
            return send::send(&request, datagram::destination_port(&request)?).map(|_| None);
        };
        let stream = connect::knock_and_connect(&request, port, limit, options.into())?;
        Ok(Some(request.hosts.text_of(stream.peer_addr().context("connection lost")?.ip())))
    };
    let answered = knocked().with_context(|| request.label().to_owned()).runtime_error()?;
    let mut command = invocation.command(answered.as_deref());
    if !args.closing.close_after {
        return exec::exec(&mut command).context("cannot run ssh").runtime_error();
    }
    let code = exec::run(&mut command).context("cannot run ssh");
    close_again(&[request]);
    code.runtime_error()
}

#[cfg(feature = "desktop")]
fn needs<'a>(closing: &CloseOptions, service: Option<&'a str>) -> Needs<'a> {
    Needs { format2: closing.close_after.then_some("--close-after"), service }
}

#[cfg(feature = "desktop")]
fn proxy(args: &cli::Proxy) -> Outcome {
    let options = &args.send_options;
    let store = open_store(options).usage_error()?;
    let limit = parse::timeout(&args.timing.timeout).usage_error()?;
    let needs = needs(&args.closing, Some(&args.service));
    let request = request::single(&args.host, options, needs, &store, diagnostics(options), key::from_prompt)
        .usage_error()?;
    let port = Service::find(&request.services, &args.service).usage_error()?;
    let label = request.label().to_owned();
    let stream = connect::knock_and_connect(&request, port, limit, options.into());
    let relayed = stream.and_then(|stream| {
        if !args.closing.close_after {
            return relay::relay(&stream);
        }
        // ssh ends a ProxyCommand with SIGHUP.
        let relayed = interrupt::or_until_signal(move || relay::relay(&stream));
        close_again(&[request]);
        relayed
    });
    relayed.context(label).map(|()| 0).runtime_error()
}

#[cfg(feature = "desktop")]
fn wait(args: &cli::Wait) -> Outcome {
    let options = &args.send_options;
    let store = open_store(options).usage_error()?;
    let limit = parse::timeout(&args.timing.timeout).usage_error()?;
    let request = request::single(
        &args.host,
        options,
        Needs { service: args.service.as_deref(), ..Needs::default() },
        &store,
        diagnostics(options),
        key::from_prompt,
    )
    .usage_error()?;
    let ports = Service::ports(&request.services, args.service.as_deref(), &request.name).usage_error()?;
    let report = wait::wait(&request, ports, limit, options.into());
    if args.json {
        print(&format!("{:#}", report.json())).runtime_error()?;
        return Ok(if report.is_open() { 0 } else { RUNTIME_ERROR });
    }
    report.into_result().map(|()| 0).runtime_error()
}

#[cfg(feature = "desktop")]
fn manage(command: &Command) -> Outcome {
    let text = match command {
        Command::List(args) if args.names => names(args),
        Command::List(args) => profile::show::list(args),
        Command::Show(args) => profile::show::show(args),
        Command::Import(args) => profile::import::import(args),
        Command::Pair(args) => pair::pair(args),
        Command::Keygen(args) => keygen::keygen(args),
        Command::Share(args) => share::share(args),
        Command::Doctor(args) => return doctor(args),
        Command::Verify(args) => return verify(args),
        Command::Ssh(_) | Command::Proxy(_) | Command::Wait(_) | Command::Close(_) | Command::Seq(_) => {
            Ok(String::new())
        }
    };
    print(text.usage_error()?.trim_end()).map(|()| 0).runtime_error()
}

#[cfg(feature = "desktop")]
fn names(args: &cli::List) -> Result<String> {
    Ok(ProfileStore::open(args.config.as_deref(), Stderr { quiet: true })?.names().join("\n"))
}

#[cfg(feature = "desktop")]
fn doctor(args: &cli::Doctor) -> Outcome {
    let options = &args.send_options;
    let store = open_store(options).usage_error()?;
    let limit = parse::timeout(&args.timing.timeout).usage_error()?;
    let profile = store.profile_at(&args.host, args.service.as_deref()).transpose().usage_error()?;
    let profile = match profile {
        Some(profile) => profile,
        None => Profile::new(Hosts::one(Host::parse(&args.host).usage_error()?)),
    };
    let selected = Families::of(options.ipv4, options.ipv6);
    let families = if selected == Families::Both { profile.families } else { selected };
    let families = request::outlet(options).and_then(|outlet| outlet.families(families)).usage_error()?;
    let ports = Service::ports(&profile.services, args.service.as_deref(), &args.host).usage_error()?;
    let target = doctor::Target {
        hosts: &profile.hosts,
        label: profile.hosts.label(&args.host),
        families,
        port: ports.first().copied().unwrap_or(Port(22)),
        limit,
        time_server: args.time_server.as_deref(),
        is_json: args.json,
    };
    let needs = Needs { service: args.service.as_deref(), ..Needs::default() };
    let request =
        || request::single(&args.host, options, needs, &store, diagnostics(options), key::from_prompt);
    doctor::diagnose(&target, request).map(|is_open| u8::from(!is_open)).runtime_error()
}

#[cfg(feature = "desktop")]
fn verify(args: &cli::Verify) -> Outcome {
    let (report, damage) = verify::Verification::from_args(args).usage_error()?.explain().runtime_error()?;
    if args.json {
        print(&format!("{:#}", report.json(damage.as_ref()))).runtime_error()?;
    } else {
        print(report.text().trim_end()).runtime_error()?;
    }
    match damage {
        Some(damage) => Err(Failure::Usage(damage)),
        None => Ok(u8::from(!report.is_accepted())),
    }
}

fn sequence(args: &cli::Sequence) -> Outcome {
    let sequence = Sequence::from_args(args).usage_error()?;
    let lines = sequence.send().runtime_error()?;
    print(lines.trim_end()).map(|()| 0).runtime_error()
}

fn print(text: &str) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    report::unless_gone(writeln!(io::stdout(), "{text}"))
}

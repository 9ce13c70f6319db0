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
mod request;
mod secret_file;
mod send;
mod sequence;
mod terminal;
mod value;

use std::{
    env,
    fmt::Write as _,
    io::{self, Write as _},
    iter,
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use args::{Args, Instead};
use ini::Ini;
use notice::Notices;
use request::Request;
use sequence::Sequence;

/// Not everything was sent.
const UNSENT: u8 = 1;
/// Nothing was sent, because what was typed or a file is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut line = env::args_os().skip(1).peekable();
    if line.next_if(|word| word == "seq").is_some() {
        return match Sequence::read(iter::once("knock seq".into()).chain(line)) {
            Ok(sequence) => finish(sequence.send().and_then(|lines| print(lines.trim_end()).map(|()| true))),
            Err(instead) => end_with(instead),
        };
    }
    let args = match Args::read(env::args_os()) {
        Ok(args) => args,
        Err(instead) => return end_with(instead),
    };
    match requests(&args) {
        Ok(requests) => finish(knock_all(&args, &requests)),
        Err(error) => fail(USAGE, &format!("{error:#}")),
    }
}

fn end_with(instead: Instead) -> ExitCode {
    match instead {
        Instead::Answer(text) => finish(print(text.trim_end()).map(|()| true)),
        Instead::Mistake(text) => fail(USAGE, &text),
    }
}

fn requests(args: &Args) -> Result<Vec<Request>> {
    let notices = Notices { quiet: args.quiet };
    let ini = match (&args.config, env::home_dir().filter(|home| home.is_absolute())) {
        (Some(path), _) => Ini::read(path, notices)?,
        (None, Some(home)) => Ini::read_if_there(&home.join(".ipt_pkd.ini"), notices)?,
        (None, None) => Ini::default(),
    };
    request::requests(args, &ini, notices, key::from_prompt)
}

/// Knocks at every host, whatever happens at those before it; whether all went well.
fn knock_all(args: &Args, requests: &[Request]) -> Result<bool> {
    let mut all_sent = true;
    for request in requests {
        match knock(args, request) {
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
fn knock(args: &Args, request: &Request) -> Result<String> {
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
    if !args.verbose {
        return Ok(String::new());
    }
    let lines = reached.iter().map(|address| format!("knocked {host} ({} port {})", address.ip(), port.0));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn print(text: &str) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    writeln!(io::stdout(), "{text}").context("cannot write to standard output")
}

fn finish(all_sent: Result<bool>) -> ExitCode {
    match all_sent {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(UNSENT),
        Err(error) => fail(UNSENT, &format!("{error:#}")),
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    Notices::error(text);
    ExitCode::from(code)
}

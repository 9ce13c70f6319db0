//! `pktables` controls which address may reach which service of this host.
//!
//! [`cli`] parses the command line, [`request`] validates it, and the library does the work.

#![forbid(unsafe_code)]

mod cli;
mod request;
mod show;

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use pktables::{Change, Error, Firewall, Listings};

use cli::{Args, CliExit, Command};
use request::{Action, Request};

/// Exit code: the operation failed.
const RUNTIME_ERROR: u8 = 1;
/// Exit code: an argument is invalid, and nothing was done.
const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let args = match Args::read(env::args_os()) {
        Ok(args) => args,
        Err(CliExit::Help(text)) => return finish(print(text.trim_end(), "\n")),
        Err(CliExit::Usage(text)) => return fail(USAGE_ERROR, &text),
    };
    if let Command::Init(init) = &args.command
        && let Some(option) = init.idle_option()
    {
        // The service is guarded without it.
        let _ = writeln!(io::stderr(), "pktables: {option} has no effect without --log");
    }
    match Request::from_args(&args) {
        Ok(request) => finish(serve(&request)),
        Err(invalid) => fail(USAGE_ERROR, &invalid.to_string()),
    }
}

fn serve(request: &Request) -> Result<()> {
    let mut firewall = request.backend.open()?;
    let text = run(firewall.as_mut(), request)?;
    if text.is_empty() { Ok(()) } else { print(&text, "") }
}

/// Returns the output.
fn run(firewall: &mut dyn Firewall, request: &Request) -> Result<String> {
    let change = match &request.action {
        Action::Init(service) => firewall.init(service)?,
        Action::Remove(name) => firewall.remove(name)?,
        Action::Grant { service, address, ttl } => firewall.grant(service, *address, *ttl)?,
        Action::Revoke { service, address } => firewall.revoke(service, *address)?,
        Action::Flush(name) => firewall.flush(name)?,
        Action::Expire => {
            let expired = firewall.expire()?;
            return Ok(if request.verbose { format!("{expired} expired\n") } else { String::new() });
        }
        Action::List { service, json } => {
            let Listings { services: mut listings, unknown, .. } = firewall.list()?;
            if let Some(name) = service {
                listings.retain(|listing| listing.service.name == *name);
                if listings.is_empty() {
                    return Err(unknown.into_iter().next().unwrap_or(Error::NoService(name.clone())).into());
                }
            }
            for error in unknown {
                // The list is right without it.
                let _ = writeln!(io::stderr(), "pktables: not listed: {error:#}");
            }
            return Ok(if *json { show::json(&listings) } else { show::table(&listings) });
        }
    };
    let text = match change {
        Change::Made => "changed\n",
        Change::AlreadySo => "unchanged\n",
    };
    Ok(if request.verbose { text.to_owned() } else { String::new() })
}

fn print(text: &str, end: &str) -> Result<()> {
    write!(io::stdout(), "{text}{end}").context("cannot write to standard output")
}

fn finish(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(RUNTIME_ERROR, &format!("{error:#}")),
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    // There is no better place to report an error.
    let _ = writeln!(io::stderr(), "pktables: {text}");
    ExitCode::from(code)
}

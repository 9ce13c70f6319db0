//! `pktables` says which address may pass which service of this host.
//!
//! [`args`] is what was typed, [`request`] what it means; the library does it.

#![forbid(unsafe_code)]

mod args;
mod request;
mod show;

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use pktables::{Change, Error, Firewall};

use args::{Args, Instead};
use request::{Action, Request};

/// It could not be done.
const FAILED: u8 = 1;
/// Nothing was done, because an argument is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = match Args::read(env::args_os()) {
        Ok(args) => args,
        Err(Instead::Answer(text)) => return finish(print(text.trim_end(), "\n")),
        Err(Instead::Mistake(text)) => return fail(USAGE, &text),
    };
    match Request::of(&args) {
        Ok(request) => finish(serve(&request)),
        Err(invalid) => fail(USAGE, &invalid.to_string()),
    }
}

fn serve(request: &Request) -> Result<()> {
    let mut firewall = request.backend.open()?;
    let text = act(firewall.as_mut(), request)?;
    if text.is_empty() { Ok(()) } else { print(&text, "") }
}

/// Gives what is to be printed.
fn act(firewall: &mut dyn Firewall, request: &Request) -> Result<String> {
    let change = match &request.action {
        Action::Init(service) => firewall.init(service)?,
        Action::Remove(name) => firewall.remove(name)?,
        Action::Grant { service, address, ttl } => firewall.grant(service, *address, *ttl)?,
        Action::Revoke { service, address } => firewall.revoke(service, *address)?,
        Action::Flush(name) => firewall.flush(name)?,
        Action::Sweep => {
            let swept = firewall.sweep()?;
            return Ok(if request.verbose { format!("{swept} ended\n") } else { String::new() });
        }
        Action::List { service, json } => {
            let mut listings = firewall.list()?;
            if let Some(name) = service {
                listings.retain(|listing| listing.service.name == *name);
                if listings.is_empty() {
                    return Err(Error::NoService(name.clone()).into());
                }
            }
            return Ok(if *json { show::json(&listings) } else { show::table(&listings) });
        }
    };
    let said = match change {
        Change::Made => "done\n",
        Change::AlreadySo => "already so\n",
    };
    Ok(if request.verbose { said.to_owned() } else { String::new() })
}

fn print(text: &str, end: &str) -> Result<()> {
    write!(io::stdout(), "{text}{end}").context("cannot write to standard output")
}

fn finish(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &format!("{error:#}")),
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    // Nobody is left to be told where this fails.
    let _ = writeln!(io::stderr(), "pktables: {text}");
    ExitCode::from(code)
}

//! `pkdd`: opens a port to the one address that has just knocked right, without a kernel module.

#![forbid(unsafe_code)]

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, error::ErrorKind};
use pkdd::{
    config::Config,
    control::{self, Question},
    daemon,
    status::Status,
};

/// What was asked for is wrong.
const USAGE: u8 = 2;

/// Opens a port to the one address that has just knocked right.
#[derive(Debug, Parser)]
#[command(
    name = "pkdd",
    version,
    after_help = "Exit codes: 0 done, 1 failed or wrong (one line says what), 2 usage."
)]
struct Args {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "/etc/pkdd/pkdd.toml", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Wait for knocks, until SIGTERM; SIGHUP reads the configuration again
    Run,
    /// Check the configuration, change nothing
    Check,
    /// Tell what the running daemon does: services, grants, counters
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The same for Prometheus
    Metrics,
    #[cfg(feature = "replay")]
    /// Tell the verdict for each datagram of a capture file (pcap or pcapng)
    Replay {
        /// The capture
        file: PathBuf,
    },
    /// Take away the rules and grants that a daemon has left
    Clear,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return finish(print(&error.render().to_string()));
        }
        Err(error) => {
            let text = error.render().to_string();
            let sentence =
                text.split("\n\n").next().unwrap_or(&text).split_whitespace().collect::<Vec<_>>().join(" ");
            eprintln!("pkdd: {}; see pkdd --help", sentence.strip_prefix("error: ").unwrap_or(&sentence));
            return ExitCode::from(USAGE);
        }
    };
    finish(act(args))
}

fn act(Args { config, verb }: Args) -> Result<()> {
    match verb {
        Verb::Run => daemon::run(&config),
        Verb::Check => {
            let read = Config::read(&config)?;
            for warning in &read.warnings {
                eprintln!("pkdd: warning: {warning}");
            }
            print(&format!(
                "{} is right: {} services, {} users\n",
                config.display(),
                read.services.len(),
                read.users.len()
            ))
        }
        Verb::Status { json } => {
            let answer = ask(&config, Question::Status)?;
            if json {
                return print(&answer);
            }
            let status: Status = serde_json::from_str(&answer).context("the daemon is of another version")?;
            print(&status.text())
        }
        Verb::Metrics => print(&ask(&config, Question::Metrics)?),
        #[cfg(feature = "replay")]
        Verb::Replay { file } => {
            pkdd::replay::replay(Config::read(&config)?, &file, &mut io::stdout().lock())
        }
        Verb::Clear => daemon::clear(&Config::read(&config)?),
    }
}

fn ask(config: &std::path::Path, question: Question) -> Result<String> {
    let socket = daemon::socket(&Config::read(config)?.gate.run);
    control::ask(&socket, question).with_context(|| format!("no daemon answers at {}", socket.display()))
}

fn print(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn finish(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pkdd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! `pkdd`: opens a port to the one address that has just sent a valid knock, without a kernel module.

#![forbid(unsafe_code)]

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result};
use lexopt::{Arg, Parser, ValueExt};
use pkdd::{
    config::Config,
    control::{self, Query},
    daemon,
    status::Status,
};

/// What was request for is wrong.
const USAGE: u8 = 2;
const USUAL_CONFIG: &str = "/etc/pkdd/pkdd.toml";

const HELP: &str = "\
Opens a port to the one address that has just sent a valid knock.

usage: pkdd [--config FILE] COMMAND
  run              wait for knocks until SIGTERM; SIGHUP reads the configuration again, SIGUSR1 restores
                   rules and grants after the firewall was reloaded
  check            check the configuration, change nothing
  status [--json]  show what the running daemon does: services, grants, counters
  metrics          the same for Prometheus
  replay FILE      show the verdict on each datagram of a capture file (pcap or pcapng)
  clear            remove the rules and grants that a daemon left

  -c, --config FILE  the configuration [default: /etc/pkdd/pkdd.toml]
  -h, --help         show this help
  -V, --version      show the version

Exit codes: 0 success, 1 failure (one line says why), 2 usage error.
";

struct Args {
    config: PathBuf,
    command: Command,
}

enum Command {
    Run,
    Check,
    Status {
        json: bool,
    },
    Metrics,
    #[cfg(feature = "replay")]
    Replay {
        file: PathBuf,
    },
    Clear,
    /// Prints a text.
    Tell(String),
}

impl Args {
    fn read(mut words: Parser) -> Result<Self, lexopt::Error> {
        let mut config = PathBuf::from(USUAL_CONFIG);
        let (mut command, mut file, mut json) = (None, None, false);
        while let Some(word) = words.next()? {
            match word {
                Arg::Short('c') | Arg::Long("config") => config = words.value()?.into(),
                Arg::Long("json") => json = true,
                Arg::Short('h') | Arg::Long("help") => {
                    return Ok(Self { config, command: Command::Tell(HELP.to_owned()) });
                }
                Arg::Short('V') | Arg::Long("version") => {
                    let text = format!("pkdd {}\n", env!("CARGO_PKG_VERSION"));
                    return Ok(Self { config, command: Command::Tell(text) });
                }
                Arg::Value(value) if command.is_none() => command = Some(value.string()?),
                Arg::Value(value) if file.is_none() => file = Some(PathBuf::from(value)),
                _ => return Err(word.unexpected()),
            }
        }
        let command = command.ok_or("missing command")?;
        let command = match (command.as_str(), file, json) {
            ("run", None, false) => Command::Run,
            ("check", None, false) => Command::Check,
            ("status", None, json) => Command::Status { json },
            ("metrics", None, false) => Command::Metrics,
            ("clear", None, false) => Command::Clear,
            #[cfg(feature = "replay")]
            ("replay", Some(file), false) => Command::Replay { file },
            #[cfg(feature = "replay")]
            ("replay", None, _) => return Err("replay needs a capture file".into()),
            ("run" | "check" | "metrics" | "clear" | "replay", _, true) => {
                return Err("--json is only for status".into());
            }
            ("run" | "check" | "status" | "metrics" | "clear", Some(file), _) => {
                return Err(format!("unexpected argument \"{}\"", file.display()).into());
            }
            (other, ..) => return Err(format!("unknown command \"{other}\"").into()),
        };
        Ok(Self { config, command })
    }
}

fn main() -> ExitCode {
    match Args::read(Parser::from_env()) {
        Ok(args) => finish(act(args)),
        Err(error) => {
            eprintln!("pkdd: {error}; see pkdd --help");
            ExitCode::from(USAGE)
        }
    }
}

fn act(Args { config, command }: Args) -> Result<()> {
    match command {
        Command::Tell(text) => print(&text),
        Command::Run => daemon::run(&config),
        Command::Check => {
            let read = Config::read(&config)?;
            for warning in &read.warnings {
                eprintln!("pkdd: warning: {warning}");
            }
            print(&format!(
                "{}: configuration OK: {} services, {} users\n",
                config.display(),
                read.services.len(),
                read.users.len()
            ))
        }
        Command::Status { json } => {
            let answer = ask(&config, Query::Status)?;
            if json {
                return print(&answer);
            }
            let status: Status = serde_json::from_str(&answer)
                .context("the running daemon has another version: restart it")?;
            print(&status.text())
        }
        Command::Metrics => print(&ask(&config, Query::Metrics)?),
        #[cfg(feature = "replay")]
        Command::Replay { file } => {
            pkdd::replay::replay(Config::read(&config)?, &file, &mut io::stdout().lock())
        }
        Command::Clear => daemon::clear(&Config::read(&config)?),
    }
}

fn ask(config: &std::path::Path, query: Query) -> Result<String> {
    let socket = daemon::socket(&Config::read(config)?.gate.run);
    control::ask(&socket, query)
        .with_context(|| format!("no daemon answers at {}: is pkdd running?", socket.display()))
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

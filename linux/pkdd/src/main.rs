//! `pkdd`: opens a port to the address that has just sent a valid knock, without a kernel module.

#![forbid(unsafe_code)]

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
#[cfg(feature = "rules")]
use anyhow::{bail, ensure};
use lexopt::{Arg, Parser, ValueExt};
#[cfg(feature = "rules")]
use pkdd::firewall::{self, Look};
use pkdd::{
    control::{self, Query},
    daemon, floor, guard, openwrt, run_folder, source,
};

/// The exit code for a usage error.
const USAGE_ERROR: u8 = 2;
#[cfg(feature = "rules")]
const DEFAULT_CONFIG: &str = "/etc/pkdd/pkdd.toml";
/// What the service has rendered.
#[cfg(not(feature = "rules"))]
const DEFAULT_CONFIG: &str = "/var/run/pkd/active/config";

#[cfg(not(feature = "rules"))]
const HELP: &str = "\
Checks knocks for OpenWrt's service pkd, which starts it and shows its status: see pkd help.

usage: pkdd [--config FILE] COMMAND
  run              wait for knocks until SIGTERM
  status [--json]  show services, grants, users and counters
  metrics          print grants and counters in Prometheus' text format
  reset-floor      forget the greatest accepted time, after the clock was ahead; needs a stopped daemon,
                   and the next one waits for one window
  openwrt COMMAND  for the service: check or render /etc/config/pkd, show the gate's status

  -c, --config FILE  the configuration that the service has rendered
                     [default: /var/run/pkd/active/config]
  -h, --help         show this help
  -V, --version      show the version

Exit codes: 0 success, 1 failure (one line says why), 2 usage error.
";

#[cfg(feature = "rules")]
const HELP: &str = "\
Opens a port to the address that has just sent a valid knock.

usage: pkdd [--config FILE] COMMAND
  init             write a first configuration, and start pkdd; without \"pkdd confirm\" it ends after
                   5 minutes
  user add NAME    let somebody in: make a key, and print what their computer needs as a knock:// URI
                   [--service NAME]... [--expires DATE] [--address HOST]... [--format 2|classic]
                   [--tag TAG] [--qr]
  user list        show the users [--json]
  user rotate NAME make a new key; the old one works until the new one was used, or [--until DATE]
                   [--address HOST]... [--qr]
  user revoke NAME remove a user; what they have opened is closed
  grant ADDRESS    open all services to an address without a knock [--seconds N, else 600]
  revoke ADDRESS   close them to it again
  service add NAME PORTS[/udp]
                   close more ports, such as 443 or 80,443,8000-8100 [--seconds N] [--forward ADDRESS:PORT]...
  run              wait for knocks until SIGTERM; SIGHUP reloads the configuration, SIGUSR1 restores
                   rules and grants after another program has reloaded the firewall
  reload           have the running daemon reload the configuration, and say whether it did
  check            check the configuration, and name rules of other firewalls that are in the way,
                   without changing anything
  status [--json]  show the running daemon's services, grants, users and counters, and such rules
  events           print the accepted knocks that pkdd still remembers, as lines of JSON; --follow
                   prints what happens from now on
  metrics          print grants and counters in Prometheus' text format
  replay FILE      show the verdict on each knock in a capture file (pcap or pcapng)
  guard            close the services' ports without the daemon, as before it starts; if the
                   configuration has an error, as the last good one says
  clear            open the ports again: remove the rules and grants of a daemon that has stopped
  reset-floor      forget the greatest accepted time, after the clock was ahead; needs a stopped daemon,
                   and the next one waits for one window
  openwrt COMMAND  for OpenWrt's service pkd: check or render /etc/config/pkd, show the gate's status

  -c, --config FILE  the configuration file [default: /etc/pkdd/pkdd.toml]
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
    #[cfg(feature = "rules")]
    Check,
    Status {
        json: bool,
    },
    Metrics,
    #[cfg(feature = "events")]
    Events {
        follow: bool,
    },
    #[cfg(feature = "replay")]
    Replay {
        file: PathBuf,
    },
    #[cfg(feature = "rules")]
    Clear,
    #[cfg(feature = "rules")]
    Guard,
    #[cfg(feature = "rules")]
    Reload,
    ResetFloor,
    /// Writes the configuration.
    #[cfg(feature = "manage")]
    Manage(pkdd::manage::Command),
    /// For OpenWrt's service.
    OpenWrt(openwrt::Command),
    /// Help or version.
    Print(String),
}

impl Args {
    fn parse(mut parser: Parser) -> Result<Self, lexopt::Error> {
        let mut config = PathBuf::from(DEFAULT_CONFIG);
        let (mut command, mut file, mut json, mut follow) = (None, None, false, false);
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Short('c') | Arg::Long("config") => config = parser.value()?.into(),
                // Its words are its own.
                Arg::Value(value) if command.is_none() && value == "openwrt" => {
                    let words = parser.raw_args()?.map(ValueExt::string).collect::<Result<Vec<_>, _>>()?;
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    let command = Command::OpenWrt(openwrt::Command::parse(&words)?);
                    return Ok(Self { config, command });
                }
                #[cfg(feature = "manage")]
                Arg::Value(value)
                    if command.is_none()
                        && value.to_str().is_some_and(pkdd::manage::Command::begins_with) =>
                {
                    let words = [value].into_iter().chain(parser.raw_args()?).collect();
                    let command = Command::Manage(pkdd::manage::Command::parse(words)?);
                    return Ok(Self { config, command });
                }
                Arg::Long("json") => json = true,
                Arg::Short('f') | Arg::Long("follow") => follow = true,
                Arg::Short('h') | Arg::Long("help") => {
                    return Ok(Self { config, command: Command::Print(HELP.to_owned()) });
                }
                Arg::Short('V') | Arg::Long("version") => {
                    let text = format!("pkdd {}\n", env!("CARGO_PKG_VERSION"));
                    return Ok(Self { config, command: Command::Print(text) });
                }
                Arg::Value(value) if command.is_none() => command = Some(value.string()?),
                Arg::Value(value) if file.is_none() => file = Some(PathBuf::from(value)),
                _ => return Err(arg.unexpected()),
            }
        }
        let command = command.ok_or("missing command")?;
        if follow && command != "events" {
            return Err("--follow is only for events".into());
        }
        let command = match (command.as_str(), file, json) {
            ("run", None, false) => Command::Run,
            #[cfg(feature = "rules")]
            ("check", None, false) => Command::Check,
            ("status", None, json) => Command::Status { json },
            ("metrics", None, false) => Command::Metrics,
            #[cfg(feature = "events")]
            ("events", None, false) => Command::Events { follow },
            #[cfg(feature = "rules")]
            ("clear", None, false) => Command::Clear,
            #[cfg(feature = "rules")]
            ("guard", None, false) => Command::Guard,
            #[cfg(feature = "rules")]
            ("reload", None, false) => Command::Reload,
            ("reset-floor", None, false) => Command::ResetFloor,
            #[cfg(feature = "replay")]
            ("replay", Some(file), false) => Command::Replay { file },
            #[cfg(feature = "replay")]
            ("replay", None, _) => return Err("replay needs a capture file".into()),
            (
                "run" | "check" | "metrics" | "events" | "clear" | "guard" | "reload" | "reset-floor"
                | "replay",
                _,
                true,
            ) => {
                return Err("--json is only for status".into());
            }
            (
                "run" | "check" | "status" | "metrics" | "events" | "clear" | "guard" | "reload"
                | "reset-floor",
                Some(file),
                _,
            ) => {
                return Err(format!("unexpected argument \"{}\"", file.display()).into());
            }
            (other, ..) => return Err(format!("unknown command \"{other}\"").into()),
        };
        Ok(Self { config, command })
    }
}

fn main() -> ExitCode {
    match Args::parse(Parser::from_env()) {
        Ok(args) => exit_code(execute(args)),
        Err(error) => {
            eprintln!("pkdd: {error}; see pkdd --help");
            ExitCode::from(USAGE_ERROR)
        }
    }
}

fn execute(Args { config, command }: Args) -> Result<()> {
    match command {
        Command::Print(text) => print(&text),
        #[cfg(feature = "rules")]
        Command::Guard => print(&format!("pkdd: {}\n", guard::run(&config)?)),
        #[cfg(feature = "manage")]
        Command::Manage(command) => print(&command.run(&config)?),
        Command::OpenWrt(command) => print(&command.run()?),
        Command::Run => daemon::run(&config),
        #[cfg(feature = "rules")]
        Command::Check => {
            let read = source::read(&config)?;
            let conflicts = Look::begin(&read).lines(&read);
            for warning in read.warnings.iter().chain(&conflicts).chain(&firewall::hindrance(&read)) {
                eprintln!("pkdd: warning: {warning}");
            }
            print(&format!(
                "{}: configuration OK: {}, {}\n",
                config.display(),
                pkdd::status::counted(read.services.len(), "service"),
                pkdd::status::counted(read.users.len(), "user")
            ))
        }
        Command::Status { json } => print(&status(&config, json)?),
        #[cfg(feature = "events")]
        Command::Events { follow: false } => {
            let answer = ask(&config, Query::Events)?;
            print(answer.strip_suffix('\n').unwrap_or(&answer))
        }
        #[cfg(feature = "events")]
        Command::Events { follow: true } => follow(&config),
        Command::Metrics => print(&ask(&config, Query::Metrics)?),
        #[cfg(feature = "replay")]
        Command::Replay { file } => {
            pkdd::replay::replay(source::read(&config)?, &file, &mut io::stdout().lock())
        }
        #[cfg(feature = "rules")]
        Command::Clear => guard::clear(&config),
        #[cfg(feature = "rules")]
        Command::Reload => {
            let answer = ask(&config, Query::Reload)?;
            if answer != control::RELOADED {
                bail!("{answer}; the previous configuration stays in force");
            }
            print(&format!("pkdd: {answer}\n"))
        }
        Command::ResetFloor => print(&format!("pkdd: {}\n", floor::reset(&source::read(&config)?)?)),
    }
}

#[cfg(feature = "rules")]
fn status(config: &Path, json: bool) -> Result<String> {
    let answer = ask(config, if json { Query::Status } else { Query::StatusText })?;
    let unreadable = "cannot read the status: restart pkdd if it was upgraded";
    ensure!(!answer.is_empty(), "{unreadable}");
    // Not the daemon: it may see less, and must not wait for other programs.
    let found = guard::find(config).map(|(config, _)| Look::begin(&config).lines(&config));
    let conflicts = found.unwrap_or_default();
    if json {
        return Ok(pkdd::status::with_conflicts(&answer, conflicts).context(unreadable)? + "\n");
    }
    Ok(conflicts.iter().fold(String::new(), |text, conflict| text + "Conflict: " + conflict + "\n") + &answer)
}

#[cfg(not(feature = "rules"))]
fn status(config: &Path, json: bool) -> Result<String> {
    ask(config, if json { Query::Status } else { Query::StatusText })
}

fn ask(config: &Path, query: Query) -> Result<String> {
    let socket = run_folder::socket(&guard::run_folder_of(config));
    control::ask(&socket, query)
        .with_context(|| format!("no daemon answers at {}: is pkdd running?", socket.display()))
}

#[cfg(feature = "events")]
fn follow(config: &Path) -> Result<()> {
    let socket = run_folder::socket(&guard::run_folder_of(config));
    let mut reader_gone = false;
    let followed = control::follow(&socket, |line| {
        let mut out = io::stdout().lock();
        let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        reader_gone = written.is_err();
        written
    });
    match followed {
        // A reader who has enough, such as head, is no error.
        Err(_) if reader_gone => Ok(()),
        Ok(()) => bail!("pkdd has ended"),
        Err(error) => Err(error).with_context(|| format!("cannot follow the daemon at {}", socket.display())),
    }
}

fn print(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pkdd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

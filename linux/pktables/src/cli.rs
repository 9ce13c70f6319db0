//! The command line, parsed but not validated.

use std::ffi::OsString;

use clap::{
    Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Printed below the options by `--help`.
const AFTER_HELP: &str = "\
ADDRESS is an IPv4 or IPv6 address or a prefix such as 192.0.2.0/24.

Exit codes: 0 success, 1 the operation failed and nothing was changed, 2 invalid argument, and nothing was
done.";

/// Control which address may reach which service of this host
#[derive(Debug, Parser)]
#[command(name = "pktables", version, after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// iptables, nft, or auto: the one that has services, else nft if it is installed
    #[arg(long, global = true, default_value = "auto", value_name = "NAME")]
    pub(crate) backend: String,

    /// Print whether anything changed
    #[arg(short, long, global = true, visible_alias = "debug")]
    pub(crate) verbose: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Guard a service: only granted addresses reach it. An existing service gets the new options
    Init(Init),
    /// Stop guarding a service
    Remove {
        /// Service name
        service: String,
    },
    /// Grant an address access
    Add {
        /// Address or prefix
        address: String,
        /// Service name
        #[arg(short, long)]
        service: String,
        /// How long: 30s, 5m, 2h, 1d [default: no end]. Never shortens an existing grant
        #[arg(short, long, value_name = "TIME")]
        timeout: Option<String>,
    },
    /// Revoke the grant of an address
    Delete {
        /// Address or prefix
        address: String,
        /// Service name
        #[arg(short, long)]
        service: String,
    },
    /// List services and grants
    List {
        /// Only this service
        service: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke all grants of a service
    Flush {
        /// Service name
        service: String,
    },
    /// Remove expired grants (only needed with iptables)
    #[command(alias = "sweep")]
    Expire,
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line switch")]
pub(crate) struct Init {
    /// Name: up to 25 letters, digits, - _ and .
    pub(crate) service: String,
    /// Ports to guard: 22, 5060-5070 or 80,443,8000-8100
    #[arg(short, long)]
    pub(crate) port: String,
    /// UDP instead of TCP
    #[arg(short, long)]
    pub(crate) udp: bool,
    /// Guard only new connections
    #[arg(long, conflicts_with = "udp")]
    pub(crate) syn: bool,
    /// Accept all other addresses, too
    #[arg(long)]
    pub(crate) accept: bool,
    /// Log packets from all other addresses
    #[arg(long)]
    pub(crate) log: bool,
    /// Start of each log line, up to 29 characters
    #[arg(long, value_name = "TEXT")]
    pub(crate) log_prefix: Option<String>,
    /// emerg, alert, crit, error, warning, notice, info or debug [default: warning]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Rate limit, such as 3/minute [default: none]
    #[arg(long, value_name = "RATE")]
    pub(crate) log_limit: Option<String>,
    /// Lines at once before the limit applies [default: 5]
    #[arg(long, value_name = "N", requires = "log_limit")]
    pub(crate) log_burst: Option<String>,
    /// Forward granted packets to a service on another host; once for IPv4 and once for IPv6. Several ports keep their
    /// numbers, without :PORT
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) forward: Vec<String>,
    /// Do not check packets from this address or prefix, or packets that arrive on this interface; may be repeated
    #[arg(long, value_name = "WHAT")]
    pub(crate) exempt: Vec<String>,
    /// Check only packets that arrive on this interface; may be repeated [default: all]
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Vec<String>,
    /// iptables: check before NAT (in mangle), so that ports that DNAT publishes are guarded. nftables always does
    #[arg(long)]
    pub(crate) before_nat: bool,
}

impl Init {
    /// An option about log lines, if there are to be none. The original took these without `--log`.
    pub(crate) fn idle_option(&self) -> Option<&'static str> {
        [
            ("--log-prefix", &self.log_prefix),
            ("--log-level", &self.log_level),
            ("--log-limit", &self.log_limit),
        ]
        .into_iter()
        .find_map(|(name, value)| (!self.log && value.is_some()).then_some(name))
    }
}

/// Why there are no [`Args`].
pub(crate) enum CliExit {
    /// The text that `--help` or `--version` asks for.
    Help(String),
    /// What is wrong, in one line.
    Usage(String),
}

impl Args {
    /// Reads the command line, program name first.
    pub(crate) fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, CliExit> {
        Self::try_parse_from(line).map_err(|error| {
            let text = error.render().to_string();
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
                return CliExit::Help(text);
            }
            if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                return CliExit::Usage("missing command; see pktables --help".to_owned());
            }
            if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(name))) =
                (error.kind(), error.get(ContextKind::InvalidSubcommand))
            {
                return CliExit::Usage(format!("unknown command {name:?}; see pktables --help"));
            }
            // clap's first paragraph says what is wrong; tips and usage follow it.
            let paragraph = text.split("\n\n").next().unwrap_or(&text);
            let words: Vec<_> = paragraph.split_whitespace().collect();
            let sentence = words.join(" ");
            CliExit::Usage(format!(
                "{}; see pktables --help",
                sentence.strip_prefix("error: ").unwrap_or(&sentence)
            ))
        })
    }
}

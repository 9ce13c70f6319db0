//! The command line as people and knockd type it; nothing in it has been checked yet.

use std::ffi::OsString;

use clap::{Parser, Subcommand, error::ErrorKind};

/// What stands below the options in `--help`.
const AFTER_HELP: &str = "\
ADDRESS is an IPv4 or IPv6 address or a prefix such as 192.0.2.0/24.

Exit codes: 0 it is so now, 1 it could not be done and nothing was changed, 2 nothing was done because
an argument is wrong.";

/// Says which address may pass which service of this host
#[derive(Debug, Parser)]
#[command(name = "pktables", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub(crate) struct Args {
    /// iptables, nft, or auto: what has services already, else nft where it is installed
    #[arg(long, global = true, default_value = "auto", value_name = "NAME")]
    pub(crate) backend: String,

    /// Say what was done
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Guard a service: nobody passes without a grant. What is there with other options gets these
    Init(Init),
    /// Guard a service no longer
    Remove {
        /// Its name
        service: String,
    },
    /// Let an address pass
    Add {
        /// Who may
        address: String,
        /// Which service
        #[arg(short, long)]
        service: String,
        /// For how long: 30s, 5m, 2h, 1d [default: without end]. A longer grant that is there stays
        #[arg(short, long, value_name = "TIME")]
        timeout: Option<String>,
    },
    /// Let an address pass no longer
    Delete {
        /// Who may not
        address: String,
        /// Which service
        #[arg(short, long)]
        service: String,
    },
    /// Show services and who may pass them
    List {
        /// Only this one
        service: Option<String>,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Let nobody pass a service
    Flush {
        /// Its name
        service: String,
    },
    /// End what is over. Only iptables needs it
    #[command(alias = "sweep")]
    Expire,
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that people type")]
pub(crate) struct Init {
    /// A name: up to 25 letters, digits, - _ and .
    pub(crate) service: String,
    /// The port that is guarded
    #[arg(short, long)]
    pub(crate) port: String,
    /// It is a UDP port
    #[arg(short, long)]
    pub(crate) udp: bool,
    /// Guard only the beginning of connections
    #[arg(long, conflicts_with = "udp")]
    pub(crate) syn: bool,
    /// Let everybody else pass, too
    #[arg(long)]
    pub(crate) accept: bool,
    /// Log everybody else
    #[arg(long)]
    pub(crate) log: bool,
    /// Begin each line with TEXT, up to 29 characters
    #[arg(long, value_name = "TEXT", requires = "log")]
    pub(crate) log_prefix: Option<String>,
    /// emerg, alert, crit, error, warning, notice, info or debug [default: warning]
    #[arg(long, value_name = "LEVEL", requires = "log")]
    pub(crate) log_level: Option<String>,
    /// So many lines, such as 3/minute [default: one for each packet]
    #[arg(long, value_name = "RATE", requires = "log")]
    pub(crate) log_limit: Option<String>,
    /// So many lines at once before the limit [default: 5]
    #[arg(long, value_name = "N", requires = "log_limit")]
    pub(crate) log_burst: Option<String>,
    /// The service is on another host: send granted packets there. Once for each of IPv4 and IPv6
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) forward: Vec<String>,
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
                return CliExit::Usage("what shall be done? see pktables --help".to_owned());
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

//! The command line as people type it; nothing in it has been checked yet.

use std::{ffi::OsString, path::PathBuf};

use clap::{Parser, error::ErrorKind};

/// What stands below the options in `--help`.
const WORDS: &str = "\
HOST is an IPv4 or IPv6 address, a name, or a section of the ini file. Several hosts may be given.

Two shapes of the original knock are understood as well, when none of --tag, --port, --key and
--key-file is given:
  HOST TAG PORT  three words, the last a number, the second neither a section, an address nor dotted
  HOST TAG       two words, the first no section, the second neither a section, an address, dotted
                 nor a number, and of at most 4 bytes or beginning with 0x
Everything else is a list of hosts. A bare number is never a host.

knock seq sends a sequence of ports, for hosts with knockd; knock seq --help tells of it.

Without a key from --key-file, --key or the ini file, the terminal asks for one.

Exit codes: 0 all knocks were sent, 1 at least one could not be sent, 2 nothing was sent because
an argument, a key or a file is wrong.";

/// Knocks: sends each host one datagram that opens the door for this computer.
#[derive(Debug, Parser)]
#[command(
    name = "knock",
    version,
    after_help = WORDS,
    override_usage = "knock [OPTIONS] HOST...\n       knock [OPTIONS] HOST TAG [PORT]\n       knock seq HOST PORT..."
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that people type")]
pub(crate) struct Args {
    /// Hosts to knock at
    #[arg(value_name = "HOST", required = true)]
    pub(crate) words: Vec<String>,

    /// Read the key from FILE, one line, text or 0x and hexadecimal; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// The key itself; every user of this computer can see it while knock runs
    #[arg(long, value_name = "KEY", conflicts_with = "key_file", allow_hyphen_values = true)]
    pub(crate) key: Option<String>,

    /// Which key the host shall check with, up to 4 bytes, text or 0x and hexadecimal [default: PKD0]
    #[arg(short, long)]
    pub(crate) tag: Option<String>,

    /// Destination port [default: random, 1024 to 50000]
    #[arg(short, long)]
    pub(crate) port: Option<String>,

    /// Make the knock of versions before 1.0 of the original
    #[arg(short = 'o', long = "pre-1.0")]
    pub(crate) before_1_0: bool,

    /// Send from the port that is knocked at, as the original did
    #[arg(long)]
    pub(crate) same_source_port: bool,

    /// The ini file
    #[arg(
        short,
        long,
        value_name = "FILE",
        help = "Read the sections from FILE [default: ~/.ipt_pkd.ini, where it exists]"
    )]
    pub(crate) config: Option<PathBuf>,

    /// Use IPv4 only
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6')]
    pub(crate) ipv6: bool,

    /// Send nothing; print host, port and payload in hexadecimal, one line a host
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// Print where each knock went
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Print no warnings
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Why there are no [`Args`].
pub(crate) enum Instead {
    /// The text that `--help` or `--version` asks for.
    Answer(String),
    /// What is wrong, in one line.
    Mistake(String),
}

impl Args {
    /// Reads the command line, program name first.
    pub(crate) fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, Instead> {
        Self::try_parse_from(line).map_err(|error| instead(&error, "knock"))
    }
}

/// What clap says, in one line where it is about a mistake in the arguments of `command`.
pub(crate) fn instead(error: &clap::Error, command: &str) -> Instead {
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Instead::Answer(text);
    }
    // clap's first paragraph says what is wrong; tips and usage follow it.
    let paragraph = text.split("\n\n").next().unwrap_or(&text);
    let words: Vec<_> = paragraph.split_whitespace().collect();
    let sentence = words.join(" ");
    let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
    Instead::Mistake(format!("{sentence}; see {command} --help"))
}

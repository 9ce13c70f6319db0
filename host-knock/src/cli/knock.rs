//! `knock HOST...`, and the verbs that may stand in the place of a host.

use clap::{Parser, Subcommand};

#[cfg(feature = "desktop")]
use super::connect::{Proxy, Ssh, Wait};
#[cfg(feature = "desktop")]
use super::manage::{Doctor, Import, Keygen, List, Share, Show, Verify};
use super::{options::SendOptions, sequence::Sequence};

/// What stands below the options in `--help`.
const AFTER_HELP: &str = "\
HOST is a profile, an IPv4 or IPv6 address, a name, or a section of the ini file. Several hosts may be
given; @GROUP stands for those of a group. For a host that is called like a command write
knock -- HOST.

Two shapes of the original knock are understood as well, when none of --tag, --port, --key and
--key-file is given:
  HOST TAG PORT  three words, the last a number, the second neither a section, an address nor dotted
  HOST TAG       two words, the first no section, the second neither a section, an address, dotted
                 nor a number, and of at most 4 bytes or beginning with 0x
Everything else is a list of hosts. A bare number is never a host.

Without a key from --key-file, --key, a profile or the ini file, the terminal asks for one.

Exit codes: 0 all knocks were sent, 1 at least one could not be sent, 2 nothing was sent because
an argument, a key or a file is wrong.";

/// Knocks: sends each host one datagram that opens the door for this computer.
#[derive(Debug, Parser)]
#[command(
    name = "knock",
    version,
    after_help = AFTER_HELP,
    override_usage = "knock [OPTIONS] HOST...\n       knock [OPTIONS] HOST TAG [PORT]\n       knock COMMAND ...",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    subcommand_value_name = "COMMAND"
)]
pub(crate) struct Args {
    /// Hosts to knock at
    #[arg(value_name = "HOST", required = true)]
    pub(crate) words: Vec<String>,

    #[command(flatten)]
    pub(crate) send_options: SendOptions,

    /// Send nothing; print host, port and payload in hexadecimal, one line a host
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// When all is sent, wait for the TCP services of the profiles, and become the shell's CMD
    #[cfg(feature = "desktop")]
    #[arg(long, value_name = "CMD")]
    pub(crate) then: Option<String>,

    /// Seconds that --then waits for a port, 1 to 86400
    #[cfg(feature = "desktop")]
    #[arg(long, value_name = "SECONDS", default_value = "15")]
    pub(crate) timeout: String,

    /// How many hosts are knocked at at the same time, 1 to 256
    #[arg(long, value_name = "NUMBER", default_value = "32")]
    pub(crate) parallel: String,

    /// Print a JSON array, one object a host, and no other messages about hosts
    #[cfg(feature = "desktop")]
    #[arg(long)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What may stand in the place of a host.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[cfg(feature = "desktop")]
    Ssh(Ssh),
    #[cfg(feature = "desktop")]
    Proxy(Proxy),
    #[cfg(feature = "desktop")]
    Wait(Wait),
    Seq(Sequence),
    #[cfg(feature = "desktop")]
    List(List),
    #[cfg(feature = "desktop")]
    Show(Show),
    #[cfg(feature = "desktop")]
    Import(Import),
    #[cfg(feature = "desktop")]
    Keygen(Keygen),
    #[cfg(feature = "desktop")]
    Share(Share),
    #[cfg(feature = "desktop")]
    Doctor(Doctor),
    #[cfg(feature = "desktop")]
    Verify(Verify),
}

//! `knock HOST...`, and the commands that can take the place of a host.

use clap::{Parser, Subcommand};

#[cfg(feature = "desktop")]
use super::connect::{Pair, Proxy, Ssh, Wait};
#[cfg(feature = "desktop")]
use super::manage::{Doctor, Import, Keygen, List, Share, Show, Verify};
use super::{close::Close, options::SendOptions, sequence::Sequence};

/// Printed below the options by `--help`.
const AFTER_HELP: &str = "\
HOST is a profile, an IPv4 or IPv6 address, a host name, or a section of the ini file. You can give several
hosts; @GROUP means the hosts of a group. For a host that has the name of a command, write knock -- HOST.

Without --tag, --port, --key and --key-file, two forms of the original knock command also work:
  HOST TAG PORT  three words; the last is a number; the second is not a section or an address, and
                 contains no dot
  HOST TAG       two words; the first is not a section; the second is not a section, an address or a
                 number, contains no dot, and has at most 4 bytes or starts with 0x
Anything else is a list of hosts. A plain number is never a host.

Without a key from --key-file, --key, a profile or the ini file, knock prompts for one.

Exit codes: 0 all knocks were sent, 1 at least one could not be sent, 2 nothing was sent because of an
invalid argument, key or file.";

/// Send each host one datagram that opens a port for this computer
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
#[allow(clippy::struct_excessive_bools, reason = "most are command-line switches")]
pub(crate) struct Args {
    /// Hosts to knock at
    #[arg(value_name = "HOST", required = true, value_hint = clap::ValueHint::Hostname)]
    pub(crate) words: Vec<String>,

    #[command(flatten)]
    pub(crate) send_options: SendOptions,

    /// Send nothing; print host, port and payload in hexadecimal, one line for each host. A payload that may be bound to
    /// addresses has a line for each address of the host, with the address in place of the host
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// After all knocks, wait for the TCP services of the profiles, then run CMD in the shell
    #[cfg(feature = "desktop")]
    #[arg(long, value_name = "CMD")]
    pub(crate) then: Option<String>,

    /// How long --then waits for a port, 1 to 86400
    #[cfg(feature = "desktop")]
    #[arg(long, value_name = "SECONDS", default_value = "15")]
    pub(crate) timeout: String,

    /// Close the ports again after CMD (format 2); open connections stay
    #[cfg(feature = "desktop")]
    #[arg(long, requires = "then")]
    pub(crate) close_after: bool,

    /// Knock at up to NUMBER hosts at the same time, 1 to 256
    #[arg(long, value_name = "NUMBER", default_value = "32")]
    pub(crate) parallel: String,

    /// Print a JSON array with an object for each host, and no other messages about hosts
    #[cfg(feature = "desktop")]
    #[arg(long)]
    pub(crate) json: bool,

    /// Whether a `--` says that all words are hosts.
    #[arg(skip)]
    pub(crate) is_only_hosts: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[cfg(feature = "desktop")]
    Pair(Pair),
    #[cfg(feature = "desktop")]
    Ssh(Ssh),
    #[cfg(feature = "desktop")]
    Proxy(Proxy),
    #[cfg(feature = "desktop")]
    Wait(Wait),
    Close(Close),
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

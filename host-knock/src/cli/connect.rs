//! Commands that knock and then wait for a port.

use std::ffi::OsString;

use clap::Args as ClapArgs;

use super::options::{CloseOptions, SendOptions, WaitOptions};

/// Have a gateway make a key for this computer, over ssh
///
/// The gateway adds a user (pkdd user add, or pkd user add on OpenWrt), and what it answers becomes the profile NAME here.
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "knock pair [OPTIONS] [USER@]GATEWAY [NAME] [-- SSH ARGUMENT...]",
    after_help = "Exit codes: 0 paired, 2 invalid argument, or the gateway refused; nothing has changed here then."
)]
pub(crate) struct Pair {
    /// Where ssh logs in, as a user who may change the gateway: root, or one with --sudo
    pub(crate) gateway: String,

    /// Name of the profile [default: the host]
    pub(crate) name: Option<String>,

    /// Name of the user on the gateway [default: your name and this computer's]
    #[arg(long)]
    pub(crate) user: Option<String>,

    /// Services that the user may open [default: all]
    #[arg(long = "service", value_name = "SERVICE")]
    pub(crate) services: Vec<String>,

    /// Last day on which the gateway accepts knocks, such as 2027-12-31 [default: no end]
    #[arg(long, value_name = "DATE")]
    pub(crate) expires: Option<String>,

    /// Where to knock, if not where ssh connects to; can be given several times, for each address of the gateway
    #[arg(long = "address", value_name = "HOST")]
    pub(crate) addresses: Vec<String>,

    /// Run the gateway's command with sudo
    #[arg(long)]
    pub(crate) sudo: bool,

    /// Read and write the profiles in FILE
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<std::path::PathBuf>,

    /// Arguments for ssh
    #[arg(value_name = "SSH ARGUMENT", last = true)]
    pub(crate) ssh_arguments: Vec<String>,
}

/// Knock, wait for the SSH port, then run ssh
///
/// Options before HOST belong to knock, options after it to ssh. HOST is a profile or anything that ssh accepts;
/// `ssh -G` supplies address and port.
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "knock ssh [OPTIONS] [USER@]HOST [SSH ARGUMENT]...",
    after_help = "Exit codes: 1 the port did not open, 2 invalid argument, key or file; otherwise that of ssh."
)]
pub(crate) struct Ssh {
    #[command(flatten)]
    pub(crate) send_options: SendOptions,

    #[command(flatten)]
    pub(crate) timing: WaitOptions,

    #[command(flatten)]
    pub(crate) closing: CloseOptions,

    /// Destination, then arguments for ssh
    #[arg(value_name = "HOST", required = true, trailing_var_arg = true, value_hint = clap::ValueHint::Username)]
    pub(crate) words: Vec<OsString>,
}

/// Knock, wait for the port, then relay standard input and output
///
/// For ssh: `ProxyCommand knock proxy %h %p`
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit codes: 0 the connection ended, 1 it failed or was lost, 2 invalid argument, key or file."
)]
pub(crate) struct Proxy {
    #[command(flatten)]
    pub(crate) send_options: SendOptions,

    #[command(flatten)]
    pub(crate) timing: WaitOptions,

    #[command(flatten)]
    pub(crate) closing: CloseOptions,

    /// A profile, its address, or any host
    #[arg(value_hint = clap::ValueHint::Username)]
    pub(crate) host: String,

    /// TCP port to connect to, or a service of the profile
    #[arg(value_name = "PORT")]
    pub(crate) service: String,
}

/// Knock, and wait for the port; knocks again until it opens
#[derive(Debug, ClapArgs)]
#[command(after_help = "Exit codes: 0 the port is open, 1 it is not, 2 invalid argument, key or file.")]
pub(crate) struct Wait {
    #[command(flatten)]
    pub(crate) send_options: SendOptions,

    #[command(flatten)]
    pub(crate) timing: WaitOptions,

    /// Print a JSON object, also for a port that does not open
    #[arg(long)]
    pub(crate) json: bool,

    /// A profile, its address, or any host
    #[arg(value_hint = clap::ValueHint::Username)]
    pub(crate) host: String,

    /// TCP port, or a service of the profile [default: all TCP services of the profile]
    #[arg(value_name = "PORT")]
    pub(crate) service: Option<String>,
}

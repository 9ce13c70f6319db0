//! Commands that knock and then wait for a port.

use std::ffi::OsString;

use clap::Args as ClapArgs;

use super::options::{CloseOptions, SendOptions, WaitOptions};

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
    #[arg(value_name = "HOST", required = true, trailing_var_arg = true)]
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

    /// A profile, its address, or any host
    pub(crate) host: String,

    /// TCP port, or a service of the profile [default: all TCP services of the profile]
    #[arg(value_name = "PORT")]
    pub(crate) service: Option<String>,
}

//! Ways to get in: the verbs that wait for a port.

use std::ffi::OsString;

use clap::Args as ClapArgs;

use super::options::{SendOptions, WaitOptions};

/// Knocks, waits until the port for SSH answers, and becomes ssh
///
/// Options before HOST are knock's, all behind it are ssh's. HOST is a profile, or what ssh takes for a
/// host; `ssh -G` tells which address and port are meant.
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "knock ssh [OPTIONS] [USER@]HOST [SSH ARGUMENT]...",
    after_help = "Exit codes: 1 the port did not open, 2 an argument, a key or a file is wrong; else ssh's own."
)]
pub(crate) struct Ssh {
    #[command(flatten)]
    pub(crate) send_options: SendOptions,

    #[command(flatten)]
    pub(crate) wait_options: WaitOptions,

    /// Where to, and what else ssh is given
    #[arg(value_name = "HOST", required = true, trailing_var_arg = true)]
    pub(crate) words: Vec<OsString>,
}

/// Knocks, waits until the port answers, and relays bytes between it and standard input and output
///
/// For ssh: `ProxyCommand knock proxy %h %p`
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit codes: 0 the connection has ended, 1 it did not come about or broke, 2 an argument, \
                        a key or a file is wrong."
)]
pub(crate) struct Proxy {
    #[command(flatten)]
    pub(crate) send_options: SendOptions,

    #[command(flatten)]
    pub(crate) wait_options: WaitOptions,

    /// A profile, the address of one, or any host
    pub(crate) host: String,

    /// TCP port to connect to, or a service of the profile
    #[arg(value_name = "PORT")]
    pub(crate) service: String,
}

/// Knocks, and waits until the port answers; knocks again from time to time
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit codes: 0 the port is open, 1 it is not, 2 an argument, a key or a file is wrong."
)]
pub(crate) struct Wait {
    #[command(flatten)]
    pub(crate) send_options: SendOptions,

    #[command(flatten)]
    pub(crate) wait_options: WaitOptions,

    /// A profile, the address of one, or any host
    pub(crate) host: String,

    /// TCP port, or a service of the profile [default: each TCP service of the profile]
    #[arg(value_name = "PORT")]
    pub(crate) service: Option<String>,
}

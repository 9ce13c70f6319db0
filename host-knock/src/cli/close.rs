//! `knock close`.

use clap::Args as ClapArgs;

use super::options::SendOptions;

/// Close what this computer's knocks have opened
///
/// Each host gets a knock of format 2 that ends the grants which the same key has opened for this computer's address. Open
/// connections stay. As with every knock there is no answer.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Exit codes: 0 everything was sent, 1 a knock could not be sent, 2 nothing was sent.")]
pub(crate) struct Close {
    #[command(flatten)]
    pub(crate) send_options: SendOptions,

    /// Send nothing; print host, port and payload in hexadecimal
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// Profiles, addresses, host names, or @GROUP
    #[arg(value_name = "HOST", required = true, value_hint = clap::ValueHint::Hostname)]
    pub(crate) words: Vec<String>,
}

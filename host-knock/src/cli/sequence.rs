//! `knock seq`.

use clap::Args as ClapArgs;

/// Sends a packet to each port in turn, as knockd waits for it
///
/// Whoever sees such a sequence can repeat it; a gateway with pkd wants `knock HOST`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Exit codes: 0 all was sent, 1 something could not be sent, 2 nothing was sent.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that people type")]
pub(crate) struct Sequence {
    /// Where
    pub(crate) host: String,

    /// A port, or PORT:tcp or PORT:udp
    #[arg(value_name = "PORT[:PROTOCOL]", required = true)]
    pub(crate) ports: Vec<String>,

    /// Ports without a protocol are of UDP, not of TCP
    #[arg(short, long)]
    pub(crate) udp: bool,

    /// Milliseconds from one packet to the next, so that none overtakes another
    #[arg(short, long, value_name = "MS", default_value = "20")]
    pub(crate) delay: u16,

    /// Use IPv4 only
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6')]
    pub(crate) ipv6: bool,

    /// Print where each packet went
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

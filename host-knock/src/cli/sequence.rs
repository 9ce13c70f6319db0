//! `knock seq`.

use clap::Args as ClapArgs;

/// Send a knockd port sequence
///
/// Anyone who sees the sequence can repeat it. For a gateway with pkd use `knock HOST`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit codes: 0 all packets were sent, 1 a packet could not be sent, 2 nothing was sent."
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line switch")]
pub(crate) struct Sequence {
    /// Host name or address
    pub(crate) host: String,

    /// A port, PORT:tcp or PORT:udp
    #[arg(value_name = "PORT[:PROTOCOL]", required = true)]
    pub(crate) ports: Vec<String>,

    /// Ports without a protocol are UDP [default: TCP]
    #[arg(short, long)]
    pub(crate) udp: bool,

    /// Milliseconds between packets, so that they arrive in order
    #[arg(short, long, value_name = "MS", default_value = "20")]
    pub(crate) delay: u16,

    /// Send from ADDRESS, which is one of this computer's
    #[cfg(feature = "desktop")]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) source: Option<String>,

    /// Send through the interface NAME (Linux)
    #[cfg(feature = "desktop")]
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Option<String>,

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

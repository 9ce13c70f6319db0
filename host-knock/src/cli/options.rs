//! Options that several commands share.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// How to knock: the options that all ways in have in common.
#[derive(Debug, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that people type")]
pub(crate) struct SendOptions {
    /// Read the key from FILE, one line, text or 0x and hexadecimal; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// The key itself; every user of this computer can see it while knock runs
    #[arg(long, value_name = "KEY", conflicts_with = "key_file", allow_hyphen_values = true)]
    pub(crate) key: Option<String>,

    /// Which key the host shall check with, up to 4 bytes, text or 0x and hexadecimal [default: PKD0]
    #[arg(short, long)]
    pub(crate) tag: Option<String>,

    /// Destination port of the knock [default: random, 1024 to 50000]
    #[arg(short, long)]
    pub(crate) port: Option<String>,

    /// Make the knock of versions before 1.0 of the original
    #[arg(short = 'o', long = "pre-1.0")]
    pub(crate) before_1_0: bool,

    /// Send from the port that is knocked at, as the original did
    #[arg(long)]
    pub(crate) same_source_port: bool,

    /// Add SECONDS to this computer's time, for a host whose clock is wrong; may be negative
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub(crate) time_offset: Option<String>,

    /// The file of profiles or sections
    #[arg(
        short,
        long,
        value_name = "FILE",
        help = "Read profiles (FILE.toml) or sections of an ini file from FILE, and from no other file"
    )]
    pub(crate) config: Option<PathBuf>,

    /// Use IPv4 only
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6')]
    pub(crate) ipv6: bool,

    /// Use a key file that others can read, with a warning
    #[arg(long)]
    pub(crate) insecure_key_mode: bool,

    /// Print where each knock went
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Print no warnings
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[cfg(feature = "desktop")]
/// How long to wait.
#[derive(Debug, ClapArgs)]
pub(crate) struct WaitOptions {
    /// Seconds until it is given up, 1 to 86400
    #[arg(long, value_name = "SECONDS", default_value = "15")]
    pub(crate) timeout: String,
}

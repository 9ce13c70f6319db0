//! Options that several commands share.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// How to knock: options that all knocking commands share.
#[derive(Debug, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line switch")]
pub(crate) struct SendOptions {
    /// Read the key from FILE: one line, text or 0x and hexadecimal digits; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// The key itself; all users of this computer can see it while knock runs
    #[arg(long, value_name = "KEY", conflicts_with = "key_file", allow_hyphen_values = true)]
    pub(crate) key: Option<String>,

    /// Which of the host's keys to use, up to 4 bytes, text or 0x and hexadecimal digits [default: PKD0]
    #[arg(short, long)]
    pub(crate) tag: Option<String>,

    /// Destination port [default: random, 1024 to 50000]
    #[arg(short, long)]
    pub(crate) port: Option<String>,

    /// The gateway's format: 2, classic, or pre-1.0 [default: that of the profile, else classic]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,

    /// The same as --format pre-1.0: the payload of `ipt_pkd` before 1.0
    #[arg(short = 'o', long = "pre-1.0", conflicts_with = "format")]
    pub(crate) before_1_0: bool,

    /// What a knock of format 2 is bound to: auto, none, source, destination, or source,destination. Auto binds the source
    /// if this computer's address is globally routable [default: that of the profile, else auto]
    #[arg(long, value_name = "ADDRESSES")]
    pub(crate) bind: Option<String>,

    /// Use the destination port as source port, as `ipt_pkd` did
    #[arg(long)]
    pub(crate) same_source_port: bool,

    /// Send from ADDRESS, which is one of this computer's; connections to the port come from there too
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) source: Option<String>,

    /// Send through the interface NAME (Linux); connections to the port go through it too
    #[cfg(feature = "desktop")]
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Option<String>,

    /// Add SECONDS to this computer's time, for a host whose clock is wrong; may be negative
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub(crate) time_offset: Option<String>,

    /// The file with profiles or sections
    #[arg(
        short,
        long,
        value_name = "FILE",
        help = "Read profiles (FILE.toml) or ini sections from FILE, and no other file"
    )]
    pub(crate) config: Option<PathBuf>,

    /// Use IPv4 only
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6')]
    pub(crate) ipv6: bool,

    /// Accept a key file that other users can read, with a warning
    #[arg(long)]
    pub(crate) insecure_key_mode: bool,

    /// Print where each knock was sent
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Suppress warnings
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[cfg(feature = "desktop")]
/// How long to wait.
#[derive(Debug, ClapArgs)]
pub(crate) struct WaitOptions {
    /// Give up after SECONDS, 1 to 86400
    #[arg(long, value_name = "SECONDS", default_value = "15")]
    pub(crate) timeout: String,
}

#[cfg(feature = "desktop")]
/// What to do after the connection.
#[derive(Debug, ClapArgs)]
pub(crate) struct CloseOptions {
    /// Close the port again afterwards (format 2); open connections stay
    #[arg(long)]
    pub(crate) close_after: bool,
}

//! Commands that manage profiles and keys, and that diagnose.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::options::{SendOptions, WaitOptions};

/// List the profiles
#[derive(Debug, ClapArgs)]
pub(crate) struct List {
    /// Print only what can stand for a host: profiles, sections of the ini file, and groups as @NAME
    #[arg(long, conflicts_with = "json")]
    pub(crate) names: bool,

    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,

    /// Read the profiles from FILE
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Show a profile, without its key
#[derive(Debug, ClapArgs)]
pub(crate) struct Show {
    /// The profile
    #[arg(value_hint = clap::ValueHint::Username)]
    pub(crate) name: String,

    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Read the profiles from FILE
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Import profiles from another program or from knock share
///
/// SOURCE is an ini file of `ipt_pkd`, a .fwknoprc, a knock:// URI, or - to read one of them from standard input. A URI
/// contains the key: as an argument, all users of this computer can see it.
#[derive(Debug, ClapArgs)]
pub(crate) struct Import {
    /// File, URI, or -
    pub(crate) source: String,

    /// Name for the profile, if SOURCE has only one
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// Write the profiles to FILE, and keys to a directory next to it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Suppress warnings
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Create a key, and print what the gateway needs
///
/// With NAME, the profile NAME uses the key, and is created if it does not exist. Without NAME, the key is written to
/// pkd.key.
#[derive(Debug, ClapArgs)]
pub(crate) struct Keygen {
    /// The profile
    #[arg(value_hint = clap::ValueHint::Username)]
    pub(crate) name: Option<String>,

    /// Host of a new profile; can be given several times, for each address of the gateway [default: NAME]
    #[arg(long = "address", value_name = "HOST", requires = "name")]
    pub(crate) addresses: Vec<String>,

    /// The tag [default: the tag of the profile, or PKD0]
    #[arg(short, long)]
    pub(crate) tag: Option<String>,

    /// Print what this kind of gateway needs: openwrt, pkdd, iptables or firmware [default: all]
    #[arg(long = "for", value_name = "KIND")]
    pub(crate) kind: Option<String>,

    /// A service that a knock opens; can be given several times [default: those of the profile, or ssh=22]
    #[arg(long = "service", value_name = "NAME=PORT")]
    pub(crate) services: Vec<String>,

    /// UDP port to knock at [default: that of the profile, or any; for the firmware 40000]
    #[arg(short, long)]
    pub(crate) port: Option<String>,

    /// The format of a new profile and of what is printed: 2 or classic [default: that of the profile, else 2]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,

    /// Derive the key from a passphrase (Argon2id); knock prompts for it now and at each knock
    #[arg(long, requires = "name", conflicts_with = "keyring")]
    pub(crate) passphrase: bool,

    /// Store the key in the system's keyring
    #[arg(long, requires = "name")]
    pub(crate) keyring: bool,

    /// Write the key to FILE [default: keys/NAME.key next to the profiles; with --passphrase or --keyring NAME.key in
    /// the current directory, for the gateway only]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Read and write the profiles in FILE
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Show a profile and its key as a QR code
///
/// Anyone who sees the code can knock. It contains a knock:// URI, which `knock import` reads.
#[derive(Debug, ClapArgs)]
pub(crate) struct Share {
    /// The profile
    #[arg(value_hint = clap::ValueHint::Username)]
    pub(crate) name: String,

    /// Write a PNG image that only you can read, instead of printing the code
    #[arg(long, value_name = "FILE")]
    pub(crate) png: Option<PathBuf>,

    /// Print the URI instead of the code
    #[arg(long, conflicts_with = "png")]
    pub(crate) uri: bool,

    /// Read the profiles from FILE
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Accept a key file that other users can read, with a warning
    #[arg(long)]
    pub(crate) insecure_key_mode: bool,
}

/// Diagnose why a knock does not open a port
///
/// Checks the name, the key, this computer's clock, the port before the knock, the knock, and the port after it. Then
/// prints the most likely cause.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Exit codes: 0 the port is open, 1 it is not, 2 invalid argument or file.")]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) send_options: SendOptions,

    #[command(flatten)]
    pub(crate) timing: WaitOptions,

    /// A profile, its address, or any host
    #[arg(value_hint = clap::ValueHint::Username)]
    pub(crate) host: String,

    /// TCP port, or a service of the profile [default: its first TCP service]
    #[arg(value_name = "PORT")]
    pub(crate) service: Option<String>,

    /// Get the time from HOST, by SNTP (port 123, or PORT), then HTTP (port 80); - skips this check
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) time_server: Option<String>,

    /// Print a JSON object in the end
    #[arg(long)]
    pub(crate) json: bool,
}

/// Explain a captured knock: its fields, and the verdict of a gateway
///
/// The knock is hexadecimal digits, a line of `knock -n`, a file with such lines, or a capture (pcap or pcapng). With
/// --profile the gateway is that of a profile, with its key, tag, format, window and time offset.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit codes: 0 a gateway would accept all knocks, 1 it would not, or there are none, 2 invalid argument, \
                        key or file; what comes before the damage in a capture is explained."
)]
pub(crate) struct Verify {
    /// Read the key from FILE: one line, text or 0x and hexadecimal digits; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// A gateway as this profile knows it; other options override it
    #[arg(long, value_name = "NAME", value_hint = clap::ValueHint::Username)]
    pub(crate) profile: Option<String>,

    /// The gateway's tag [default: that of the profile, or PKD0]
    #[arg(short, long)]
    pub(crate) tag: Option<String>,

    /// The gateway's format: 2 or classic [default: that of the profile, else the format that the key finds in the
    /// knock]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,

    /// The address that the gateway sees as the sender's [default: the capture's]
    #[arg(long = "source", value_name = "ADDRESS")]
    pub(crate) sender: Option<String>,

    /// The address that the gateway sees as its own [default: the capture's]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) destination: Option<String>,

    /// Destination port of the knock [default: the capture's; for hexadecimal digits, all ports are tried]
    #[arg(short, long)]
    pub(crate) port: Option<String>,

    /// The gateway's time in Unix seconds [default: now; for a capture, its timestamps]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) at: Option<String>,

    /// The gateway's window in seconds; 0 is a gateway without a clock [default: that of the profile, or 10]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) window: Option<String>,

    /// Read the profiles from FILE
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Accept a key file that other users can read, with a warning
    #[arg(long)]
    pub(crate) insecure_key_mode: bool,

    /// Payload as hexadecimal digits, a line of `knock -n`, a file, or - to read one from standard input
    #[arg(value_name = "HEX|LINE|FILE|-", required = true, num_args = 1..=3)]
    pub(crate) source: Vec<String>,
}

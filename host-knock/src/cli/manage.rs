//! What people do at a desk: profiles, keys, and finding out why a knock does not open.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::options::{SendOptions, WaitOptions};

/// Lists the profiles
#[derive(Debug, ClapArgs)]
pub(crate) struct List {
    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,

    /// Read the profiles from FILE
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Shows a profile, and never its key
#[derive(Debug, ClapArgs)]
pub(crate) struct Show {
    /// Which
    pub(crate) name: String,

    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Read the profiles from FILE
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Makes profiles of another program's file, or of what knock share has made
///
/// SOURCE is an ini file of `ipt_pkd`, a `.fwknoprc`, a `knock://` URI, or - for either of them on standard
/// input. A URI has the key in it: as an argument every user of this computer can see it.
#[derive(Debug, ClapArgs)]
pub(crate) struct Import {
    /// A file, a URI, or -
    pub(crate) source: String,

    /// What to call the profile, where SOURCE has only one
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// Write the profiles to FILE, and keys into a folder beside it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Print no warnings
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Makes a key, and shows what the host has to be told
///
/// With NAME the profile of that name uses the key; it is made if it is not there. Without, the key is
/// written to pkd.key.
#[derive(Debug, ClapArgs)]
pub(crate) struct Keygen {
    /// The profile
    pub(crate) name: Option<String>,

    /// The profile's host, for a new profile [default: NAME]
    #[arg(long, value_name = "HOST", requires = "name")]
    pub(crate) address: Option<String>,

    /// The tag [default: that of the profile, or PKD0]
    #[arg(short, long)]
    pub(crate) tag: Option<String>,

    /// Derive the key from a passphrase (Argon2id), which the terminal asks for now and at each knock
    #[arg(long, requires = "name", conflicts_with = "keyring")]
    pub(crate) passphrase: bool,

    /// Put the key into the system's keyring
    #[arg(long, requires = "name")]
    pub(crate) keyring: bool,

    /// Write the key to FILE [default: keys/NAME.key beside the profiles; for a passphrase or the keyring,
    /// where the file is for the host alone: NAME.key]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Read and write the profiles of FILE
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Shows a profile with its key as a QR code
///
/// Whoever sees the code can knock. `knock import` reads what is in it, a `knock://` URI.
#[derive(Debug, ClapArgs)]
pub(crate) struct Share {
    /// Which
    pub(crate) name: String,

    /// Write an image that only you can read, instead of showing the code on the terminal
    #[arg(long, value_name = "FILE")]
    pub(crate) png: Option<PathBuf>,

    /// Print the URI itself
    #[arg(long, conflicts_with = "png")]
    pub(crate) uri: bool,

    /// Read the profiles from FILE
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Use a key file that others can read, with a warning
    #[arg(long)]
    pub(crate) insecure_key_mode: bool,
}

/// Finds out why a knock does not open
///
/// Checks in order: the name, the key, this computer's clock, the port before, the knock, the port after;
/// then says in one sentence what is likeliest.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Exit codes: 0 the port is open, 1 it is not, 2 an argument or a file is wrong.")]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) send_options: SendOptions,

    #[command(flatten)]
    pub(crate) wait_options: WaitOptions,

    /// A profile, the address of one, or any host
    pub(crate) host: String,

    /// TCP port, or a service of the profile [default: its first TCP service]
    #[arg(value_name = "PORT")]
    pub(crate) service: Option<String>,

    /// Ask HOST for the time, by SNTP (port 123, or PORT) and then by HTTP (port 80); - asks nobody
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) time_server: Option<String>,
}

/// Explains a captured knock: each field, and the verdict of a gateway
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit codes: 0 a gateway would accept all knocks that were found, 1 not all or there are none, \
                        2 an argument, a key or a file is wrong."
)]
pub(crate) struct Verify {
    /// Read the key from FILE, one line, text or 0x and hexadecimal; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,

    /// The gateway's tag [default: PKD0]
    #[arg(short, long)]
    pub(crate) tag: Option<String>,

    /// The port that was knocked at; needed where SOURCE is hexadecimal, else of all ports [default: the capture's]
    #[arg(short, long)]
    pub(crate) port: Option<String>,

    /// The gateway's clock, in Unix seconds [default: now; for a capture, its own times]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) at: Option<String>,

    /// How many seconds the gateway lets a knock's time be off; 0: it has no clock
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub(crate) window: String,

    /// Use a key file that others can read, with a warning
    #[arg(long)]
    pub(crate) insecure_key_mode: bool,

    /// The payload in hexadecimal, a capture (pcap or pcapng), or - for either of them on standard input
    #[arg(value_name = "HEX|FILE|-")]
    pub(crate) source: String,
}

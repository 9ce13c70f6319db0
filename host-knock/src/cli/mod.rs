//! The command line, parsed but not validated.
//!
//! The build script compiles these files too, for man pages and completions, so they may use nothing but clap. What takes names
//! of profiles has a value hint, `Hostname` (a list, with groups) or `Username` (one), for which the completions have them.

mod close;
#[cfg(feature = "desktop")]
mod connect;
mod hoist;
mod knock;
#[cfg(feature = "desktop")]
mod manage;
mod options;
mod sequence;

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

pub(crate) use close::Close;
#[cfg(feature = "desktop")]
pub(crate) use connect::{Pair, Proxy, Ssh, Wait};
pub(crate) use knock::{Args, Command};
#[cfg(feature = "desktop")]
pub(crate) use manage::{Doctor, Import, Keygen, List, Share, Show, Verify};
#[cfg(feature = "desktop")]
pub(crate) use options::CloseOptions;
pub(crate) use options::SendOptions;
pub(crate) use sequence::Sequence;

/// Why there are no [`Args`].
pub(crate) enum CliExit {
    /// The text that `--help` or `--version` asks for.
    Help(String),
    /// What is wrong, in one line.
    Usage(String),
}

impl Args {
    /// Reads the command line, program name first.
    pub(crate) fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, CliExit> {
        let line = hoist::hoist(&Self::command(), line.into_iter().collect());
        let args = Self::try_parse_from(&line).map_err(|error| exit(&error, line.get(1)))?;
        Ok(Self { is_only_hosts: line.iter().any(|word| word == "--"), ..args })
    }

    /// The command that the first host may have been meant to be, unless `--` says that it is a host.
    pub(crate) fn similar_command(&self) -> Option<(&str, String)> {
        let first = self.words.first().filter(|_| !self.is_only_hosts)?;
        Some((first, hoist::similar_command(&Self::command(), first.as_ref())?))
    }
}

/// Reduces what clap says about a mistake to one line. `first` is the word that may be a command.
fn exit(error: &clap::Error, first: Option<&OsString>) -> CliExit {
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return CliExit::Help(text);
    }
    // clap's first paragraph says what is wrong; tips and usage follow it.
    let paragraph = text.split("\n\n").next().unwrap_or(&text);
    let words: Vec<_> = paragraph.split_whitespace().collect();
    let sentence = words.join(" ");
    let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
    let knock = Args::command();
    let command = first.and_then(|word| knock.find_subcommand(word)).map(clap::Command::get_name);
    let command = command.map_or(String::new(), |command| format!("{command} "));
    CliExit::Usage(format!("{sentence}; see knock {command}--help"))
}

//! The command line as people type it; nothing in it has been checked yet.
//!
//! The build script reads these files too, for man pages and completions: they know nothing but clap.

#[cfg(feature = "desktop")]
mod desk;
mod knock;
mod sequence;
#[cfg(feature = "desktop")]
mod ways;

use std::ffi::OsString;

use clap::{Parser as _, error::ErrorKind};

#[cfg(feature = "desktop")]
pub(crate) use desk::{Doctor, Import, Keygen, List, Share, Show, Verify};
pub(crate) use knock::{Args, Knocking, Verb};
pub(crate) use sequence::Sequence;
#[cfg(feature = "desktop")]
pub(crate) use ways::{Proxy, Ssh, Wait};

/// Why there are no [`Args`].
pub(crate) enum Instead {
    /// The text that `--help` or `--version` asks for.
    Answer(String),
    /// What is wrong, in one line.
    Mistake(String),
}

impl Args {
    /// Reads the command line, program name first.
    pub(crate) fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, Instead> {
        let line: Vec<_> = line.into_iter().collect();
        Self::try_parse_from(&line).map_err(|error| instead(&error, line.get(1)))
    }
}

/// What clap says, in one line where it is about a mistake. `first`: the word that may be a verb.
fn instead(error: &clap::Error, first: Option<&OsString>) -> Instead {
    use clap::CommandFactory as _;

    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Instead::Answer(text);
    }
    // clap's first paragraph says what is wrong; tips and usage follow it.
    let paragraph = text.split("\n\n").next().unwrap_or(&text);
    let words: Vec<_> = paragraph.split_whitespace().collect();
    let sentence = words.join(" ");
    let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
    let command = Args::command();
    let verb = first.and_then(|word| command.find_subcommand(word)).map(clap::Command::get_name);
    let verb = verb.map_or(String::new(), |verb| format!("{verb} "));
    Instead::Mistake(format!("{sentence}; see knock {verb}--help"))
}

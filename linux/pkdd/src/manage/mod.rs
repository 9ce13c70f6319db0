//! Commands that write the configuration: what a person types to let somebody in, or no longer.
//!
//! Each edits the TOML file in place, with its comments. The result is checked before it replaces the file, and the running
//! daemon takes it over before the command ends; if it cannot, the file is as it was.

mod arguments;
mod file;
mod grant;
mod init;
mod invite;
mod key_file;
mod service;
mod user;

pub use arguments::Command;

use std::path::Path;

use anyhow::Result;

impl Command {
    /// Does it, with the configuration at `path`, and returns what to print.
    ///
    /// # Errors
    /// One line that says what is wrong; nothing has changed then.
    pub fn run(self, path: &Path) -> Result<String> {
        match self {
            Self::Init(options) => init::run(path, &options),
            Self::Confirm => init::confirm(path),
            Self::Undo => init::undo(path),
            Self::Grant { address, seconds } => grant::run(path, &address, seconds.as_deref()),
            Self::Revoke { address } => grant::revoke(path, &address),
            Self::ServiceAdd(new) => service::add(path, &new),
            Self::UserAdd(new) => user::add(path, &new),
            Self::UserList { json } => user::list(path, json),
            Self::UserRotate { name, until, print } => user::rotate(path, &name, until.as_deref(), &print),
            Self::UserRevoke { name } => user::revoke(path, &name),
        }
    }
}

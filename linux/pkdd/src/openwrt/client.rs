//! The commands with which a user knocks.

use pkd_core::Tag;

use super::router::{KeyPlace, Router};
use crate::config::UserRule;

impl Router {
    /// The two commands, one a line: one fetches the key, one knocks. `None`: no such user.
    pub(crate) fn client(&self, user: &str, host: &str) -> Option<String> {
        let tag: Tag = self.config.users.get(user)?.tag;
        let (_, place) = self.keys.iter().find(|(name, _)| name == user)?;
        let fetch = match place {
            KeyPlace::File(path) => {
                format!("  (umask 077; ssh root@{host} cat {} > {user}.key)\n", path.display())
            }
            KeyPlace::Inline => {
                format!("  # put option key of user {user} in /etc/config/pkd into {user}.key\n")
            }
        };
        let format = match self.config.users.get(user)?.rule {
            UserRule::Classic(_) => "",
            UserRule::Format2(_) => "--format 2 ",
        };
        let port = self.config.gate.port.map(|port| format!("--port {port} ")).unwrap_or_default();
        let tag = tag.to_string().replace('\'', "'\\''");
        Some(format!("{fetch}  knock {format}--key-file {user}.key --tag '{tag}' {port}{host}\n"))
    }
}

//! A look at the rules of the host's other programs, for the log, `pkdd check` and `pkdd status`.

use std::thread;

#[cfg(feature = "rules")]
use super::conflicts::{self, listing};
use crate::{config::Config, report::log};
#[cfg(feature = "rules")]
use crate::{config::Firewall, privileges};

/// Programs that list the rules, and run meanwhile.
pub struct Look {
    /// `None`: there is nothing to look at, or this process may not.
    #[cfg(feature = "rules")]
    running: Option<listing::Running>,
}

#[cfg(feature = "rules")]
impl Look {
    /// Starts the programs, with the privileges that this process has now.
    #[must_use]
    pub fn begin(config: &Config) -> Self {
        // firewall4's own policy decides there.
        let is_wanted = config.gate.firewall != Firewall::Firewall4 && privileges::may_change_rules();
        Self { running: is_wanted.then(listing::start) }
    }

    /// What makes the rules of pkdd ineffective, a line each. Waits for the programs, but not for long.
    #[must_use]
    pub fn lines(self, config: &Config) -> Vec<String> {
        self.running.map(|running| conflicts::lines(config, &running.finish())).unwrap_or_default()
    }
}

/// Without rules of its own, pkdd fills the sets of firewall4, whose policy decides.
#[cfg(not(feature = "rules"))]
#[expect(missing_docs, reason = "see above")]
impl Look {
    #[must_use]
    pub fn begin(_: &Config) -> Self {
        Self {}
    }

    #[must_use]
    pub fn lines(self, _: &Config) -> Vec<String> {
        Vec::new()
    }
}

impl Look {
    /// Logs the lines, without delaying the caller.
    pub fn log(self, config: &Config) {
        let config = config.clone();
        thread::spawn(move || self.lines(&config).iter().for_each(|line| log(&format!("warning: {line}"))));
    }
}

//! Current problems, for the status and the log.

use anyhow::Result;

use crate::report::log;

/// Current problems, by source.
#[derive(Default)]
pub(crate) struct Health {
    pub(crate) configuration: Option<String>,
    pub(crate) firewall: Option<String>,
    pub(crate) floor: Option<String>,
    pub(crate) connections: Option<String>,
}

impl Health {
    /// All current problems, in one line; empty if there are none.
    pub(crate) fn text(&self) -> String {
        let Self { configuration, firewall, floor, connections } = self;
        let all = [configuration, firewall, floor, connections];
        let problems: Vec<&str> = all.into_iter().flatten().map(String::as_str).collect();
        problems.join("; ")
    }
}

/// Stores an error for the status, and logs it unless it is already stored.
pub(crate) fn record_error<T>(stored: &mut Option<String>, result: Result<T>) {
    if let Err(error) = result {
        let text = format!("{error:#}");
        if stored.as_ref() != Some(&text) {
            log(&text);
        }
        *stored = Some(text);
    }
}

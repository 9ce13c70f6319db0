//! What doctor says: lines as the checks go on, or a JSON document in the end.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::model::Hosts;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    Fail,
    /// Nothing was found out, or it is neither good nor bad.
    Note,
}

/// Prints checks, or collects them.
pub(super) struct Report {
    is_json: bool,
    checks: Vec<Value>,
}

impl Report {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json, checks: Vec::new() }
    }

    /// `name` is the check's name in JSON.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn check(&mut self, status: Status, name: &str, text: &str) -> Result<()> {
        let (mark, word) = match status {
            Status::Ok => ("ok", "ok"),
            Status::Fail => ("FAIL", "fail"),
            Status::Note => ("----", "note"),
        };
        if self.is_json {
            self.checks.push(json!({ "check": name, "status": word, "text": text }));
            return Ok(());
        }
        print(&format!("{mark:4}  {text}"))
    }

    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn end(self, hosts: &Hosts, port: u16, is_open: bool, conclusion: &str) -> Result<()> {
        if !self.is_json {
            return print(conclusion);
        }
        let document = json!({
            "host": hosts.first().as_str(),
            "hosts": hosts.texts(),
            "port": port,
            "open": is_open,
            "checks": self.checks,
            "conclusion": conclusion,
        });
        print(&format!("{document:#}"))
    }
}

fn print(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}").context("cannot write to standard output")
}

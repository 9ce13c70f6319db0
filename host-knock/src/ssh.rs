//! `knock ssh`: knock, wait for the port, become ssh.

use std::{
    ffi::{OsStr, OsString},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use pkd_core::Port;

use crate::{profile::Book, value};

/// What ssh is given, and where it will go.
#[derive(Debug)]
pub(crate) struct Call {
    /// For `ssh`.
    arguments: Vec<OsString>,
    /// The host to knock at: a profile's name, or an address.
    pub(crate) host: String,
    /// The port to wait for; `None`: ssh goes by way of another host or program, so that the port cannot be looked at.
    pub(crate) port: Option<Port>,
}

impl Call {
    /// Asks `ssh -G`, which reads ssh's own configuration and arguments, for host and port. A profile's address and its
    /// service `ssh` are what ssh is told by options, where it is not told otherwise.
    ///
    /// # Errors
    /// There is no ssh, or it does not understand the arguments; or the profile is wrong.
    pub(crate) fn of(words: &[OsString], book: &Book) -> Result<Self> {
        let (destination, rest) = words.split_first().context("no host")?;
        let text = destination.to_str().context("the host is not UTF-8 text")?;
        ensure!(!text.starts_with('-'), "host {text:?} is no address and no host name");
        let name = text.rsplit_once('@').map_or(text, |(_, name)| name);
        let mut arguments = Vec::new();
        if let Some(profile) = book.profile(name).transpose()? {
            arguments.push(OsString::from(format!("-oHostName={}", profile.host)));
            if let Some(service) = profile.services.iter().find(|service| service.name == "ssh")
                && !rest.iter().any(|word| names_a_port(word))
            {
                arguments.push(OsString::from(format!("-oPort={}", service.port.0)));
            }
        }
        arguments.push(destination.clone());
        arguments.extend_from_slice(rest);
        let told = ask(&arguments)?;
        let value = |option: &str| {
            told.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix(' ')).map(str::trim)
        };
        let is_direct = |option: &str| value(option).is_none_or(|by| by == "none");
        let host = if book.has(name) { name } else { value("hostname").unwrap_or(name) };
        let port = value("port").map(value::port).transpose()?;
        Ok(Self {
            host: host.to_owned(),
            port: port.filter(|_| is_direct("proxyjump") && is_direct("proxycommand")),
            arguments,
        })
    }

    /// Becomes ssh; where a program cannot become another, waits for it and gives its exit code.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn run(&self) -> Result<u8> {
        let mut command = Command::new("ssh");
        command.args(&self.arguments);
        crate::program::become_it(&mut command).context("cannot run ssh")
    }
}

/// Whether ssh is told a port: `-p`, or `-o Port`.
fn names_a_port(word: &OsStr) -> bool {
    let word = word.to_string_lossy();
    word.starts_with("-p")
        || word.trim_start_matches("-o").trim_start().to_ascii_lowercase().starts_with("port")
}

fn ask(arguments: &[OsString]) -> Result<String> {
    let output = Command::new("ssh")
        .arg("-G")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run ssh")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ssh -G: {}", said.lines().next().unwrap_or("it failed").trim());
    }
    String::from_utf8(output.stdout).context("ssh -G says what is not UTF-8 text")
}

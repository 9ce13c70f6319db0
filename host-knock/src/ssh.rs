//! `knock ssh`: knocks, waits for the port, then runs ssh.

use std::{
    ffi::OsString,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use pkd_core::Port;

use crate::{model::Outlet, parse, profile::ProfileStore};

/// The port of ssh.
const SSH: u16 = 22;

/// A command line for ssh, and where it leads.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// Arguments of ssh.
    arguments: Vec<OsString>,
    /// The host to knock at: a profile name or an address.
    pub(crate) host: String,
    /// The port to wait for; `None`: ssh connects through another host or program, so the port cannot be probed.
    pub(crate) port: Option<Port>,
    /// If the profile has several addresses: under which name `known_hosts` has the host.
    alias: Option<String>,
}

impl Invocation {
    /// Gets host and port from `ssh -G`, which reads ssh's configuration and arguments. A profile's address and its service
    /// `ssh` are passed as options, unless the arguments set a port; so is the outlet.
    ///
    /// # Errors
    /// ssh is missing or rejects the arguments, or the profile is invalid.
    pub(crate) fn new(words: &[OsString], store: &ProfileStore, outlet: &Outlet) -> Result<Self> {
        let (destination, rest) = words.split_first().context("missing host")?;
        let text = destination.to_str().context("the host is not UTF-8 text")?;
        ensure!(!text.starts_with('-'), "invalid host {text:?}: expected an address or a host name");
        let name = text.rsplit_once('@').map_or(text, |(_, name)| name);
        let mut several = None;
        let interface = outlet.interface.iter().map(|name| format!("-oBindInterface={name}"));
        let source = outlet.source.iter().map(|address| format!("-oBindAddress={address}"));
        let mut arguments: Vec<_> = interface.chain(source).map(OsString::from).collect();
        if let Some(profile) = store.profile(name).transpose()? {
            let hosts = &profile.hosts;
            arguments.push(OsString::from(format!("-oHostName={}", hosts.first())));
            several = (!hosts.further().is_empty()).then(|| hosts.first().as_str().to_ascii_lowercase());
            if let Some(service) = profile.services.iter().find(|service| service.name == "ssh")
                && !sets_port(rest)
            {
                arguments.push(OsString::from(format!("-oPort={}", service.port.0)));
            }
        }
        arguments.push(destination.clone());
        arguments.extend_from_slice(rest);
        let config = query_config(&arguments)?;
        let value = |option: &str| {
            config.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix(' ')).map(str::trim)
        };
        let is_direct = |option: &str| value(option).is_none_or(|by| by == "none");
        let host = if store.has(name) { name } else { value("hostname").unwrap_or(name) };
        let port = value("port").map(parse::port).transpose()?;
        // As ssh writes what is not at its own port.
        let known = |first: String| match port {
            Some(Port(port)) if port != SSH => format!("[{first}]:{port}"),
            _ => first,
        };
        Ok(Self {
            alias: several.map(|first| value("hostkeyalias").map_or_else(|| known(first), str::to_owned)),
            host: host.to_owned(),
            port: port.filter(|_| is_direct("proxyjump") && is_direct("proxycommand")),
            arguments,
        })
    }

    /// The command that runs ssh; of a profile's several addresses, it connects to the one that has answered.
    pub(crate) fn command(&self, answered: Option<&str>) -> Command {
        let mut command = Command::new("ssh");
        if let (Some(alias), Some(address)) = (&self.alias, answered) {
            // What stands first counts. The host's key is the same at all of its addresses.
            command.args([format!("-oHostName={address}"), format!("-oHostKeyAlias={alias}")]);
        }
        command.args(&self.arguments);
        command
    }
}

/// Options of ssh that take a value.
const OPTIONS_WITH_VALUE: &str = "BbcDEeFIiJLlmOoPpQRSWw";

/// Whether the arguments set a port, with `-p` or `-o Port`. What follows the options is for the remote host.
fn sets_port(words: &[OsString]) -> bool {
    let mut words = words.iter().map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-').filter(|letters| *letters != "-") else { return false };
        // Flags may precede an option in the same word.
        let Some(place) = letters.find(|letter| OPTIONS_WITH_VALUE.contains(letter)) else { continue };
        let (option, value) = letters[place..].split_at(1);
        let value = if value.is_empty() { words.next().unwrap_or_default() } else { value.into() };
        if option == "p" || option == "o" && value.trim_start().to_ascii_lowercase().starts_with("port") {
            return true;
        }
    }
    false
}

/// The address that ssh would connect to.
///
/// # Errors
/// ssh is missing or rejects the arguments.
pub(crate) fn reached(destination: &str, arguments: &[String]) -> Result<String> {
    let words: Vec<OsString> =
        arguments.iter().map(String::as_str).chain([destination]).map(OsString::from).collect();
    let config = query_config(&words)?;
    let host = config.lines().find_map(|line| line.strip_prefix("hostname "));
    host.map(|host| host.trim().to_owned()).context("ssh -G: no hostname")
}

fn query_config(arguments: &[OsString]) -> Result<String> {
    let output = Command::new("ssh")
        .arg("-G")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run ssh")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ssh -G: {}", said.lines().next().unwrap_or("failed").trim());
    }
    String::from_utf8(output.stdout).context("ssh -G: output is not UTF-8 text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_options_set_a_port() {
        let rows: [(&[&str], bool); 10] = [
            (&[], false),
            (&["-p", "22"], true),
            (&["-p22"], true),
            (&["-o", "Port=22"], true),
            (&["-oport 22"], true),
            (&["-Aqp", "22"], true),
            (&["-l", "-p", "ls"], false),
            (&["-F", "file", "-4p22"], true),
            (&["ls", "-p"], false),
            (&["--", "port"], false),
        ];
        for (row, (words, expected)) in rows.into_iter().enumerate() {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            assert_eq!(sets_port(&words), expected, "row {row}");
        }
    }
}

//! `knock pair`: has a gateway make a key for this computer, over ssh, and takes it over as a profile.
//!
//! The gateway prints a `knock://` URI, which comes back through ssh. So it needs nothing but a shell there: no SFTP, which
//! OpenWrt's dropbear does not have, and no file that somebody has to delete.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    cli,
    keygen::quoted,
    model::Hosts,
    parse,
    profile::{config::Config, import, uri},
    ssh,
    stderr::Stderr,
};

/// Pairs, and returns what to do next.
///
/// # Errors
/// The profile exists, ssh fails, or the gateway refuses. Nothing has changed here then.
pub(crate) fn pair(args: &cli::Pair) -> Result<String> {
    let destination = args.gateway.as_str();
    ensure!(!destination.starts_with('-'), "invalid gateway {destination:?}: expected [USER@]HOST");
    let host = destination.rsplit_once('@').map_or(destination, |(_, host)| host);
    let name = args.name.as_deref().unwrap_or(host);
    parse::name(name).context("give a name for the profile after the gateway")?;
    let mut config = Config::open_for_update(args.config.as_deref())?;
    // Before the gateway makes anything.
    import::is_free(&config, name)?;
    let reached = ssh::reached(destination, &args.ssh_arguments)?;
    let given = Some(&args.addresses).filter(|given| !given.is_empty());
    let hosts = given.map(|given| Hosts::parse(given.iter().map(String::as_str))).transpose()?;
    let addresses = hosts.as_ref().map_or_else(|| vec![reached.as_str()], Hosts::texts);
    let user = match &args.user {
        Some(user) => user.clone(),
        None => own_name(),
    };
    let words: Vec<String> = ["user", "add", &user]
        .map(str::to_owned)
        .into_iter()
        .chain(addresses.iter().flat_map(|address| ["--address".to_owned(), (*address).to_owned()]))
        .chain(args.services.iter().flat_map(|service| ["--service".to_owned(), service.clone()]))
        .chain(args.expires.iter().flat_map(|day| ["--expires".to_owned(), day.clone()]))
        .map(|word| quoted(&word))
        .collect();
    let said = at_gateway(destination, &args.ssh_arguments, &remote_command(&words.join(" "), args.sudo))?;
    let line = said.lines().rev().find(|line| line.starts_with(pkd_uri::SCHEME));
    let line =
        line.context("the gateway did not print a knock:// URI: is pkdd or pkd of this version there?")?;
    let (_, mut profile, key) = uri::read(line.trim_end())?;
    // Its alias in ssh's configuration has the same key.
    if let Some(given) = hosts {
        profile.hosts = given;
    }
    let added = import::add(&mut config, name, &profile, Some(&key)).and_then(|files| {
        config.save()?;
        files.keep();
        Ok(())
    });
    added.with_context(|| format!("the gateway has a new user {user}, but no profile could be made here"))?;
    for shared in config.shared_addresses(name, &profile.hosts) {
        Stderr { quiet: false }.warn(&shared);
    }
    let next = if profile.services.iter().any(|service| service.name == "ssh") {
        format!("knock ssh {destination_of}", destination_of = with_user(destination, name))
    } else {
        format!("knock {name}")
    };
    Ok(format!("paired with {host} as {user}: profile {name} in {}\nnow: {next}", config.path().display()))
}

/// `USER@` of the destination, before the profile's name.
fn with_user(destination: &str, name: &str) -> String {
    destination.rsplit_once('@').map_or_else(|| name.to_owned(), |(user, _)| format!("{user}@{name}"))
}

/// The name of this user and computer, as every gateway accepts it.
fn own_name() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("USERNAME")).unwrap_or_default();
    let host = computer();
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let parts: Vec<String> = [user.as_str(), host.split('.').next().unwrap_or_default()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| part.chars().map(plain).take(15).collect())
        .collect();
    if parts.is_empty() { "me".to_owned() } else { parts.join("_") }
}

#[cfg(unix)]
fn computer() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn computer() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// OpenWrt's service has a command of its own, which writes UCI.
fn remote_command(words: &str, sudo: bool) -> String {
    let sudo = if sudo { "sudo " } else { "" };
    format!(
        "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; \
         if [ -f /etc/config/pkd ]; then {sudo}pkd {words}; else {sudo}pkdd {words}; fi"
    )
}

/// Runs a command at the gateway, and returns its output. Its errors and questions appear here.
fn at_gateway(destination: &str, arguments: &[String], command: &str) -> Result<String> {
    let output = Command::new("ssh")
        .args(arguments)
        .arg(destination)
        .arg(command)
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run ssh")?;
    if !output.status.success() {
        bail!("{destination}: no user was added");
    }
    String::from_utf8(output.stdout).context("the gateway's answer is not UTF-8 text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_a_shell_as_they_are() {
        for word in ["plain", "a'b", "$HOME `id` \"x\" \\", "", "a b;c&d|e*?"] {
            let output =
                Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(word))).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}

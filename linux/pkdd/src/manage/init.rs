//! `pkdd init`: a first configuration, and the daemon started so that a mistake locks nobody out.

use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt as _, chown},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::{Group, User};
use toml_edit::{Array, DocumentMut, Item, Table, value};

use super::{arguments::InitOptions, grant, service};
use crate::{
    config::Config,
    control::{self, Query},
    guard,
};

/// How long what `init` has started stays without `pkdd confirm`, in seconds.
const UNCONFIRMED: u32 = 300;

/// The timer that takes it back.
const TIMER: &str = "pkdd-undo-init";

/// The user of pkdd's units.
const USER: &str = "pkdd";

const HEAD: &str = "\
# Which ports are closed, and who may open them: pkdd.toml(5).
# After a change by hand: pkdd check && systemctl reload pkdd
";

/// Writes the configuration, and with systemd starts pkdd.
pub(super) fn run(path: &Path, options: &InitOptions) -> Result<String> {
    ensure!(
        !path.exists(),
        "{} exists already: pkdd user add and pkdd service add change it",
        path.display()
    );
    let mut asks = Asks::new();
    let services = match &options.services[..] {
        [] => named(&asks.ask("Services to close, as NAME=PORT", "ssh=22")?),
        given => given.to_vec(),
    };
    let port = match &options.port {
        Some(port) => port.clone(),
        None => asks.ask("UDP port to knock at, 1-65535 or any", "any")?,
    };
    let addresses = match &options.addresses[..] {
        [] => asks
            .ask("Names or addresses by which clients reach this host", &reached_at())?
            .split(',')
            .map(|address| address.trim().to_owned())
            .filter(|address| !address.is_empty())
            .collect(),
        given => given.to_vec(),
    };
    let text = text(&services, &port, &addresses)?;
    let folder = path.parent().context("a file has a folder")?;
    Config::parse(&text, folder).map_err(|error| error.in_file(&path.display().to_string()))?;
    write(path, &text)?;
    let mut said = format!("wrote {}\n", path.display());
    if options.no_start || !has_systemd() {
        said += "start pkdd with: pkdd run\n";
    } else {
        said += &start(path, options.yes)?;
    }
    Ok(said + "let somebody in with: pkdd user add NAME, or on their computer: knock pair root@THIS-HOST\n")
}

/// What `init` has started stays.
pub(super) fn confirm(path: &Path) -> Result<String> {
    let is_waiting = systemctl(&["is-active", "--quiet", &format!("{TIMER}.timer")]).is_ok();
    ensure!(is_waiting, "there is nothing to confirm");
    systemctl(&["stop", &format!("{TIMER}.timer")])?;
    if let Some(address) = client() {
        grant::ask(path, Query::Revoke(address), control::REVOKED)?;
    }
    Ok("confirmed: pkdd stays, and your address needs a knock, too\n".to_owned())
}

/// Takes back what was not confirmed. The configuration stays, for the next try.
pub(super) fn undo(path: &Path) -> Result<String> {
    systemctl(&["disable", "--now", "pkdd.service", "pkdd-guard.service"])?;
    guard::clear(path)?;
    Ok("not confirmed in time: pkdd is stopped and its ports are open again\n".to_owned())
}

/// The questions, on a terminal.
struct Asks {
    is_terminal: bool,
}

impl Asks {
    fn new() -> Self {
        Self { is_terminal: io::stdin().is_terminal() && io::stderr().is_terminal() }
    }

    /// The answer, or `default` for an empty one; without a terminal, `default`.
    fn ask(&mut self, question: &str, default: &str) -> Result<String> {
        if !self.is_terminal {
            return Ok(default.to_owned());
        }
        eprint!("{question} [{default}]: ");
        io::stderr().flush()?;
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line).context("cannot read the answer")?;
        ensure!(read > 0, "no answer; nothing was changed");
        let answer = line.trim();
        Ok(if answer.is_empty() { default } else { answer }.to_owned())
    }
}

/// The address that this very session has reached, or the host's name.
fn reached_at() -> String {
    let connection = std::env::var("SSH_CONNECTION").unwrap_or_default();
    let reached = connection.split(' ').nth(2).filter(|address| !address.is_empty()).map(str::to_owned);
    let name = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    reached.or_else(name).unwrap_or_default()
}

/// Splits an answer such as `ssh=22, web=80,443` into services. A part without a name is one more port of the service before it.
fn named(answer: &str) -> Vec<String> {
    let mut services: Vec<String> = Vec::new();
    for part in answer.split(',') {
        match services.last_mut() {
            Some(last) if !part.contains('=') => *last = format!("{last},{}", part.trim()),
            _ => services.push(part.to_owned()),
        }
    }
    services
}

fn text(services: &[String], port: &str, addresses: &[String]) -> Result<String> {
    let mut document = DocumentMut::new();
    let mut gate = Table::new();
    if port != "any" {
        let number = port.parse::<u16>().ok().filter(|number| *number > 0);
        let number = number.with_context(|| format!("invalid port {port}: expected 1–65535 or any"))?;
        gate.insert("port", value(i64::from(number)));
    }
    match addresses {
        [] => {}
        [only] => drop(gate.insert("address", value(only))),
        several => drop(gate.insert("address", value(several.iter().collect::<Array>()))),
    }
    document.insert("gate", Item::Table(gate));
    let mut tables = Table::new();
    tables.set_implicit(true);
    for text in services {
        let Some((name, port)) = text.split_once('=') else {
            bail!("invalid service {text}: expected NAME=PORT, such as ssh=22 or vpn=1194/udp")
        };
        ensure!(!tables.contains_key(name), "service {name} is given twice");
        tables.insert(name.trim(), Item::Table(service::section(port.trim())?));
    }
    document.insert("service", Item::Table(tables));
    Ok(format!("{HEAD}{document}"))
}

/// Creates the file and its folders, for the user of the units if there is one.
fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a file has a folder")?;
    let cannot = || format!("cannot write {}", path.display());
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let group = Group::from_name(USER).context("cannot read the groups")?;
    let has_user = User::from_name(USER).context("cannot read the users")?.is_some();
    let group =
        group.filter(|_| has_user && nix::unistd::geteuid().is_root()).map(|group| group.gid.as_raw());
    let mode = if group.is_some() { 0o640 } else { 0o600 };
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)?;
    file.sync_all().with_context(cannot)?;
    if let Some(group) = group {
        chown(path, None, Some(group)).with_context(cannot)?;
        chown(folder, None, Some(group)).with_context(cannot)?;
        let modes = [(folder, 0o750), (path, 0o640)];
        for (path, mode) in modes {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
                .with_context(cannot)?;
        }
    }
    Ok(())
}

fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

fn systemctl(words: &[&str]) -> Result<()> {
    let output = Command::new("systemctl").args(words).output().context("cannot run systemctl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "systemctl {}: {}", words.join(" "), said.trim());
    Ok(())
}

/// Starts the units; unless told not to, with a timer that stops them again.
fn start(path: &Path, yes: bool) -> Result<String> {
    if yes {
        systemctl(&["enable", "--now", "pkdd-guard.service", "pkdd.service"])?;
        return Ok("started pkdd\n".to_owned());
    }
    let program = std::env::current_exe().context("cannot find pkdd itself")?;
    // First the way back.
    let output = Command::new("systemd-run")
        .args([
            &format!("--unit={TIMER}"),
            &format!("--on-active={UNCONFIRMED}"),
            "--timer-property=AccuracySec=1s",
            "--quiet",
        ])
        .arg(program)
        .arg("--config")
        .arg(path)
        .arg("undo-init")
        .output()
        .context("cannot run systemd-run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "systemd-run: {}; start pkdd with: systemctl enable --now pkdd-guard pkdd",
        said.trim()
    );
    systemctl(&["enable", "--now", "pkdd-guard.service", "pkdd.service"])?;
    let minutes = UNCONFIRMED / 60;
    let again = keep_session(path)?;
    Ok(format!(
        "started pkdd: its ports are closed, and open sessions go on\n{again}\
         try a knock and a new session, then run: pkdd confirm\n\
         without that, pkdd stops and the ports are open again in {minutes} minutes\n"
    ))
}

/// The address that this very session comes from.
fn client() -> Option<IpAddr> {
    let connection = std::env::var("SSH_CONNECTION").unwrap_or_default();
    connection.split(' ').next()?.parse().ok()
}

/// Who is logged in now may log in again until it is confirmed, to pair or to take it back.
fn keep_session(path: &Path) -> Result<String> {
    let Some(address) = client() else { return Ok(String::new()) };
    grant::ask(path, Query::Grant(address, UNCONFIRMED), control::GRANTED)?;
    Ok(format!("your address {address} can open new ones for {} minutes, to pair\n", UNCONFIRMED / 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_configuration_is_valid_and_says_what_was_asked() {
        let services = ["ssh=22".to_owned(), "vpn=1194/udp".to_owned()];
        let addresses = ["gw.example.net".to_owned(), "192.0.2.1".to_owned()];
        let text = text(&services, "40000", &addresses).unwrap();
        let config = Config::parse(&text, Path::new("/")).unwrap();
        assert_eq!(config.gate.port, Some(40_000));
        assert_eq!(config.gate.addresses, addresses);
        assert_eq!(config.services.keys().map(ToString::to_string).collect::<Vec<_>>(), ["ssh", "vpn"]);
        let any = super::text(&services, "any", &addresses[..1]).unwrap();
        assert!(any.contains("address = \"gw.example.net\"\n"), "{any}");
        let gate = Config::parse(&any, Path::new("/")).unwrap().gate;
        assert_eq!((gate.port, gate.addresses), (None, addresses[..1].to_vec()));
    }

    #[test]
    fn a_service_may_have_several_ports() {
        let services = named("ssh=22, web=80, 443,8000-8100, vpn=1194/udp");
        assert_eq!(services, ["ssh=22", " web=80,443,8000-8100", " vpn=1194/udp"]);
        let config = Config::parse(&text(&services, "any", &[]).unwrap(), Path::new("/")).unwrap();
        let ports = |name: &str| {
            let name = name.parse::<pktables::ServiceName>().unwrap();
            config.services[&name].service.ports.to_string()
        };
        assert_eq!(
            (ports("web"), ports("vpn"), ports("ssh")),
            ("80,443,8000-8100".into(), "1194".into(), "22".into())
        );
    }

    #[test]
    fn a_wrong_answer_is_named() {
        for (services, port, expected) in [
            ("ssh", "any", "invalid service ssh: expected NAME=PORT, such as ssh=22 or vpn=1194/udp"),
            ("ssh=x", "any", "invalid port x: expected 1–65535, with /udp for UDP"),
            ("ssh=22/sctp", "any", "invalid protocol sctp in 22/sctp: expected tcp or udp"),
            ("ssh=22", "0", "invalid port 0: expected 1–65535 or any"),
        ] {
            let error = text(&[services.to_owned()], port, &[]).unwrap_err().to_string();
            assert_eq!(error, expected);
        }
    }
}

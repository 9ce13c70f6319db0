//! `pkdd service add`.

use std::path::Path;

use anyhow::{Result, bail};
use toml_edit::{Array, Item, Table, value};

use super::{
    arguments::NewService,
    file::{ConfigFile, Taken},
};

/// Adds a service, whose port is closed from now on.
pub(super) fn add(path: &Path, new: &NewService) -> Result<String> {
    let mut file = ConfigFile::open(path)?;
    let name = &new.name;
    let services = file.tables("service")?;
    if services.contains_key(name) {
        bail!("there is a service \"{name}\" already");
    }
    let mut table = section(&new.port)?;
    if let Some(seconds) = &new.seconds {
        let Ok(seconds) = seconds.parse::<i64>() else {
            bail!("invalid --seconds {seconds}: expected a number")
        };
        table.insert("seconds", value(seconds));
    }
    if !new.forward.is_empty() {
        table.insert("forward", value(new.forward.iter().collect::<Array>()));
    }
    services.insert(name, Item::Table(table));
    let (_, taken) = file.save()?;
    let when = match taken {
        Taken::Over => "its port is closed now",
        Taken::ByNobody => "its port is closed when pkdd starts",
    };
    Ok(format!(
        "added service \"{name}\": {when}; let a user open it with pkdd user add NAME --service {name}\n"
    ))
}

/// A section for a port such as `22` or `53/udp`.
pub(super) fn section(port: &str) -> Result<Table> {
    let (number, protocol) = match port.split_once('/') {
        None => (port, "tcp"),
        Some((number, protocol @ ("tcp" | "udp"))) => (number, protocol),
        Some((_, other)) => bail!("invalid protocol {other} in {port}: expected tcp or udp"),
    };
    let Some(number) = number.parse::<u16>().ok().filter(|number| *number > 0) else {
        bail!("invalid port {port}: expected 1–65535, with /udp for UDP")
    };
    let mut table = Table::new();
    table.insert("port", value(i64::from(number)));
    if protocol == "udp" {
        table.insert("protocol", value(protocol));
    }
    Ok(table)
}

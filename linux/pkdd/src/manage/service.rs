//! `pkdd service add`.

use std::path::Path;

use anyhow::{Result, bail};
use pktables::{Invalid, Ports};
use toml_edit::{Array, Item, Table, Value, value};

use super::{
    arguments::NewService,
    file::{ConfigFile, Taken},
};

/// Adds a service, whose ports are closed from now on.
pub(super) fn add(path: &Path, new: &NewService) -> Result<String> {
    let mut file = ConfigFile::open(path)?;
    let name = &new.name;
    let services = file.tables("service")?;
    if services.contains_key(name) {
        bail!("there is a service \"{name}\" already");
    }
    let mut table = section(&new.port)?;
    let is_several = table.get("port").is_some_and(|port| !port.is_integer());
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
    let whole = if is_several { "its ports are" } else { "its port is" };
    let when = match taken {
        Taken::Over => format!("{whole} closed now"),
        Taken::ByNobody => format!("{whole} closed when pkdd starts"),
    };
    Ok(format!(
        "added service \"{name}\": {when}; let a user open it with pkdd user add NAME --service {name}\n"
    ))
}

/// A section for ports such as `22`, `53/udp` or `80,443,8000-8100`.
pub(super) fn section(port: &str) -> Result<Table> {
    let (number, protocol) = match port.split_once('/') {
        None => (port, "tcp"),
        Some((number, protocol @ ("tcp" | "udp"))) => (number, protocol),
        Some((_, other)) => bail!("invalid protocol {other} in {port}: expected tcp or udp"),
    };
    let ports: Ports = match number.parse() {
        Ok(ports) => ports,
        Err(error) => bail!("invalid port {port}: {}, with /udp for UDP", Invalid::why(&error)),
    };
    let item = |text: String| match text.parse::<i64>() {
        Ok(number) => Value::from(number),
        Err(_) => Value::from(text),
    };
    let mut items: Vec<Value> = ports.texts().map(item).collect();
    let only = if items.len() == 1 { items.pop() } else { None };
    let mut table = Table::new();
    table.insert("port", value(only.unwrap_or_else(|| Value::Array(items.into_iter().collect()))));
    if protocol == "udp" {
        table.insert("protocol", value(protocol));
    }
    Ok(table)
}

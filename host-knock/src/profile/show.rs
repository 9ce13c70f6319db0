//! `knock list` and `knock show`: profiles without their keys.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::config::Config;
use crate::{
    cli,
    model::{Families, Format, KeySource, Profile},
    table,
};

/// All profiles, a line or an object each; an invalid profile shows its error instead.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn list(args: &cli::List) -> Result<String> {
    let config = Config::open_for_update(args.config.as_deref())?;
    let profiles: Vec<_> =
        config.names().into_iter().filter_map(|name| Some((name, config.profile(name)?))).collect();
    if args.json {
        let objects: Vec<Value> = profiles
            .into_iter()
            .map(|(name, profile)| match profile {
                Ok(profile) => object(name, &profile),
                Err(error) => json!({ "name": name, "error": format!("{error:#}") }),
            })
            .collect();
        return Ok(format!("{:#}", Value::from(objects)));
    }
    let rows = profiles.iter().map(|(name, profile)| match profile {
        Ok(profile) => vec![
            (*name).to_owned(),
            profile.hosts.texts().join(", "),
            profile.tag.unwrap_or_default().to_string(),
            key(profile),
            profile.services.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        ],
        Err(error) => vec![(*name).to_owned(), format!("{error:#}")],
    });
    Ok(table::table(&["NAME", "ADDRESS", "TAG", "KEY", "SERVICES"], rows))
}

/// One profile.
///
/// # Errors
/// It does not exist, or is invalid.
pub(crate) fn show(args: &cli::Show) -> Result<String> {
    let config = Config::open_for_update(args.config.as_deref())?;
    let name = &args.name;
    let Some(profile) = config.profile(name) else {
        bail!("{}: unknown profile {name:?}", config.path().display())
    };
    let object = object(name, &profile?);
    if args.json {
        return Ok(format!("{object:#}"));
    }
    let lines = object.as_object().into_iter().flatten().map(|(option, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{option}: {text}")
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// Where the key is.
fn key(profile: &Profile) -> String {
    match &profile.key {
        KeySource::File(path) => path.display().to_string(),
        KeySource::Keyring(_) => "keyring".to_owned(),
        KeySource::Passphrase(_) => "passphrase".to_owned(),
        KeySource::Known(_) | KeySource::Prompt => "prompt".to_owned(),
    }
}

fn object(name: &str, profile: &Profile) -> Value {
    json!({
        "name": name,
        "address": profile.hosts.first().as_str(),
        "addresses": profile.hosts.texts(),
        "tag": profile.tag.unwrap_or_default().to_string(),
        "key": key(profile),
        "port": profile.port.map_or_else(|| Value::from("random"), |port| Value::from(port.0)),
        "format": profile.format.as_str(),
        "bind": if profile.format == Format::Two { profile.bind.to_string() } else { "none".to_owned() },
        "family": match profile.families { Families::Both => "both", Families::V4 => "ipv4", Families::V6 => "ipv6" },
        "same_source_port": profile.same_source_port,
        "time_offset": profile.time_offset,
        "window": profile.window.as_secs(),
        "expires": profile.expires.as_deref().map_or_else(|| Value::from("never"), Value::from),
        "note": profile.note.as_deref().unwrap_or_default(),
        "services": profile.services.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

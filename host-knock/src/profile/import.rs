//! `knock import`: profiles from other programs and from `knock share`.

mod fwknop;
mod imported;

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use pkd_core::{Key, Window, format2::Bindings};
use toml_edit::{Array, InlineTable, Value};

use self::imported::Imported;
use super::{config::Config, uri};
use crate::{
    atomic_file::NewFiles,
    cli,
    ini::Ini,
    key,
    model::{Bind, Families, Format, Hosts, KeySource, Profile, Protocol, Service, binding_words},
    parse, secret_file,
    stderr::Stderr,
    terminal,
};

/// Reads the source and adds its profiles; returns the report.
///
/// # Errors
/// The source cannot be read or parsed, or a profile exists already. Nothing is changed then.
pub(crate) fn import(args: &cli::Import) -> Result<String> {
    let stderr = Stderr { quiet: args.quiet };
    let mut profiles = read(&args.source, stderr)?;
    if let Some(name) = &args.name {
        ensure!(
            profiles.len() == 1,
            "--name needs a source with one profile; this one has {}",
            profiles.len()
        );
        name.clone_into(&mut profiles[0].name);
    }
    let mut config = Config::open_for_update(args.config.as_deref())?;
    for (row, one) in profiles.iter().enumerate() {
        let name = &one.name;
        parse::name(name)?;
        ensure!(profiles.iter().take(row).all(|other| other.name != *name), "duplicate section [{name}]");
        is_free(&config, name)?;
    }
    let mut report = String::new();
    let mut shared = Vec::new();
    let mut new_files = Vec::new();
    for Imported { name, profile, key, skipped } in &profiles {
        new_files.push(add(&mut config, name, profile, key.as_ref())?);
        shared.extend(config.shared_addresses(name, &profile.hosts));
        let _ = writeln!(report, "imported {name}");
        for skipped in skipped {
            stderr.warn(&format!("{name}: {skipped}"));
        }
    }
    config.save()?;
    new_files.into_iter().for_each(NewFiles::keep);
    for text in &shared {
        stderr.warn(text);
    }
    Ok(report)
}

/// Whether a profile can get this name and its key file.
///
/// # Errors
/// There is one already; the error names it.
pub(crate) fn is_free(config: &Config, name: &str) -> Result<()> {
    ensure!(!config.has(name), "{}: profile {name} already exists", config.path().display());
    let (file, _) = config.key_file(name);
    ensure!(!file.exists(), "{} already exists", file.display());
    Ok(())
}

/// Adds a profile and writes its key. The file goes again unless it is kept, after the configuration was saved.
///
/// # Errors
/// The key cannot be written.
pub(crate) fn add(config: &mut Config, name: &str, profile: &Profile, key: Option<&Key>) -> Result<NewFiles> {
    let mut new_files = NewFiles::default();
    let mut options = options(name, profile);
    if let Some(key) = key {
        let (file, relative) = config.key_file(name);
        new_files.create(&file, format!("{}\n", key::to_text(key)).as_bytes())?;
        options.push(("key_file", Some(relative.into())));
    }
    config.set(name, options)?;
    Ok(new_files)
}

fn read(source: &str, stderr: Stderr) -> Result<Vec<Imported>> {
    if pkd_uri::is_uri(source) {
        stderr.warn("a URI on the command line is visible to all users of this computer; use -");
        return from_uri(source);
    }
    let (name, text) = if source == "-" && io::stdin().is_terminal() {
        ("the terminal".to_owned(), terminal::ask("Paste the knock:// URI: ").context("cannot read the URI")?)
    } else if source == "-" {
        ("standard input".to_owned(), secret_file::read_standard_input()?)
    } else {
        (source.to_owned(), secret_file::read(Path::new(source), stderr)?)
    };
    let text = if pkd_uri::is_uri(text.trim_start()) { text.trim().to_owned() } else { text };
    if pkd_uri::is_uri(&text) {
        return from_uri(&text).context(name);
    }
    let profiles = if fwknop::is_fwknoprc(&text) {
        fwknop::read(&text, &name)?
    } else {
        from_ini(&text, Path::new(&name))?
    };
    ensure!(!profiles.is_empty(), "{name}: no section with a host");
    Ok(profiles)
}

fn from_uri(text: &str) -> Result<Vec<Imported>> {
    let (name, profile, key) = uri::read(text)?;
    let name = name.unwrap_or_else(|| profile.hosts.first().to_string());
    Ok(vec![Imported { name, profile, key: Some(key), skipped: Vec::new() }])
}

fn from_ini(text: &str, path: &Path) -> Result<Vec<Imported>> {
    let ini = Ini::parse(path, text)?;
    ini.names()
        .map(|name| {
            let mut profile = ini.profile(name).context("missing section")??;
            let KeySource::Known(key) = std::mem::replace(&mut profile.key, KeySource::Prompt) else {
                bail!("[{name}]: missing key")
            };
            Ok(Imported { name: name.to_owned(), profile, key: Some(key), skipped: Vec::new() })
        })
        .collect()
}

/// The options of a profile that differ from the defaults.
pub(crate) fn options(name: &str, profile: &Profile) -> Vec<(&'static str, Option<Value>)> {
    let mut options: Vec<(&'static str, Option<Value>)> = Vec::new();
    if profile.hosts.texts() != [name] {
        options.push(("address", Some(address(&profile.hosts))));
    }
    if let Some(tag) = profile.tag {
        options.push(("tag", Some(tag.to_string().into())));
    }
    if let Some(port) = profile.port {
        options.push(("port", Some(i64::from(port.0).into())));
    }
    if profile.format != Format::Classic {
        options.push(("format", Some(profile.format.as_str().into())));
    }
    match profile.bind {
        Bind::Auto => {}
        Bind::Only(bindings) if bindings == Bindings::NONE => options.push(("bind", Some("none".into()))),
        Bind::Only(bindings) => {
            let list: Array = binding_words(bindings).into_iter().collect();
            options.push(("bind", Some(list.into())));
        }
    }
    match profile.families {
        Families::Both => {}
        Families::V4 => options.push(("family", Some("ipv4".into()))),
        Families::V6 => options.push(("family", Some("ipv6".into()))),
    }
    if profile.same_source_port {
        options.push(("same_source_port", Some(true.into())));
    }
    if profile.time_offset != 0 {
        options.push(("time_offset", Some(profile.time_offset.into())));
    }
    if profile.window != Window::default() {
        options.push(("window", Some(i64::from(profile.window.as_secs()).into())));
    }
    if let Some(day) = &profile.expires {
        options.push(("expires", Some(day.as_str().into())));
    }
    if !profile.services.is_empty() {
        options.push(("services", Some(Value::InlineTable(services(&profile.services)))));
    }
    options
}

/// The option `address`: a string, or a list of several.
pub(crate) fn address(hosts: &Hosts) -> Value {
    if hosts.further().is_empty() {
        hosts.first().as_str().into()
    } else {
        hosts.texts().into_iter().collect::<Array>().into()
    }
}

/// Services as a profile has them.
pub(crate) fn services(services: &[Service]) -> InlineTable {
    let mut table = InlineTable::new();
    for service in services {
        let value: Value = match service.protocol {
            Protocol::Tcp => i64::from(service.port.0).into(),
            Protocol::Udp => format!("{}/udp", service.port.0).into(),
        };
        table.insert(&service.name, value);
    }
    table
}

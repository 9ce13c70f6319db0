//! `knock keygen`: creates a key, and prints what the gateway needs.

mod forms;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use pkd_core::{Key, Port, Tag};

use crate::{
    atomic_file, cli, hex, keyring,
    model::{Format, Host, Hosts, KeySource, Profile, Salt, Service},
    parse, passphrase,
    profile::{config::Config, import},
    stderr::Stderr,
};
pub(crate) use forms::quoted;
use forms::{BOARD_PORT, Form, Kind, word};

/// Creates the key, writes it, and updates the profile; returns the lines to print.
///
/// # Errors
/// An argument is invalid, or something exists already. No key is ever lost or replaced.
pub(crate) fn keygen(args: &cli::Keygen) -> Result<String> {
    let wanted = Wanted::of(args)?;
    let Some(name) = &args.name else { return without_profile(args, &wanted) };
    parse::name(name)?;
    let mut config = Config::open_for_update(args.config.as_deref())?;
    let before = config.profile(name).transpose()?;
    check(args, name, &config, before.as_ref(), wanted.format)?;
    let format = before.as_ref().map_or(wanted.format.unwrap_or(Format::Two), |profile| profile.format);
    let given = args.addresses.iter().map(String::as_str);
    let hosts = if args.addresses.is_empty() { None } else { Some(Hosts::parse(given)?) };
    if before.is_none() && hosts.is_none() {
        Host::parse(name)?;
    }
    let is_elsewhere = args.passphrase || args.keyring;
    let (usual, relative) = config.key_file(name);
    let file = match &args.output {
        Some(file) => file.clone(),
        None if is_elsewhere => PathBuf::from(format!("{name}.key")),
        None => usual,
    };
    if file.exists() {
        bail!("{} already exists; a new key would lock out its users", file.display());
    }
    ensure!(
        !before.as_ref().is_some_and(has_key),
        "profile {name} has a key already; a new one would lock out its users"
    );
    let salt = if args.passphrase { Some(Salt::random()?) } else { None };
    let key = match &salt {
        Some(salt) => passphrase::prompt_new(name, salt)?,
        None => random()?,
    };
    // A file that is only for the gateway is not part of the profile.
    let in_profile = match &args.output {
        _ if is_elsewhere => None,
        Some(file) => Some(absolute(file)?.display().to_string()),
        None => Some(relative),
    };
    let mut options = vec![
        ("key_file", in_profile.map(Into::into)),
        ("keyring", args.keyring.then(|| true.into())),
        ("passphrase_salt", salt.map(|salt| salt.to_string().into())),
    ];
    // What the gateway opens is in the profile too, so that knock ssh, wait and doctor know it.
    let has_services = before.as_ref().is_some_and(|profile| !profile.services.is_empty());
    if !has_services || !args.services.is_empty() {
        options.push(("services", Some(import::services(&wanted.services).into())));
    }
    if before.is_none() {
        options.push(("format", Some(format.as_str().into())));
    }
    if let Some(Port(port)) = wanted.port {
        options.push(("port", Some(i64::from(port).into())));
    }
    if let Some(tag) = wanted.tag {
        options.push(("tag", Some(tag.to_string().into())));
    }
    if let Some(hosts) = &hosts {
        options.push(("address", Some(import::address(hosts))));
    }
    config.set(name, options)?;
    if args.keyring {
        ensure!(
            !keyring::has(name)?,
            "the keyring has a key for {name} already; a new one would lock out its users"
        );
        keyring::store(name, &key)?;
    }
    // First the key: a profile without a key would be worse than a key without a profile.
    let mut new_files = atomic_file::NewFiles::default();
    new_files.create(&file, &line(&key))?;
    config.save()?;
    new_files.keep();
    let profile = config.profile(name).context("no profile")??;
    if before.is_none() {
        for shared in config.shared_addresses(name, &profile.hosts) {
            Stderr { quiet: false }.warn(&shared);
        }
    }
    let note = if is_elsewhere {
        "The file is only for the gateway: copy it there, then delete it here.\n"
    } else {
        ""
    };
    let file = absolute(&file)?;
    let form = Form {
        file: &file,
        user: &forms::plain(name),
        gateway: Some(profile.hosts.first().as_str()),
        tag: profile.tag.unwrap_or_default(),
        format,
        port: profile.port,
        services: &profile.services,
    };
    Ok(head(&file, note) + &form.text(wanted.kind))
}

/// What the arguments ask for.
struct Wanted {
    tag: Option<Tag>,
    format: Option<Format>,
    port: Option<Port>,
    kind: Option<Kind>,
    services: Vec<Service>,
}

impl Wanted {
    fn of(args: &cli::Keygen) -> Result<Self> {
        let format = args.format.as_deref().map(Format::parse).transpose()?;
        ensure!(
            format != Some(Format::Before1_0),
            "invalid format \"pre-1.0\": expected 2 or classic; no gateway of today accepts another"
        );
        let kind = args.kind.as_deref().map(Kind::parse).transpose()?;
        let port = args.port.as_deref().map(parse::port).transpose()?;
        Ok(Self {
            tag: args.tag.as_deref().map(parse::tag).transpose()?,
            format,
            port: port.or((kind == Some(Kind::Firmware)).then_some(BOARD_PORT)),
            kind,
            services: services(&args.services)?,
        })
    }
}

/// Whether the profile can have a new key.
fn check(
    args: &cli::Keygen,
    name: &str,
    config: &Config,
    before: Option<&Profile>,
    format: Option<Format>,
) -> Result<()> {
    ensure!(
        before.is_none() || args.addresses.is_empty(),
        "--address is only for new profiles; {} has a profile {name}",
        config.path().display()
    );
    if let (Some(before), Some(wanted)) = (before, format) {
        ensure!(
            before.format == wanted,
            "profile {name} has format {}; change it there, and on the gateway",
            before.format.as_str()
        );
    }
    let user = forms::plain(name);
    if let Some(other) =
        config.names().into_iter().find(|other| *other != name && forms::plain(other) == user)
    {
        bail!("profile {other} has the name {user} on gateways, as {name} would have: use another name");
    }
    Ok(())
}

/// A key alone, for the user `me` of a gateway.
fn without_profile(args: &cli::Keygen, wanted: &Wanted) -> Result<String> {
    let Wanted { port, kind, ref services, .. } = *wanted;
    let (tag, format) = (wanted.tag.unwrap_or_default(), wanted.format.unwrap_or(Format::Two));
    let file = args.output.clone().unwrap_or_else(|| PathBuf::from("pkd.key"));
    atomic_file::create(&file, &line(&random()?))?;
    let option = if format == Format::Two { " --format 2" } else { "" };
    let at = port.map_or(String::new(), |Port(port)| format!(" --port {port}"));
    let (shown, path) = (word(&tag.to_string()), word(&file.display().to_string()));
    let note = format!("Knock with: knock{option}{at} --tag {shown} --key-file {path} GATEWAY\n");
    let file = absolute(&file)?;
    let form = Form { file: &file, user: "me", gateway: None, tag, format, port, services };
    Ok(head(&file, &note) + &form.text(kind))
}

/// Whether the profile has a key, which a new one would replace.
fn has_key(profile: &Profile) -> bool {
    match &profile.key {
        KeySource::Prompt => false,
        KeySource::File(path) => path.exists(),
        KeySource::Known(_) | KeySource::Keyring(_) | KeySource::Passphrase(_) => true,
    }
}

/// `NAME=PORT`, or SSH if there is none.
fn services(given: &[String]) -> Result<Vec<Service>> {
    if given.is_empty() {
        return Ok(vec![Service::parse("ssh", "22")?]);
    }
    let one = |text: &String| {
        let (name, port) = text.split_once('=').with_context(|| {
            format!("invalid service {text:?}: expected NAME=PORT, such as ssh=22 or vpn=1194/udp")
        })?;
        Service::parse(name, port)
    };
    given.iter().map(one).collect()
}

fn absolute(file: &Path) -> Result<PathBuf> {
    std::path::absolute(file).context("no working directory")
}

/// What is said before the forms.
fn head(file: &Path, note: &str) -> String {
    format!("The key is in {}. Only you can read this file.\n{note}", file.display())
}

/// 32 random bytes.
fn random() -> Result<Key> {
    let mut bytes = [0; Key::LENGTH];
    let (random, _filling) = bytes.split_at_mut(passphrase::KEY_LENGTH);
    getrandom::fill(random).context("cannot get random bytes")?;
    Ok(Key::from_bytes(bytes))
}

/// The content of a key file.
fn line(key: &Key) -> Vec<u8> {
    let bytes = key.as_bytes().get(..passphrase::KEY_LENGTH).unwrap_or_default();
    format!("0x{}\n", hex::digits(bytes)).into_bytes()
}

//! `knock keygen`: creates a key, and prints what the gateway needs.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use pkd_core::{Key, Tag};

use crate::{
    atomic_file, cli, hex, keyring,
    model::{Format, Host, Salt},
    parse, passphrase,
    profile::config::Config,
};

/// Creates the key, writes it, and updates the profile; returns the lines to print.
///
/// # Errors
/// An argument is invalid, or something exists already. No key is ever lost or replaced.
pub(crate) fn keygen(args: &cli::Keygen) -> Result<String> {
    let tag = args.tag.as_deref().map(parse::tag).transpose()?;
    let format = args.format.as_deref().map(Format::parse).transpose()?;
    ensure!(
        format != Some(Format::Before1_0),
        "invalid format \"pre-1.0\": expected 2 or classic; no gateway of today accepts another"
    );
    let Some(name) = &args.name else {
        let file = args.output.clone().unwrap_or_else(|| PathBuf::from("pkd.key"));
        atomic_file::create(&file, &line(&random()?))?;
        let format = format.unwrap_or(Format::Two);
        let tag = tag.unwrap_or_default();
        let option = if format == Format::Two { " --format 2" } else { "" };
        let note = format!("Knock with: knock{option} --tag {tag} --key-file {} GATEWAY\n", file.display());
        return Ok(instructions(&file, "me", tag, format, &note));
    };
    parse::name(name)?;
    let mut config = Config::open_for_update(args.config.as_deref())?;
    let before = config.profile(name).transpose()?;
    ensure!(
        before.is_none() || args.address.is_none(),
        "--address is only for new profiles; {} has a profile {name}",
        config.path().display()
    );
    if let (Some(before), Some(wanted)) = (&before, format) {
        ensure!(
            before.format == wanted,
            "profile {name} has format {}; change it there, and on the gateway",
            before.format.as_str()
        );
    }
    let format = before.as_ref().map_or(format.unwrap_or(Format::Two), |profile| profile.format);
    let address = args.address.as_deref().map(Host::parse).transpose()?;
    if before.is_none() && address.is_none() {
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
    let salt = if args.passphrase { Some(Salt::random()?) } else { None };
    let key = match &salt {
        Some(salt) => passphrase::prompt_new(name, salt)?,
        None => random()?,
    };
    // A file that is only for the gateway is not part of the profile.
    let in_profile = match &args.output {
        _ if is_elsewhere => None,
        Some(file) => Some(std::path::absolute(file).context("no working directory")?.display().to_string()),
        None => Some(relative),
    };
    let mut options = vec![
        ("key_file", in_profile.map(Into::into)),
        ("keyring", args.keyring.then(|| true.into())),
        ("passphrase_salt", salt.map(|salt| salt.to_string().into())),
    ];
    if before.is_none() {
        options.push(("format", Some(format.as_str().into())));
    }
    if let Some(tag) = tag {
        options.push(("tag", Some(tag.to_string().into())));
    }
    if let Some(address) = address {
        options.push(("address", Some(address.as_str().into())));
    }
    config.set(name, options)?;
    if args.keyring {
        keyring::store(name, &key)?;
    }
    // First the key: a profile without a key would be worse than a key without a profile.
    let mut new_files = atomic_file::NewFiles::default();
    new_files.create(&file, &line(&key))?;
    config.save()?;
    new_files.keep();
    let tag = tag.or(before.and_then(|profile| profile.tag)).unwrap_or_default();
    let note = if is_elsewhere {
        "The file is only for the gateway: copy it there, then delete it here.\n"
    } else {
        ""
    };
    Ok(instructions(&file, name, tag, format, note))
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

/// Instructions for each kind of gateway. They do not contain the key, which goes there as a file.
fn instructions(file: &std::path::Path, name: &str, tag: Tag, format: Format, note: &str) -> String {
    let file = file.display();
    // UCI accepts only these characters in names.
    let user: String =
        name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    let is_format2 = format == Format::Two;
    let matched = if is_format2 { "-m pkd --format 2" } else { "-m pkd" };
    // Everything but iptables has format 2 by default.
    let [uci, toml] =
        if is_format2 { ["", ""] } else { ["  \toption format 'classic'\n", "  format = 'classic'\n"] };
    let mut text = format!("The key is in {file}. Only you can read this file.\n{note}");
    let _ = write!(
        text,
        "
Copy the file to the gateway, for example with scp:
  scp {file} root@GATEWAY:/etc/pkd.key

For iptables with xt_pkd (port 22 is open for a minute after a knock):
  iptables -A INPUT -p tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
  iptables -A INPUT -p udp {matched} --key-file /etc/pkd.key --tag {tag} -m recent --name pkd --set -j DROP
  iptables -A INPUT -p tcp --dport 22 -m recent --name pkd --rcheck --seconds 60 -j ACCEPT
  iptables -A INPUT -p tcp --dport 22 -j DROP
  ip6tables -A INPUT -p tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
  ip6tables -A INPUT -p udp {matched} --key-file /etc/pkd.key --tag {tag} -m recent --name pkd --set -j DROP
  ip6tables -A INPUT -p tcp --dport 22 -m recent --name pkd --rcheck --seconds 60 -j ACCEPT
  ip6tables -A INPUT -p tcp --dport 22 -j DROP

For OpenWrt, in /etc/config/pkd, with the file as /etc/pkd/keys/{user}.key:
  config user '{user}'
  \toption tag '{tag}'
{uci}  \tlist service 'ssh'

For pkdd, in /etc/pkdd/pkdd.toml:
  [user.{user}]
{toml}  tag = '{tag}'
  key_file = '/etc/pkd.key'
  services = ['ssh']

For the firmware, in its TOML file, with the key file next to it:
  [[rule]]
{toml}  tag = \"{tag}\"
  key_file = \"pkd.key\"
  window = 10
  ttl = 60
  services = [\"ssh\"]
"
    );
    text
}

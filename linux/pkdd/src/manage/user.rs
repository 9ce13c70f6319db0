//! `pkdd user`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use toml_edit::{Array, Item, Table, value};

use super::{
    arguments::{Invite, NewUser},
    file::{ConfigFile, Taken},
    invite,
    key_file::NewKeyFile,
};
use crate::{config::Config, users};

/// What is appended to the name of a user whose key was replaced, until the new one is in use.
const OLD: &str = ".old";

/// Adds a user with a new key, and returns the URI for their computer.
pub(super) fn add(path: &Path, new: &NewUser) -> Result<String> {
    let mut file = ConfigFile::open(path)?;
    let before = file.check()?;
    let name = &new.name;
    ensure!(
        !before.users.contains_key(name),
        "there is a user \"{name}\" already; pkdd user rotate {name} makes a new key"
    );
    ensure!(!name.ends_with(OLD), "invalid name {name}: {OLD} is for a key that was replaced");
    let services: Vec<String> = if new.services.is_empty() {
        before.services.keys().map(ToString::to_string).collect()
    } else {
        new.services.clone()
    };
    let mut table = Table::new();
    if let Some(format) = &new.format {
        table.insert("format", value(format));
    }
    table.insert("tag", value(new.tag.clone().unwrap_or_else(|| tag(&before, name))));
    let (key, relative) = key_path(&file, name);
    table.insert("key_file", value(relative));
    table.insert("services", value(services.iter().collect::<Array>()));
    if let Some(day) = &new.expires {
        table.insert("expires", value(day));
    }
    file.tables("user")?.insert(name, Item::Table(table));
    // Without a valid name there is no path to write to.
    is_name(name)?;
    let key = NewKeyFile::create(key, file.path())?;
    let (config, taken) = file.save()?;
    key.keep();
    say(taken, &format!("added user \"{name}\""));
    invite::text(&config, name, &new.print)
}

/// Replaces the key of a user. The old one works until the new one was used.
pub(super) fn rotate(path: &Path, name: &str, until: Option<&str>, print: &Invite) -> Result<String> {
    let mut file = ConfigFile::open(path)?;
    let before = file.check()?;
    let user = before.users.get(name).with_context(|| format!("there is no user \"{name}\""))?;
    let old_name = format!("{name}{OLD}");
    ensure!(
        !before.users.contains_key(&old_name),
        "the key of \"{name}\" was replaced already and the new one is not in use yet: \
         pkdd user revoke {old_name} ends the old one"
    );
    ensure!(user.replaced_by.is_none(), "\"{name}\" is an old key: rotate the user who has the new one");
    let last_day = users::last_day_of_old_key(user, until)?;
    let table = file.table("user", name)?;
    let mut old = table.clone();
    old.insert("replaced_by", value(name));
    old.insert("expires", value(last_day.to_string()));
    let (old_path, old_relative) = key_path(&file, &old_name);
    let (new_path, new_relative) = key_path(&file, name);
    // The old key's file makes room for the new one if it has the usual name.
    let current = old.get("key_file").and_then(Item::as_str).map(|text| file.folder().join(text));
    let moved = current.filter(|current| *current == new_path);
    if moved.is_some() {
        old.insert("key_file", value(&old_relative));
    }
    let table = file.table("user", name)?;
    table.remove("key");
    table.insert("key_file", value(new_relative));
    file.tables("user")?.insert(&old_name, Item::Table(old));
    if moved.is_some() {
        rename_new(&new_path, &old_path)?;
    }
    let done = (|| -> Result<_> {
        let key = NewKeyFile::create(new_path.clone(), file.path())?;
        let saved = file.save()?;
        key.keep();
        Ok(saved)
    })();
    if done.is_err() && moved.is_some() {
        fs::rename(&old_path, &new_path)
            .with_context(|| format!("cannot move {} back to {}", old_path.display(), new_path.display()))?;
    }
    let (config, taken) = done?;
    say(
        taken,
        &format!(
            "the old key of \"{name}\" works until the new one was used, at the latest until {last_day}"
        ),
    );
    invite::text(&config, name, print)
}

/// Removes a user and their key. What they have opened ends.
pub(super) fn revoke(path: &Path, name: &str) -> Result<String> {
    let mut file = ConfigFile::open(path)?;
    ensure!(file.tables("user")?.contains_key(name), "there is no user \"{name}\"");
    let mut names = vec![name.to_owned()];
    // Nor may the key that was replaced.
    let old_name = format!("{name}{OLD}");
    if file.tables("user")?.contains_key(&old_name) {
        names.push(old_name);
    }
    let mut keys = Vec::new();
    for name in &names {
        let removed = file.tables("user")?.remove(name);
        let key_file = removed.as_ref().and_then(|item| item.get("key_file")).and_then(Item::as_str);
        let (usual, _) = key_path(&file, name);
        // A file elsewhere may be somebody's own.
        keys.extend(key_file.map(|path| file.folder().join(path)).filter(|path| *path == usual));
    }
    let (_, taken) = file.save()?;
    for key in keys {
        match fs::remove_file(&key) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("\"{name}\" is revoked, but cannot remove {}", key.display()));
            }
            _ => {}
        }
    }
    Ok(match taken {
        Taken::Over => {
            format!("revoked \"{name}\": knocks are ignored, and what they have opened is closed\n")
        }
        Taken::ByNobody => format!("revoked \"{name}\"; pkdd is not running\n"),
    })
}

/// The users, without keys.
pub(super) fn list(path: &Path, json: bool) -> Result<String> {
    let config = crate::source::read(path)?;
    let rows = users::rows(&config);
    if json {
        return users::json(&rows);
    }
    let lines = rows.iter().map(|row| {
        [
            row.name.to_owned(),
            row.format.to_owned(),
            row.tag.clone(),
            row.services.join(","),
            row.state.clone(),
        ]
    });
    let head = ["USER", "FORMAT", "TAG", "SERVICES", "STATE"].map(str::to_owned);
    let lines: Vec<[String; 5]> = [head].into_iter().chain(lines).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    let line = |cells: &[String; 5]| {
        let columns = cells.iter().zip(widths);
        let padded = columns.fold(String::new(), |line, (cell, width)| line + &format!("{cell:width$}  "));
        padded + &cells[4] + "\n"
    };
    Ok(lines.iter().map(line).collect())
}

fn say(taken: Taken, done: &str) {
    // Standard output has only what another program reads.
    match taken {
        Taken::Over => eprintln!("pkdd: {done}"),
        Taken::ByNobody => eprintln!("pkdd: {done}; pkdd is not running: it takes effect at the start"),
    }
}

/// A tag that nobody else has: four letters of the name, or with a number. With format 2 it is not sent.
fn tag(config: &Config, name: &str) -> String {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).take(4).collect();
    let letters = if letters.is_empty() { "USER".to_owned() } else { letters.to_ascii_uppercase() };
    let is_free = |text: &String| config.users.values().all(|user| user.tag.to_string() != *text);
    let numbered = (1..1_000).map(|number: u32| {
        let digits = number.to_string();
        letters.chars().take(4 - digits.len()).collect::<String>() + &digits
    });
    // The rest share one: the key decides.
    [letters.clone()].into_iter().chain(numbered).find(is_free).unwrap_or(letters)
}

/// The key file of a user, and its path as the configuration has it.
fn key_path(file: &ConfigFile, name: &str) -> (PathBuf, String) {
    let relative = format!("keys/{name}.key");
    (file.folder().join(&relative), relative)
}

/// The check of the configuration comes after the key file was written.
fn is_name(name: &str) -> Result<()> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.@".contains(letter);
    if name.is_empty() || name.len() > 32 || !name.chars().all(is_plain) || name.starts_with(['.', '-']) {
        bail!("invalid name {name:?}: expected 1–32 letters, digits and _-.@");
    }
    Ok(())
}

/// Moves a file to a name that is free.
fn rename_new(from: &Path, to: &Path) -> Result<()> {
    // A hard link fails where a rename would replace.
    let cannot = || format!("cannot move {} to {}", from.display(), to.display());
    fs::hard_link(from, to).with_context(cannot)?;
    fs::remove_file(from).with_context(cannot)
}

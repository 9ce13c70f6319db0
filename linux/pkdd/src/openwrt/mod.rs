//! What OpenWrt's service `pkd` asks of pkdd: to check `/etc/config/pkd`, to render it to rules, and to tell the gate's
//! status. The service's scripts load what is rendered; they interpret none of it.
//!
//! The configuration arrives on standard input, as `uci export` prints the packages `pkd` and `firewall`.

mod behind;
mod client;
mod close;
mod conflicts;
mod drop_in;
mod files;
mod floor;
mod iptables;
mod module;
mod options;
mod paths;
mod place;
mod render;
mod rotate;
pub(crate) mod router;
mod status;
mod uci;

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;

use self::{
    files::{hex, write},
    paths::Paths,
    router::{KeyFiles, KeyPlace, Mode, Router},
};
use crate::{
    config::{Config, Error, error::Located},
    invitation, users,
};

/// What people edit.
const CONFIG: &str = "/etc/config/pkd";
const KEY_BYTES: usize = 32;

/// A command of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Checks the configuration and changes nothing; as JSON for a program that shows errors beside their fields.
    Check {
        /// Whether to print JSON.
        json: bool,
    },
    /// Writes the rules and what else the service needs into a folder. Makes missing keys.
    Render {
        /// The folder, which exists.
        folder: PathBuf,
    },
    /// Has firewall4's chain of a zone include the gate's jump, and no other. Prints `changed` unless it is so already.
    DropIn {
        /// The zone, or `any`.
        zone: String,
    },
    /// Prints the script for `iptables-restore` that installs the rendered rules.
    Iptables,
    /// Prints the gate's status.
    Status {
        /// Whether to print JSON.
        json: bool,
    },
    /// Prints a user's URI, which contains the key; makes the key if there is none.
    Uri {
        /// Whose.
        user: String,
        /// Where the client reaches the router, at every address.
        hosts: Vec<String>,
    },
    /// Lists the users, without keys.
    Users {
        /// Whether to print JSON.
        json: bool,
    },
    /// Prints what gives a user a new key, for `uci batch`.
    Rotate {
        /// Whose.
        user: String,
        /// The last day of the old key, if it is not the usual one.
        until: Option<String>,
    },
    /// Closes all services to an address.
    Close {
        /// The address.
        address: String,
    },
    /// Prints the commands with which a user knocks.
    Client {
        /// The user's name.
        user: String,
        /// The router's name or address.
        host: String,
    },
    /// Succeeds if a user's last day has ended since the rules were rendered.
    Expired,
    /// Succeeds if the clock can be relied on.
    TimeKnown,
    /// Gives the kernel module or pkdd its first floor.
    RestoreFloor {
        /// Whether the other mode was in force until now.
        mode_changed: bool,
    },
    /// Saves the kernel module's floor to flash.
    SaveFloor {
        /// Only if the last write is long ago.
        if_due: bool,
    },
}

impl Command {
    /// Parses the words after `openwrt`.
    ///
    /// # Errors
    /// One line that names what is wrong.
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        Ok(match words {
            ["check"] => Self::Check { json: false },
            ["check", "--json"] => Self::Check { json: true },
            ["render", folder] => Self::Render { folder: folder.into() },
            ["drop-in", zone] => Self::DropIn { zone: (*zone).to_owned() },
            ["iptables"] => Self::Iptables,
            ["status"] => Self::Status { json: false },
            ["status", "--json"] => Self::Status { json: true },
            ["client", user] => Self::Client { user: (*user).to_owned(), host: "ROUTER".to_owned() },
            ["client", user, host] => Self::Client { user: (*user).to_owned(), host: (*host).to_owned() },
            ["uri", user, hosts] => {
                Self::Uri { user: (*user).to_owned(), hosts: hosts.split(',').map(str::to_owned).collect() }
            }
            ["users"] => Self::Users { json: false },
            ["users", "--json"] => Self::Users { json: true },
            ["rotate", user] => Self::Rotate { user: (*user).to_owned(), until: None },
            ["rotate", user, until] => {
                Self::Rotate { user: (*user).to_owned(), until: Some((*until).to_owned()) }
            }
            ["close", address] => Self::Close { address: (*address).to_owned() },
            ["expired"] => Self::Expired,
            ["time-known"] => Self::TimeKnown,
            ["restore-floor"] => Self::RestoreFloor { mode_changed: false },
            ["restore-floor", "--mode-changed"] => Self::RestoreFloor { mode_changed: true },
            ["save-floor"] => Self::SaveFloor { if_due: false },
            ["save-floor", "--if-due"] => Self::SaveFloor { if_due: true },
            _ => {
                return Err(
                    "openwrt is for the scripts of OpenWrt's package pkd: run pkd help there".to_owned()
                );
            }
        })
    }

    /// Runs the command; returns what to print.
    ///
    /// # Errors
    /// One line: what is wrong with the configuration, or with the router.
    pub fn run(self) -> Result<String> {
        self.run_below(Path::new("/"), &|| {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
            Ok(text)
        })
    }

    fn run_below(self, root: &Path, input: &dyn Fn() -> Result<String>) -> Result<String> {
        let paths = Paths::below(root);
        match self {
            Self::Check { json: false } => Ok(warnings(&check(&input()?, &paths)?)),
            Self::Check { json: true } => {
                let checked = read(&input()?, &paths, KeyFiles::Ignore);
                let error = checked.as_ref().err().map(Error::located);
                let warnings = checked.as_ref().ok().map(|router| &router.config.warnings[..]);
                Ok(serde_json::to_string(&Checked { ok: checked.is_ok(), warnings, error })? + "\n")
            }
            Self::Render { folder } => render(&input()?, &folder, &paths),
            Self::DropIn { zone } => {
                let changed = drop_in::install(&paths, &zone)?;
                Ok(if changed { "changed\n".to_owned() } else { String::new() })
            }
            Self::Iptables => {
                let file = paths.active("iptables");
                let rules = fs::read_to_string(&file);
                let rules = rules.with_context(|| format!("cannot read {}", file.display()))?;
                Ok(iptables::script(&active(&paths)?, &rules, &input()?))
            }
            Self::Status { json } => status::print(&input()?, &paths, json),
            Self::Client { user, host } => {
                let router = check(&input()?, &paths)?;
                router.client(&user, &host).with_context(|| format!("unknown user \"{user}\" in {CONFIG}"))
            }
            Self::Uri { user, hosts } => {
                let text = input()?;
                let unknown = || format!("unknown user \"{user}\" in {CONFIG}");
                let router = check(&text, &paths)?;
                let (_, place) = router.keys.iter().find(|(name, _)| *name == user).with_context(unknown)?;
                // The check does not need the key itself, so the file may be missing.
                match place {
                    KeyPlace::File(path) if path.exists() => {}
                    KeyPlace::File(path) if *path == paths.key_file(&user) => make_key(path)?,
                    KeyPlace::File(path) => bail!(
                        "key file {} is missing: write the key there, or remove the option",
                        path.display()
                    ),
                    KeyPlace::Inline => {}
                }
                let config = check(&text, &paths)?.config;
                let found = config.users.get(&user).with_context(unknown)?;
                Ok(format!("{}\n", invitation::uri(&config, found, &hosts)))
            }
            Self::Users { json } => {
                let router = read(&input()?, &paths, KeyFiles::Ignore);
                let router = router.map_err(|error| anyhow!("{CONFIG}: {error}"))?;
                let rows = users::rows(&router.config);
                if json {
                    return users::json(&rows);
                }
                // A table would take flash.
                Ok(rows.iter().fold(String::new(), |text, row| {
                    text + row.name + ": " + &row.state + "; opens " + &row.services.join(", ") + "\n"
                }))
            }
            Self::Rotate { user, until } => {
                let text = input()?;
                rotate::batch(&text, &check(&text, &paths)?, &paths, &user, until.as_deref())
            }
            Self::Close { address } => close::run(&active(&paths)?, &paths, &address),
            Self::Expired => {
                let router = active(&paths)?;
                let rendered = fs::read_to_string(paths.active("iptables")).unwrap_or_default();
                if router.mode == Mode::Match && rendered != router.iptables(&paths.run("keys")) {
                    return Ok(String::new());
                }
                bail!("no user has expired since the last reload")
            }
            Self::TimeKnown => {
                let router = active(&paths)?;
                if status::is_time_known(&router, &paths) {
                    return Ok(String::new());
                }
                bail!("NTP has not set the clock yet")
            }
            Self::RestoreFloor { mode_changed } => {
                floor::restore(&active(&paths)?, &paths, mode_changed)?;
                Ok(String::new())
            }
            Self::SaveFloor { if_due } => {
                floor::save(&paths, if_due)?;
                Ok(String::new())
            }
        }
    }
}

/// Reads the configuration that the service has rendered for pkdd. `None`: the text is not UCI's.
pub(crate) fn read_config(text: &str) -> Option<Result<Config, Error>> {
    text.starts_with("package ").then(|| {
        router::check(text, &Paths::below(Path::new("/")), KeyFiles::Read).map(|router| router.config)
    })
}

/// The JSON of `pkdd openwrt check --json`.
#[derive(Serialize)]
struct Checked<'a> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Located<'a>>,
}

fn check(text: &str, paths: &Paths) -> Result<Router> {
    read(text, paths, KeyFiles::Read).map_err(|error| anyhow!("{CONFIG}: {error}"))
}

/// A configuration, with a warning for each section of the firewall that makes it useless.
fn read(text: &str, paths: &Paths, files: KeyFiles) -> Result<Router, Error> {
    let mut router = router::check(text, paths, files)?;
    let conflicts = conflicts::warnings(&router, &uci::parse(text)?);
    router.config.warnings.extend(conflicts);
    Ok(router)
}

/// A line for each.
fn warnings(router: &Router) -> String {
    let lines = router.config.warnings.iter();
    lines.fold(String::new(), |text, warning| text + "pkd: warning: " + warning + "\n")
}

/// The configuration in force.
fn active(paths: &Paths) -> Result<Router> {
    let path = paths.active("config");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    check(&text, paths)
}

fn render(text: &str, folder: &Path, paths: &Paths) -> Result<String> {
    // Nothing is made for a configuration that has an error.
    let first = check(text, paths)?;
    write(&folder.join("variables"), &first.variables())?;
    if !first.enabled {
        return Ok(String::new());
    }
    let mut made = String::new();
    for (name, place) in &first.keys {
        if let KeyPlace::File(path) = place
            && *path == paths.key_file(name)
            && !path.exists()
        {
            make_key(path)?;
            let _ =
                writeln!(made, "pkd: made a key for user {name}. To knock with it, run on your computer:");
            made += &first.client(name, "ROUTER").unwrap_or_default();
        }
    }
    let router = check(text, paths)?;
    let mut said = warnings(&router);
    said += &made;
    let keys = paths.run("keys");
    for (name, place) in &router.keys {
        if let (KeyPlace::Inline, Some(user)) = (place, router.config.users.get(name)) {
            let digits = hex(user.key.as_bytes());
            write(&keys.join(Router::inline_key_file(name, user)), &format!("0x{digits}\n"))?;
        }
    }
    write(&folder.join("fw4/table-pkd.nft"), &router.table())?;
    for jump in router.jumps() {
        write(&folder.join(format!("fw4/{}-pkd.nft", jump.file)), &(jump.rule + "\n"))?;
    }
    write(&folder.join("check.nft"), &router.check_table(folder))?;
    if router.mode == Mode::Match {
        write(&folder.join("iptables"), &router.iptables(&keys))?;
    }
    write(&folder.join("config"), &router.active_config(text))?;
    Ok(said)
}

fn make_key(path: &Path) -> Result<()> {
    let mut bytes = [0; KEY_BYTES];
    let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    random.context("cannot make a key: cannot read /dev/urandom")?;
    let digits = hex(&bytes);
    write(path, &format!("0x{digits}\n"))
}

#[cfg(test)]
mod tests;

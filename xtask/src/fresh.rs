//! `make test-fresh`: the README's commands on an empty Debian 12, each in a new root with only what the README names.
//!
//! What a command needs and does not install shows only where nothing else is installed. The root is entered by
//! `pivot_root` in a mount namespace: a plain chroot forbids the user namespaces that tests and demo need.

use std::{env, os::unix::fs::PermissionsExt};

use crate::{mutants::mirror, prelude::*, root};

/// What the README has people install, besides what any Debian with a user has.
const NAMED_BY_THE_README: &str = "cargo-web rustc-web gcc libc6-dev make git";
const ANY_DEBIAN: &str = "ca-certificates sudo";

/// Who types the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Root,
    /// A user who may become root by sudo.
    User,
}

/// The README's commands, cut to one architecture where they build for several.
const COMMANDS: &[(&str, Who)] = &[
    ("demo", Who::User),
    ("demo", Who::Root),
    ("demo-router", Who::User),
    ("packages ARCH=mipsel_24kc", Who::User),
    ("debs ARCH=amd64", Who::User),
    ("apt-repo ARCH=amd64", Who::User),
    ("clients ARCH=x86_64", Who::User),
    ("firmware", Who::User),
    ("deny", Who::User),
    ("docs", Who::User),
    ("fuzz SECONDS=1", Who::User),
    ("test", Who::Root),
];

/// A user of the root; the name is in no package.
const USER: &str = "newcomer";

/// Runs these commands of make, all of [`COMMANDS`] if none is named, and prints the minutes that each took.
pub(crate) fn run(names: &[String]) -> Result<()> {
    ensure!(
        cmd!("id -u").read()?.trim() == "0",
        "test-fresh makes a root file system and enters it: run it as root"
    );
    let chosen: Vec<(&str, Who)> = if names.is_empty() {
        COMMANDS.to_vec()
    } else {
        names.iter().flat_map(|name| chosen(name)).collect()
    };
    let mut table = "\n| command on an empty Debian 12 | as | minutes |\n|---|---|---:|\n".to_owned();
    for (command, who) in chosen {
        let time = one(command, who)
            .with_context(|| format!("`make {command}` as {who:?} fails on a fresh machine"))?;
        let row = format!("| make {command} | {who:?} | {:.1} |\n", time.as_secs_f32() / 60.0);
        print!("{row}");
        table += &row;
    }
    print!("{table}");
    Ok(())
}

/// The rows of the table for a command; one that is not in it is run as a user.
fn chosen(name: &str) -> Vec<(&str, Who)> {
    let known: Vec<_> =
        COMMANDS.iter().filter(|(command, _)| command.split(' ').next() == Some(name)).copied().collect();
    if known.is_empty() { vec![(name, Who::User)] } else { known }
}

/// Runs one command in a new root, which is removed if it succeeds.
fn one(command: &str, who: Who) -> Result<Duration> {
    let (user, home) = match who {
        Who::Root => ("root", "root".to_owned()),
        Who::User => (USER, format!("home/{USER}")),
    };
    // A minimal Debian with what the README names, made once.
    let packages = format!("{ANY_DEBIAN} {NAMED_BY_THE_README}");
    let base = root::base("fresh-base", &packages, &[], fill)?;
    progress!("an empty Debian 12: make {command}, as {user}");
    let root = root::copy(&base, "fresh-root")?;
    // sudo looks the computer's name up.
    let name = cmd!("hostname").read()?;
    fs::write(root.join("etc/hosts"), format!("127.0.0.1 localhost\n127.0.1.1 {name}"))?;
    mirror(&toolchain::root().canonicalize()?, &root.join(&home).join("pkd"))?;
    for file in [".npmrc", ".cargo/config.toml", ".config/pip/pip.conf"] {
        let own = env::var_os("HOME").map(|own| Path::new(&own).join(file)).filter(|own| own.exists());
        if let Some(own) = own {
            files::copy(&own, &root.join(&home).join(file))?;
        }
    }
    cmd!("chroot {root} chown -R {user}:{user} /{home}").quiet()?;

    let start = Instant::now();
    let make = format!("cd /{home}/pkd && exec make {command}");
    root::enter(&root, user, &format!("/{home}"), &[], &make)
        .envs(network())
        .show()
        .with_context(|| format!("the root stays in {}", root.display()))?;
    let time = start.elapsed();
    fs::remove_dir_all(&root)?;
    Ok(time)
}

fn fill(base: &Path) -> Result<()> {
    // apt and others are to reach what they reach here, in the same way.
    let mut paths = [
        "/etc/apt",
        "/usr/local/share/ca-certificates",
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pip.conf",
        "/etc/resolv.conf",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.extend(
        network().map(|(_, value)| value).filter(|path| path.starts_with('/') && Path::new(path).is_file()),
    );
    for path in paths.iter().filter(|path| Path::new(path).exists()) {
        let to = base.join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("it lies in no folder")?)?;
        // Links are followed: what they lead to is not in the root.
        cmd!("cp --recursive --dereference --remove-destination --no-target-directory {path} {to}")
            .quiet()?;
    }
    cmd!("chroot {base} update-ca-certificates").quiet()?;
    cmd!("chroot {base} useradd --create-home --shell /bin/bash {USER}").quiet()?;
    let sudoers = base.join("etc/sudoers.d").join(USER);
    fs::write(&sudoers, format!("{USER} ALL=(ALL) NOPASSWD: ALL\n"))?;
    Ok(fs::set_permissions(&sudoers, fs::Permissions::from_mode(0o440))?)
}

/// The host's variables that say how the network is reached: proxies and certificates.
fn network() -> impl Iterator<Item = (String, String)> {
    env::vars().filter(|(name, _)| is_about_the_network(name))
}

fn is_about_the_network(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name.ends_with("_PROXY")
        || name.starts_with("PIP_")
        || ["CERT", "CA_BUNDLE", "CAINFO", "CA_CERTS"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn every_command_of_the_first_page_is_run_or_named_here() -> Result<()> {
        /// They take hours, and need nothing that `make test` does not install; `release` needs what the others build.
        const LEFT_OUT: &str =
            "test-all test-fresh bench mutants-sample coverage mutants differential test-sanitizers release";
        let page = fs::read_to_string(toolchain::root().join("README.md"))?;
        let mut count = 0;
        for line in page.lines().filter_map(|line| line.strip_prefix("make ")) {
            let name = line.split(' ').next().unwrap_or_default();
            let known = COMMANDS.iter().any(|(command, _)| command.split(' ').next() == Some(name));
            if !known && !LEFT_OUT.split(' ').any(|left| left == name) {
                bail!("no fresh machine runs `make {name}` of README.md");
            }
            count += usize::from(known);
        }
        ensure!(count > 4, "only {count} commands");
        ensure!(page.contains(NAMED_BY_THE_README), "README.md does not name {NAMED_BY_THE_README}");
        Ok(())
    }

    #[test]
    fn what_a_fresh_machine_inherits_is_how_to_reach_the_network() {
        for (name, expected) in [
            ("https_proxy", true),
            ("SSL_CERT_FILE", true),
            ("PIP_INDEX_URL", true),
            ("CARGO_HOME", false),
            ("PATH", false),
        ] {
            assert_eq!(is_about_the_network(name), expected, "{name}");
        }
    }
}

//! The privileges of a daemon that was started as root.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use anyhow::{Context as _, Result, ensure};
use nix::{sys::signal::Signal, unistd::User};
use pkd_netns::{
    namespace::As,
    network::{Family, Network, inside_as},
};

use crate::{
    faults::refuses_to_start,
    gateway::{Gateway, KEY, TAG, now, payload},
};

const USER: &str = "nobody";

/// The folders change their owner while the daemon is still root; afterwards it could not change it.
fn check_privileges(network: &Network) -> Result<()> {
    let mut gateway = Gateway::new(network, "nft")?;
    let toml = fs::read_to_string(gateway.path("pkdd.toml"))?;
    fs::write(gateway.path("pkdd.toml"), toml.replace("[gate]", &format!("[gate]\nuser = '{USER}'")))?;
    let map = fs::read_to_string("/proc/self/uid_map")?;
    if map.split_whitespace().nth(2) == Some("1") {
        // There is no other user in this namespace, so the first step fails: changing the owner.
        let error = refuses_to_start(&gateway)?;
        ensure!(error.contains(&format!("/run to {USER}: Invalid argument")), "{error}");
        return Ok(());
    }
    fs::set_permissions(gateway.folder.path(), fs::Permissions::from_mode(0o755))?;
    let user = User::from_name(USER)?.context("no such user")?.uid.as_raw();
    for start in 0..2 {
        gateway.start()?;
        gateway.expect("accept", Family::V4, &payload(KEY, TAG, now()?, start)?)?;
        for name in ["run", "run/journal", "run/lock", "run/socket", "state", "state/floor"] {
            let owner = fs::metadata(gateway.path(name))?.uid();
            ensure!(owner == user, "start {start}: {name} belongs to {owner}");
        }
        let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid()?))?;
        let has = |line: &str| status.lines().any(|known| known == line);
        ensure!(has(&format!("Uid:\t{user}\t{user}\t{user}\t{user}")), "{status}");
        // Only CAP_NET_ADMIN.
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            ensure!(has(&format!("{set}:\t0000000000001000")), "{status}");
        }
        ensure!(gateway.stop(Signal::SIGTERM)?);
    }
    // A file of root's would keep the daemon from starting, whether the configuration or the unit names its user.
    let toml = fs::read_to_string(gateway.path("pkdd.toml"))?;
    fs::write(gateway.path("pkdd.toml"), toml.replace(&format!("user = '{USER}'"), ""))?;
    gateway.run(&["reset-floor"])?;
    let owner = fs::metadata(gateway.path("state/floor"))?.uid();
    ensure!(owner == user && !gateway.path("run/journal").exists(), "the floor belongs to {owner}");
    // What that user puts into its folders leads root nowhere else.
    let (precious, lock) = (gateway.path("precious"), gateway.path("run/lock"));
    fs::write(&precious, "precious")?;
    for name in ["run/lock", "run/services", "run/services.firewall"] {
        let path = gateway.path(name);
        let kept = fs::read(&path)?;
        fs::remove_file(&path)?;
        symlink(&precious, &path)?;
        let output = gateway.command(&["clear"]).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && error.contains(name), "{name}: {error}");
        ensure!(fs::read_to_string(&precious)? == "precious", "{name}: root has written through a link");
        fs::remove_file(&path)?;
        fs::write(&path, kept)?;
    }
    fs::remove_file(&lock)?;
    gateway.run(&["clear"])?;
    ensure!(fs::metadata(&lock)?.uid() == user, "root has left a lock of its own");
    fs::write(gateway.path("pkdd.toml"), toml)?;
    gateway.start()
}

#[test]
fn root_changes_the_owner_of_its_folders_and_keeps_one_capability() -> Result<()> {
    let path = concat!(module_path!(), "::root_changes_the_owner_of_its_folders_and_keeps_one_capability");
    inside_as(As::RootIfPossible, path, check_privileges)
}

#[test]
fn root_in_a_user_namespace_changes_the_owner_of_its_folders_first() -> Result<()> {
    let path = concat!(module_path!(), "::root_in_a_user_namespace_changes_the_owner_of_its_folders_first");
    inside_as(As::RootInNamespace, path, check_privileges)
}

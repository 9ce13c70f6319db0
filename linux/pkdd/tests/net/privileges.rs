//! What a daemon that root starts keeps of root.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use anyhow::{Context as _, Result, ensure};
use nix::{sys::signal::Signal, unistd::User};
use pkd_netns::{
    network::{Family, Network, inside_as},
    room::As,
};

use crate::{
    faults::refuses_to_start,
    gateway::{Gateway, KEY, TAG, now, payload},
};

const USER: &str = "nobody";

/// Its folders are active to the user while it is root still: afterwards they could not be.
fn holds(network: &Network) -> Result<()> {
    let mut gateway = Gateway::new(network, "nft")?;
    let toml = fs::read_to_string(gateway.path("pkdd.toml"))?;
    fs::write(gateway.path("pkdd.toml"), toml.replace("[gate]", &format!("[gate]\nuser = '{USER}'")))?;
    let map = fs::read_to_string("/proc/self/uid_map")?;
    if map.split_whitespace().nth(2) == Some("1") {
        // There is no other user in this room, so the first step towards him fails. It is the right one.
        let said = refuses_to_start(&gateway)?;
        ensure!(said.contains(&format!("/run to {USER}: Invalid argument")), "{said}");
        return Ok(());
    }
    fs::set_permissions(gateway.folder.path(), fs::Permissions::from_mode(0o755))?;
    let user = User::from_name(USER)?.context("no such user")?.uid.as_raw();
    for life in 0..2 {
        gateway.start()?;
        gateway.expect("accept", Family::V4, &payload(KEY, TAG, now()?, life)?)?;
        for name in ["run", "run/journal", "run/lock", "run/socket", "state", "state/floor"] {
            let owner = fs::metadata(gateway.path(name))?.uid();
            ensure!(owner == user, "life {life}: {name} is of {owner}");
        }
        let status = fs::read_to_string(format!("/proc/{}/status", gateway.process()?))?;
        let has = |line: &str| status.lines().any(|known| known == line);
        ensure!(has(&format!("Uid:\t{user}\t{user}\t{user}\t{user}")), "{status}");
        // CAP_NET_ADMIN, and nothing else.
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            ensure!(has(&format!("{set}:\t0000000000001000")), "{status}");
        }
        ensure!(gateway.stop(Signal::SIGTERM)?);
    }
    Ok(())
}

#[test]
fn root_gives_its_folders_away_and_keeps_one_privilege() -> Result<()> {
    let path = concat!(module_path!(), "::root_gives_its_folders_away_and_keeps_one_privilege");
    inside_as(As::RootIfPossible, path, holds)
}

#[test]
fn who_is_root_of_his_namespace_alone_gives_its_folders_away_first() -> Result<()> {
    let path = concat!(module_path!(), "::who_is_root_of_his_namespace_alone_gives_its_folders_away_first");
    inside_as(As::RootOfTheRoom, path, holds)
}

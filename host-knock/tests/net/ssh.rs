//! Ways in: ssh by way of knock, and knock alone.

use std::fs;

use anyhow::{Result, ensure};
use pkd_netns::{
    network::{Family, Network, inside_as},
    process::shell,
    room::As,
};

use crate::door::{Door, SSH};

fn behind_a_door(path: &str, scene: fn(&Network) -> Result<()>) -> Result<()> {
    // sshd wants to be root, or somebody who really exists.
    inside_as(As::RootIfPossible, path, scene)
}

#[test]
fn ssh_logs_in_through_the_proxy_and_a_large_file_arrives_whole() -> Result<()> {
    behind_a_door(
        concat!(module_path!(), "::ssh_logs_in_through_the_proxy_and_a_large_file_arrives_whole"),
        |network| {
            let door = Door::closed(network)?;
            for family in Family::BOTH {
                door.is_closed(family)?;
                let gateway = family.gateway().to_string();
                let mut ssh = door.command("ssh");
                ssh.arg("-F").arg(door.path("ssh_config"));
                ssh.args(["-o", "ProxyCommand=knock proxy %h %p", "-p", &SSH.to_string(), &gateway]);
                ssh.args(["echo", "inside"]);
                ensure!(door.succeed(&mut ssh)? == "inside\n", "{family:?}");
            }
            let (from, to) = (door.path("large"), door.path("arrived"));
            shell(&format!("head -c 104857600 /dev/urandom > {}", from.display()))?;
            let mut scp = door.command("scp");
            scp.arg("-F").arg(door.path("ssh_config"));
            scp.args(["-o", "ProxyCommand=knock proxy %h %p", "-P", &SSH.to_string()]);
            scp.arg(&from).arg(format!("{}:{}", Family::V4.gateway(), to.display()));
            door.succeed(&mut scp)?;
            let (from, to) = (fs::read(&from)?, fs::read(&to)?);
            ensure!(from.len() == 104_857_600 && from == to, "{} bytes arrived", to.len());
            Ok(())
        },
    )
}

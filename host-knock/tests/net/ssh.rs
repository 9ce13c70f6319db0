//! Ways in: ssh by way of knock, and knock alone.

use std::{fs, net::SocketAddr};

use anyhow::{Result, ensure};
use pkd_netns::{
    network::{Family, Network, inside_as},
    process::shell,
    room::As,
};

use crate::door::{Door, SSH};

/// Runs a test before a closed door.
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

#[test]
fn knock_becomes_ssh() -> Result<()> {
    behind_a_door(concat!(module_path!(), "::knock_becomes_ssh"), |network| {
        let door = Door::closed(network)?;
        for (family, name) in [(Family::V4, "office"), (Family::V6, "office6")] {
            door.is_closed(family)?;
            let mut ssh = door.command("knock");
            ssh.args(["ssh", name, "-F"]).arg(door.path("ssh_config")).args(["--", "echo inside; exit 7"]);
            let output = door.run(&mut ssh)?;
            // The exit code is that of what ran there, and the port is that of the profile's service.
            ensure!(output.status.code() == Some(7) && output.stdout == b"inside\n", "{output:?}");
            ensure!(output.stderr.is_empty(), "{output:?}");
        }
        // From a terminal to a terminal.
        let line = format!("knock ssh office -t -F {} tty", door.path("ssh_config").display());
        let shown = door.succeed(door.command("script").args(["-q", "-e", "-c", &line, "/dev/null"]))?;
        ensure!(shown.contains("/dev/pts/"), "{shown:?}");
        Ok(())
    })
}

#[test]
fn ssh_finds_the_profile_by_its_address_and_its_port_by_its_own_configuration() -> Result<()> {
    behind_a_door(
        concat!(
            module_path!(),
            "::ssh_finds_the_profile_by_its_address_and_its_port_by_its_own_configuration"
        ),
        |network| {
            let door = Door::closed(network)?;
            let own = fs::read_to_string(door.path("ssh_config"))?;
            let gateway = Family::V4.gateway();
            let host = format!(
                "Host gw\n  HostName {gateway}\n  Port {SSH}\n  ProxyCommand knock proxy %h %p\n{own}"
            );
            fs::write(door.path("ssh_config"), host)?;
            let mut ssh = door.command("ssh");
            ssh.arg("-F").arg(door.path("ssh_config")).args(["gw", "echo", "inside"]);
            ensure!(door.succeed(&mut ssh)? == "inside\n");
            Ok(())
        },
    )
}

#[test]
fn wait_and_then_come_after_the_door() -> Result<()> {
    behind_a_door(concat!(module_path!(), "::wait_and_then_come_after_the_door"), |network| {
        let door = Door::closed(network)?;
        door.is_closed(Family::V4)?;
        ensure!(door.succeed(door.command("knock").args(["wait", "office"]))?.is_empty());
        let banner = network.banner(Family::V4.client(), SocketAddr::new(Family::V4.gateway(), SSH))?;
        ensure!(banner.is_some_and(|banner| banner.starts_with("SSH-2.0-OpenSSH")), "it is not open");
        let mut then = door.command("knock");
        then.args(["office6", "--then", "echo $0 then; exit 9"]);
        let output = door.run(&mut then)?;
        ensure!(output.status.code() == Some(9) && output.stdout == b"sh then\n", "{output:?}");
        // A port that the knock does not open, named by number.
        let mut other = door.command("knock");
        let output = door.run(other.args(["wait", "--timeout", "1", "office", "9"]))?;
        let gateway = Family::V4.gateway();
        let said = format!(
            "knock: {gateway}: port 9 did not open within 1 s: {gateway}: the connection is refused\n"
        );
        ensure!(output.status.code() == Some(1) && output.stderr == said.as_bytes(), "{output:?}");
        Ok(())
    })
}

#[test]
fn whoever_waits_knocks_again() -> Result<()> {
    behind_a_door(concat!(module_path!(), "::whoever_waits_knocks_again"), |network| {
        let door = Door::closed(network)?;
        // The first knock is lost: the gateway has no address yet for who comes there.
        shell(
            "nft add table inet lossy && nft add chain inet lossy in '{ type filter hook prerouting priority -400; }'",
        )?;
        shell("nft add rule inet lossy in udp length 64 limit rate over 1/hour burst 1 packets accept")?;
        shell("nft add rule inet lossy in udp length 64 drop")?;
        let begin = std::time::Instant::now();
        door.succeed(door.command("knock").args(["wait", "office"]))?;
        ensure!(begin.elapsed().as_millis() >= 1_500, "the first knock was not lost");
        Ok(())
    })
}

#[test]
fn a_terminal_sees_that_it_goes_on_and_a_pipe_does_not() -> Result<()> {
    behind_a_door(
        concat!(module_path!(), "::a_terminal_sees_that_it_goes_on_and_a_pipe_does_not"),
        |network| {
            let door = Door::closed(network)?;
            // Silence, so that it waits: nothing is let in by this door.
            shell(
                "nft add table inet deaf && nft add chain inet deaf in '{ type filter hook prerouting priority -400; }'",
            )?;
            shell("nft add rule inet deaf in udp length 64 drop")?;
            let gateway = Family::V4.gateway();
            let said =
                format!("knock: {gateway}: port {SSH} did not open within 2 s: {gateway}: nothing answers");
            let args = ["wait", "--timeout", "2", "office"];
            let output = door.run(door.command("knock").args(args))?;
            ensure!(
                output.stderr == format!("{said}\n").as_bytes() && output.stdout.is_empty(),
                "{output:?}"
            );
            // script gives it a terminal, and what that shows.
            let mut seen = door.command("script");
            seen.args(["-q", "-e", "-c", &format!("knock {}", args.join(" ")), "/dev/null"]);
            let output = door.run(&mut seen)?;
            let shown = String::from_utf8(output.stdout)?;
            ensure!(output.status.code() == Some(1), "{shown}");
            ensure!(shown.contains(&format!("\rknock: waiting for {gateway} port {SSH}, 1 s")), "{shown:?}");
            let last = shown.trim_end().rsplit('\r').next().unwrap_or_default();
            ensure!(last == said, "{shown:?}");
            Ok(())
        },
    )
}

//! ssh through knock, and the commands that wait.

use std::{fs, net::SocketAddr};

use anyhow::{Result, ensure};
use pkd_netns::{
    namespace::As,
    network::{Family, Network, inside_as},
    process::shell,
};

use crate::gateway::{Gateway, SSH};

/// Runs a test with a gateway in a network of its own.
fn with_gateway(path: &str, scene: fn(&Network) -> Result<()>) -> Result<()> {
    // sshd needs root or a real user.
    inside_as(As::RootIfPossible, path, scene)
}

#[test]
fn ssh_logs_in_through_the_proxy_and_a_large_file_arrives_whole() -> Result<()> {
    with_gateway(
        concat!(module_path!(), "::ssh_logs_in_through_the_proxy_and_a_large_file_arrives_whole"),
        |network| {
            let gateway = Gateway::closed(network)?;
            for family in Family::BOTH {
                gateway.is_closed(family)?;
                let address = family.gateway().to_string();
                let mut ssh = gateway.command("ssh");
                ssh.arg("-F").arg(gateway.path("ssh_config"));
                ssh.args(["-o", "ProxyCommand=knock proxy %h %p", "-p", &SSH.to_string(), &address]);
                ssh.args(["echo", "inside"]);
                ensure!(gateway.succeed(&mut ssh)? == "inside\n", "{family:?}");
            }
            let (from, to) = (gateway.path("large"), gateway.path("arrived"));
            shell(&format!("head -c 104857600 /dev/urandom > {}", from.display()))?;
            let mut scp = gateway.command("scp");
            scp.arg("-F").arg(gateway.path("ssh_config"));
            scp.args(["-o", "ProxyCommand=knock proxy %h %p", "-P", &SSH.to_string()]);
            scp.arg(&from).arg(format!("{}:{}", Family::V4.gateway(), to.display()));
            gateway.succeed(&mut scp)?;
            let (from, to) = (fs::read(&from)?, fs::read(&to)?);
            ensure!(from.len() == 104_857_600 && from == to, "{} bytes arrived", to.len());
            Ok(())
        },
    )
}

#[test]
fn knock_ssh_runs_ssh() -> Result<()> {
    with_gateway(concat!(module_path!(), "::knock_ssh_runs_ssh"), |network| {
        let gateway = Gateway::closed(network)?;
        for (family, name) in [(Family::V4, "office"), (Family::V6, "office6")] {
            gateway.is_closed(family)?;
            let mut ssh = gateway.command("knock");
            ssh.args(["ssh", name, "-F"]).arg(gateway.path("ssh_config")).args(["--", "echo inside; exit 7"]);
            let output = gateway.run(&mut ssh)?;
            // The exit code is that of the remote command; the port comes from the profile.
            ensure!(output.status.code() == Some(7) && output.stdout == b"inside\n", "{output:?}");
            ensure!(output.stderr.is_empty(), "{output:?}");
        }
        // On a terminal.
        let line = format!("knock ssh office -t -F {} tty", gateway.path("ssh_config").display());
        let shown =
            gateway.succeed(gateway.command("script").args(["-q", "-e", "-c", &line, "/dev/null"]))?;
        ensure!(shown.contains("/dev/pts/"), "{shown:?}");
        Ok(())
    })
}

#[test]
fn knock_ssh_reaches_the_address_that_answers() -> Result<()> {
    with_gateway(concat!(module_path!(), "::knock_ssh_reaches_the_address_that_answers"), |network| {
        let gateway = Gateway::closed(network)?;
        let config = fs::read_to_string(gateway.path("config/knock/config.toml"))?;
        // Nobody has the first address, under which ssh knows the key.
        let both = format!(
            "{config}[host.both]\naddress = ['192.0.2.77', '{}']\nformat = '2'\ntag = 'SSHK'\nkey_file = 'office.key'\n\
             services = {{ ssh = {SSH} }}\n",
            Family::V6.gateway()
        );
        gateway.secret("config/knock/config.toml", &both)?;
        let known = fs::read_to_string(gateway.path("known_hosts"))?;
        fs::write(gateway.path("known_hosts"), known.replacen('*', &format!("[192.0.2.77]:{SSH}"), 1))?;
        gateway.is_closed(Family::V6)?;
        let mut ssh = gateway.command("knock");
        ssh.args(["ssh", "both", "-F"]).arg(gateway.path("ssh_config")).arg("echo $SSH_CONNECTION");
        let output = gateway.run(&mut ssh)?;
        let shown = String::from_utf8(output.stdout)?;
        ensure!(output.status.success() && shown.contains(&format!(" {} ", Family::V6.gateway())), "{shown}");
        Ok(())
    })
}

#[test]
fn close_and_close_after_shut_the_port_again() -> Result<()> {
    with_gateway(concat!(module_path!(), "::close_and_close_after_shut_the_port_again"), |network| {
        let gateway = Gateway::closed(network)?;
        let configuration = gateway.path("ssh_config");
        for (family, name) in [(Family::V4, "office"), (Family::V6, "office6")] {
            gateway.is_closed(family)?;
            gateway.succeed(gateway.command("knock").args(["wait", name]))?;
            let mut said = gateway.command("knock");
            let said = gateway.succeed(said.args(["close", "-v", name]))?;
            ensure!(said.starts_with(&format!("sent close to {0} ({0} port ", family.gateway())), "{said}");
            gateway.wait_until_closed(family)?;

            let mut ssh = gateway.command("knock");
            ssh.args(["ssh", "--close-after", name, "-F"]).arg(&configuration);
            let output = gateway.run(ssh.args(["--", "echo inside; exit 7"]))?;
            ensure!(output.status.code() == Some(7) && output.stdout == b"inside\n", "{output:?}");
            gateway.wait_until_closed(family)?;

            // ssh ends its ProxyCommand with a signal.
            let mut ssh = gateway.command("ssh");
            ssh.arg("-F").arg(&configuration);
            ssh.args(["-o", "ProxyCommand=knock proxy --close-after %h %p", "-p", &SSH.to_string()]);
            ssh.args([&family.gateway().to_string(), "echo", "inside"]);
            ensure!(gateway.succeed(&mut ssh)? == "inside\n", "{family:?}");
            gateway.wait_until_closed(family)?;

            let mut then = gateway.command("knock");
            let output = gateway.run(then.args([name, "--then", "echo then; exit 9", "--close-after"]))?;
            ensure!(output.status.code() == Some(9) && output.stdout == b"then\n", "{output:?}");
            gateway.wait_until_closed(family)?;

            // A signal reaches the command, and what follows it is still done.
            let mut then = gateway.command("knock");
            let interrupted = "kill -TERM $PPID; exec sleep 600";
            let output = gateway.run(then.args([name, "--then", interrupted, "--close-after"]))?;
            ensure!(output.status.code() == Some(128 + 15) && output.stdout.is_empty(), "{output:?}");
            gateway.wait_until_closed(family)?;
        }
        Ok(())
    })
}

#[test]
fn proxy_finds_the_profile_by_its_address() -> Result<()> {
    with_gateway(concat!(module_path!(), "::proxy_finds_the_profile_by_its_address"), |network| {
        let gateway = Gateway::closed(network)?;
        let own = fs::read_to_string(gateway.path("ssh_config"))?;
        let address = Family::V4.gateway();
        let host =
            format!("Host gw\n  HostName {address}\n  Port {SSH}\n  ProxyCommand knock proxy %h %p\n{own}");
        fs::write(gateway.path("ssh_config"), host)?;
        let mut ssh = gateway.command("ssh");
        ssh.arg("-F").arg(gateway.path("ssh_config")).args(["gw", "echo", "inside"]);
        ensure!(gateway.succeed(&mut ssh)? == "inside\n");
        Ok(())
    })
}

#[test]
fn wait_and_then_return_when_the_port_is_open() -> Result<()> {
    with_gateway(concat!(module_path!(), "::wait_and_then_return_when_the_port_is_open"), |network| {
        let gateway = Gateway::closed(network)?;
        gateway.is_closed(Family::V4)?;
        ensure!(gateway.succeed(gateway.command("knock").args(["wait", "office"]))?.is_empty());
        let banner = network.banner(Family::V4.client(), SocketAddr::new(Family::V4.gateway(), SSH))?;
        ensure!(banner.is_some_and(|banner| banner.starts_with("SSH-2.0-OpenSSH")), "it is not open");
        let mut then = gateway.command("knock");
        then.args(["office6", "--then", "echo $0 then; exit 9"]);
        let output = gateway.run(&mut then)?;
        ensure!(output.status.code() == Some(9) && output.stdout == b"sh then\n", "{output:?}");
        // A port that the knock does not open.
        let mut other = gateway.command("knock");
        let output = gateway.run(other.args(["wait", "--timeout", "1", "office", "9"]))?;
        let address = Family::V4.gateway();
        let said =
            format!("knock: {address}: port 9 did not open within 1 s: {address}: connection refused\n");
        ensure!(output.status.code() == Some(1) && output.stderr == said.as_bytes(), "{output:?}");
        Ok(())
    })
}

#[test]
fn waiting_repeats_the_knock() -> Result<()> {
    with_gateway(concat!(module_path!(), "::waiting_repeats_the_knock"), |network| {
        let gateway = Gateway::closed(network)?;
        // The first knock is dropped.
        shell(
            "nft add table inet lossy && nft add chain inet lossy in '{ type filter hook prerouting priority -400; }'",
        )?;
        shell("nft add rule inet lossy in udp length 64 limit rate over 1/hour burst 1 packets accept")?;
        shell("nft add rule inet lossy in udp length 64 drop")?;
        let begin = std::time::Instant::now();
        gateway.succeed(gateway.command("knock").args(["wait", "office"]))?;
        ensure!(begin.elapsed().as_millis() >= 1_500, "the first knock was not lost");
        Ok(())
    })
}

#[test]
fn progress_is_shown_on_a_terminal_only() -> Result<()> {
    with_gateway(concat!(module_path!(), "::progress_is_shown_on_a_terminal_only"), |network| {
        let gateway = Gateway::closed(network)?;
        // Drops all knocks, so that it waits.
        shell(
            "nft add table inet deaf && nft add chain inet deaf in '{ type filter hook prerouting priority -400; }'",
        )?;
        shell("nft add rule inet deaf in udp length 64 drop")?;
        let address = Family::V4.gateway();
        let said = format!("knock: {address}: port {SSH} did not open within 2 s: {address}: no answer");
        let args = ["wait", "--timeout", "2", "office"];
        let output = gateway.run(gateway.command("knock").args(args))?;
        ensure!(output.stderr == format!("{said}\n").as_bytes() && output.stdout.is_empty(), "{output:?}");
        // script provides a terminal and shows its output.
        let mut seen = gateway.command("script");
        seen.args(["-q", "-e", "-c", &format!("knock {}", args.join(" ")), "/dev/null"]);
        let output = gateway.run(&mut seen)?;
        let shown = String::from_utf8(output.stdout)?;
        ensure!(output.status.code() == Some(1), "{shown}");
        ensure!(shown.contains(&format!("\rknock: waiting for {address} port {SSH}, 1 s")), "{shown:?}");
        let last = shown.trim_end().rsplit('\r').next().unwrap_or_default();
        ensure!(last == said, "{shown:?}");
        Ok(())
    })
}

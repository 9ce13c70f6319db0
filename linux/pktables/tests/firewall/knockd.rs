//! With Debian's knockd and knock, set up as in the README, with shorter times.

use std::{
    fs::{self, File},
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use pktables::Grant;

use crate::{
    netns::{Netns, command, feed, on_each_firewall, run, wait},
    readme::block,
    topology,
};

const LOG: &str = "/run/knockd.log";

/// Killed when dropped.
struct Knockd(Child);

impl Knockd {
    /// Starts knockd on the outer interface of the gateway, and waits until it listens.
    fn start(configuration: &str) -> Result<Self> {
        fs::write("/run/knockd.conf", configuration)?;
        let log = File::create(LOG)?;
        let child = command("/usr/sbin/knockd")
            .args(["--interface", "c0", "--config", "/run/knockd.conf", "--verbose"])
            .stderr(log.try_clone()?)
            .stdout(log)
            .spawn()
            .context("knockd is missing; Debian's knockd brings it")?;
        let knockd = Self(child);
        // It receives packets once the kernel has its filter; while libpcap prepares, that is a single instruction.
        let filter = || run("ss", ["--packet", "--bpf"]);
        let is_whole = |list: &String| list.contains("bpf filter (") && !list.contains("bpf filter (1)");
        wait("the filter of knockd", filter, is_whole)?;
        Ok(knockd)
    }

    /// Kills it without warning.
    fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Knockd {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Installs pktables, as on a real host.
fn install() -> Result<()> {
    topology::connect()?;
    for folder in ["/run/upper", "/run/work"] {
        fs::create_dir(folder)?;
    }
    let layers = "lowerdir=/usr/sbin,upperdir=/run/upper,workdir=/run/work";
    run("mount", ["-t", "overlay", "overlay", "-o", layers, "/usr/sbin"])?;
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pktables"), "/usr/sbin/pktables")?;
    Ok(())
}

/// Sends a sequence from the client, whose lowest address of this family is used.
fn knock(gateway: &str, ports: &str) -> Result<()> {
    let mut knock = command("nsenter");
    knock.args(["--net=/run/netns/client", "/usr/bin/knock", "-d", "5", gateway]).args(ports.split(' '));
    let output = knock.stdout(Stdio::null()).output()?;
    ensure!(output.status.success(), "{knock:?}: {output:?}");
    Ok(())
}

fn grants(netns: &Netns, service: &str) -> Result<Vec<Grant>> {
    let listings = netns.firewall()?.list()?.services;
    let listing = listings.into_iter().find(|listing| listing.service.name.as_str() == service);
    Ok(listing.context("no such service")?.grants)
}

fn wait_for(netns: &Netns, service: &str, expected: &[&str]) -> Result<()> {
    let what = format!("the addresses of {service}; knockd says {:?}", fs::read_to_string(LOG));
    wait(&what, || netns.granted(service), |granted| granted == expected).map(drop)
}

/// What the systemd unit runs before and after knockd.
fn helper(command: &str) -> Result<()> {
    feed("sh", &["-es", command], block("sh", "knockd-helper")?)
}

/// The configuration of the README with short times.
fn configuration() -> Result<String> {
    Ok(block("text", "[options]")?
        .replace("cmd_timeout   = 30", "cmd_timeout = 1")
        .replace("31", "2")
        .replace("30s", "2s"))
}

on_each_firewall! {
    fn knocks_open_and_stop_commands_close(netns) {
        install()?;
        netns.quietly(&["init other --port 1"])?;
        helper("start")?;
        let _knockd = Knockd::start(&configuration()?)?;
        topology::serve(None, 22, "gateway")?;
        assert_eq!(topology::who("192.0.2.7", 22)?, None);
        knock("192.0.2.1", "7000 8000 9000")?;
        topology::expect("192.0.2.7", 22, Some("gateway"))?;
        assert_eq!(topology::who("192.0.2.8", 22)?, None);
        wait_for(netns, "ssh", &[])?;
        assert_eq!(topology::who("192.0.2.7", 22)?, None);
        helper("stop")?;
        topology::expect("192.0.2.7", 22, Some("gateway"))
    }
}

on_each_firewall! {
    fn one_knock_opens_two_services(netns) {
        install()?;
        netns.quietly(&["init other --port 1"])?;
        helper("start")?;
        let _knockd = Knockd::start(&configuration()?)?;
        knock("192.0.2.1", "500:udp 4500:udp 7001:udp")?;
        wait_for(netns, "ike", &["192.0.2.7"])?;
        wait_for(netns, "nat-t", &["192.0.2.7"])?;
        assert_eq!(netns.granted("ssh")?, [""; 0]);
        wait_for(netns, "ike", &[])?;
        wait_for(netns, "nat-t", &[])
    }
}

on_each_firewall! {
    /// Each knock has its own timeout, so the end of the first does not cut the second short.
    fn a_second_knock_extends_the_first(netns) {
        install()?;
        netns.quietly(&["init other --port 1"])?;
        helper("start")?;
        // Long enough for the second knock to come before the end of the first on a slow machine.
        let long = configuration()?.replace("--timeout 2s", "--timeout 20s");
        let _knockd = Knockd::start(&long)?;
        let left = || Ok(grants(netns, "web")?.first().and_then(|grant| grant.left));
        knock("192.0.2.1", "7003 8003 9003")?;
        let first = wait("the grant", left, Option::is_some)?;
        // A second later the stop_command of the first comes, and there is less left.
        let less = wait("less", left, |left| left.is_some_and(|left| left.as_secs() < 17))?;
        knock("192.0.2.1", "7003 8003 9003")?;
        let second = wait("more", left, |left| *left > less.map(|left| left + std::time::Duration::from_secs(2)))?;
        ensure!(first.is_some() && second.is_some());
        Ok(())
    }
}

on_each_firewall! {
    /// A grant with a timeout ends without knockd; one without stays until the next start revokes it.
    fn a_killed_knockd_leaves_no_port_open(netns) {
        install()?;
        netns.quietly(&["init other --port 1"])?;
        helper("start")?;
        let knockd = Knockd::start(&configuration()?.replace("cmd_timeout = 1", "cmd_timeout = 3600"))?;
        knock("192.0.2.1", "7003 8003 9003")?;
        wait_for(netns, "web", &["192.0.2.7"])?;
        knock("192.0.2.1", "7000 8000 9000")?;
        wait_for(netns, "ssh", &["192.0.2.7"])?;
        knockd.kill()?;
        let expired = || -> Result<Vec<String>> {
            netns.quietly(&["expire"])?;
            netns.granted("web")
        };
        wait("the grant with a time", expired, Vec::is_empty)?;
        assert_eq!(netns.granted("ssh")?, ["192.0.2.7"]);
        helper("start")?;
        assert_eq!(netns.granted("ssh")?, [""; 0]);
        Ok(())
    }
}

on_each_firewall! {
    fn knocks_over_ipv6_open_ipv6(netns) {
        install()?;
        netns.quietly(&["init other --port 1"])?;
        helper("start")?;
        let _knockd = Knockd::start(&configuration()?)?;
        knock("2001:db8::1", "7003 8003 9003")?;
        let granted = wait("the addresses", || netns.granted("web"), |granted| !granted.is_empty())?;
        ensure!(granted[0].starts_with("2001:db8::"), "{granted:?}");
        Ok(())
    }
}

//! Knocks and connections that leave from a certain address or through a certain interface.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use pkd_netns::{
    namespace::As,
    network::{Family, Network, inside_as},
    process::{LIMIT, shell, wait},
};

use crate::gateway::{Gateway, SSH};

/// The client's second link, whose route to the gateway is worse than the first one's.
fn second_link(network: &Network) -> Result<()> {
    shell("ip link add gw3 type veth peer name cl3 && ip link set cl3 netns client && ip link set gw3 up")?;
    shell("ip addr add 198.51.100.1/24 dev gw3")?;
    network.at_client(|| {
        shell("ip link set cl3 up && ip addr add 198.51.100.2/24 dev cl3")?;
        shell("ip route add 192.0.2.0/24 via 198.51.100.1 dev cl3 metric 500").map(drop)
    })
}

fn holds(network: &Network) -> Result<()> {
    let gateway = Gateway::closed(network)?;
    let knock = |arguments: &[&str]| {
        let mut command = gateway.command("knock");
        gateway.run(command.args(arguments))
    };
    for (family, name) in [(Family::V4, "office"), (Family::V6, "office6")] {
        let (own, other) = (family.client(), family.other());
        let source = if family == Family::V4 { other } else { own };
        let unused = if family == Family::V4 { own } else { other };
        let opened = knock(&["wait", "--source", &source.to_string(), name])?;
        ensure!(opened.status.success() && opened.stderr.is_empty(), "{family:?}: {opened:?}");
        let to = SocketAddr::new(family.gateway(), SSH);
        ensure!(network.banner(source, to)?.is_some(), "{family:?}: closed for {source}");
        ensure!(network.banner(unused, to)?.is_none(), "{family:?}: open for {unused}, too");
    }

    second_link(network)?;
    let to = SocketAddr::new(Family::V4.gateway(), SSH);
    let second: IpAddr = "198.51.100.2".parse()?;
    ensure!(network.banner(second, to)?.is_none(), "open for {second} before");
    let opened = knock(&["wait", "-v", "--interface", "cl3", "office"])?;
    ensure!(opened.status.success(), "{opened:?}");
    gateway.is_closed(Family::V4)?;
    // ssh connects through it, too: the first link's port stays closed.
    let file = gateway.path("ssh_config");
    let mut ssh = gateway.command("knock");
    ssh.args(["ssh", "--interface", "cl3", "office", "-F"]).arg(&file).arg("echo $SSH_CONNECTION");
    let shown = gateway.succeed(&mut ssh)?;
    ensure!(shown.starts_with("198.51.100.2 "), "{shown}");
    let mut ssh = gateway.command("knock");
    ssh.args(["ssh", "--source", "192.0.2.9", "office", "-F"]).arg(&file).arg("echo $SSH_CONNECTION");
    let shown = gateway.succeed(&mut ssh)?;
    ensure!(shown.starts_with("192.0.2.9 "), "{shown}");
    // A knock that is bound to its source has the address of the interface.
    let bound = ["-n", "--bind", "source", "--format", "2", "--key-file", "me.key", "--interface", "cl3"];
    let line = knock(&[&bound[..], &["192.0.2.1"]].concat())?;
    let line = String::from_utf8(line.stdout)?;
    let verified = knock(&["verify", "--key-file", "me.key", "--source", "198.51.100.2", line.trim()])?;
    ensure!(verified.status.success(), "{verified:?}");
    // A sequence, of both protocols.
    let (tcp, udp) = (TcpListener::bind("0.0.0.0:7000")?, UdpSocket::bind("0.0.0.0:7001")?);
    udp.set_read_timeout(Some(LIMIT))?;
    let sent = knock(&["seq", "--interface", "cl3", "192.0.2.1", "7000", "7001:udp"])?;
    ensure!(sent.status.success(), "{sent:?}");
    tcp.set_nonblocking(true)?;
    let accept = || Ok(tcp.accept().ok());
    let by_tcp = wait("a SYN", accept, Option::is_some)?.context("no SYN")?.1.ip();
    let by_udp = udp.recv_from(&mut [0; 8])?.1.ip();
    ensure!([by_tcp, by_udp] == [second, second], "from {by_tcp} and {by_udp}");
    let report = knock(&["doctor", "--time-server", "-", "--interface", "cl3", "office"])?;
    ensure!(report.status.success(), "{report:?}");
    gateway.is_closed(Family::V4)
}

#[test]
fn a_knock_leaves_where_it_is_told_to() -> Result<()> {
    // sshd needs root or a real user.
    inside_as(As::RootIfPossible, concat!(module_path!(), "::a_knock_leaves_where_it_is_told_to"), holds)
}

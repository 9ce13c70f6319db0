//! A link-local address is that of another host on every link. A knock opens the port to the one that has sent it, and a
//! stranger with the same address on another link, who tries to connect all the time, never gets in.

use std::{
    net::{SocketAddr, UdpSocket},
    num::NonZeroU32,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{net::if_::if_nametoindex, sys::signal::Signal};
use pkd_netns::{
    link::{CLIENT_ADDRESS, Link},
    network::{Family, net_test, ssh_server},
    process::{LIMIT, shell, wait},
    stranger::{PACE, Stranger},
};
use pkdd::{
    firewall::{FirewallBackend, pktables_backend::PktablesBackend},
    source,
};
use pktables::{Backend, Protection, Sender, SetPath, Sets};

use crate::{
    firewall4,
    gateway::{Gateway, KEY, PORT, TAG, USERS, iptables_legacy, now, payload},
    scenarios::each_back_end,
};

const TRIES: u64 = 12;

/// Knocks with the real `knock` at the client.
fn knock(gateway: &Gateway<'_>) -> Result<()> {
    let (key, port, to) = (gateway.path("me.key"), PORT.to_string(), Link::Client.gateway());
    let key = key.to_string_lossy();
    gateway.network.knock(&["--key-file", &key, "--tag", TAG, "--port", &port, &to])
}

fn opens(link: Link) -> Result<()> {
    wait("an open port", || link.connects(22), |open| *open).map(drop)
}

fn is_closed(link: Link) -> Result<()> {
    ensure!(!link.connects(22)?, "{link:?}: the port is open");
    Ok(())
}

/// The client gets in, and the stranger does not, however often it tries.
fn only_the_client(stranger: &Stranger, what: &str) -> Result<()> {
    opens(Link::Client).context(what.to_owned())?;
    is_closed(Link::Neighbour).context(what.to_owned())?;
    stranger.more(TRIES)
}

/// The addresses that the status reports, with their interfaces.
fn granted(gateway: &Gateway<'_>) -> Result<Vec<String>> {
    let status = gateway.status()?;
    let grants = status["grants"].as_array().context("no grants")?;
    Ok(grants.iter().filter_map(|grant| grant["address"].as_str().map(str::to_owned)).collect())
}

fn keeps_strangers_out(gateway: &mut Gateway<'_>) -> Result<()> {
    let stranger = Link::Neighbour.stranger(22, PACE)?;
    is_closed(Link::Client)?;
    knock(gateway)?;
    only_the_client(&stranger, "after the knock")?;
    ensure!(granted(gateway)? == ["fe80::7%gw"], "{:?}", granted(gateway)?);
    let line = "from fe80::7%gw opened ssh for 600 s";
    ensure!(gateway.lines().iter().any(|one| one.contains(line)), "{:?}", gateway.lines());
    ensure!(gateway.reload()?);
    only_the_client(&stranger, "after a reload")?;
    shell("nft flush ruleset; iptables -t mangle -F; ip6tables -t mangle -F")?;
    only_the_client(&stranger, "after all was flushed")?;
    gateway.signal(Signal::SIGUSR1)?;
    only_the_client(&stranger, "after SIGUSR1")?;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        gateway.stop(signal)?;
        stranger.more(TRIES)?;
        is_closed(Link::Neighbour)?;
        gateway.start()?;
        only_the_client(&stranger, "after a restart")?;
    }
    ensure!(granted(gateway)? == ["fe80::7%gw"], "{:?}", granted(gateway)?);
    // A user who loses a service loses the grants for it on all links.
    gateway.configure(&USERS.replace("services = ['ssh']", "services = ['ssh']\nenabled = false"))?;
    ensure!(gateway.reload()?);
    is_closed(Link::Client)?;
    stranger.more(TRIES)?;
    gateway.configure(&USERS.replace("600", "2"))?;
    ensure!(gateway.reload()?);
    let knock_and_connect = || {
        knock(gateway)?;
        Link::Client.connects(22)
    };
    wait("an open port", knock_and_connect, |open| *open)?;
    wait("the end of the grant", || Link::Client.connects(22), |open| !open)?;
    stranger.more(TRIES)?;
    stranger.finish().map(drop)
}

net_test!(a_stranger_with_the_same_link_local_address_stays_out, |network| {
    Link::set_up(network)?;
    each_back_end(network, keeps_strangers_out)
});

net_test!(a_stranger_with_the_same_link_local_address_stays_out_with_iptables_legacy, |network| {
    Link::set_up(network)?;
    let mut gateway = Gateway::new(network, "iptables")?;
    iptables_legacy(&mut gateway)?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    keeps_strangers_out(&mut gateway)
});

net_test!(a_stranger_with_the_same_link_local_address_stays_out_with_firewall4, |network| {
    Link::set_up(network)?;
    let mut gateway = Gateway::new(network, "fw4")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    firewall4::load()?;
    gateway.start()?;
    let stranger = Link::Neighbour.stranger(22, PACE)?;
    knock(&gateway)?;
    only_the_client(&stranger, "after the knock")?;
    ensure!(granted(&gateway)? == ["fe80::7%gw"], "{:?}", granted(&gateway)?);
    firewall4::load()?;
    gateway.signal(Signal::SIGUSR1)?;
    only_the_client(&stranger, "after a reload of the firewall")?;
    gateway.stop(Signal::SIGKILL)?;
    firewall4::load()?;
    gateway.start()?;
    only_the_client(&stranger, "after a restart")?;
    stranger.finish().map(drop)
});

net_test!(hosts_on_two_links_each_have_a_grant_of_their_own, |network| {
    Link::set_up(network)?;
    let users =
        format!("{USERS}[user.two]\nformat = 'classic'\ntag = 'TWO'\nkey = 'two'\nservices = ['ssh']\n");
    each_back_end(network, |gateway| {
        gateway.configure(&users)?;
        ensure!(gateway.reload()?);
        Link::Neighbour.send(PORT, &payload("two", "TWO", now()?, 1)?)?;
        opens(Link::Neighbour)?;
        is_closed(Link::Client)?;
        Link::Client.send(PORT, &payload(KEY, TAG, now()?, 1)?)?;
        opens(Link::Client)?;
        opens(Link::Neighbour)?;
        // What ends on one link goes on on the other, although both have the same address.
        gateway.configure(&users.replace("'two'\n", "'two'\nenabled = false\n"))?;
        ensure!(gateway.reload()?);
        is_closed(Link::Neighbour)?;
        opens(Link::Client)?;
        gateway.configure(USERS)?;
        ensure!(gateway.reload()?);
        // A grant that someone has made by hand is for every link.
        pktables("add fe80::7 --service ssh --timeout 600s")?;
        opens(Link::Neighbour)?;
        opens(Link::Client)?;
        gateway.stop(Signal::SIGTERM)?;
        gateway.start()?;
        opens(Link::Neighbour)?;
        pktables("delete fe80::7 --service ssh")?;
        wait("a closed port", || Link::Neighbour.connects(22), |open| !open).map(drop)
    })
});

fn pktables(words: &str) -> Result<()> {
    let program = pkd_netns::process::built("pktables", "pktables")?;
    shell(&format!("{} {words}", program.display())).map(drop)
}

net_test!(datagrams_do_not_pass_as_those_of_the_clients_connection, |network| {
    const OWN: u16 = 30_000;
    const UNGUARDED: u16 = 1195;
    Link::set_up(network)?;
    let vpn = UdpSocket::bind(("::", 1194))?;
    let marks = UdpSocket::bind(("::", UNGUARDED))?;
    for socket in [&vpn, &marks] {
        socket.set_read_timeout(Some(LIMIT))?;
    }
    let receive = |socket: &UdpSocket| -> Result<(String, SocketAddr)> {
        let mut bytes = [0; 64];
        let (length, from) = socket.recv_from(&mut bytes)?;
        Ok((String::from_utf8_lossy(&bytes[..length]).into_owned(), from))
    };
    each_back_end(network, |gateway| {
        gateway.configure(&USERS.replace("port = 22", "port = 1194\nprotocol = 'udp'"))?;
        ensure!(gateway.reload()?);
        knock(gateway)?;
        wait("the knock", || granted(gateway), |granted| !granted.is_empty())?;
        Link::Client.send_from(OWN, 1194, b"one")?;
        let (text, from) = receive(&vpn)?;
        ensure!(text == "one", "{text}");
        // Now the connection is established.
        vpn.send_to(b"answer", from)?;
        // From the same address and port, to the same address and port.
        for _ in 0..3 {
            Link::Neighbour.send_from(OWN, 1194, b"stranger")?;
            Link::Neighbour.send_from(OWN, UNGUARDED, b"mark")?;
            receive(&marks)?;
        }
        Link::Client.send_from(OWN, 1194, b"two")?;
        let (text, _) = receive(&vpn)?;
        ensure!(text == "two", "{text} was let in");
        Ok(())
    })
});

// On Linux 5.12 to 6.8 the held table vanishes with pkdd, and nothing binds what the rules of pktables have.
net_test!(an_orderly_end_leaves_no_lease_that_is_for_every_link, |network| {
    let gateway = Gateway::new(network, "nft")?;
    let config = source::read(&gateway.path("pkdd.toml"))?;
    let service = &config.services[&"ssh".parse()?];
    let client = Sender::new(CLIENT_ADDRESS.into(), NonZeroU32::new(if_nametoindex("gw")?));
    let other = Sender::from(Family::V6.client());
    // protection, the leases that stay
    let rows = [
        (Protection::Persistent, vec![other.address(), client.address()]),
        (Protection::Owner, vec![other.address()]),
        (Protection::None, vec![other.address(), client.address()]),
    ];
    for (protection, stay) in rows {
        let mut backend = PktablesBackend::open(Backend::Nft)?.with_at_most(protection);
        backend.install(&config, &gateway.path("services"))?;
        for sender in [client, other] {
            backend.grant(service, sender, Duration::from_mins(10))?;
        }
        backend.finish()?;
        let leases = Sets::open()?.list(SetPath { table: pktables::TABLE, set: "pk-ssh-6/lease" })?;
        let found: Vec<_> = leases.iter().map(|element| element.address).collect();
        ensure!(found == stay, "{protection:?}: {found:?}");
        backend.clear(&gateway.path("services"))?;
    }
    Ok(())
});

net_test!(a_grant_is_not_made_again_for_an_interface_that_is_gone, |network| {
    Link::set_up(network)?;
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    Link::Neighbour.send(PORT, &payload(KEY, TAG, now()?, 1)?)?;
    opens(Link::Neighbour)?;
    knock(&gateway)?;
    opens(Link::Client)?;
    shell("ip link delete gw2")?;
    gateway.stop(Signal::SIGTERM)?;
    gateway.start()?;
    ensure!(granted(&gateway)? == ["fe80::7%gw"], "{:?}", granted(&gateway)?);
    opens(Link::Client)
});

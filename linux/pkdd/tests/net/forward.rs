//! A service on a host behind the router, in mode nft: who has knocked is sent on to it, and nobody else reaches it.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpListener},
    thread,
};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use pkd_netns::{
    namespace,
    network::{Family, Network, net_test},
    process::{shell, wait},
};

use crate::{
    firewall4,
    gateway::{Gateway, KEY, TAG, USERS, now, payload},
};

/// The namespace of the host.
const HOST: &str = "host";
const MAC: &str = "02:00:00:00:00:10";
const HOST_PORT: u16 = 8_443;

fn host(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([192, 168, 1, 10]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10]),
    }
}

/// A host behind the gateway that greets at a port, of which clients know the way by IPv6.
fn set_up() -> Result<()> {
    shell(&format!(
        "ip netns add {HOST} && ip link add lan type veth peer name eth0 address {MAC} && ip link set eth0 netns {HOST} && ip link set lan up"
    ))?;
    shell("ip addr add 192.168.1.1/24 dev lan && ip addr add 2001:db8:1::1/64 dev lan nodad")?;
    for line in [
        "ip link set lo up",
        "ip link set eth0 up",
        "ip addr add 192.168.1.10/24 dev eth0",
        "ip addr add 2001:db8:1::10/64 dev eth0 nodad",
        "ip route add default via 192.168.1.1",
        "ip route add default via 2001:db8:1::1",
    ] {
        shell(&format!("nsenter --net=/run/netns/{HOST} {line}"))?;
    }
    for address in ["192.168.1.10", "2001:db8:1::10", "2001:db8:2::10", "2001:db8:2::11"] {
        knows(address)?;
    }
    for route in ["2001:db8:1::/64 via 2001:db8::1", "192.168.1.0/24 via 192.0.2.1"] {
        shell(&format!("nsenter --net=/run/netns/client ip route add {route}"))?;
    }
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{setting}"), "1")?;
    }
    let listener = namespace::at(HOST, || Ok(TcpListener::bind(("::", HOST_PORT))?))?;
    thread::spawn(move || {
        listener.incoming().flatten().try_for_each(|mut stream| stream.write_all(b"the host\n"))
    });
    Ok(())
}

/// Has the gateway know an address of the host. A packet that waits for a neighbour would pass for one that is dropped.
fn knows(address: &str) -> Result<()> {
    shell(&format!("ip neigh replace {address} lladdr {MAC} dev lan nud permanent")).map(drop)
}

/// firewall4's table with the rendered rules for such a service.
fn load(gateway: &Gateway<'_>, service: &str) -> Result<()> {
    let include = firewall4::render(gateway, service)?;
    firewall4::load_table(
        gateway,
        &format!(
            "{table}\n\
             chain input {{\ntype filter hook input priority 0; policy drop;\niifname lo accept\n\
             ct state {{ established, related }} accept\n{input}\nmeta l4proto ipv6-icmp accept\n}}\n\
             chain forward {{\ntype filter hook forward priority 0; policy drop;\n{forward}\n\
             ct state {{ established, related }} accept\niifname lan accept\n}}\n\
             chain dstnat {{\ntype nat hook prerouting priority dstnat;\n{dstnat}\n}}",
            table = include("table"),
            input = include("chain"),
            forward = include("forward"),
            dstnat = include("dstnat"),
        ),
    )
}

fn reaches(network: &Network, family: Family, from: IpAddr, to: SocketAddr) -> Result<bool> {
    ensure!(from.is_ipv4() == (family == Family::V4));
    Ok(network.banner(from, to)?.is_some_and(|banner| banner == "the host"))
}

fn at_router(family: Family) -> SocketAddr {
    SocketAddr::new(family.gateway(), 443)
}

fn at_host(family: Family) -> SocketAddr {
    SocketAddr::new(host(family), HOST_PORT)
}

const ADDRESSES: &str = "\toption port '443'\n\tlist dest_ip '192.168.1.10'\n\tlist dest_ip '2001:db8:1::10'\n\
                         \toption dest_port '8443'\n";

net_test!(a_knock_forwards_its_sender_to_a_host_and_nobody_else, |network| {
    set_up()?;
    let mut gateway = Gateway::new(network, "fw4")?;
    load(&gateway, ADDRESSES)?;
    gateway.configure(&USERS.replace("port = 22", "port = 443"))?;
    gateway.start()?;
    for (family, nonce) in Family::BOTH.into_iter().zip([1, 2]) {
        for to in [at_router(family), at_host(family)] {
            ensure!(!reaches(network, family, family.client(), to)?, "{to}: open before a knock");
        }
        gateway.expect("accept", family, &payload(KEY, TAG, now()?, nonce)?)?;
        for to in [at_router(family), at_host(family)] {
            ensure!(reaches(network, family, family.client(), to)?, "{to}: closed after a knock");
            ensure!(!reaches(network, family, family.other(), to)?, "{to}: open for somebody else");
        }
        // The host's other ports stay closed, and so does the router's own.
        ensure!(!reaches(network, family, family.client(), SocketAddr::new(host(family), 443))?);
        ensure!(!reaches(network, family, family.client(), SocketAddr::new(family.gateway(), HOST_PORT))?);
    }
    // A reload of firewall4 empties its sets.
    load(&gateway, ADDRESSES)?;
    gateway.signal(Signal::SIGUSR1)?;
    let is_open = || reaches(network, Family::V4, Family::V4.client(), at_router(Family::V4));
    wait("the grant", is_open, |is_open| *is_open)?;
    for family in Family::BOTH {
        gateway.run(&["revoke", &family.client().to_string()])?;
        for to in [at_router(family), at_host(family)] {
            ensure!(!reaches(network, family, family.client(), to)?, "{to}: open after the grant");
        }
    }
    Ok(())
});

net_test!(
    /// The provider changes the prefix; the end of the host's address stays.
    a_host_is_found_by_the_end_of_its_address, |network| {
    set_up()?;
    let mut gateway = Gateway::new(network, "fw4")?;
    load(&gateway, "\toption port '8443'\n\toption dest_ip '::10/-64'\n")?;
    gateway.configure(&USERS.replace("port = 22", "port = 8443"))?;
    gateway.start()?;
    let client = Family::V6.client();
    let here = at_host(Family::V6);
    ensure!(!reaches(network, Family::V6, client, here)?, "open before a knock");
    gateway.expect("accept", Family::V6, &payload(KEY, TAG, now()?, 1)?)?;
    ensure!(reaches(network, Family::V6, client, here)?, "closed after a knock");
    for line in [
        format!("nsenter --net=/run/netns/{HOST} ip addr add 2001:db8:2::10/64 dev eth0 nodad"),
        "ip addr add 2001:db8:2::1/64 dev lan nodad".to_owned(),
        "nsenter --net=/run/netns/client ip route add 2001:db8:2::/64 via 2001:db8::1".to_owned(),
    ] {
        shell(&line)?;
    }
    let there = SocketAddr::new("2001:db8:2::10".parse()?, HOST_PORT);
    ensure!(reaches(network, Family::V6, client, there)?, "closed with the new prefix");
    // Another host of the new prefix.
    shell(&format!("nsenter --net=/run/netns/{HOST} ip addr add 2001:db8:2::11/64 dev eth0 nodad"))?;
    ensure!(!reaches(network, Family::V6, client, SocketAddr::new("2001:db8:2::11".parse()?, HOST_PORT))?);
    Ok(())
});

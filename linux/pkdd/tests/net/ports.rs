//! A service of several ports and ranges, seen from a stranger, and from who has knocked.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    thread,
};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use pkd_netns::{
    network::{Family, Network, net_test},
    process::{shell, wait},
};

use crate::{
    firewall4,
    gateway::{Gateway, KEY, TAG, USERS, iptables_legacy, now, payload},
    scenarios::each_back_end,
};

const PORTS: [u16; 4] = [8_080, 8_443, 9_000, 9_002];
const NEIGHBOURS: [u16; 4] = [8_079, 8_081, 8_999, 9_003];

/// Of another service, that no test opens.
const OTHER: u16 = 9_004;

/// The same services with other ports for the one that a knock opens.
fn services(ports: &str) -> String {
    USERS.replace("port = 22", &format!("port = {ports}")) + &format!("[service.other]\nport = {OTHER}\n")
}

const ALL: &str = "[8443, 8080, '9000-9002']";

/// Answers every connection to these ports with a byte.
fn serve(ports: impl IntoIterator<Item = u16>) -> Result<()> {
    for port in ports {
        let listener = TcpListener::bind(("::", port))?;
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || stream.write_all(b".").and_then(|()| stream.read(&mut [0]).map(drop)));
            }
        });
    }
    Ok(())
}

fn answers(network: &Network, family: Family, port: u16) -> Result<bool> {
    Ok(network.banner(family.client(), SocketAddr::new(family.gateway(), port))?.is_some())
}

/// Checks which ports answer: the neighbours always, those in `open`, and no other of the service.
fn check(network: &Network, family: Family, open: &[u16], what: &str) -> Result<()> {
    for port in PORTS.into_iter().chain(NEIGHBOURS).chain([OTHER]) {
        let expected = NEIGHBOURS.contains(&port) || open.contains(&port);
        ensure!(
            answers(network, family, port)? == expected,
            "{what}: port {port}, expected open: {expected}"
        );
    }
    Ok(())
}

fn opens_and_closes(gateway: &Gateway<'_>) -> Result<()> {
    let network = gateway.network;
    gateway.configure(&services(ALL).replace("600", "2"))?;
    ensure!(gateway.reload()?);
    for (family, nonce) in Family::BOTH.into_iter().zip([1, 2]) {
        check(network, family, &[], "before a knock")?;
        gateway.expect("accept", family, &payload(KEY, TAG, now()?, nonce)?)?;
        let over = || Ok(gateway.status()?["grants"].as_array().is_none_or(Vec::is_empty));
        wait("the end of the grant", over, |is_over| *is_over)?;
        check(network, family, &[], "after the grant")?;
    }
    gateway.configure(&services(ALL))?;
    ensure!(gateway.reload()?);
    for (family, nonce) in Family::BOTH.into_iter().zip([3, 4]) {
        gateway.expect("accept", family, &payload(KEY, TAG, now()?, nonce)?)?;
        check(network, family, &PORTS, "after a knock")?;
    }
    let status = gateway.run(&["status"])?;
    ensure!(status.contains("Service ssh: tcp ports 8080, 8443, 9000-9002, 600 s after a knock"), "{status}");
    let shown = &gateway.status()?["services"][1];
    let expected = serde_json::json!(["8080", "8443", "9000-9002"]);
    ensure!(shown["port"].is_null() && shown["ports"] == expected, "{shown}");
    Ok(())
}

/// Who has knocked before keeps the ports that remain, and everyone may reach the ports that are gone.
fn shrinks(gateway: &Gateway<'_>) -> Result<()> {
    gateway.configure(&services("['8080', '9000-9001']"))?;
    ensure!(gateway.reload()?);
    for family in Family::BOTH {
        check(gateway.network, family, &PORTS, "a shorter list, with a grant")?;
    }
    gateway.run(&["revoke", "192.0.2.2"])?;
    check(gateway.network, Family::V4, &[8_443, 9_002], "a shorter list")
}

net_test!(a_knock_opens_each_port_of_a_list_and_no_other, |network| {
    serve(PORTS.into_iter().chain(NEIGHBOURS).chain([OTHER]))?;
    each_back_end(network, |gateway| {
        opens_and_closes(gateway)?;
        shrinks(gateway)
    })
});

net_test!(a_list_of_ports_with_iptables_legacy, |network| {
    serve(PORTS.into_iter().chain(NEIGHBOURS).chain([OTHER]))?;
    let mut gateway = Gateway::new(network, "iptables")?;
    iptables_legacy(&mut gateway)?;
    gateway.start()?;
    opens_and_closes(&gateway)?;
    shrinks(&gateway)
});

net_test!(
    /// The held table alone: someone has removed the rules of pktables, and pkdd may not repair them.
    the_held_table_guards_each_port_of_a_list, |network| {
    serve(PORTS.into_iter().chain(NEIGHBOURS).chain([OTHER]))?;
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.configure(&services(ALL))?;
    gateway.start()?;
    gateway.signal(Signal::SIGSTOP)?;
    shell("nft flush ruleset")?;
    for family in Family::BOTH {
        check(network, family, &[], "only the held table")?;
    }
    gateway.signal(Signal::SIGCONT)
});

net_test!(
    /// With the rules of OpenWrt's package. Its policy closes the ports; the neighbours are open there.
    a_router_opens_each_port_of_a_list, |network| {
    serve(PORTS.into_iter().chain(NEIGHBOURS).chain([OTHER]))?;
    let mut gateway = Gateway::new(network, "fw4")?;
    let closed = "{ 8080, 8443, 9000-9002, 9004 }";
    firewall4::load_rendered(
        &gateway,
        "\tlist port '8443'\n\tlist port '8080 9000-9002'\n\toption seconds '600'\n",
        closed,
    )?;
    gateway.configure(&services(ALL))?;
    gateway.start()?;
    for (family, nonce) in Family::BOTH.into_iter().zip([1, 2]) {
        check(network, family, &[], "before a knock")?;
        gateway.expect("accept", family, &payload(KEY, TAG, now()?, nonce)?)?;
        check(network, family, &PORTS, "after a knock")?;
    }
    firewall4::load_rendered(&gateway, "\toption port '8080 9000-9001'\n\toption seconds '600'\n", closed)?;
    gateway.signal(Signal::SIGUSR1)?;
    for family in Family::BOTH {
        let open = || answers(network, family, 8_080);
        wait("the grant", open, |is_open| *is_open)?;
        check(network, family, &[8_080, 9_000], "a shorter list")?;
    }
    gateway.run(&["revoke", "192.0.2.2"])?;
    check(network, Family::V4, &[], "after a grant")
});

//! Connections that are forgotten at the end of a grant: their next packet is not let in.

use std::{
    fs,
    io::{self, Write as _},
    net::{IpAddr, TcpListener, TcpStream},
    sync::mpsc::{self, Receiver},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use pktables::{Connections, Policy, Protocol, Scope, Service};

use crate::{
    netns::{Netns, on_each_firewall, run},
    topology,
};

const CLIENTS: [(&str, &str); 2] = [("192.0.2.7", "192.0.2.8"), ("2001:db8::7", "2001:db8::8")];

/// A service whose connections can be ended.
fn service(name: &str, ports: &str, forward: &[&str]) -> Result<Service> {
    let mut scope = Scope::default();
    scope.before_nat = true;
    scope.tracked = true;
    Ok(Service {
        name: name.parse()?,
        protocol: Protocol::Tcp,
        ports: ports.parse()?,
        only_new: true,
        policy: Policy::Drop,
        log: None,
        forward: forward.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        scope,
    })
}

/// Lets a client's stream go on after its grant, then ends its connections to a service; returns how many.
fn end(netns: &Netns, service: &Service, address: &str) -> Result<usize> {
    let _ = netns.pktables(&format!("delete {address} --service {}", service.name))?;
    let networks: [IpNet; 1] = [pktables::address::parse(address)?];
    Ok(Connections::open()?.forget(&networks, |_| false, service.protocol, &service.ports)?)
}

fn answers(stream: &mut TcpStream) -> Result<bool> {
    Ok(topology::ask(stream)?.is_some())
}

/// Answers each byte.
fn echo(mut stream: TcpStream) {
    thread::spawn(move || io::copy(&mut stream.try_clone()?, &mut stream));
}

/// Hands over the servers' ends of connections to a host's port; `None`: the gateway's.
fn accept(host: Option<&str>, port: u16) -> Result<Receiver<TcpStream>> {
    let bind = || Ok(TcpListener::bind(("::", port))?);
    let listener = match host {
        Some(host) => topology::at(host, bind)?,
        None => bind()?,
    };
    let (give, take) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if give.send(stream).is_err() {
                return;
            }
        }
    });
    Ok(take)
}

on_each_firewall! {
    /// Whether connection tracking would take a segment in the middle for the start of a connection, or for an invalid one.
    fn a_forgotten_connection_stalls_and_others_go_on(netns) {
        topology::connect()?;
        for port in [22, 8000, 8001, 9000] {
            topology::serve(None, port, "gateway")?;
        }
        let (web, other) = (service("web", "22,8000-8001", &[])?, service("other", "9000", &[])?);
        let mut firewall = netns.firewall()?;
        firewall.init(&web)?;
        ensure!(firewall.init(&web)? == pktables::Change::AlreadySo);
        firewall.init(&other)?;
        for (loose, (client, neighbour)) in ["1", "0"].into_iter().flat_map(|loose| CLIENTS.map(|pair| (loose, pair))) {
            fs::write("/proc/sys/net/netfilter/nf_conntrack_tcp_loose", loose)?;
            for name in ["web", "other"] {
                netns.quietly(&[&format!("add {client} --service {name}"), &format!("add {neighbour} --service {name}")])?;
            }
            let dial = |from, port| topology::dial(from, port)?.context("closed");
            let mut ended = [dial(client, 22)?, dial(client, 8000)?, dial(client, 8001)?];
            let mut stay = [dial(client, 9000)?, dial(neighbour, 22)?, dial(neighbour, 8000)?];
            for stream in ended.iter_mut().chain(&mut stay) {
                ensure!(answers(stream)?, "{client}: silent before");
            }
            // What has begun outlives its grant, until it is forgotten.
            netns.quietly(&[&format!("delete {client} --service web"), &format!("delete {neighbour} --service web")])?;
            for stream in &mut ended {
                ensure!(answers(stream)?, "{client}: silent without a grant");
            }
            assert_eq!(end(netns, &web, client)?, 3, "{client}, loose {loose}");
            for stream in &mut ended {
                ensure!(!answers(stream)?, "{client}: goes on, loose {loose}");
            }
            for stream in &mut stay {
                ensure!(answers(stream)?, "{client}: {stream:?} fell silent, loose {loose}");
            }
            assert_eq!(end(netns, &web, client)?, 0, "{client} once more");
        }
        Ok(())
    }
}

on_each_firewall! {
    /// An answer to what the server sends would belong to a connection that the server seems to have begun.
    fn what_the_server_sends_does_not_revive_a_connection(netns) {
        topology::connect()?;
        let accepted = accept(None, 22)?;
        let ssh = service("ssh", "22", &[])?;
        netns.firewall()?.init(&ssh)?;
        for (client, _) in CLIENTS {
            netns.quietly(&[&format!("add {client} --service ssh")])?;
            let mut stream = topology::dial(client, 22)?.context("closed")?;
            let mut server = accepted.recv()?;
            assert_eq!(end(netns, &ssh, client)?, 1, "{client}");
            server.write_all(b"are you there?")?;
            ensure!(!answers(&mut stream)?, "{client}: goes on");
        }
        Ok(())
    }
}

on_each_firewall! {
    fn the_addresses_of_a_network_are_ended_but_for_those_that_stay(netns) {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        let ssh = service("ssh", "22", &[])?;
        netns.firewall()?.init(&ssh)?;
        for (network, (client, neighbour)) in ["192.0.2.0/24", "2001:db8::/64"].into_iter().zip(CLIENTS) {
            netns.quietly(&[&format!("add {network} --service ssh")])?;
            let mut ended = topology::dial(client, 22)?.context("closed")?;
            let mut stays = topology::dial(neighbour, 22)?.context("closed")?;
            netns.quietly(&[&format!("delete {network} --service ssh")])?;
            let (networks, kept): ([IpNet; 1], IpAddr) = ([network.parse()?], neighbour.parse()?);
            let mut connections = Connections::open()?;
            let none = connections.forget(&networks, |address| address == kept, Protocol::Udp, &ssh.ports)?;
            let number = connections.forget(&networks, |address| address == kept, Protocol::Tcp, &ssh.ports)?;
            assert_eq!((none, number), (0, 1), "{network}");
            ensure!(!answers(&mut ended)? && answers(&mut stays)?, "{network}");
        }
        Ok(())
    }
}

on_each_firewall! {
    /// Also if what the other host sends is masqueraded, and so takes the place of what was forgotten. What passes through to
    /// the same port of another host is no business of the service.
    fn a_forgotten_connection_is_not_forwarded_any_more(netns) {
        topology::connect()?;
        let accepted = accept(Some("inner"), 22)?;
        for (program, inner) in [("iptables", "192.168.1.0/24"), ("ip6tables", "fd00::/64")] {
            run(program, format!("-t nat -A POSTROUTING -s {inner} -o c0 -j MASQUERADE").split(' '))?;
        }
        let nas = service("nas", "22", &["192.168.1.10:22", "[fd00::10]:22"])?;
        let mut firewall = netns.firewall()?;
        firewall.init(&nas)?;
        ensure!(firewall.init(&nas)? == pktables::Change::AlreadySo);
        for ((client, neighbour), inner) in CLIENTS.into_iter().zip(["192.168.1.10", "fd00::10"]) {
            netns.quietly(&[&format!("add {client} --service nas"), &format!("add {neighbour} --service nas")])?;
            let hear = || -> Result<TcpStream> { Ok(accepted.recv()?) };
            let mut ended = topology::dial(client, 22)?.context("closed")?;
            let mut server = hear()?;
            let mut stays = topology::dial(neighbour, 22)?.context("closed")?;
            echo(hear()?);
            let mut past = topology::dial_past(client, inner, 22)?.context("closed")?;
            echo(hear()?);
            ensure!(answers(&mut stays)? && answers(&mut past)?, "{client}: silent before");
            assert_eq!(end(netns, &nas, client)?, 1, "{client}");
            // So that the client has something to answer.
            server.write_all(b"are you there?")?;
            echo(server);
            ensure!(topology::is_cut(&mut ended)?, "{client}: goes on");
            ensure!(answers(&mut stays)? && answers(&mut past)?, "{client}: another one fell silent");
        }
        Ok(())
    }
}

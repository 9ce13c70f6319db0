//! Connections that end with the grant, and those that must not.

use std::{
    io::{self, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{self, Receiver},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pkd_netns::{
    network::{CLIENT, Family, Network, net_test},
    probe,
    process::{shell, wait},
};

use crate::{
    firewall4,
    format2::{closing, opening},
    gateway::{Gateway, iptables_legacy},
    prefix::{add_strangers, stranger},
};

const SSH: u16 = 2_222;
const WEB: u16 = 8_080;

/// A user of two services; the connections of one of them end with its grants.
const CONFIG: &str = "
[service.ssh]
port = [2222, '2300-2310']
seconds = 600
end_connections = true
[service.web]
port = 8080
seconds = 600
[user.me]
tag = 'SSHK'
key_file = 'me.key'
services = ['ssh', 'web']
";

/// Answers each byte. Hands over the servers' ends of the connections.
fn serve() -> Result<Receiver<TcpStream>> {
    let (give, take) = mpsc::channel();
    for port in [SSH, WEB] {
        let listener = TcpListener::bind(("::", port))?;
        let give = give.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // A test that does not ask for them has ended its interest, not the connections.
                let _ = stream.try_clone().map(|stream| give.send(stream));
                thread::spawn(move || io::copy(&mut stream.try_clone()?, &mut stream));
            }
        });
    }
    Ok(take)
}

fn dial(network: &Network, from: IpAddr, family: Family, port: u16) -> Result<TcpStream> {
    let to = SocketAddr::new(family.gateway(), port);
    let mut stream = network.connection(from, to)?.with_context(|| format!("closed to {from}"))?;
    ensure!(answers(&mut stream)?, "{from}: silent from the start");
    Ok(stream)
}

/// Whether a connection works in both directions; if not, the gateway drops its packets.
fn answers(stream: &mut TcpStream) -> Result<bool> {
    Ok(probe::ask(CLIENT, stream, b"?")?.is_some())
}

/// Waits until a connection stalls, and checks that it stays so.
fn stalls(stream: &mut TcpStream, what: &str) -> Result<()> {
    wait(what, || answers(stream), |answers| !answers)?;
    ensure!(!answers(stream)?, "{what}: it goes on again");
    Ok(())
}

/// Waits until pkdd has ended a connection of this address to `ssh`.
fn wait_for_end(gateway: &Gateway<'_>, address: IpAddr) -> Result<()> {
    gateway.wait_for_line(&format!("ended: 1 connection to ssh from {address}"))
}

/// Opens the services to a client of its own, for all families.
fn knock(gateway: &Gateway<'_>, family: Family) -> Result<()> {
    gateway.expect("accept", family, &opening(family)?)
}

fn configure(gateway: &Gateway<'_>, text: &str) -> Result<()> {
    gateway.configure(text)?;
    ensure!(gateway.reload()?);
    Ok(())
}

/// Every way in which a grant may end, each with a connection of another address and of another service beside it.
fn ends(gateway: &mut Gateway<'_>, mut before: Vec<TcpStream>) -> Result<()> {
    let network = gateway.network;
    for family in Family::BOTH {
        let (client, other) = (family.client(), family.other());
        gateway.run(&["grant", &other.to_string(), "--seconds", "3600"])?;
        let mut neighbour = dial(network, other, family, SSH)?;
        for way in ["close", "revoke", "user", "time", "stopped"] {
            let what = format!("{family:?}, {way}");
            let short = CONFIG.replacen("seconds = 600", "seconds = 3", 1);
            if way == "time" || way == "stopped" {
                configure(gateway, &short)?;
            }
            knock(gateway, family)?;
            let mut ended = dial(network, client, family, SSH).context(what.clone())?;
            let mut stays = dial(network, client, family, WEB).context(what.clone())?;
            match way {
                "close" => gateway.expect("close", family, &closing(family)?)?,
                "revoke" => drop(gateway.run(&["revoke", &client.to_string()])?),
                "user" => {
                    configure(gateway, &CONFIG.replace("services = [", "enabled = false\nservices = ["))?;
                }
                "stopped" => {
                    gateway.stop(Signal::SIGTERM)?;
                    let closed =
                        || Ok(network.connection(client, SocketAddr::new(family.gateway(), SSH))?.is_none());
                    wait("the end of the grant", closed, |is_closed| *is_closed)?;
                    ensure!(answers(&mut ended)?, "{what}: silent without pkdd");
                    gateway.start()?;
                }
                _ => {}
            }
            stalls(&mut ended, &what)?;
            ensure!(answers(&mut neighbour)?, "{what}: another address fell silent");
            ensure!(answers(&mut stays)?, "{what}: another service fell silent");
            for stream in &mut before {
                ensure!(answers(stream)?, "{what}: a connection from before fell silent");
            }
            // What the knock has opened would be opened again for the time that is left.
            configure(gateway, CONFIG)?;
            gateway.expect("close", family, &closing(family)?)?;
        }
        gateway.run(&["revoke", &other.to_string()])?;
        stalls(&mut neighbour, "by hand")?;
    }
    Ok(())
}

/// A connection of each family from before pkdd has started, of an address that never gets a grant.
fn from_before(network: &Network) -> Result<Vec<TcpStream>> {
    // Something has the kernel track connections by then.
    shell(
        "nft 'table inet early { chain input { type filter hook input priority 10; ct state new counter; }; }'",
    )?;
    add_strangers()?;
    Family::BOTH.into_iter().map(|family| dial(network, stranger(family).parse()?, family, SSH)).collect()
}

fn with(network: &Network, firewall: &'static str, legacy: bool) -> Result<()> {
    let _servers = serve()?;
    let before = from_before(network)?;
    let mut gateway = Gateway::new(network, firewall)?;
    if legacy {
        iptables_legacy(&mut gateway)?;
    }
    gateway.configure(CONFIG)?;
    gateway.start()?;
    ends(&mut gateway, before).map_err(|error| error.context(format!("log: {:#?}", gateway.lines())))?;
    ensure!(gateway.lines().concat().contains("ended: 1 connection to ssh from 2001:db8::9"));
    ensure!(gateway.status()?["trouble"] == "");
    Ok(())
}

net_test!(connections_end_with_their_grant_with_nft, |network| with(network, "nft", false));

net_test!(connections_end_with_their_grant_with_iptables, |network| with(network, "iptables", false));

net_test!(connections_end_with_their_grant_with_iptables_legacy, |network| with(network, "iptables", true));

net_test!(
    /// By default, what has begun goes on.
    without_the_option_connections_outlive_their_grant,
    |network| {
        let _servers = serve()?;
        let mut gateway = Gateway::new(network, "nft")?;
        gateway.configure(&CONFIG.replace("end_connections = true\n", ""))?;
        gateway.start()?;
        let family = Family::V4;
        knock(&gateway, family)?;
        let mut stream = dial(network, family.client(), family, SSH)?;
        gateway.run(&["revoke", "192.0.2.2"])?;
        ensure!(network.connection(family.client(), SocketAddr::new(family.gateway(), SSH))?.is_none());
        ensure!(answers(&mut stream)?);
        // From now on they end, but this grant was over before.
        configure(&gateway, CONFIG)?;
        ensure!(answers(&mut stream)?);
        Ok(())
    }
);

net_test!(the_connections_of_a_network_end_with_its_grant, |network| {
    let _servers = serve()?;
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.configure(&format!("prefix4 = 28\nprefix6 = 112\n{CONFIG}"))?;
    gateway.start()?;
    for family in Family::BOTH {
        knock(&gateway, family)?;
        let mut both = [family.client(), family.other()]
            .into_iter()
            .map(|from| dial(network, from, family, SSH))
            .collect::<Result<Vec<_>>>()?;
        gateway.expect("close", family, &closing(family)?)?;
        both.iter_mut().try_for_each(|stream| stalls(stream, "the network"))?;
    }
    Ok(())
});

net_test!(connections_end_on_a_router, |network| {
    let accepted = serve()?;
    let mut gateway = Gateway::new(network, "fw4")?;
    let service =
        "\tlist port '2222'\n\tlist port '2300-2310'\n\toption seconds '600'\n\toption end_connections '1'\n";
    firewall4::load_rendered(&gateway, service, "2222")?;
    // firewall4 has no policy for it here, and no sets of it.
    let config = CONFIG.replace("[service.web]\nport = 8080\nseconds = 600\n", "").replace(", 'web'", "");
    gateway.configure(&config)?;
    gateway.start()?;
    for family in Family::BOTH {
        gateway.run(&["grant", &family.other().to_string()])?;
        knock(&gateway, family)?;
        let mut ended = dial(network, family.client(), family, SSH)?;
        let mut server = accepted.recv()?;
        let mut neighbour = dial(network, family.other(), family, SSH)?;
        accepted.recv()?;
        gateway.expect("close", family, &closing(family)?)?;
        wait_for_end(&gateway, family.client())?;
        // firewall4 must not take the answer for one to a connection of the router.
        server.write_all(b"are you there?")?;
        stalls(&mut ended, "a router")?;
        ensure!(answers(&mut neighbour)?, "{family:?}: another address fell silent");
    }
    ensure!(gateway.status()?["trouble"] == "");
    Ok(())
});

//! The table that nobody else can change.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU32, process::Command, time::Duration};

use anyhow::{Result, ensure};
use pktables::{
    Capture, Change, Error, Exempt, Grants, HeldTable, Policy, Protection, Protocol, Scope, Sender, Service,
};

use crate::{
    netns::{Kind, Netns, run, wait},
    topology,
};

const TABLE: &str = "held";

fn service(name: &str, port: &str) -> Result<Service> {
    let mut scope = Scope::default();
    scope.exempt = vec![Exempt::loopback(), "192.0.2.64/26".parse()?, "fd00::7".parse()?];
    Ok(Service {
        name: name.parse()?,
        protocol: Protocol::Tcp,
        ports: port.parse()?,
        only_new: true,
        policy: Policy::Drop,
        log: None,
        forward: Vec::new(),
        scope,
    })
}

fn capture() -> Capture {
    let words = BTreeMap::from([(*b"SSHK", None), (*b"MORE", None)]);
    Capture { length: 64, words, port: Some(40_000), group: 7, snaplen: 192, rate: 20, rate_beyond: 5_000 }
}

/// The loopback interface is always the first.
fn on_loopback(address: &str) -> Result<Sender> {
    Ok(Sender::new(address.parse()?, NonZeroU32::new(1)))
}

fn flush() -> Result<()> {
    run("nft", ["flush", "ruleset"]).map(drop)
}

fn is_refused(words: &[&str]) -> Result<()> {
    let output = Command::new("nft").args(words).output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && told.contains("Operation not permitted"), "{words:?}: {told}");
    Ok(())
}

fn inside(path: &str, test: fn(&Netns) -> Result<()>) -> Result<()> {
    Netns::enter(path, Kind::Nft, test)
}

#[test]
fn nft_lists_what_was_installed() -> Result<()> {
    inside(concat!(module_path!(), "::nft_lists_what_was_installed"), |_| {
        let mut held = HeldTable::open(TABLE)?;
        let udp = Service {
            protocol: Protocol::Udp,
            scope: {
                let mut scope = Scope::default();
                scope.interfaces = vec!["eth0".parse()?, "eth1".parse()?];
                scope
            },
            ..service("vpn", "1194")?
        };
        let tracked = |service: Service| Service {
            scope: {
                let mut scope = Scope::default();
                scope.tracked = true;
                scope
            },
            ..service
        };
        let ended = [
            tracked(service("tcp", "1")?),
            tracked(Service { protocol: Protocol::Udp, ..service("udp", "1")? }),
        ];
        let services: Vec<Service> =
            [service("ssh", "22,8000-8100")?, udp].into_iter().chain(ended).collect();
        held.install(&services, Some(&capture()))?;
        held.grant(&"ssh".parse()?, pktables::address::parse("192.0.2.7")?, None)?;
        held.grant_on_link(&"ssh".parse()?, on_loopback("fe80::7")?, Duration::from_mins(10))?;
        let listed = run("nft", ["--stateless", "list", "table", "inet", TABLE])?;
        // nft names the owner in a comment.
        let shown: Vec<&str> = listed.lines().map(|line| line.split(" # ").next().unwrap_or(line)).collect();
        assert_eq!(shown.join("\n"), include_str!("held.nft").trim_end());
        Ok(())
    })
}

#[test]
fn others_cannot_change_it_while_its_owner_lives() -> Result<()> {
    inside(concat!(module_path!(), "::others_cannot_change_it_while_its_owner_lives"), |_| {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        let services = [service("ssh", "22")?];
        for best in [Protection::Persistent, Protection::Owner] {
            let mut held = HeldTable::open(TABLE)?.with_at_most(best);
            held.install(&services, None)?;
            assert_eq!(held.protection(), Some(best));
            flush()?;
            is_refused(&["delete", "table", "inet", TABLE])?;
            is_refused(&["flush", "table", "inet", TABLE])?;
            is_refused(&["flush", "chain", "inet", TABLE, "pk-ssh"])?;
            is_refused(&["insert", "rule", "inet", TABLE, "pk-ssh", "accept"])?;
            is_refused(&["add", "element", "inet", TABLE, "pk-ssh-4", "{ 192.0.2.8 }"])?;
            let mut second = HeldTable::open(TABLE)?;
            for result in [second.install(&services, None), second.remove().map(drop)] {
                ensure!(matches!(result, Err(Error::TableInUse { .. })), "{result:?}");
            }
            for (client, stranger) in [("192.0.2.7", "192.0.2.8"), ("2001:db8::7", "2001:db8::8")] {
                assert_eq!(topology::who(client, 22)?, None);
                let address = pktables::address::parse(client)?;
                held.grant(&"ssh".parse()?, address, Some(Duration::from_mins(10)))?;
                topology::expect(client, 22, Some("gateway"))?;
                assert_eq!(topology::who(stranger, 22)?, None);
                flush()?;
                // A reload keeps the grants.
                held.install(&services, None)?;
                topology::expect(client, 22, Some("gateway"))?;
                held.revoke(&"ssh".parse()?, address)?;
                assert_eq!(topology::who(client, 22)?, None);
            }
            held.grant(&"ssh".parse()?, pktables::address::parse("192.0.2.7")?, None)?;
            drop(held);
            if best == Protection::Persistent {
                // The rules outlive their owner, with the grants, and a new owner takes over.
                topology::expect("192.0.2.7", 22, Some("gateway"))?;
                assert_eq!(topology::who("192.0.2.8", 22)?, None);
                let mut heir = HeldTable::open(TABLE)?;
                heir.install(&services, None)?;
                topology::expect("192.0.2.7", 22, Some("gateway"))?;
                assert_eq!(topology::who("192.0.2.8", 22)?, None);
                flush()?;
                assert_eq!(topology::who("192.0.2.8", 22)?, None);
                heir.remove()?;
            } else {
                // The kernel removes it a moment after the socket is closed.
                let tables = || run("nft", ["list", "tables"]);
                wait("the end of the table", tables, |tables| !tables.contains(TABLE))?;
            }
            topology::expect("192.0.2.8", 22, Some("gateway"))?;
        }
        Ok(())
    })
}

#[test]
fn grants_are_mirrored() -> Result<()> {
    inside(concat!(module_path!(), "::grants_are_mirrored"), |netns| {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        netns.quietly(&["init ssh --port 22 --syn", "init other --port 23"])?;
        let services = [service("ssh", "22")?];
        let mut held = HeldTable::open(TABLE)?;
        held.install(&services, None)?;
        let mut nft = pktables::Nft::open()?;
        // the change, who gets in then
        let rows: [(&str, &[&str]); 6] = [
            ("add 192.0.2.7 --service ssh", &["192.0.2.7"]),
            ("add 2001:db8::8/125 --service ssh --timeout 600s", &["192.0.2.7", "2001:db8::8"]),
            ("add 192.0.2.8 --service other", &["192.0.2.7", "2001:db8::8"]),
            ("add 192.0.2.8/31 --service ssh", &["192.0.2.7", "192.0.2.8", "2001:db8::8"]),
            ("delete 192.0.2.7 --service ssh", &["192.0.2.8", "2001:db8::8"]),
            ("flush ssh", &[]),
        ];
        for (words, expected) in rows {
            netns.quietly(&[words])?;
            let grants = nft.grants()?;
            held.mirror(&services, None, &grants)?;
            assert_eq!(held.mirror(&services, None, &grants)?, Change::AlreadySo, "{words}");
            for from in ["192.0.2.7", "192.0.2.8", "2001:db8::7", "2001:db8::8"] {
                let found = topology::who(from, 22)?;
                assert_eq!(found.is_some(), expected.contains(&from), "{words}: {from}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_grant_on_a_link_stays_whatever_is_mirrored() -> Result<()> {
    inside(concat!(module_path!(), "::a_grant_on_a_link_stays_whatever_is_mirrored"), |netns| {
        netns.quietly(&["init ssh --port 22 --syn", "add fe80::8 --service ssh"])?;
        let services = [service("ssh", "22")?];
        let (ssh, local) = (services[0].name.clone(), on_loopback("fe80::7")?);
        let mut nft = pktables::Nft::open()?;
        let mut leasing = services[0].clone();
        leasing.scope.leases = true;
        pktables::Firewall::init(&mut nft, &leasing)?;
        nft.lease(&ssh, local.address(), Duration::from_mins(10))?;
        let mut held = HeldTable::open(TABLE)?;
        held.install(&services, None)?;
        held.grant_on_link(&ssh, local, Duration::from_mins(10))?;
        let has = |held: &mut HeldTable| -> Result<bool> {
            let links = held.link_grants()?;
            Ok(matches!(&links[..], [one] if one.service == ssh && one.sender == local && one.left.is_some()))
        };
        ensure!(has(&mut held)?);
        held.install(&services, None)?;
        ensure!(has(&mut held)?, "a reload");
        // The grant that someone has made by hand is mirrored, and the lease is not.
        assert_eq!(held.mirror(&services, None, &nft.grants()?)?, Change::Made);
        ensure!(has(&mut held)?, "a mirrored grant");
        let everywhere: Vec<_> =
            held.grants()?.into_values().flatten().map(|one| one.address.addr()).collect();
        assert_eq!(everywhere, ["fe80::8".parse::<IpAddr>()?]);
        held.mirror(&services, None, &Grants::new())?;
        ensure!(has(&mut held)?, "no grant");
        assert_eq!(held.revoke_on_link(&ssh, local)?, Change::Made);
        assert_eq!(held.revoke_on_link(&ssh, local)?, Change::AlreadySo);
        ensure!(held.link_grants()?.is_empty());
        // Without an interface it would be for all.
        let unbound = Sender::from(local.address());
        ensure!(held.grant_on_link(&ssh, unbound, Duration::from_mins(10)).is_err());
        Ok(())
    })
}

/// More than fit into one message, and into the socket's buffer one by one.
#[test]
fn many_grants_are_replaced_at_once() -> Result<()> {
    inside(concat!(module_path!(), "::many_grants_are_replaced_at_once"), |_| {
        let services = [service("ssh", "22")?];
        let mut held = HeldTable::open(TABLE)?;
        held.install(&services, None)?;
        let addresses: Vec<_> =
            (0..3_000_u32).map(|number| IpAddr::from((0x0a00_0000 + number).to_be_bytes()).into()).collect();
        let grants = addresses.iter().map(|address| pktables::Grant::new(*address, None)).collect();
        let grants = BTreeMap::from([("ssh".parse()?, grants)]);
        held.mirror(&services, None, &grants)?;
        held.install(&services, None)?;
        assert_eq!(held.grants()?.values().map(Vec::len).sum::<usize>(), 3_000);
        Ok(())
    })
}

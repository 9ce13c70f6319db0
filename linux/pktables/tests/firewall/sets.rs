//! Sets of other programs, such as those of `inet fw4` on OpenWrt.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use pktables::{Change, Element, SetPath, Sets};

use crate::{
    netns::{Kind, Netns, feed},
    topology,
};

const FW4: &str = "\
table inet fw4 {
	set pkd_ssh_4 { type ipv4_addr; flags timeout; counter; }
	set pkd_ssh_6 { type ipv6_addr; flags timeout; }
	set plain { type ipv4_addr; }
	set ranges { type ipv4_addr; flags interval, timeout; }
	chain input {
		type filter hook input priority 0;
		ip saddr @pkd_ssh_4 tcp dport 22 accept
		tcp dport 22 drop
	}
}";

fn path(set: &str) -> SetPath<'_> {
    SetPath { table: "fw4", set }
}

fn only(sets: &mut Sets, set: &str) -> Result<Element> {
    let found = sets.list(path(set))?;
    ensure!(found.len() == 1, "{found:?}");
    found.into_iter().next().context("nothing")
}

#[test]
fn addresses_are_added_renewed_and_removed() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::addresses_are_added_renewed_and_removed"), Kind::Nft, |_| {
        feed("nft", &["-f", "-"], FW4)?;
        let mut sets = Sets::open()?;
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (set, address) in [("pkd_ssh_4", "192.0.2.7"), ("pkd_ssh_6", "2001:db8::7")] {
            let address: IpAddr = address.parse()?;
            // timeout, result, least time left
            let rows = [
                (seconds(30), Change::Made, 29),
                (seconds(60), Change::Made, 59),
                (seconds(30), Change::AlreadySo, 59),
                (seconds(60), Change::Made, 59),
                (seconds(2_000_000_000), Change::Made, 1_999_999_999),
                (None, Change::Made, u64::MAX),
                (seconds(60), Change::AlreadySo, u64::MAX),
                (None, Change::AlreadySo, u64::MAX),
            ];
            for (row, (ttl, expected, least)) in rows.into_iter().enumerate() {
                // Wait for a tick, or the second 60 is as long as the first.
                let before = sets.list(path(set))?;
                let ticked = |sets: &mut Sets| Ok(sets.list(path(set))? != before || before.is_empty());
                if row == 3 {
                    crate::netns::wait("a tick", || ticked(&mut sets), |ticked| *ticked)?;
                }
                assert_eq!(sets.grant(path(set), address, ttl)?, expected, "{set} row {row}");
                let left = only(&mut sets, set)?.left.map_or(u64::MAX, |left| left.as_secs());
                ensure!(left >= least, "{set} row {row}: {left} s are left");
            }
            assert_eq!(sets.revoke(path(set), address)?, Change::Made);
            assert_eq!(sets.revoke(path(set), address)?, Change::AlreadySo);
            sets.grant(path(set), address, None)?;
            assert_eq!(sets.flush(path(set))?, Change::Made);
            assert_eq!(sets.flush(path(set))?, Change::AlreadySo);
            assert_eq!(sets.list(path(set))?, []);
        }
        Ok(())
    })
}

#[test]
fn a_renewed_element_keeps_its_counter() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::a_renewed_element_keeps_its_counter"), Kind::Nft, |_| {
        topology::connect()?;
        topology::serve(None, 22, "gateway")?;
        feed("nft", &["-f", "-"], FW4)?;
        let mut sets = Sets::open()?;
        let (set, address): (_, IpAddr) = ("pkd_ssh_4", "192.0.2.7".parse()?);
        sets.grant(path(set), address, Some(Duration::from_secs(30)))?;
        assert_eq!(only(&mut sets, set)?.packets, Some(0));
        topology::expect("192.0.2.7", 22, Some("gateway"))?;
        let before = only(&mut sets, set)?.packets;
        ensure!(before > Some(2), "{before:?}");
        assert_eq!(sets.grant(path(set), address, Some(Duration::from_mins(1)))?, Change::Made);
        ensure!(only(&mut sets, set)?.packets >= before);
        Ok(())
    })
}

#[test]
fn unsuitable_sets_are_refused() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::unsuitable_sets_are_refused"), Kind::Nft, |_| {
        feed("nft", &["-f", "-"], FW4)?;
        let mut sets = Sets::open()?;
        let (v4, v6): (IpAddr, IpAddr) = ("192.0.2.7".parse()?, "2001:db8::7".parse()?);
        let minute = Some(Duration::from_mins(1));
        let rows = [
            ("nothing", v4, minute, "no set nothing in table inet fw4"),
            ("plain", v4, minute, "set plain lacks the timeout flag"),
            ("ranges", v4, minute, "set ranges has the interval flag; grants need a set without it"),
            ("pkd_ssh_4", v6, minute, "set pkd_ssh_4 does not hold IPv6 addresses"),
            ("pkd_ssh_6", v4, minute, "set pkd_ssh_6 does not hold IPv4 addresses"),
            ("pkd_ssh_4", v4, Some(Duration::ZERO), "invalid time \"0\": must not be zero"),
        ];
        for (set, address, ttl, message) in rows {
            let told = sets.grant(path(set), address, ttl).map_err(|error| error.to_string());
            assert_eq!(told, Err(message.to_owned()), "{set}");
        }
        for set in ["plain", "ranges", "pkd_ssh_4", "pkd_ssh_6"] {
            assert_eq!(sets.list(path(set))?, [], "{set}");
        }
        assert_eq!(sets.names("fw4")?.len(), 4);
        assert_eq!(sets.names("nothing")?, [""; 0]);
        Ok(())
    })
}

/// More than one datagram of the kernel holds.
#[test]
fn thousands_are_listed_and_flushed() -> Result<()> {
    Netns::enter(concat!(module_path!(), "::thousands_are_listed_and_flushed"), Kind::Nft, |_| {
        feed("nft", &["-f", "-"], FW4)?;
        let mut sets = Sets::open()?;
        let address = |number: u32| IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        for number in 0..4096 {
            sets.grant(path("pkd_ssh_4"), address(number), Some(Duration::from_hours(1)))?;
        }
        let listed: Vec<IpAddr> =
            sets.list(path("pkd_ssh_4"))?.iter().map(|element| element.address).collect();
        assert_eq!(listed, (0..4096).map(address).collect::<Vec<_>>());
        assert_eq!(sets.flush(path("pkd_ssh_4"))?, Change::Made);
        assert_eq!(sets.list(path("pkd_ssh_4"))?, []);
        Ok(())
    })
}

//! On a kernel that only has iptables, pkdd receives the datagrams that begin with a current tag or hint, and no others.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pkd_core::LENGTH;
use pkd_netns::{
    network::{Family, Network, net_test},
    process::{LIMIT, shell},
};
use pkdd::{
    firewall::{FirewallBackend as _, Integrity, pktables_backend::PktablesBackend},
    nflog::Nflog,
    source,
};
use pktables::{Backend, Change};

use crate::gateway::{Gateway, PORT};
use Fate::{Ignored, Passed};

type Word = [u8; 4];

const TAG: Word = *b"SSHK";
const OLD: Word = [0x80, 0xff, 0, 1];
const NEW: Word = [0, 0, 0, 0xff];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passed,
    /// It went on to the host, which refused it.
    Ignored,
}

/// What the gateway does with a datagram from the client. Each outcome has its own event, so there is no timeout to judge by.
fn fate(network: &Network, log: &mut Nflog, family: Family, payload: &[u8]) -> Result<Fate> {
    let socket = network.at_client(|| {
        let socket = UdpSocket::bind((family.client(), 0))?;
        socket.connect(SocketAddr::new(family.gateway(), PORT))?;
        socket.set_nonblocking(true)?;
        socket.send(payload)?;
        Ok(socket)
    })?;
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        let mut both = [socket.as_fd(), log.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut both, PollTimeout::from(1000_u16))?;
        let mut passed = false;
        log.receive(|logged| passed |= logged.packet.ends_with(payload))?;
        match socket.recv(&mut [0]) {
            _ if passed => return Ok(Passed),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(Ignored),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => bail!("the gateway answered: {other:?}"),
        }
    }
    bail!("{family:?}: nothing happened to the datagram")
}

/// A unique payload that begins with this word.
fn payload(word: Word, number: u8) -> [u8; LENGTH] {
    let mut payload = [number; LENGTH];
    payload[..word.len()].copy_from_slice(&word);
    payload
}

fn words(hint: Word, left: Duration) -> BTreeMap<Word, Option<Instant>> {
    [(TAG, None), (hint, Some(Instant::now() + left))].into()
}

net_test!(a_kernel_that_only_has_iptables_passes_knocks_of_both_formats, |network| {
    // The test needs the ICMP error for each ignored datagram.
    for limit in ["ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"] {
        fs::write(Path::new("/proc/sys/net").join(limit), "0")?;
    }
    let gateway = Gateway::new(network, "iptables")?;
    let (config, list) = (source::read(&gateway.path("pkdd.toml"))?, gateway.path("services"));
    let mut log = Nflog::open(config.gate.group)?;
    let mut backend = PktablesBackend::open(Backend::Iptables)?.without_nftables();
    let hour = Duration::from_hours(1);
    backend.set_words(&words(OLD, hour))?;
    ensure!(backend.install(&config, &list)? == Change::Made);
    ensure!(backend.needs_polling() && backend.notifications().is_none());
    let mut number = 0;
    let mut expect = |what: &str, rows: [(Word, Fate); 3]| -> Result<()> {
        for family in Family::BOTH {
            for (word, expected) in rows {
                number += 1;
                let whole = payload(word, number);
                let found = fate(network, &mut log, family, &whole).context(format!("{what}: {word:x?}"))?;
                ensure!(found == expected, "{what}, {family:?}: {word:x?} is {found:?}");
                // One byte less is no knock.
                let found = fate(network, &mut log, family, &whole[..LENGTH - 1])?;
                ensure!(found == Ignored, "{what}, {family:?}: {word:x?} in 55 bytes is {found:?}");
            }
        }
        Ok(())
    };
    expect("at first", [(TAG, Passed), (OLD, Passed), (NEW, Ignored)])?;
    backend.set_words(&words(NEW, hour))?;
    expect("in the next slot", [(TAG, Passed), (OLD, Ignored), (NEW, Passed)])?;
    // The daemon installs once more after a change that `check` has not seen; nothing is left to repair.
    ensure!(backend.install(&config, &list)? == Change::AlreadySo);
    ensure!(backend.check(&config)? == Integrity::Intact);
    // A repair restores the current words.
    shell("iptables -t raw -F; ip6tables -t raw -F")?;
    expect("flushed", [(TAG, Ignored), (OLD, Ignored), (NEW, Ignored)])?;
    ensure!(backend.check(&config)? == Integrity::Damaged);
    backend.install(&config, &list)?;
    expect("repaired", [(TAG, Passed), (OLD, Ignored), (NEW, Passed)])?;
    backend.set_words(&words(NEW, Duration::ZERO))?;
    expect("when its time is over", [(TAG, Passed), (OLD, Ignored), (NEW, Ignored)])?;
    backend.clear(&list)?;
    expect("cleared", [(TAG, Ignored), (OLD, Ignored), (NEW, Ignored)])?;
    let left = shell("iptables-save; ip6tables-save; nft list ruleset")?;
    ensure!(!left.contains("pkdd") && !left.contains("pk-"), "{left}");
    Ok(())
});

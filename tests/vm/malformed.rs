//! Packets that are no whole UDP datagram of 64 bytes, and good ones in unusual wrapping.

use anyhow::{Context, Result, ensure};
use pkd_tests::Report;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    gateway::Gateway,
    network::{self, Family, now},
    packet::{self, datagram, knock},
    status::Status,
};

const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

pub(crate) fn checks(report: &mut Report, gateway: &Gateway<'_>) {
    report.check(&gateway.name("wrong lengths are ignored, and nothing is read past them"), || {
        lengths(gateway)
    });
    report.check(&gateway.name("headers between IP and UDP are passed over"), || headers(gateway));
    report.check(&gateway.name("fragments are ignored"), || fragments(gateway));
    report
        .check(&gateway.name("a knock that somebody else holds a copy of is read right"), || cloned(gateway));
}

fn lengths(gateway: &Gateway<'_>) -> Result<String> {
    gateway.only("--key test --tag SSHK")?;
    let (from, to) = (gateway.family.client(), gateway.family.router());
    let good = knock(now()?)?;
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("the header says 63", datagram(63, &good), "Length"),
        ("the header says 65", datagram(65, &good), "Length"),
        ("the header says 8", datagram(8, &good), "Length"),
        ("the header says 0", datagram(0, &good), "Length"),
        ("the header says 64, one byte less is there", datagram(64, &good[..55]), "Length"),
        ("no byte is behind the header", datagram(64, &[]), "Length"),
        ("half a header", datagram(64, &[])[..4].to_vec(), "Length"),
        ("bytes behind the datagram", datagram(64, &[good.as_slice(), &[0xff; 20]].concat()), "Accept"),
    ];
    for (what, bytes, expected) in &cases {
        let actual = gateway.verdict(|| packet::send_raw(from, to, bytes)).context(*what)?;
        ensure!(actual == *expected, "{what}: {actual}");
    }
    for length in [0, 1, 24, 55, 57, 64, 1400] {
        let payload: Vec<u8> = good.iter().copied().cycle().take(length).collect();
        gateway.expect("Length", &payload).with_context(|| format!("a payload of {length} bytes"))?;
    }
    Ok(format!("{} of them", cases.len() + 7))
}

fn headers(gateway: &Gateway<'_>) -> Result<String> {
    gateway.only("--key test --tag SSHK")?;
    let (from, to) = (gateway.family.client(), gateway.family.router());
    let good = datagram(64, &knock(now()?)?);
    let packet = match gateway.family {
        Family::V4 => packet::ipv4_with_options(from, to, &good)?,
        // One option of 4 bytes to fill the header (RFC 8200, 4.2).
        Family::V6 => packet::ipv6_with_extension(from, to, DESTINATION_OPTIONS, [1, 4, 0, 0, 0, 0], &good)?,
    };
    let actual = gateway.verdict(|| packet::send_packet(to, &packet))?;
    ensure!(actual == "Accept", "{actual}");
    Ok("accepted".to_owned())
}

fn fragments(gateway: &Gateway<'_>) -> Result<String> {
    gateway.only("--key test --tag SSHK")?;
    let (from, to) = (gateway.family.client(), gateway.family.router());
    let good = knock(now()?)?;
    if gateway.family == Family::V6 {
        // A single fragment that is the whole datagram (RFC 6946): still one.
        let packet =
            packet::ipv6_with_extension(from, to, FRAGMENT, [0, 0, 0, 0, 0, 7], &datagram(64, &good))?;
        let actual = gateway.verdict(|| packet::send_packet(to, &packet))?;
        ensure!(actual == "Length", "{actual}");
        return Ok("an atomic fragment".to_owned());
    }
    // Before the kernel has put the fragments together, and after. A rule with another key sees
    // them first.
    gateway.firewall.run("-t mangle -A PREROUTING -p udp -m pkd --key other --tag SSHK")?;
    let before = Status::read()?;
    gateway.network.at_client(|| {
        let packets = packet::ipv4_fragments(from, to, &datagram(64, &good))?;
        packets.iter().try_for_each(|packet| packet::send_packet(to, packet))
    })?;
    let after = network::wait(std::time::Duration::from_secs(20), Status::read, |after| {
        after.total() >= before.total() + 3
    })?;
    gateway.firewall.flush()?;
    let moved = |name: &str| after.counters[name] - before.counters[name];
    ensure!(moved("Length") == 2 && moved("Accept") == 1, "{:?} then {:?}", before.counters, after.counters);
    Ok("two ignored, and what the kernel made of them accepted".to_owned())
}

fn cloned(gateway: &Gateway<'_>) -> Result<String> {
    gateway.only("--key test --tag SSHK")?;
    // A packet socket makes every packet that comes in a shared one. ETH_P_ALL, network order.
    let _listener =
        Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(0x0003_u16.to_be()))))?;
    let good = knock(now()?)?;
    gateway.expect("Accept", &good)?;
    gateway.expect("Replay", &good)?;
    Ok("accepted, then a replay".to_owned())
}

//! What an attacker outside of an inline gateway may try, and what becomes of it. The tests of the library and those in QEMU
//! send the same frames.

use std::net::{Ipv4Addr, Ipv6Addr};

use pkd_gateway::{Config, Endpoint, EthernetAddress, Inline, Mode, Pass, Protect, Protocol};
use smoltcp::wire::{ArpOperation, IpProtocol, Ipv4Packet};

use crate::{
    frame::{self, ACK, Flags, Host, Path, SYN},
    frame6::{self, Host6, Packet6, icmp6, neighbour, tcp6, udp6},
};

/// The ports of the protected host's services, of TCP and of UDP.
pub(crate) const SSH: u16 = 22;
pub(crate) const DNS: u16 = 53;
/// A port of the host that is no service.
const WEB: u16 = 80;

/// Who takes part: the protected host, another host on the inside, the attacker, and the gateway.
#[derive(Clone, Copy)]
pub(crate) struct Cast {
    pub(crate) nas: Host,
    pub(crate) printer: Host,
    pub(crate) attacker: Host,
    pub(crate) gateway: Host,
    pub(crate) knock_port: u16,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does not get to the inside.
    Stops,
    /// It gets there unchanged.
    Passes,
}
use Fate::{Passes, Stops};

/// A frame from outside, and what becomes of it if the whole host is protected, or only the ports of its services.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) frame: Vec<u8>,
    pub(crate) host: Fate,
    pub(crate) services: Fate,
}

/// An Ethernet type and an IP protocol that the gateway forwards unchecked: PROFINET, and GRE.
const PROFINET: u16 = 0x8892;
const GRE: u8 = 47;

/// An inline gateway in front of the host, which has an IPv6 address too.
pub(crate) fn configure<const RULES: usize>(config: &mut Config<RULES>, cast: Cast, protect: Protect) {
    let pass = Pass { ethertypes: [PROFINET, 0, 0, 0, 0, 0, 0, 0], protocols: [GRE, 0, 0, 0, 0, 0, 0, 0] };
    let vlans = match config.mode {
        Mode::Inline(Inline { vlans, .. }) => vlans,
        Mode::OneArm => None,
    };
    config.mode = Mode::Inline(Inline { vlans, protect, ipv6: true, pass });
    let mut second = config.services[0].clone();
    config.services.clear();
    second.name = "ssh6".try_into().unwrap();
    let mut add = |name: &str, protocol, address, port| {
        let mut service = second.clone();
        service.name = name.try_into().unwrap();
        service.protocol = protocol;
        service.port = port;
        service.inside = Endpoint { address, port };
        config.services.push(service).unwrap();
    };
    add("ssh", Protocol::Tcp, cast.nas.address.into(), SSH);
    add("dns", Protocol::Udp, cast.nas.address.into(), DNS);
    add("ssh6", Protocol::Tcp, NAS6.into(), SSH);
}

/// The host's IPv6 address, its link-local one, the attacker's, and the printer's.
pub(crate) const NAS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x20);
const NAS6_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x20);
const ATTACKER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const PRINTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x21);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What the hosts inside send first, so that the gateway knows their MAC addresses.
pub(crate) fn introductions(cast: Cast) -> Vec<Vec<u8>> {
    let all = Host { hardware: EthernetAddress([0xff; 6]), ..cast.attacker };
    let nas = Host6 { hardware: cast.nas.hardware, address: NAS6 };
    let everybody = Host6 { hardware: EthernetAddress([0x33, 0x33, 0, 0, 0, 1]), address: ALL_NODES };
    vec![
        frame::arp(ArpOperation::Request, cast.nas, all),
        frame::arp(ArpOperation::Request, cast.printer, all),
        neighbour(nas, everybody, 136, NAS6, Some(nas.hardware)).frame(nas, everybody),
    ]
}

/// A frame from outside that passes always, different for each number.
#[allow(dead_code, reason = "the tests in QEMU wait for it")]
pub(crate) fn always_passes(cast: Cast, number: u32) -> Vec<u8> {
    let mut frame = typed(&source_routed(cast.nas, cast.attacker), PROFINET);
    frame.extend(number.to_be_bytes());
    frame
}

/// The frame with a tag that has this control information.
pub(crate) fn tagged(frame: &[u8], tpid: u16, control: u16) -> Vec<u8> {
    let mut tagged = frame.to_vec();
    tagged.splice(12..12, [tpid.to_be_bytes(), control.to_be_bytes()].concat());
    tagged
}

/// The frame as one of another Ethernet type.
fn typed(frame: &[u8], ethertype: u16) -> Vec<u8> {
    let mut typed = frame.to_vec();
    typed[12..14].copy_from_slice(&ethertype.to_be_bytes());
    typed
}

fn edited(mut frame: Vec<u8>, edit: impl FnOnce(&mut Ipv4Packet<&mut [u8]>)) -> Vec<u8> {
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
    edit(&mut packet);
    packet.fill_checksum();
    frame
}

/// All attacks.
pub(crate) fn attacks(cast: Cast) -> Vec<Attack> {
    let row = |name, host, services, frame| Attack { name, frame, host, services };
    let mut rows: Vec<Attack> = ipv4(cast)
        .into_iter()
        .map(|(name, host, services, frame)| row(name, host, services, frame))
        .collect();
    rows.extend(
        ethernet(cast).into_iter().map(|(name, host, services, frame)| row(name, host, services, frame)),
    );
    rows.extend(ipv6(cast).into_iter().map(|(name, host, services, frame)| row(name, host, services, frame)));
    rows
}

type Row = (&'static str, Fate, Fate, Vec<u8>);

fn ipv4(cast: Cast) -> Vec<Row> {
    let Cast { nas, printer, attacker, gateway, knock_port } = cast;
    let at = |address: [u8; 4]| Host { address: Ipv4Addr::from(address), ..nas };
    let all = |address: [u8; 4]| Host { hardware: EthernetAddress([0xff; 6]), address: address.into() };
    let group = |address: [u8; 4]| {
        let [_, b, c, d] = address;
        Host { hardware: EthernetAddress([1, 0, 0x5e, b & 0x7f, c, d]), address: address.into() }
    };
    let path = |to, to_port| Path { from: attacker, from_port: 1_024, to, to_port };
    let syn = |to, port| frame::tcp(SYN, path(to, port), b"");
    let ack = |to, port| frame::tcp(ACK, path(to, port), b"");
    let datagram = |to, port| frame::udp(path(to, port), b"12345678");
    let fragment = |to| edited(datagram(to, WEB), |packet| packet.set_frag_offset(64));
    let first = |to| edited(datagram(to, WEB), |packet| packet.set_more_frags(true));
    let other =
        |to: Host, protocol: u8| frame::ipv4(attacker, to, IpProtocol::from(protocol), 24, |_, _, _| {});
    let icmp = |to: Host, kind: u8| frame::icmp(attacker, to, kind, b"12345678");
    let about = |about: &[u8]| frame::icmp(attacker, nas, 3, &about[14..]);
    let network = |last: u8| {
        let [a, b, c, _] = gateway.address.octets();
        [a, b, c, last]
    };
    let spoofed =
        |from: Host| frame::tcp(SYN, Path { from, from_port: 1_024, to: printer, to_port: WEB }, b"");
    let stranger_hardware = Host { hardware: EthernetAddress([2, 0, 0, 0, 0, 0x77]), ..nas };
    vec![
        ("a SYN to the service", Stops, Stops, syn(nas, SSH)),
        ("an ACK to the service", Stops, Stops, ack(nas, SSH)),
        ("a SYN and FIN to the service", Stops, Stops, frame::tcp(Flags(3), path(nas, SSH), b"")),
        ("a datagram to the service", Stops, Stops, datagram(nas, DNS)),
        ("the service, in a frame to another MAC address", Stops, Stops, syn(stranger_hardware, SSH)),
        ("the service, in a frame to all", Stops, Stops, syn(all(nas.address.octets()), SSH)),
        ("another port of the host", Stops, Passes, syn(nas, WEB)),
        ("a datagram to another port", Stops, Passes, datagram(nas, 161)),
        ("the service at another address of the host", Stops, Stops, syn(at([10, 9, 8, 7]), SSH)),
        ("the service at the host's own choice of an address", Stops, Stops, syn(at([169, 254, 3, 4]), SSH)),
        ("the service in a container behind the host", Stops, Stops, syn(at([172, 17, 0, 2]), SSH)),
        ("the service at the host's loopback address", Stops, Stops, syn(at([127, 0, 0, 1]), SSH)),
        ("DNS at another address of the host", Stops, Stops, datagram(at([10, 9, 8, 7]), DNS)),
        ("another port at another address of the host", Stops, Passes, syn(at([10, 9, 8, 7]), WEB)),
        ("DNS to all", Stops, Stops, datagram(all([255; 4]), DNS)),
        ("DNS to all of the network", Stops, Stops, datagram(all(network(255)), DNS)),
        ("DNS to the network's own address", Stops, Stops, datagram(all(network(0)), DNS)),
        ("DNS to no address", Stops, Stops, datagram(all([0; 4]), DNS)),
        ("DNS to the network, in a frame to the host", Stops, Stops, datagram(at(network(255)), DNS)),
        ("DNS to a group", Stops, Stops, datagram(group([224, 0, 0, 251]), DNS)),
        ("another port of all", Stops, Passes, datagram(all([255; 4]), WEB)),
        ("a fragment to the host", Stops, Stops, fragment(nas)),
        ("a first fragment to the host", Stops, Stops, first(nas)),
        ("a fragment to another address of the host", Stops, Stops, fragment(at([10, 9, 8, 7]))),
        ("a fragment to all", Stops, Stops, fragment(all([255; 4]))),
        ("a fragment to all of the network", Stops, Stops, fragment(all(network(255)))),
        ("a fragment to no address", Stops, Stops, fragment(all([0; 4]))),
        ("a fragment to a group", Stops, Stops, fragment(group([224, 0, 0, 251]))),
        ("IPv4 in IPv4", Stops, Stops, other(nas, 4)),
        ("IPv6 in IPv4", Stops, Stops, other(nas, 41)),
        ("ESP", Stops, Stops, other(nas, 50)),
        ("AH", Stops, Stops, other(nas, 51)),
        ("SCTP", Stops, Stops, other(nas, 132)),
        ("UDP-Lite", Stops, Stops, other(nas, 136)),
        ("protocol 0", Stops, Stops, other(nas, 0)),
        ("IGMP to all", Stops, Stops, other(group([224, 0, 0, 1]), 2)),
        ("GRE, which is to pass", Passes, Passes, other(nas, GRE)),
        ("a ping", Stops, Passes, icmp(nas, 8)),
        ("an answer to a ping that nobody has sent", Stops, Stops, icmp(nas, 0)),
        ("a redirect", Stops, Stops, icmp(nas, 5)),
        ("a router's advertisement of ICMP", Stops, Stops, icmp(nas, 9)),
        ("a request for the time", Stops, Stops, icmp(nas, 13)),
        ("an error about nothing", Stops, Stops, icmp(nas, 3)),
        (
            "an error about a flow that does not exist",
            Stops,
            Stops,
            about(&frame::tcp(ACK, Path { from: nas, from_port: SSH, to: attacker, to_port: 1_024 }, b"")),
        ),
        ("a source route", Stops, Stops, source_routed(printer, attacker)),
        ("from the host's address", Stops, Stops, spoofed(Host { hardware: attacker.hardware, ..nas })),
        ("from the host's MAC address", Stops, Stops, spoofed(Host { hardware: nas.hardware, ..attacker })),
        (
            "from the gateway's address",
            Stops,
            Stops,
            spoofed(Host { hardware: attacker.hardware, ..gateway }),
        ),
        (
            "DHCP that nobody has asked for",
            Stops,
            Passes,
            frame::udp(Path { from: attacker, from_port: 67, to: nas, to_port: 68 }, b""),
        ),
        ("a knock that is none", Stops, Stops, datagram(nas, knock_port)),
        ("the same port of another host", Passes, Passes, syn(printer, SSH)),
        ("another port of another host", Passes, Passes, syn(printer, WEB)),
        ("a ping of another host", Passes, Passes, icmp(printer, 8)),
        ("a fragment to another host", Passes, Passes, fragment(printer)),
        ("SCTP to another host", Passes, Passes, other(printer, 132)),
    ]
}

fn source_routed(to: Host, from: Host) -> Vec<u8> {
    let mut frame = frame::icmp(from, to, 8, b"12345678");
    frame.splice(34..34, [131, 3, 4, 0]);
    edited(frame, |packet| {
        packet.set_header_len(24);
        packet.set_total_len(40);
    })
}

fn ethernet(cast: Cast) -> Vec<Row> {
    let Cast { nas, printer, attacker, gateway, .. } = cast;
    let syn = |to| frame::tcp(SYN, Path { from: attacker, from_port: 1_024, to, to_port: SSH }, b"");
    let priority = |frame: &[u8]| tagged(frame, 0x8100, 0xa000);
    let syn6 = six(cast, NAS6);
    let all = Host { hardware: EthernetAddress([0xff; 6]), ..nas };
    vec![
        ("the service, behind a priority tag", Stops, Stops, priority(&syn(nas))),
        ("the same of IPv6", Stops, Stops, priority(&syn6)),
        ("the service, behind two tags", Stops, Stops, priority(&priority(&syn(nas)))),
        ("the service, in a VLAN", Stops, Stops, tagged(&syn(nas), 0x8100, 5)),
        ("another host, in a VLAN", Stops, Stops, tagged(&syn(printer), 0x8100, 5)),
        ("the service, behind a provider's tag", Stops, Stops, tagged(&syn(nas), 0x88a8, 0)),
        ("another host, behind a priority tag", Passes, Passes, priority(&syn(printer))),
        ("PROFINET, which is to pass", Passes, Passes, typed(&syn(nas), PROFINET)),
        ("PROFINET with a priority", Passes, Passes, priority(&typed(&syn(nas), PROFINET))),
        ("PPPoE", Stops, Stops, typed(&syn(nas), 0x8864)),
        ("MPLS", Stops, Stops, typed(&syn(nas), 0x8847)),
        ("LLDP", Stops, Stops, typed(&syn(nas), 0x88cc)),
        ("a length in place of a type", Stops, Stops, typed(&syn(nas), 0x26)),
        ("ARP for the host", Passes, Passes, frame::arp(ArpOperation::Request, attacker, all)),
        (
            "ARP from the host's address",
            Stops,
            Stops,
            frame::arp(ArpOperation::Reply, Host { hardware: attacker.hardware, ..nas }, printer),
        ),
        (
            "ARP from the gateway's address",
            Stops,
            Stops,
            frame::arp(ArpOperation::Reply, Host { hardware: attacker.hardware, ..gateway }, nas),
        ),
    ]
}

/// A SYN to the host's service at an address.
fn six(cast: Cast, address: Ipv6Addr) -> Vec<u8> {
    let from = Host6 { hardware: cast.attacker.hardware, address: ATTACKER6 };
    let to = Host6 { hardware: cast.nas.hardware, address };
    tcp6(from, to, (1_024, SSH), SYN).frame(from, to)
}

fn ipv6(cast: Cast) -> Vec<Row> {
    let from = Host6 { hardware: cast.attacker.hardware, address: ATTACKER6 };
    let router = Host6 { address: ROUTER6, ..from };
    let nas = Host6 { hardware: cast.nas.hardware, address: NAS6 };
    let local = Host6 { address: NAS6_LOCAL, ..nas };
    let printer = Host6 { hardware: cast.printer.hardware, address: PRINTER6 };
    let all = Host6 { hardware: EthernetAddress([0x33, 0x33, 0, 0, 0, 1]), address: ALL_NODES };
    let ssh = tcp6(from, nas, (1_024, SSH), SYN);
    let web = tcp6(from, nas, (1_024, WEB), SYN);
    let atomic =
        Packet6 { next: 44, body: [&[6, 0, 0, 0, 0, 0, 0, 1], &ssh.body[..]].concat(), ..ssh.clone() };
    let detour =
        Packet6 { next: 43, body: [&[6, 0, 0, 0, 0, 0, 0, 0], &ssh.body[..]].concat(), ..ssh.clone() };
    let whole =
        Packet6 { next: 44, body: [&[6, 0, 0, 0, 0, 0, 0, 1], &web.body[..]].concat(), ..web.clone() };
    let way = Packet6 { next: 43, body: [&[6, 0, 0, 0, 0, 0, 0, 0], &web.body[..]].concat(), ..web.clone() };
    let frame = |packet: &Packet6| packet.frame(from, nas);
    let raw = |next: u8| Packet6 { hops: frame6::HOPS, next, body: vec![0; 24] }.frame(from, nas);
    let advertisement = neighbour(router, nas, 134, Ipv6Addr::UNSPECIFIED, None);
    let far = Packet6 { hops: 64, ..advertisement.clone() };
    let quoted = tcp6(nas, from, (SSH, 1_024), ACK).frame(nas, from);
    let error = icmp6(from, nas, 1, &[&[0; 4], &quoted[14..]].concat());
    vec![
        ("the service of IPv6", Stops, Stops, frame(&ssh)),
        ("an ACK to it", Stops, Stops, frame(&tcp6(from, nas, (1_024, SSH), ACK))),
        (
            "the service at the link-local address",
            Stops,
            Stops,
            tcp6(from, local, (1_024, SSH), SYN).frame(from, local),
        ),
        ("the service behind options", Stops, Stops, frame(&ssh.clone().behind(60))),
        ("the service behind hop-by-hop options", Stops, Stops, frame(&ssh.clone().behind(0))),
        ("hop-by-hop options in the wrong place", Stops, Stops, frame(&ssh.clone().behind(0).behind(60))),
        (
            "more options than any host sends",
            Stops,
            Stops,
            frame(&ssh.clone().behind(60).behind(60).behind(60).behind(60).behind(60)),
        ),
        ("the service behind a fragment header", Stops, Stops, frame(&atomic)),
        ("the service behind a routing header", Stops, Stops, frame(&detour)),
        ("another port behind a fragment header", Stops, Stops, frame(&whole)),
        ("another port behind a routing header", Stops, Stops, frame(&way)),
        (
            "another port behind hop-by-hop options in the wrong place",
            Stops,
            Stops,
            frame(&web.clone().behind(0).behind(60)),
        ),
        ("another port at a mapped address", Stops, Stops, {
            let to = Host6 { address: cast.nas.address.to_ipv6_mapped(), ..nas };
            tcp6(from, to, (1_024, WEB), SYN).frame(from, to)
        }),
        ("another port of IPv6", Stops, Passes, frame(&tcp6(from, nas, (1_024, WEB), SYN))),
        ("another port behind options", Stops, Passes, frame(&tcp6(from, nas, (1_024, WEB), SYN).behind(60))),
        ("a service's port, to all", Stops, Stops, udp6(from, all, (1_024, DNS), b"").frame(from, all)),
        ("a ping of IPv6", Stops, Passes, frame(&icmp6(from, nas, 128, &[0; 12]))),
        ("an answer to no ping of IPv6", Stops, Stops, frame(&icmp6(from, nas, 129, &[0; 12]))),
        ("an error about a flow of IPv6 that does not exist", Stops, Stops, frame(&error)),
        ("a redirect of IPv6", Stops, Stops, frame(&neighbour(from, nas, 137, ATTACKER6, None))),
        ("a question for the host's names", Stops, Stops, frame(&icmp6(from, nas, 139, &[0; 12]))),
        ("a router's advertisement", Passes, Passes, advertisement.frame(router, nas)),
        ("a router's advertisement from far away", Stops, Stops, far.frame(router, nas)),
        (
            "a neighbour's question",
            Passes,
            Passes,
            frame(&neighbour(from, nas, 135, NAS6, Some(from.hardware))),
        ),
        (
            "a group's router's question",
            Passes,
            Passes,
            Packet6 { hops: 1, ..icmp6(router, all, 130, &[0; 20]) }.frame(router, all),
        ),
        ("IPv4 in IPv6", Stops, Stops, raw(4)),
        ("ESP of IPv6", Stops, Stops, raw(50)),
        ("SCTP of IPv6", Stops, Stops, raw(132)),
        ("nothing at all", Stops, Stops, raw(59)),
        ("GRE of IPv6, which is to pass", Passes, Passes, raw(GRE)),
        (
            "another host's port of IPv6",
            Passes,
            Passes,
            tcp6(from, printer, (1_024, SSH), SYN).frame(from, printer),
        ),
        (
            "from the host's IPv6 address",
            Stops,
            Stops,
            tcp6(Host6 { hardware: from.hardware, ..nas }, printer, (1_024, WEB), SYN)
                .frame(Host6 { hardware: from.hardware, ..nas }, printer),
        ),
        ("a mapped address", Stops, Stops, {
            let to = Host6 { address: cast.nas.address.to_ipv6_mapped(), ..nas };
            tcp6(from, to, (1_024, SSH), SYN).frame(from, to)
        }),
    ]
}

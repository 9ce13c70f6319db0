//! A gateway with small tables, the hosts around it, and helpers for tests.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use pkd_core::{
    Key, Knock, KnockParams, LENGTH, Port as UdpPort, Tag, UnixMillis, UnixSeconds, Verdict, Window,
    format2::{self, Addresses, Bindings, Keys, Request},
};
use pkd_gateway::{
    Action, Address, Config, DropReason, Endpoint, EthernetAddress, Floors, Format, Gateway, Inline, Instant,
    Interface, KnockOutcome, Mode, Network, Pass, Port, Protect, Protocol, Rule, Service, Services, Tables,
    TimeServer, TimeSource, Vlans,
};
use smoltcp::wire::ArpOperation;

use crate::frame::{self, ACK, Host, Path, SYN, SYN_ACK, Transport};

pub(crate) const FLOWS: usize = 8;
pub(crate) const RULES: usize = 4;
pub(crate) type Small<'a> = Gateway<'a, FLOWS, 4, RULES, 16>;
pub(crate) type SmallTables = Tables<FLOWS, 4, RULES, 16>;

pub(crate) const GATEWAY: Host = Host::new(1, [192, 168, 1, 9]);
pub(crate) const NAS: Host = Host::new(2, [192, 168, 1, 20]);
/// The client and the stranger are behind the router.
pub(crate) const CLIENT: Host = Host::new(3, [203, 0, 113, 7]);
pub(crate) const STRANGER: Host = Host::new(3, [203, 0, 113, 8]);
pub(crate) const TIME_SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

pub(crate) const KNOCK_PORT: u16 = 40_000;
pub(crate) const SSH: u16 = 2_222;
pub(crate) const DNS: u16 = 5_353;
pub(crate) const TTL: u32 = 60;

/// The time at boot.
pub(crate) const START: UnixSeconds = UnixSeconds(1_800_000_000);
/// When the wait for one window is over.
pub(crate) const READY: Instant = Instant(20_000);

/// The start of a second.
pub(crate) fn millis(time: UnixSeconds) -> UnixMillis {
    UnixMillis(time.0 * 1_000)
}

pub(crate) fn rule(tag: &str, services: Services) -> Rule {
    Rule { knock: knocks(tag, Window::from_secs(10)), format: Format::Classic, ttl: TTL, services }
}

pub(crate) fn knocks(tag: &str, window: Window) -> pkd_core::Rule {
    pkd_core::Rule::new(Key::parse("test").unwrap(), Tag::parse(tag).unwrap(), window)
}

pub(crate) fn service(name: &str, protocol: Protocol, port: u16, inside: u16) -> Service {
    Service {
        name: name.try_into().unwrap(),
        protocol,
        port,
        inside: Endpoint { address: NAS.address.into(), port: inside },
    }
}

pub(crate) fn one_arm() -> Config<RULES> {
    Config {
        created: UnixSeconds(START.0 - 1_000),
        mode: Mode::OneArm,
        address: Address::Static(Interface {
            network: Network { address: GATEWAY.address, prefix: 24 },
            router: Some(TIME_SERVER),
        }),
        knock_port: KNOCK_PORT,
        own_addresses: [].into_iter().collect(),
        address6: None,
        grant_prefix: 128,
        hosts: [].into_iter().collect(),
        answer_ping: true,
        time: TimeSource::Sntp(TimeServer { at: SocketAddrV4::new(TIME_SERVER, 123), interval: 64 }),
        update: None,
        counters_network: Some(Network { address: GATEWAY.address, prefix: 24 }),
        counters_port: 9_100,
        services: [service("ssh", Protocol::Tcp, SSH, 22), service("dns", Protocol::Udp, DNS, 53)]
            .into_iter()
            .collect(),
        rules: [rule("SSHK", Services::NONE.with(0)), rule("BOTH", Services::NONE.with(0).with(1))]
            .into_iter()
            .collect(),
    }
}

/// Two NICs, of which only the listed ports are guarded.
pub(crate) const INLINE: Inline = Inline {
    vlans: None,
    protect: Protect::Services,
    ipv6: true,
    pass: Pass { ethertypes: [0; 8], protocols: [0; 8] },
};

pub(crate) fn inline() -> Config<RULES> {
    let mut config = one_arm();
    config.mode = Mode::Inline(INLINE);
    config.services =
        [service("ssh", Protocol::Tcp, 22, 22), service("dns", Protocol::Udp, 53, 53)].into_iter().collect();
    config
}

/// With both sides on one NIC.
pub(crate) fn trunk() -> Config<RULES> {
    let mut trunk = inline();
    let vlans = Some(Vlans { outside: 1, inside: 2 });
    trunk.mode = Mode::Inline(Inline { vlans, ..INLINE });
    trunk
}

/// A gateway that has the time, has waited for its window, and knows the NAS's MAC address.
pub(crate) fn ready<'a>(tables: &'a mut SmallTables, config: &'a Config<RULES>) -> Small<'a> {
    let mut gateway = Gateway::new(tables, config, GATEWAY.hardware, Floors::default());
    gateway.set_time(Instant(0), millis(START)).unwrap();
    find(&mut gateway, READY, NAS);
    gateway
}

/// Lets the gateway ask for the hosts, of which one answers.
pub(crate) fn find(gateway: &mut Small<'_>, now: Instant, host: Host) {
    let mut question = [0; 128];
    while gateway.on_tick(now, &mut question).is_some() {}
    let mut answer = frame::arp(ArpOperation::Reply, host, GATEWAY);
    assert_eq!(gateway.on_frame(now, Port::Inside, &mut answer), Action::Local { skip: 0 });
}

pub(crate) fn seconds(seconds: u64) -> Instant {
    Instant(READY.0 + seconds * 1_000)
}

/// A valid knock from a sender whose clock is right.
pub(crate) fn knock(tag: &str, now: Instant, nonce: u8) -> [u8; LENGTH] {
    knock_at(tag, UnixSeconds(START.0 + now.0 / 1_000), nonce)
}

pub(crate) fn knock_at(tag: &str, time: UnixSeconds, nonce: u8) -> [u8; LENGTH] {
    let (key, tag) = (Key::parse("test").unwrap(), Tag::parse(tag).unwrap());
    Knock::seal(&KnockParams { key: &key, tag, time, nonce: [nonce; 12] }, UdpPort(KNOCK_PORT))
}

/// The same rules in format 2, which require nothing.
pub(crate) fn format2(mut config: Config<RULES>) -> Config<RULES> {
    config.rules.iter_mut().for_each(|rule| rule.format = Format::Format2 { require: Bindings::NONE });
    config
}

/// A knock of format 2.
#[derive(Clone, Copy)]
pub(crate) struct Knock2 {
    pub(crate) tag: &'static str,
    pub(crate) request: Request,
    pub(crate) bindings: Bindings,
    pub(crate) from: Host,
    pub(crate) to: Host,
}

impl Knock2 {
    /// Opens, and is bound to nothing.
    pub(crate) const fn open(tag: &'static str, from: Host) -> Self {
        Self { tag, request: Request::Open, bindings: Bindings::NONE, from, to: GATEWAY }
    }

    /// Closes, and is bound to nothing.
    pub(crate) const fn close(tag: &'static str, from: Host) -> Self {
        Self { request: Request::Close, ..Self::open(tag, from) }
    }

    pub(crate) const fn bound(self, bindings: Bindings) -> Self {
        Self { bindings, ..self }
    }

    /// By a sender whose clock is right.
    pub(crate) fn seal(self, now: Instant) -> [u8; LENGTH] {
        self.seal_at(UnixMillis(millis(START).0 + now.0))
    }

    pub(crate) fn seal_at(self, time: UnixMillis) -> [u8; LENGTH] {
        let keys = Keys::new(&Key::parse("test").unwrap(), Tag::parse(self.tag).unwrap());
        let Self { request, bindings, from, to, .. } = self;
        let params = format2::KnockParams { time, nonce: [7; 12], bindings, request };
        let (source, destination) = (from.address.octets(), to.address.octets());
        let addresses = Addresses::V4 { source: &source, destination: &destination };
        format2::Knock::seal(&keys, &params, UdpPort(KNOCK_PORT), &addresses)
    }
}

/// A knock of format 2 that opens, over IPv6, bound to both addresses.
pub(crate) fn seal6(tag: &str, now: Instant, source: Ipv6Addr, destination: Ipv6Addr) -> [u8; LENGTH] {
    let keys = Keys::new(&Key::parse("test").unwrap(), Tag::parse(tag).unwrap());
    let bindings = Bindings::SOURCE | Bindings::DESTINATION;
    let time = UnixMillis(millis(START).0 + now.0);
    let params = format2::KnockParams { time, nonce: [7; 12], bindings, request: Request::Open };
    let (source, destination) = (source.octets(), destination.octets());
    let addresses = Addresses::V6 { source: &source, destination: &destination };
    format2::Knock::seal(&keys, &params, UdpPort(KNOCK_PORT), &addresses)
}

/// Sends a knock from a client. Returns its verdict, or why it was not checked.
pub(crate) fn send_knock(
    gateway: &mut Small<'_>,
    now: Instant,
    from: Host,
    payload: &[u8],
) -> Result<Verdict, DropReason> {
    knock_outcome(gateway, now, from, payload).map(|outcome| outcome.verdict)
}

/// Sends a knock from a client. Returns its outcome, or why it was not checked.
pub(crate) fn knock_outcome(
    gateway: &mut Small<'_>,
    now: Instant,
    from: Host,
    payload: &[u8],
) -> Result<KnockOutcome, DropReason> {
    let path = Path { from, from_port: 5_000, to: GATEWAY, to_port: KNOCK_PORT };
    match gateway.on_frame(now, Port::Outside, &mut frame::udp(path, payload)) {
        Action::Knock(outcome) => Ok(outcome),
        Action::Drop(reason) => Err(reason),
        other => panic!("a knock is never forwarded: {other:?}"),
    }
}

/// A path from a client's port to the gateway's.
pub(crate) fn to_gateway(from: Host, from_port: u16, to_port: u16) -> Path {
    Path { from, from_port, to: GATEWAY, to_port }
}

/// A path from the NAS to a port of the gateway.
pub(crate) fn from_nas(from_port: u16, to_port: u16) -> Path {
    Path { from: NAS, from_port, to: GATEWAY, to_port }
}

/// Handles a segment or datagram. Returns the forwarded frame, or the action if it is not forwarded.
pub(crate) fn pass(
    gateway: &mut Small<'_>,
    now: Instant,
    port: Port,
    transport: Transport,
    path: Path,
) -> Result<frame::Parsed, Action> {
    let mut bytes = frame::segment(transport, path, b"payload");
    match gateway.on_frame(now, port, &mut bytes) {
        Action::Forward(_) => Ok(frame::parse(&bytes).unwrap()),
        other => Err(other),
    }
}

/// The address of all.
pub(crate) const BROADCAST: EthernetAddress = EthernetAddress([0xff; 6]);

impl Path {
    /// The same path to another IP address, over the same next hop.
    pub(crate) fn addressed_to(self, host: Host) -> Self {
        Self { to: Host { address: host.address, ..self.to }, ..self }
    }
}

pub(crate) const TCP_SYN: Transport = Transport::Tcp(SYN);
pub(crate) const TCP_ACK: Transport = Transport::Tcp(ACK);

/// Sends a client's segment to SSH. Returns what the NAS receives.
pub(crate) fn client(
    gateway: &mut Small<'_>,
    now: Instant,
    transport: Transport,
    from_port: u16,
) -> Result<frame::Parsed, Action> {
    pass(gateway, now, Port::Outside, transport, to_gateway(CLIENT, from_port, SSH))
}

/// Opens a flow and completes the handshake. Returns the client's port as the NAS sees it.
pub(crate) fn establish(gateway: &mut Small<'_>, now: Instant, from_port: u16) -> u16 {
    let nat_port = client(gateway, now, TCP_SYN, from_port).unwrap().from.1;
    pass(gateway, now, Port::Outside, Transport::Tcp(SYN_ACK), from_nas(22, nat_port)).unwrap();
    client(gateway, now, TCP_ACK, from_port).unwrap();
    nat_port
}

/// Sends a knock that is accepted.
pub(crate) fn open(gateway: &mut Small<'_>, now: Instant, from: Host, tag: &str) {
    let nonce = from.address.octets()[3];
    assert_eq!(send_knock(gateway, now, from, &knock(tag, now, nonce)), Ok(Verdict::Accept));
}

//! The binary configuration: valid ones survive a round trip, and each defect has its error.

use std::net::IpAddr;

use pkd_core::{UnixSeconds, Window, format2::Bindings};
use pkd_gateway::{
    Address, CONFIG_LIMIT, Config, ConfigError, EthernetAddress, Format, Host, Inline, Interface, Mode,
    Network, Pass, Protect, Protocol, Rule, Services, TimeSource, VERSION, Vlans,
};

use crate::harness::{
    GATEWAY, INLINE, KNOCK_PORT, NAS, RULES, inline, knocks, one_arm, rule, service, trunk,
};

pub(crate) fn bytes(config: &Config<RULES>) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = vec![0xff; CONFIG_LIMIT];
    let length = config.emit(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

#[test]
fn every_configuration_survives_a_round_trip_through_flash() {
    let mut trunk = inline();
    trunk.mode = Mode::Inline(Inline {
        vlans: Some(Vlans { outside: 1, inside: 4_094 }),
        protect: Protect::Host,
        ipv6: false,
        pass: Pass { ethertypes: [0x8892, 0x88cc, 0, 0, 0, 0, 0, 0], protocols: [47, 50, 0, 0, 0, 0, 0, 2] },
    });
    let address = "2001:db8::20".parse().unwrap();
    trunk.services[1].inside.address = address;
    let hardware = EthernetAddress([2, 0, 0, 0, 0, 9]);
    trunk.hosts.push(Host { address, hardware }).unwrap();
    let mut both = one_arm();
    both.address6 = Some(("2001:db8::9".parse().unwrap(), 64));
    both.grant_prefix = 64;
    both.services[1].inside.address = address;
    let mut bare = one_arm();
    bare.address = Address::Dhcp;
    bare.counters_network = None;
    bare.counters_port = 0;
    bare.answer_ping = false;
    bare.rules.clear();
    bare.services.clear();
    bare.time = TimeSource::None;
    let mut lonely = one_arm();
    lonely.address = Address::Static(Interface {
        network: Network { address: GATEWAY.address, prefix: 24 },
        router: None,
    });
    let configs = vec![one_arm(), inline(), trunk, both, bare, lonely, outside(), format2(), migration()];
    for (row, config) in configs.iter().enumerate() {
        let mut flash = bytes(config).unwrap();
        assert_eq!(Config::parse(&flash).as_ref(), Ok(config), "row {row}");
        flash.resize(CONFIG_LIMIT, 0xff);
        assert_eq!(Config::parse(&flash).as_ref(), Ok(config), "row {row}: followed by erased flash");
    }
}

#[test]
fn each_kind_of_damage_has_its_error() {
    let good = bytes(&one_arm()).unwrap();
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let newer = VERSION + 1;
    let table: &[(&str, Vec<u8>, ConfigError)] = &[
        ("erased", vec![0xff; 512], ConfigError::Missing),
        ("zeros", vec![0; 512], ConfigError::Missing),
        ("empty", Vec::new(), ConfigError::Length),
        ("a wrong magic number", with(0, b'Q'), ConfigError::Magic),
        ("a newer version", with(4, newer.to_le_bytes()[0]), ConfigError::Newer(newer)),
        ("version 0", with(4, 0), ConfigError::Length),
        ("truncated", good[..good.len() - 1].to_vec(), ConfigError::Length),
        ("a length over the limit", with(7, 0xff), ConfigError::Length),
        ("a longer length", with(6, good[6].wrapping_add(1)), ConfigError::Length),
        ("a wrong CRC", with(8, good[8] ^ 1), ConfigError::Crc),
        ("a changed byte", with(20, good[20] ^ 1), ConfigError::Crc),
    ];
    for (row, (name, bytes, error)) in table.iter().enumerate() {
        assert_eq!(Config::<RULES>::parse(bytes), Err(*error), "row {row}: {name}");
    }
    assert_eq!(
        Config::<1>::parse(&good),
        Err(ConfigError::TooMany),
        "more rules than the gateway has room for"
    );
}

#[test]
fn every_flipped_bit_is_detected() {
    let good = bytes(&one_arm()).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Config::<RULES>::parse(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn an_invalid_configuration_is_neither_written_nor_read() {
    type Change = fn(&mut Config<RULES>);
    let table: &[(&str, Change, ConfigError)] = &[
        (
            "a port twice",
            |c| c.services[1] = service("b", Protocol::Tcp, c.services[0].port, 80),
            ConfigError::Port,
        ),
        ("the knock port", |c| c.services[1].port = KNOCK_PORT, ConfigError::Port),
        ("the counters' port", |c| c.services[0].port = 9_100, ConfigError::Port),
        ("the first NAT port", |c| c.services[0].port = 32_768, ConfigError::Port),
        ("the last NAT port", |c| c.services[0].port = 49_151, ConfigError::Port),
        ("DHCP's port", |c| c.services[1].port = 68, ConfigError::Port),
        ("port 0", |c| c.services[0].port = 0, ConfigError::Port),
        ("inside port 0", |c| c.services[0].inside.port = 0, ConfigError::Port),
        ("the gateway itself", |c| c.services[0].inside.address = GATEWAY.address.into(), ConfigError::Host),
        ("another network", |c| c.services[0].inside.address = [10, 0, 0, 1].into(), ConfigError::Host),
        ("a multicast address", |c| c.services[0].inside.address = [224, 0, 0, 1].into(), ConfigError::Host),
        (
            "a service that is not there",
            |c| c.rules[0].services = Services::NONE.with(2),
            ConfigError::Service,
        ),
        ("no service", |c| c.rules[0].services = Services::NONE, ConfigError::Service),
        ("a ttl of 0", |c| c.rules[0].ttl = 0, ConfigError::Ttl),
        (
            "the same tag and key twice",
            |c| c.rules[1] = rule("SSHK", Services::NONE.with(1)),
            ConfigError::SameKey,
        ),
        (
            "the same tag and key twice in format 2, with other bindings",
            |c| {
                *c = migration();
                let again = Format::Format2 { require: Bindings::NONE };
                c.rules[1] = Rule { format: again, ..c.rules[2].clone() };
            },
            ConfigError::SameKey,
        ),
        (
            "an own address that many hosts have",
            |c| c.own_addresses.push([224, 0, 0, 1].into()).unwrap(),
            ConfigError::OwnAddress,
        ),
        (
            "an own address that no host has",
            |c| c.own_addresses.push([0; 4].into()).unwrap(),
            ConfigError::OwnAddress,
        ),
        ("a window without a clock", |c| c.time = TimeSource::None, ConfigError::Window),
        (
            "a window over a day",
            |c| c.rules[0].knock = knocks("SSHK", Window::from_secs(86_401)),
            ConfigError::Window,
        ),
        (
            "a network of 33 bits",
            |c| c.counters_network = Some(Network { address: GATEWAY.address, prefix: 33 }),
            ConfigError::Value,
        ),
        (
            "one VLAN for both sides",
            |c| {
                c.services.clear();
                c.rules.clear();
                c.mode = Mode::Inline(Inline { vlans: Some(Vlans { outside: 5, inside: 5 }), ..INLINE });
            },
            ConfigError::Vlan,
        ),
        (
            "VLAN 4095",
            |c| {
                c.services.clear();
                c.rules.clear();
                c.mode = Mode::Inline(Inline { vlans: Some(Vlans { outside: 5, inside: 4_095 }), ..INLINE });
            },
            ConfigError::Vlan,
        ),
        (
            "an Ethernet type that contains IP",
            |c| {
                *c = inline();
                let ethertypes = [0x8892, 0x8864, 0, 0, 0, 0, 0, 0];
                c.mode = Mode::Inline(Inline { pass: Pass { ethertypes, ..INLINE.pass }, ..INLINE });
            },
            ConfigError::Ethertype,
        ),
        (
            "a protocol that is checked",
            |c| {
                *c = inline();
                let protocols = [47, 6, 0, 0, 0, 0, 0, 0];
                c.mode = Mode::Inline(Inline { pass: Pass { protocols, ..INLINE.pass }, ..INLINE });
            },
            ConfigError::Protocol,
        ),
        (
            "a group's IPv6 address",
            |c| c.address6 = Some(("ff02::1".parse().unwrap(), 64)),
            ConfigError::Address6,
        ),
        (
            "an IPv6 address inline",
            |c| {
                *c = inline();
                c.address6 = Some(("2001:db8::9".parse().unwrap(), 64));
            },
            ConfigError::Address6,
        ),
        (
            "a host with IPv6, and no IPv6 address",
            |c| c.services[0].inside.address = "2001:db8::20".parse().unwrap(),
            ConfigError::Host,
        ),
        (
            "a host on another network with IPv6",
            |c| {
                c.address6 = Some(("2001:db8::9".parse().unwrap(), 64));
                c.services[0].inside.address = "2001:db8:0:1::20".parse().unwrap();
            },
            ConfigError::Host,
        ),
        ("grants for a provider's customers", |c| c.grant_prefix = 32, ConfigError::Value),
        (
            "a group's MAC address",
            |c| {
                let hardware = EthernetAddress([1, 0, 0, 0, 0, 9]);
                c.hosts.push(Host { address: NAS.address.into(), hardware }).unwrap();
            },
            ConfigError::Hardware,
        ),
        (
            "the MAC address of a host without a service",
            |c| {
                let hardware = EthernetAddress([2, 0, 0, 0, 0, 9]);
                c.hosts.push(Host { address: [192, 168, 1, 77].into(), hardware }).unwrap();
            },
            ConfigError::Hardware,
        ),
        ("inline, with different ports", |c| c.mode = inline().mode, ConfigError::Port),
    ];
    for (row, (name, change, error)) in table.iter().enumerate() {
        let mut config = one_arm();
        change(&mut config);
        assert_eq!(bytes(&config), Err(*error), "row {row}: {name}");
    }
}

#[test]
fn a_service_needs_a_unicast_address() {
    let impossible = [[0; 4], [255; 4], [224, 0, 0, 1], [239, 255, 255, 255], [127, 0, 0, 1], [127, 9, 8, 7]];
    let possible = [[10, 0, 0, 1], [223, 255, 255, 255], [240, 0, 0, 1], [128, 0, 0, 1]];
    let mut dhcp = one_arm();
    dhcp.address = Address::Dhcp;
    // Neither of these requires the host to be in the gateway's network.
    for (name, config) in [("one-arm with DHCP", dhcp), ("inline", inline())] {
        for (address, expected) in impossible
            .into_iter()
            .map(|address| (address, Err(ConfigError::Host)))
            .chain(possible.into_iter().map(|address| (address, Ok(()))))
        {
            let mut config = config.clone();
            config.services[0].inside.address = address.into();
            assert_eq!(bytes(&config).map(drop), expected, "{name}: {address:?}");
        }
    }
}

/// The CRC-32 of Ethernet, implemented differently from the library.
fn crc32(bytes: impl IntoIterator<Item = u8>) -> u32 {
    !bytes.into_iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

/// Changes a byte, and updates the CRC.
pub(crate) fn altered(good: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut bytes = good.to_vec();
    bytes[at] = value;
    let crc = crc32(bytes[..8].iter().chain(&bytes[12..]).copied());
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// With an address outside of NAT.
fn outside() -> Config<RULES> {
    let mut outside = one_arm();
    outside.own_addresses.push([198, 51, 100, 1].into()).unwrap();
    outside
}

/// With rules of format 2.
fn format2() -> Config<RULES> {
    let mut format2 = one_arm();
    format2.rules[0].format = Format::Format2 { require: Bindings::NONE };
    format2.rules[1].format = Format::Format2 { require: Bindings::SOURCE | Bindings::DESTINATION };
    format2
}

/// A user whose devices move from one format to the other.
fn migration() -> Config<RULES> {
    let mut migration = one_arm();
    let new = Rule { format: Format::Format2 { require: Bindings::SOURCE }, ..migration.rules[0].clone() };
    migration.rules.push(new).unwrap();
    migration
}

/// What the releases before IPv6 wrote for a configuration, byte by byte.
pub(crate) fn old(config: &Config<RULES>, version: u16, pass: [u8; 2]) -> Vec<u8> {
    let v4 = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => panic!("they had none"),
    };
    let mut out = config.created.0.to_le_bytes().to_vec();
    match config.mode {
        Mode::OneArm => out.push(0),
        Mode::Inline(Inline { vlans, .. }) => {
            let Vlans { outside, inside } = vlans.unwrap_or(Vlans { outside: 0, inside: 0 });
            out.extend([1]);
            out.extend([outside.to_le_bytes(), inside.to_le_bytes(), pass].concat());
        }
    }
    let Address::Static(Interface { network, router }) = config.address else { panic!("all tests have one") };
    out.push(1);
    out.extend(network.address.octets());
    out.push(network.prefix);
    out.extend(router.map_or([0; 4], |router| router.octets()));
    out.extend(config.knock_port.to_le_bytes());
    if version > 1 {
        out.push(u8::try_from(config.own_addresses.len()).unwrap());
        config.own_addresses.iter().for_each(|address| out.extend(address.octets()));
    }
    out.push(config.answer_ping.into());
    let TimeSource::Sntp(server) = config.time else { panic!("all tests have one") };
    out.extend(server.at.ip().octets());
    out.extend([server.at.port().to_le_bytes(), server.interval.to_le_bytes()].concat());
    let network = config.counters_network.unwrap();
    out.extend(network.address.octets());
    out.push(network.prefix);
    out.extend(config.counters_port.to_le_bytes());
    out.push(u8::try_from(config.services.len()).unwrap());
    for service in &config.services {
        out.extend(service.name.bytes().chain(core::iter::repeat(0)).take(16));
        out.push(if service.protocol == Protocol::Tcp { 6 } else { 17 });
        out.extend(service.port.to_le_bytes());
        out.extend(v4(service.inside.address));
        out.extend(service.inside.port.to_le_bytes());
    }
    out.push(u8::try_from(config.rules.len()).unwrap());
    for (index, rule) in config.rules.iter().enumerate() {
        out.extend(rule.knock.tag().0);
        out.extend(rule.knock.key().as_bytes());
        out.extend(rule.knock.window().as_secs().to_le_bytes());
        out.extend(rule.ttl.to_le_bytes());
        // In the tests, the first rule opens the first service, and the second opens both.
        out.extend([u8::try_from(index * 2 + 1).unwrap(), 0, 0, 0]);
        match rule.format {
            _ if version == 1 => {}
            Format::Classic => out.extend([1, 0]),
            Format::Format2 { require } => out.extend([2, require.bits()]),
        }
    }
    let length = u16::try_from(out.len() + 12).unwrap();
    let mut whole = [b"PKDg".as_slice(), &version.to_le_bytes(), &length.to_le_bytes(), &[0; 4]].concat();
    whole.extend(out);
    let (at, value) = (20, whole[20]);
    altered(&whole, at, value)
}

#[test]
fn configurations_of_earlier_releases_are_read() {
    let mut listed = inline();
    listed.mode = Mode::Inline(Inline { ipv6: false, ..INLINE });
    let table = vec![
        ("version 1", old(&one_arm(), 1, [0; 2]), one_arm()),
        ("version 2", old(&one_arm(), 2, [0; 2]), one_arm()),
        ("with a format", old(&format2(), 2, [0; 2]), format2()),
        ("with an own address", old(&outside(), 2, [0; 2]), outside()),
        ("inline, where the listed ports are guarded", old(&inline(), 2, [0; 2]), listed.clone()),
        ("inline, version 1", old(&inline(), 1, [0; 2]), listed.clone()),
        ("IPv6 that was forwarded unchecked is checked", old(&inline(), 2, [1, 0]), inline()),
        ("what was forwarded unchecked is not, until it is named", old(&inline(), 2, [0, 1]), listed),
    ];
    for (row, (name, old, expected)) in table.into_iter().enumerate() {
        assert_eq!(Config::parse(&old), Ok(expected), "row {row}: {name}");
        let short = Config::<RULES>::parse(&old[..old.len() - 1]);
        assert_eq!(short, Err(ConfigError::Length), "row {row}");
        for version in
            (1..=VERSION).map(|version| version.to_le_bytes()[0]).filter(|version| *version != old[4])
        {
            let other = Config::<RULES>::parse(&altered(&old, 4, version));
            assert!(other.is_err(), "row {row}: its fields are not those of version {version}");
        }
    }
    for at in [25, 26] {
        let given = Config::<RULES>::parse(&altered(&old(&inline(), 2, [0; 2]), at, 2));
        assert_eq!(given, Err(ConfigError::Value), "{at}");
    }
}

/// A test case: its name, a configuration, an offset, an invalid byte for it, and the error.
pub(crate) type Altered = (&'static str, fn() -> Config<RULES>, usize, u8, ConfigError);

/// Alters each configuration, and expects the error.
pub(crate) fn check_altered(table: &[Altered]) {
    for (row, (name, config, at, value, error)) in table.iter().enumerate() {
        let config = config();
        let good = bytes(&config).unwrap();
        assert_eq!(Config::parse(&altered(&good, *at, good[*at])).as_ref(), Ok(&config), "row {row}: {name}");
        let given = Config::<RULES>::parse(&altered(&good, *at, *value));
        assert_eq!(given, Err(*error), "row {row}: {name}");
    }
}

#[test]
fn an_undefined_value_is_rejected_even_if_the_crc_is_correct() {
    // For the offsets see the library's `config` module. After the header, the fields follow in order.
    let table: &[Altered] = &[
        ("the mode", one_arm, 20, 2, ConfigError::Value),
        ("the kind of address", one_arm, 21, 2, ConfigError::Value),
        ("the length of the prefix", one_arm, 26, 33, ConfigError::Value),
        ("an IPv6 address", one_arm, 34, 0xff, ConfigError::Address6),
        ("the length of a grant's prefix", one_arm, 51, 63, ConfigError::Value),
        ("more hosts than there are", one_arm, 52, 255, ConfigError::Length),
        ("whether it answers pings", one_arm, 53, 2, ConfigError::Value),
        ("a time server with interval 0", one_arm, 60, 0, ConfigError::Value),
        ("more services than there are", one_arm, 71, 255, ConfigError::Value),
        ("fewer services than there are", one_arm, 71, 1, ConfigError::Value),
        ("a name that is not UTF-8", one_arm, 72, 0xff, ConfigError::Value),
        ("the protocol", one_arm, 88, 1, ConfigError::Value),
        ("a service's port", one_arm, 90, 0x80, ConfigError::Port),
        ("fewer rules than there are", one_arm, 146, 1, ConfigError::Length),
        ("more own addresses than there are", one_arm, 33, 255, ConfigError::TooMany),
        ("an own address", outside, 34, 224, ConfigError::OwnAddress),
        ("no format", one_arm, 203, 0, ConfigError::Value),
        ("a format of the future", one_arm, 203, 3, ConfigError::Value),
        ("a classic rule that requires a binding", one_arm, 204, 1, ConfigError::Value),
        ("a binding of the future", format2, 204, 4, ConfigError::Value),
        ("a VLAN", trunk, 21, 2, ConfigError::Vlan),
        ("what is protected", trunk, 25, 2, ConfigError::Value),
        ("whether IPv6 is forwarded", trunk, 26, 2, ConfigError::Value),
    ];
    check_altered(table);
}

#[test]
fn altered_bytes_that_still_parse_survive_a_round_trip() {
    for config in [one_arm(), inline(), outside(), format2()] {
        let good = bytes(&config).unwrap();
        for at in 12..good.len() {
            let turned = (0..8).map(|bit| good[at] ^ 1 << bit);
            for value in turned.chain([0, 1, 2, 0x20, 0x7f, 0xff]) {
                if let Ok(read) = Config::<RULES>::parse(&altered(&good, at, value)) {
                    let again = Config::parse(&bytes(&read).unwrap());
                    assert_eq!(again, Ok(read), "{value} at {at}");
                }
            }
        }
    }
}

#[test]
fn every_error_has_its_own_message() {
    let all = [
        ConfigError::Missing,
        ConfigError::Magic,
        ConfigError::Newer(7),
        ConfigError::Length,
        ConfigError::Crc,
        ConfigError::Value,
        ConfigError::TooMany,
        ConfigError::Port,
        ConfigError::Host,
        ConfigError::Ethertype,
        ConfigError::Protocol,
        ConfigError::Address6,
        ConfigError::Hardware,
        ConfigError::OwnAddress,
        ConfigError::SameKey,
        ConfigError::Service,
        ConfigError::Window,
        ConfigError::Vlan,
        ConfigError::Ttl,
        ConfigError::TimeServer,
    ];
    let texts: std::collections::BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), all.len(), "{texts:?}");
    assert!(texts.iter().all(|text| !text.is_empty()), "{texts:?}");
    assert!(ConfigError::Newer(7).to_string().contains('7'), "the message names the version");
}

#[test]
fn debug_output_does_not_contain_keys() {
    let mut config = one_arm();
    config.created = UnixSeconds(0);
    assert!(!format!("{config:?}").contains("116"), "the key is `test`, and t is 116");
}

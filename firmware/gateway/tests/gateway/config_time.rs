//! How the binary configuration gives time servers, and the key for updates.

use pkd_gateway::{Address, Config, ConfigError, HOST_NAME, NamedServer, TimeSource, UpdateKey};

use crate::{
    config::{Altered, altered, bytes, check_altered},
    harness::{RULES, one_arm},
};

/// With a time server that has a name.
fn named() -> Config<RULES> {
    let mut named = one_arm();
    named.time = TimeSource::Name(NamedServer {
        name: "a.b".try_into().unwrap(),
        port: 123,
        interval: 64,
        dns: Some([192, 168, 1, 1].into()),
    });
    named
}

/// With time servers by DHCP.
fn dhcp() -> Config<RULES> {
    let mut dhcp = one_arm();
    dhcp.address = Address::Dhcp;
    dhcp.time = TimeSource::Dhcp { interval: 64 };
    dhcp
}

/// With a time server that has a name and is found by a DNS server that DHCP names.
fn named_by_dhcp() -> Config<RULES> {
    let mut both = dhcp();
    let name = "x".repeat(HOST_NAME).as_str().try_into().unwrap();
    both.time = TimeSource::Name(NamedServer { name, port: 1_123, interval: 1, dns: None });
    both
}

#[test]
fn every_time_server_survives_a_round_trip_through_flash() {
    for (row, config) in [named(), dhcp(), named_by_dhcp()].iter().enumerate() {
        let good = bytes(config).unwrap();
        assert_eq!(Config::parse(&good).as_ref(), Ok(config), "row {row}");
        for length in 0..good.len() {
            assert_eq!(
                Config::<RULES>::parse(&good[..length]),
                Err(ConfigError::Length),
                "row {row}: {length} bytes"
            );
        }
        // Whatever the server's fields are changed to is rejected, or is written again as it was read.
        for at in 20..90 {
            for value in [0, 1, 2, 0x20, 0x7f, 0xff] {
                if let Ok(read) = Config::<RULES>::parse(&altered(&good, at, value)) {
                    assert_eq!(Config::parse(&bytes(&read).unwrap()), Ok(read), "row {row}: {value} at {at}");
                }
            }
        }
    }
}

/// With a key for updates.
fn updated(allow_older: bool) -> Config<RULES> {
    let mut updated = one_arm();
    updated.update = Some(UpdateKey { key: [7; 32], allow_older });
    updated
}

#[test]
fn a_key_for_updates_survives_a_round_trip_through_flash() {
    for allow_older in [false, true] {
        let config = updated(allow_older);
        let good = bytes(&config).unwrap();
        assert_eq!(Config::parse(&good), Ok(config));
        assert_eq!(Config::<RULES>::parse(&altered(&good, 63, 3)), Err(ConfigError::Value));
    }
}

#[test]
fn a_time_server_that_cannot_be_found_is_neither_written_nor_read() {
    type Change = fn(&mut Config<RULES>);
    let table: &[(&str, Change, ConfigError)] = &[
        ("a time server by DHCP, but no DHCP", |c| c.time = dhcp().time, ConfigError::TimeServer),
        ("a name, but no DNS server", |c| c.time = named_by_dhcp().time, ConfigError::TimeServer),
        (
            "a DNS server beside that of DHCP",
            |c| {
                c.address = Address::Dhcp;
                c.time = named().time;
            },
            ConfigError::TimeServer,
        ),
        (
            "no name",
            |c| {
                *c = named_by_dhcp();
                let TimeSource::Name(server) = &mut c.time else { panic!() };
                server.name.clear();
            },
            ConfigError::TimeServer,
        ),
    ];
    for (row, (name, change, error)) in table.iter().enumerate() {
        let mut config = one_arm();
        change(&mut config);
        assert_eq!(bytes(&config), Err(*error), "row {row}: {name}");
    }
}

#[test]
fn an_undefined_value_of_a_time_server_is_rejected() {
    let table: &[Altered] = &[
        ("how the time server is given", one_arm, 62, 3, ConfigError::Value),
        ("a server by DHCP that has an address", one_arm, 62, 1, ConfigError::Value),
        ("a server by DHCP without DHCP", dhcp, 21, 1, ConfigError::Value),
        ("a server by DHCP with interval 0", dhcp, 51, 0, ConfigError::Value),
        ("a name that is too long", named, 63, 65, ConfigError::Value),
        ("a name beyond the end", named, 63, 255, ConfigError::Length),
        ("a name that no host can have", named, 65, b'/', ConfigError::TimeServer),
        ("a name without a DNS server", named, 54, 224, ConfigError::TimeServer),
    ];
    check_altered(table);
}

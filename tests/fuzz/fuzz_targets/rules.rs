//! What iptables, nft and the kernel tell pktables, and what it makes of a service: written, read again, taken away.

#![no_main]

use ipnet::IpNet;
use libfuzzer_sys::{
    arbitrary::{Error, Result, Unstructured},
    fuzz_target,
};
use pktables::{Log, Policy, Ports, Protocol, Scope, Service, address, fuzzing};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 8 {
        0 | 1 => fuzzing::iptables_listing(&String::from_utf8_lossy(rest)),
        2 => fuzzing::nft_listing(rest),
        3 => fuzzing::netlink_answer(rest),
        4 => {
            // A listing has a rule a line.
            fuzzing::iptables_words(&String::from_utf8_lossy(rest).replace(['\n', '\r'], ""));
        }
        // What the bytes do not suffice for does not happen.
        _ => drop(scene(Unstructured::new(rest))),
    }
});

fn scene(mut own: Unstructured<'_>) -> Result<()> {
    let bytes = &mut own;
    let service = service(bytes)?;
    let mut grants: Vec<(IpNet, Option<u64>)> = Vec::new();
    for _ in 0..bytes.arbitrary::<u8>()? % 6 {
        let host: std::net::IpAddr = if bytes.arbitrary()? {
            bytes.arbitrary::<[u8; 4]>()?.into()
        } else {
            bytes.arbitrary::<[u8; 16]>()?.into()
        };
        let most = if host.is_ipv4() { 32 } else { 128 };
        let prefix =
            IpNet::new(host, 1 + bytes.arbitrary::<u8>()? % most).map_err(|_| Error::IncorrectFormat)?;
        let address = address::canonical(prefix);
        if address.prefix_len() > 0 && grants.iter().all(|(other, _)| *other != address) {
            grants.push((address, bytes.arbitrary()?));
        }
    }
    let drop = bytes.arbitrary::<u8>()?.into();
    fuzzing::nft_service(&service);
    let before = String::from_utf8_lossy(own.take_rest()).into_owned();
    fuzzing::iptables_service(&service, &grants, &before, drop);
    Ok(())
}

fn service(bytes: &mut Unstructured<'_>) -> Result<Service> {
    let wrong = |_| Error::IncorrectFormat;
    let flags: u8 = bytes.arbitrary()?;
    let log = if flags & 8 == 0 {
        None
    } else {
        let printable = |byte: u8| char::from(b' ' + byte % 95);
        let prefix: Vec<u8> = bytes.arbitrary()?;
        let prefix: String =
            prefix.into_iter().map(printable).filter(|c| !"\"\\".contains(*c)).take(29).collect();
        let limit = if flags & 16 == 0 {
            None
        } else {
            let units = ["second", "minute", "hour", "day"];
            let text = format!("{}/{}", 1 + bytes.arbitrary::<u16>()? % 10_000, bytes.choose(&units)?);
            let burst = (1 + bytes.arbitrary::<u16>()? % 10_000).to_string();
            Some(
                text.parse::<pktables::LogLimit>()
                    .and_then(|limit| limit.with_burst(&burst))
                    .map_err(wrong)?,
            )
        };
        let level = (bytes.arbitrary::<u8>()? % 8).to_string().parse().map_err(wrong)?;
        Some(Log { prefix: prefix.parse().map_err(wrong)?, level, limit })
    };
    let ports = ports(bytes)?;
    // Several ports keep their numbers.
    let mut there = || ports.single().map_or(Ok(String::new()), |_| Ok(format!(":{}", port(bytes)?)));
    let (there4, there6) = (there()?, there()?);
    let mut forward = Vec::new();
    if flags & 32 != 0 {
        forward.push(format!("192.168.{}.{}{there4}", bytes.arbitrary::<u8>()?, bytes.arbitrary::<u8>()?,));
    }
    if flags & 64 != 0 {
        forward.push(format!("[fd00::{:x}]{there6}", bytes.arbitrary::<u16>()?));
    }
    let mut scope = Scope::default();
    scope.before_nat = flags & 128 != 0;
    for name in ["eth0", "br-lan", "wlan0.7"] {
        if bytes.arbitrary()? {
            scope.interfaces.push(name.parse().map_err(wrong)?);
        }
    }
    for exempt in ["lo", "10.0.0.0/8", "192.0.2.7", "fd00::/8", "fd00::7"] {
        if bytes.arbitrary()? {
            scope.exempt.push(exempt.parse().map_err(wrong)?);
        }
    }
    let names = ["ssh", "a", "0.b-c_d", "pk-x", "input", "1234567890123456789012345", "x-4"];
    let service = Service {
        name: bytes.choose(&names)?.parse().map_err(wrong)?,
        protocol: if flags & 1 == 0 { Protocol::Tcp } else { Protocol::Udp },
        ports,
        only_new: flags & 2 != 0,
        policy: if flags & 4 == 0 { Policy::Drop } else { Policy::Accept },
        log,
        forward: forward
            .into_iter()
            .map(|text| text.parse())
            .collect::<std::result::Result<_, _>>()
            .map_err(wrong)?,
        scope,
    };
    service.checked().map_err(wrong)
}

/// One port, or up to four ports and ranges.
fn ports(bytes: &mut Unstructured<'_>) -> Result<Ports> {
    let mut ranges = Vec::new();
    for _ in 0..=bytes.arbitrary::<u8>()? % 8 / 2 {
        let first = port(bytes)?;
        let last =
            if bytes.arbitrary()? { first.saturating_add(bytes.arbitrary::<u8>()?.into()) } else { first };
        ranges.push(first..=last);
    }
    Ports::new(ranges).map_err(|_| Error::IncorrectFormat)
}

fn port(bytes: &mut Unstructured<'_>) -> Result<u16> {
    Ok(bytes.arbitrary::<u16>()?.max(1))
}

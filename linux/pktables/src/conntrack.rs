//! Connections that the kernel tracks (ctnetlink). Names and numbers are from the kernel's
//! `include/uapi/linux/netfilter/nfnetlink_conntrack.h`; numbers are big endian.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, socket_with},
};

use crate::{
    error::Error,
    message::{Attributes, Message, nested},
    netlink::Connection,
    ports::Ports,
    service::Protocol,
    sets::refused,
};

/// `NFNL_SUBSYS_CTNETLINK`, in the upper byte of a message type.
const SUBSYSTEM: u16 = 1 << 8;
/// `IPCTNL_MSG_CT_GET`.
const GET: u16 = SUBSYSTEM + 1;
/// `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = SUBSYSTEM + 2;
/// `IPCTNL_MSG_CT_GET_STATS`.
const STATISTICS: u16 = SUBSYSTEM + 5;

/// `CTA_TUPLE_ORIG` and `CTA_TUPLE_REPLY`.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
/// `CTA_ID`.
const ID: u16 = 12;
/// `CTA_ZONE`.
const ZONE: u16 = 18;
/// `CTA_FILTER`, since Linux 5.8, and in it `CTA_FILTER_ORIG_FLAGS`, of native byte order.
const FILTER: u16 = 25;
const FILTER_ORIGINAL: u16 = 1;
/// `CTA_FILTER_FLAG(CTA_IP_SRC)`.
const BY_SOURCE: u32 = 1;

/// `CTA_TUPLE_IP` and `CTA_TUPLE_PROTO`.
const ADDRESSES: u16 = 1;
const TRANSPORT: u16 = 2;
/// `CTA_IP_V4_SRC`, `CTA_IP_V4_DST`, `CTA_IP_V6_SRC` and `CTA_IP_V6_DST`.
const V4: (u16, u16) = (1, 2);
const V6: (u16, u16) = (3, 4);
/// `CTA_PROTO_NUM`, `CTA_PROTO_SRC_PORT` and `CTA_PROTO_DST_PORT`.
const NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;

/// `AF_INET` and `AF_INET6`.
const INET: u8 = 2;
const INET6: u8 = 10;

/// A connection to the tracked connections of the network namespace in which it was opened.
pub struct Connections {
    connection: Connection,
}

/// One direction of a tracked connection.
struct Tuple {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    protocol: u8,
}

impl Connections {
    /// Opens a netlink socket.
    ///
    /// # Errors
    /// The kernel has no netfilter.
    pub fn open() -> Result<Self, Error> {
        let connection = Connection::open().map_err(|errno| refused("open a netfilter socket", errno))?;
        Ok(Self { connection })
    }

    /// Whether the kernel lets this process see what it tracks. It may load a module (`nf_conntrack_netlink`) for this.
    ///
    /// # Errors
    /// It has no ctnetlink, or the process lacks `CAP_NET_ADMIN`.
    pub fn probe(&mut self) -> Result<(), Error> {
        let question = Message::of(INET, STATISTICS, &[]);
        let answer = self.connection.request([question]).and_then(|[answer]| answer);
        answer.map(drop).map_err(failed)
    }

    /// Has the kernel forget the connections from addresses of these networks to ports of this host, also those that are
    /// forwarded to another host. `stays`: addresses in them whose connections are left alone. Returns how many there were.
    ///
    /// What the kernel has forgotten counts as new, or as invalid, with its next packet.
    ///
    /// # Errors
    /// The kernel refuses, or has no ctnetlink.
    pub fn forget(
        &mut self,
        networks: &[IpNet],
        stays: impl Fn(IpAddr) -> bool,
        protocol: Protocol,
        ports: &Ports,
    ) -> Result<usize, Error> {
        let mut own = OwnAddresses::default();
        let mut number: usize = 0;
        for family in [INET, INET6] {
            let mut own_family: Vec<IpNet> = networks.to_vec();
            own_family.retain(|network| network.addr().is_ipv4() == (family == INET));
            if own_family.is_empty() {
                continue;
            }
            let mut is_meant = |attributes: Attributes<'_>| {
                let tuple = |kind| attributes.nested(kind).and_then(Tuple::read);
                let (Some(original), Some(reply)) = (tuple(ORIGINAL), tuple(REPLY)) else { return false };
                let (address, _) = original.source;
                // The port before and after a redirection.
                let places = [original.destination, reply.source];
                original.protocol == protocol.number()
                    && own_family.iter().any(|network| network.contains(&address))
                    && !stays(address)
                    && places.iter().any(|(host, port)| ports.contains(*port) && own.contains(*host))
            };
            let found = self.list(family, &own_family, &mut is_meant).map_err(failed)?;
            for message in found {
                match self.delete(family, message.attributes()) {
                    // It has ended just now.
                    Ok(()) | Err(Errno::NOENT) => number = number.saturating_add(1),
                    Err(errno) => return Err(failed(errno)),
                }
            }
        }
        Ok(number)
    }

    /// The tracked connections that are wanted. Those of one IPv4 address are picked by the kernel, where it can.
    fn list(
        &mut self,
        family: u8,
        networks: &[IpNet],
        is_wanted: &mut dyn FnMut(Attributes<'_>) -> bool,
    ) -> Result<Vec<Message>, Errno> {
        let by_source = match networks {
            [IpNet::V4(one)] if one.prefix_len() == 32 => filter(one.addr()),
            // The filter for IPv6 leaves out exactly what it should pick (seen on Linux 6.18).
            _ => Vec::new(),
        };
        match self.connection.dump_some(&Message::of(family, GET, &by_source), is_wanted) {
            // A kernel without a filter ignores it; this one knows another.
            Err(Errno::INVAL | Errno::OPNOTSUPP) if !by_source.is_empty() => {
                self.connection.dump_some(&Message::of(family, GET, &[]), is_wanted)
            }
            found => found,
        }
    }

    fn delete(&mut self, family: u8, found: Attributes<'_>) -> Result<(), Errno> {
        // With the number, a later connection between the same ports stays.
        let kinds = [(ORIGINAL, NLA_F_NESTED), (ID, 0), (ZONE, 0)];
        let attributes: Vec<DefaultNla> = kinds
            .into_iter()
            .filter_map(|(kind, flag)| Some(DefaultNla::new(kind | flag, found.bytes(kind)?.to_vec())))
            .collect();
        self.connection.acknowledged(Message::of(family, DELETE, &attributes), 0)
    }
}

/// The kernel answers `EINVAL` about a subsystem that it does not have.
fn failed(errno: Errno) -> Error {
    match errno {
        Errno::INVAL | Errno::OPNOTSUPP => Error::NoConntrack,
        errno => refused("list the tracked connections", errno),
    }
}

fn filter(source: Ipv4Addr) -> Vec<DefaultNla> {
    let addresses = nested(ADDRESSES, &[DefaultNla::new(V4.0, source.octets().to_vec())]);
    let flags = DefaultNla::new(FILTER_ORIGINAL, BY_SOURCE.to_ne_bytes().to_vec());
    vec![nested(ORIGINAL, &[addresses]), nested(FILTER, &[flags])]
}

impl Tuple {
    fn read(attributes: Attributes<'_>) -> Option<Self> {
        let (addresses, transport) = (attributes.nested(ADDRESSES)?, attributes.nested(TRANSPORT)?);
        let address = |v4, v6| {
            let four = addresses.bytes(v4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            let six = || addresses.bytes(v6).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            let four = four.map(|bytes| IpAddr::from(Ipv4Addr::from(bytes)));
            four.or_else(|| six().map(|bytes| IpAddr::from(Ipv6Addr::from(bytes))))
        };
        let port = |kind| transport.bytes(kind)?.try_into().ok().map(u16::from_be_bytes);
        Some(Self {
            source: (address(V4.0, V6.0)?, port(SOURCE_PORT)?),
            destination: (address(V4.1, V6.1)?, port(DESTINATION_PORT)?),
            protocol: *transport.bytes(NUMBER)?.first()?,
        })
    }
}

/// Whether a socket can be bound to an address; also if it cannot be said.
fn can_bind(address: IpAddr) -> bool {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let bound = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .and_then(|socket| bind(&socket, &SocketAddr::new(address, 0)));
    bound != Err(Errno::ADDRNOTAVAIL)
}

/// The addresses of this host, as far as they were asked for. A host has few.
#[derive(Default)]
struct OwnAddresses(Vec<(IpAddr, bool)>);

impl OwnAddresses {
    /// Only to an address of this host can a socket be bound. A link-local one is never that of a host behind this one.
    fn contains(&mut self, address: IpAddr) -> bool {
        if let Some((_, is_own)) = self.0.iter().find(|(known, _)| *known == address) {
            return *is_own;
        }
        let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let is_own = is_link_local || can_bind(address);
        self.0.push((address, is_own));
        is_own
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkSerializable as _;

    use super::*;

    #[test]
    fn a_tuple_is_read_from_its_attributes() {
        let short = |kind, number: u16| DefaultNla::new(kind, number.to_be_bytes().to_vec());
        let transport = nested(
            TRANSPORT,
            &[DefaultNla::new(NUMBER, vec![6]), short(SOURCE_PORT, 50_000), short(DESTINATION_PORT, 22)],
        );
        let four = [DefaultNla::new(1, vec![192, 0, 2, 7]), DefaultNla::new(2, vec![192, 0, 2, 1])];
        let six = [
            DefaultNla::new(3, "2001:db8::7".parse::<Ipv6Addr>().expect("an address").octets().to_vec()),
            DefaultNla::new(4, "2001:db8::1".parse::<Ipv6Addr>().expect("an address").octets().to_vec()),
        ];
        let read = |parts: &[DefaultNla]| {
            let message = Message::of(INET, GET, &[nested(ORIGINAL, parts)]);
            let tuple = message.attributes().nested(ORIGINAL).and_then(Tuple::read)?;
            let (source, destination) = (tuple.source, tuple.destination);
            Some((source.0.to_string(), source.1, destination.0.to_string(), destination.1, tuple.protocol))
        };
        let expected = |from: &str, to: &str| Some((from.to_owned(), 50_000, to.to_owned(), 22, 6));
        assert_eq!(read(&[nested(1, &four), transport.clone()]), expected("192.0.2.7", "192.0.2.1"));
        assert_eq!(read(&[nested(1, &six), transport.clone()]), expected("2001:db8::7", "2001:db8::1"));
        // ICMP has no ports, and a damaged message anything.
        let icmp = nested(TRANSPORT, &[DefaultNla::new(NUMBER, vec![1])]);
        for parts in [&[nested(1, &four), icmp][..], &[transport], &[nested(1, &four[..1])], &[]] {
            assert_eq!(read(parts), None);
        }
    }

    #[test]
    fn messages_are_of_a_family() {
        let mut bytes = vec![0; 4];
        Message::of(INET6, GET, &[]).serialize(&mut bytes);
        assert_eq!((bytes, GET), (vec![10, 0, 0, 0], 0x0101));
    }
}

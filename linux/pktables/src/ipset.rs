//! Addresses in ipsets of type `hash:ip` with timeouts, changed over netlink. Names and numbers are from the kernel's
//! `include/uapi/linux/netfilter/ipset/ip_set.h`; numbers are big endian and marked as such.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use netlink_packet_core::{DefaultNla, NLM_F_CREATE};
use rustix::io::Errno;

use crate::{
    error::Error,
    message::{Attributes, Message, nested, text},
    netlink::Connection,
    sets::{Element, refused},
};

/// `NFNL_SUBSYS_IPSET`, in the upper byte of a message type.
const SUBSYSTEM: u16 = 6 << 8;
const CREATE: u16 = SUBSYSTEM + 2;
const DESTROY: u16 = SUBSYSTEM + 3;
const FLUSH: u16 = SUBSYSTEM + 4;
const LIST: u16 = SUBSYSTEM + 7;
const ADD: u16 = SUBSYSTEM + 9;
const DELETE: u16 = SUBSYSTEM + 10;

/// `IPSET_ATTR_PROTOCOL`; every kernel since 2.6.39 accepts version 6.
const PROTOCOL: (u16, u8) = (1, 6);
const SET_NAME: u16 = 2;
const TYPE_NAME: u16 = 3;
const REVISION: u16 = 4;
const FAMILY: u16 = 5;
const DATA: u16 = 7;
/// `IPSET_ATTR_ADT`: several `DATA`.
const LIST_OF_DATA: u16 = 8;
/// `IPSET_ATTR_IP`; in it `IPSET_ATTR_IPADDR_IPV4` or `IPSET_ATTR_IPADDR_IPV6`.
const IP: u16 = 1;
const IPV4: u16 = 1;
const IPV6: u16 = 2;
const TIMEOUT: u16 = 6;
const MAX_ELEMENTS: u16 = 19;
/// `NLA_F_NET_BYTEORDER`.
const BIG_ENDIAN: u16 = 1 << 14;

/// The most addresses in a set.
const MOST: u32 = 65_536;
/// Longer timeouts are cut (`IPSET_MAX_TIMEOUT` is 24 days).
const MAX_TIMEOUT: u32 = 2_000_000;

/// A connection to the ipsets of the network namespace in which it was opened.
pub(crate) struct IpSets {
    connection: Connection,
}

impl IpSets {
    /// Opens a netlink socket.
    ///
    /// # Errors
    /// The kernel has no netfilter.
    pub(crate) fn open() -> Result<Self, Error> {
        let connection = Connection::open().map_err(|errno| refused("open a netfilter socket", errno))?;
        Ok(Self { connection })
    }

    /// Creates a set, unless it exists.
    ///
    /// # Errors
    /// The kernel has no ipset, or another set has the name.
    pub(crate) fn create(&mut self, set: &str, v6: bool) -> Result<(), Errno> {
        let byte = |kind, byte| DefaultNla::new(kind, vec![byte]);
        let data = nested(DATA, &[number(TIMEOUT, 0), number(MAX_ELEMENTS, MOST)]);
        // AF_INET or AF_INET6.
        let family = if v6 { 10 } else { 2 };
        let attributes = [text(TYPE_NAME, "hash:ip"), byte(REVISION, 0), byte(FAMILY, family), data];
        self.command(CREATE, set, &attributes, NLM_F_CREATE)
    }

    /// Removes a set, unless it is missing.
    ///
    /// # Errors
    /// A rule refers to it.
    pub(crate) fn destroy(&mut self, set: &str) -> Result<(), Errno> {
        ignore_missing(self.command(DESTROY, set, &[], 0))
    }

    /// Removes all addresses of a set, unless it is missing.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn flush(&mut self, set: &str) -> Result<(), Errno> {
        ignore_missing(self.command(FLUSH, set, &[], 0))
    }

    /// Adds an address, or sets its time. The kernel removes it within a second of its end.
    ///
    /// # Errors
    /// `NOENT`: there is no such set.
    pub(crate) fn add(&mut self, set: &str, address: IpAddr, ttl: Duration) -> Result<(), Errno> {
        let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0));
        // 0 would be no end.
        let seconds = u32::try_from(seconds).unwrap_or(MAX_TIMEOUT).clamp(1, MAX_TIMEOUT);
        let data = nested(DATA, &[ip(address), number(TIMEOUT, seconds)]);
        self.command(ADD, set, &[data], 0)
    }

    /// Removes an address, unless it is missing.
    ///
    /// # Errors
    /// `NOENT`: there is no such set.
    pub(crate) fn delete(&mut self, set: &str, address: IpAddr) -> Result<(), Errno> {
        self.command(DELETE, set, &[nested(DATA, &[ip(address)])], 0)
    }

    /// The addresses of a set; `None`: it does not exist, or the kernel has no ipset.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn list(&mut self, set: &str) -> Result<Option<Vec<Element>>, Errno> {
        match self.connection.dump(&message(LIST, set, &[])) {
            Ok(messages) => Ok(Some(messages.iter().flat_map(elements).collect())),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn command(&mut self, kind: u16, set: &str, attributes: &[DefaultNla], flags: u16) -> Result<(), Errno> {
        self.connection.acknowledged(message(kind, set, attributes), flags)
    }
}

fn ignore_missing(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        // A kernel without ipset has no set either.
        Err(Errno::NOENT | Errno::INVAL) => Ok(()),
        result => result,
    }
}

fn message(kind: u16, set: &str, attributes: &[DefaultNla]) -> Message {
    let (protocol, version) = PROTOCOL;
    let head = [DefaultNla::new(protocol, vec![version]), text(SET_NAME, set)];
    Message::new(kind, &[&head, attributes].concat())
}

fn number(kind: u16, number: u32) -> DefaultNla {
    DefaultNla::new(kind | BIG_ENDIAN, number.to_be_bytes().to_vec())
}

fn ip(address: IpAddr) -> DefaultNla {
    let (kind, bytes) = match address {
        IpAddr::V4(address) => (IPV4, address.octets().to_vec()),
        IpAddr::V6(address) => (IPV6, address.octets().to_vec()),
    };
    nested(IP, &[DefaultNla::new(kind | BIG_ENDIAN, bytes)])
}

fn elements(message: &Message) -> impl Iterator<Item = Element> {
    let lists = message.attributes().all_nested(LIST_OF_DATA);
    lists.flat_map(|list| list.all_nested(DATA)).filter_map(read)
}

fn read(data: Attributes<'_>) -> Option<Element> {
    let ip = data.nested(IP)?;
    let v4 = ip.bytes(IPV4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(Ipv4Addr::from);
    let v6 = || ip.bytes(IPV6).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(Ipv6Addr::from);
    let address = v4.map(IpAddr::V4).or_else(|| v6().map(IpAddr::V6))?;
    // 0: no end.
    let left = data.u32(TIMEOUT).filter(|seconds| *seconds > 0);
    let left = left.map(|seconds| Duration::from_secs(seconds.into()));
    Some(Element { address, interface: None, left, packets: None })
}

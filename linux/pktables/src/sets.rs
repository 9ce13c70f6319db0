//! Grants as elements of nftables sets, changed in this process over netlink: no program is started.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_CREATE, NLM_F_EXCL};
use rustix::io::Errno;

use crate::{
    error::Error,
    firewall::Change,
    invalid::Invalid,
    message::{Attributes, Message, attribute, kind, nested, text},
    netlink::{Abort, Connection, Generation, Operation, Reply},
};

/// How long others may keep changing the rule set between our look and our change.
const MAX_RETRY: Duration = Duration::from_secs(10);

/// `NFT_SET_INTERVAL`.
const SET_INTERVAL: u32 = 4;

/// `NFT_SET_TIMEOUT`.
const SET_TIMEOUT: u32 = 16;

/// A set of a table of the family `inet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetPath<'a> {
    /// The table's name.
    pub table: &'a str,
    /// The set's name.
    pub set: &'a str,
}

/// An address in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// The address.
    pub address: IpAddr,
    /// How long it stays; `None`: without an end.
    pub left: Option<Duration>,
    /// Packets that matched; `None`: the set has no counters. A renewal keeps the number.
    pub packets: Option<u64>,
}

/// A long-lived way to the sets of the network namespace in which it was opened.
///
/// Sets hold single addresses: type `ipv4_addr` or `ipv6_addr`, flag `timeout`, no flag `interval`. A change
/// is one transaction, bound to the generation of the rule set that was looked at. If anybody changed
/// anything meanwhile, it is looked at again, so no lock is needed against other programs.
pub struct Sets {
    connection: Connection,
}

/// What is known before a change.
struct Snapshot {
    generation: Generation,
    element: Option<Current>,
}

/// An element as the kernel has it.
struct Current {
    left: Option<Duration>,
    /// Its counter as the kernel writes it, for what takes its place.
    counter: Option<Vec<u8>>,
}

impl Sets {
    /// Opens a netlink socket. The first change tells whether the process may use it.
    ///
    /// # Errors
    /// The kernel has no netfilter.
    pub fn open() -> Result<Self, Error> {
        let connection = Connection::open();
        let connection = connection.map_err(|errno| refused("reach the kernel's firewall", errno))?;
        Ok(Self { connection })
    }

    /// Puts an address into a set, for `ttl` or without end. One that is there stays at least as long as it
    /// would have. (Without `ttl`, a default timeout of the set counts.) The kernel takes it out, within
    /// a tick of its end.
    ///
    /// # Errors
    /// There is no such set, it does not fit, `ttl` is zero, or the kernel refuses.
    pub fn grant(
        &mut self,
        path: SetPath<'_>,
        address: IpAddr,
        ttl: Option<Duration>,
    ) -> Result<Change, Error> {
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(Invalid::new("time", "0", "is no time to pass in").into());
        }
        let milliseconds = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
        self.retry(|sets| {
            let Snapshot { generation, element: found } = sets.snapshot(path, address)?;
            let mut operations = Vec::with_capacity(2);
            let mut attributes = Vec::with_capacity(2);
            if let Some(found) = found {
                let stays = found.left.is_none_or(|left| ttl.is_some_and(|ttl| left >= ttl));
                if stays {
                    return Ok(Some(Change::AlreadySo));
                }
                // An element's end cannot be moved before Linux 6.12, so another takes its place. Packets see
                // either the one or the other.
                let message = Message::new(kind::DELETE_ELEMENT, &element(path, address, Vec::new()));
                operations.push(Operation { message, flags: 0 });
                let counter = found
                    .counter
                    .map(|bytes| DefaultNla::new(attribute::ELEMENT_EXPRESSION | NLA_F_NESTED, bytes));
                attributes.extend(counter);
            }
            let timeout = milliseconds.map(|number| number.to_be_bytes().to_vec());
            attributes.extend(timeout.map(|bytes| DefaultNla::new(attribute::ELEMENT_TIMEOUT, bytes)));
            let message = Message::new(kind::NEW_ELEMENT, &element(path, address, attributes));
            operations.push(Operation { message, flags: NLM_F_CREATE | NLM_F_EXCL });
            sets.change(path, generation, operations)
        })
    }

    /// Takes an address out of a set.
    ///
    /// # Errors
    /// There is no such set, or the kernel refuses.
    pub fn revoke(&mut self, path: SetPath<'_>, address: IpAddr) -> Result<Change, Error> {
        self.retry(|sets| {
            let snapshot = sets.snapshot(path, address)?;
            if snapshot.element.is_none() {
                return Ok(Some(Change::AlreadySo));
            }
            let message = Message::new(kind::DELETE_ELEMENT, &element(path, address, Vec::new()));
            sets.change(path, snapshot.generation, vec![Operation { message, flags: 0 }])
        })
    }

    /// Takes all addresses out of a set.
    ///
    /// # Errors
    /// There is no such set, or the kernel refuses.
    pub fn flush(&mut self, path: SetPath<'_>) -> Result<Change, Error> {
        self.flush_all(path.table, &[path.set])
    }

    /// Takes all addresses out of several sets at once.
    ///
    /// # Errors
    /// There is no such set, or the kernel refuses.
    pub fn flush_all(&mut self, table: &str, sets: &[&str]) -> Result<Change, Error> {
        self.retry(|own| {
            let [generation] = own.request([get_generation()])?;
            let generation = generation_of(generation)?;
            let mut operations = Vec::new();
            for set in sets {
                let path = SetPath { table, set };
                let [set] = own.request([get_set(path)])?;
                set.map_err(|errno| failed(path, "find a set", errno))?;
                if !own.list(path)?.is_empty() {
                    operations.push(Operation {
                        message: Message::new(kind::DELETE_ELEMENT, &named(path)),
                        flags: 0,
                    });
                }
            }
            match sets.first() {
                Some(set) if !operations.is_empty() => {
                    own.change(SetPath { table, set }, generation, operations)
                }
                _ => Ok(Some(Change::AlreadySo)),
            }
        })
    }

    /// What is in a set, sorted by address.
    ///
    /// # Errors
    /// There is no such set, or the kernel refuses.
    pub fn list(&mut self, path: SetPath<'_>) -> Result<Vec<Element>, Error> {
        let question = Message::new(kind::GET_ELEMENT, &named(path));
        let messages = self.connection.dump(&question).map_err(|errno| failed(path, "list a set", errno))?;
        let mut found: Vec<Element> = messages.iter().flat_map(elements).filter_map(read).collect();
        found.sort_by_key(|element| element.address);
        Ok(found)
    }

    /// The names of the sets of a table; none where there is no such table.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn names(&mut self, table: &str) -> Result<Vec<String>, Error> {
        let question = Message::new(kind::GET_SET, &[text(attribute::TABLE, table)]);
        let messages = match self.connection.dump(&question) {
            Err(Errno::NOENT) => Vec::new(),
            answer => answer.map_err(|errno| refused("list the firewall's sets", errno))?,
        };
        // Older kernels do not filter what they list.
        let ours = messages.iter().map(Message::attributes);
        let ours = ours.filter(|attributes| attributes.text(attribute::TABLE) == Some(table));
        Ok(ours.filter_map(|attributes| attributes.text(attribute::SET)).map(str::to_owned).collect())
    }

    /// Tries until nobody else changes the rule set between look and change.
    fn retry(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<Option<Change>, Error>,
    ) -> Result<Change, Error> {
        let start = Instant::now();
        loop {
            if let Some(change) = attempt(self)? {
                return Ok(change);
            }
            if start.elapsed() > MAX_RETRY {
                return Err(Error::Busy(MAX_RETRY));
            }
        }
    }

    /// Makes the operations; `None` if somebody else changed the rule set since the look.
    fn change(
        &mut self,
        path: SetPath<'_>,
        generation: Generation,
        operations: Vec<Operation>,
    ) -> Result<Option<Change>, Error> {
        match self.connection.commit(generation, operations) {
            Ok(()) => Ok(Some(Change::Made)),
            // An element that comes to its end just now changes no generation. The next look will tell.
            Err(Abort::Outdated | Abort::Refused(Errno::EXIST | Errno::NOENT)) => Ok(None),
            Err(Abort::Refused(errno)) => Err(failed(path, "change a set", errno)),
        }
    }

    fn snapshot(&mut self, path: SetPath<'_>, address: IpAddr) -> Result<Snapshot, Error> {
        let question = Message::new(kind::GET_ELEMENT, &element(path, address, Vec::new()));
        let [generation, set, found] = self.request([get_generation(), get_set(path), question])?;
        let generation = generation_of(generation)?;
        let set = set.map_err(|errno| failed(path, "find a set", errno))?;
        check(path, set.attributes(), address)?;
        let element = match found {
            Ok(message) => elements(&message).next().map(|attributes| Current {
                left: left(attributes),
                counter: attributes.bytes(attribute::ELEMENT_EXPRESSION).map(<[u8]>::to_vec),
            }),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(failed(path, "look into a set", errno)),
        };
        Ok(Snapshot { generation, element })
    }

    fn request<const N: usize>(&mut self, questions: [Message; N]) -> Result<[Reply; N], Error> {
        self.connection.request(questions).map_err(|errno| refused("ask the kernel's firewall", errno))
    }
}

fn named(path: SetPath<'_>) -> [DefaultNla; 2] {
    [text(attribute::TABLE, path.table), text(attribute::SET, path.set)]
}

fn get_generation() -> Message {
    Message::new(kind::GET_GENERATION, &[])
}

fn get_set(path: SetPath<'_>) -> Message {
    Message::new(kind::GET_SET, &named(path))
}

fn generation_of(answer: Reply) -> Result<Generation, Error> {
    let number =
        answer.and_then(|message| message.attributes().u32(attribute::GENERATION).ok_or(Errno::BADMSG));
    number.map(Generation).map_err(|errno| refused("ask the kernel for the generation of its rules", errno))
}

/// Whether the set can hold this address, and only it.
fn check(path: SetPath<'_>, set: Attributes<'_>, address: IpAddr) -> Result<(), Error> {
    let flags = set.u32(attribute::SET_FLAGS).unwrap_or(0);
    let unsuitable = |why| Err(Error::UnsuitableSet { set: path.set.to_owned(), why });
    // In such a set an address is the beginning of everything above it.
    if flags & SET_INTERVAL != 0 {
        return unsuitable("has the flag interval, and single addresses need a set without");
    }
    if flags & SET_TIMEOUT == 0 {
        return unsuitable("lacks the flag timeout");
    }
    match (address, set.u32(attribute::SET_KEY_LENGTH)) {
        (IpAddr::V4(_), Some(4)) | (IpAddr::V6(_), Some(16)) => Ok(()),
        (IpAddr::V4(_), _) => unsuitable("holds no IPv4 addresses"),
        (IpAddr::V6(_), _) => unsuitable("holds no IPv6 addresses"),
    }
}

/// The address in its set, with what else an element has.
fn element(path: SetPath<'_>, address: IpAddr, rest: Vec<DefaultNla>) -> [DefaultNla; 3] {
    let key = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut attributes = vec![nested(attribute::ELEMENT_KEY, &[DefaultNla::new(attribute::VALUE, key)])];
    attributes.extend(rest);
    let [table, set] = named(path);
    [table, set, nested(attribute::ELEMENTS, &[nested(attribute::LIST_ITEM, &attributes)])]
}

pub(crate) fn elements(message: &Message) -> impl Iterator<Item = Attributes<'_>> {
    let lists = message.attributes().all_nested(attribute::ELEMENTS);
    lists.flat_map(|list| list.all_nested(attribute::LIST_ITEM))
}

pub(crate) fn read(element: Attributes<'_>) -> Option<Element> {
    let key = element.nested(attribute::ELEMENT_KEY)?.bytes(attribute::VALUE)?;
    let v4 = <[u8; 4]>::try_from(key).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    let address = v4.or_else(|_| <[u8; 16]>::try_from(key).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))));
    Some(Element { address: address.ok()?, left: left(element), packets: packets(element) })
}

/// An element without an expiration has no end.
fn left(element: Attributes<'_>) -> Option<Duration> {
    element.u64(attribute::ELEMENT_EXPIRATION).map(Duration::from_millis)
}

fn packets(element: Attributes<'_>) -> Option<u64> {
    let expression = element.nested(attribute::ELEMENT_EXPRESSION)?;
    let is_counter = expression.text(attribute::EXPRESSION_NAME) == Some("counter");
    let counter = is_counter.then(|| expression.nested(attribute::EXPRESSION_DATA)).flatten()?;
    counter.u64(attribute::COUNTER_PACKETS)
}

/// What an error of the kernel means where a set is named.
fn failed(path: SetPath<'_>, action: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::NOENT => Error::NoSet { table: path.table.to_owned(), set: path.set.to_owned() },
        errno => refused(action, errno),
    }
}

fn refused(action: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::PERM => Error::NotPermitted,
        errno => Error::Kernel { action, error: errno.into() },
    }
}

#[cfg(test)]
mod tests;

//! Grants as elements of nftables sets, changed over netlink without starting a program.

mod counted;
#[cfg(feature = "rules")]
mod fingerprint;
mod words;

use std::{
    net::IpAddr,
    num::NonZeroU32,
    time::{Duration, Instant},
};

#[cfg(feature = "rules")]
use ipnet::IpNet;
use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_CREATE, NLM_F_EXCL};
use rustix::io::Errno;

use crate::{
    error::Error,
    firewall::Change,
    invalid::Invalid,
    message::{Attributes, Message, attribute, kind, nested, text},
    netlink::{Abort, Connection, Generation, Operation, Reply},
    sender::Sender,
};
#[cfg(feature = "rules")]
use crate::{
    firewall::{Grant, Grants, join},
    nft::set_name::SetName,
};

/// How long to retry while other programs change the ruleset between reading and changing it.
const MAX_RETRY: Duration = Duration::from_secs(10);

/// `NFT_SET_INTERVAL`.
const SET_INTERVAL: u32 = 4;

/// `NFT_SET_TIMEOUT`.
pub(crate) const SET_TIMEOUT: u32 = 16;

/// A set in a table of family `inet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetPath<'a> {
    /// The table's name.
    pub table: &'a str,
    /// The set's name.
    pub set: &'a str,
}

/// An address in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Element {
    /// The address.
    pub address: IpAddr,
    /// The interface on which its packets arrive; `None`: any.
    pub interface: Option<NonZeroU32>,
    /// Time left; `None`: no end.
    pub left: Option<Duration>,
    /// Packets that matched; `None`: not counted. A renewal keeps the number.
    pub packets: Option<u64>,
}

/// A connection to the sets of the network namespace in which it was opened.
///
/// A set must hold single addresses: type `ipv4_addr` or `ipv6_addr`, or `ipv6_addr . iface_index` for a [`Sender`] with an
/// interface; flag `timeout`, no flag `interval`. Each change is one transaction, bound to the generation of the ruleset that was read. If another program changed the ruleset meanwhile, it
/// is read again, so no lock is needed.
pub struct Sets {
    connection: Connection,
}

/// The state before a change.
struct Snapshot {
    generation: Generation,
    element: Option<Current>,
}

/// An element in the kernel.
struct Current {
    left: Option<Duration>,
    /// Its counter, encoded by the kernel, for the element that replaces it.
    counter: Option<Vec<u8>>,
}

impl Sets {
    /// Opens a netlink socket. Only the first change shows whether the process has permission.
    ///
    /// # Errors
    /// The kernel has no netfilter.
    pub fn open() -> Result<Self, Error> {
        let connection = Connection::open();
        let connection = connection.map_err(|errno| refused("open a netfilter socket", errno))?;
        Ok(Self { connection })
    }

    /// Adds an address, for `ttl` or without end. An existing element is never shortened. (Without `ttl`, the default timeout of
    /// the set applies.) The kernel removes the element within a tick of its end.
    ///
    /// # Errors
    /// There is no such set, it is unsuitable, `ttl` is zero, or the kernel refuses.
    pub fn grant(
        &mut self,
        path: SetPath<'_>,
        sender: impl Into<Sender>,
        ttl: Option<Duration>,
    ) -> Result<Change, Error> {
        let sender = sender.into();
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(Invalid::new("time", "0", "must not be zero").into());
        }
        let milliseconds = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
        self.retry(|sets| {
            let Snapshot { generation, element: found } = sets.snapshot(path, sender)?;
            let mut operations = Vec::with_capacity(2);
            let mut attributes = Vec::with_capacity(2);
            if let Some(found) = found {
                let stays = found.left.is_none_or(|left| ttl.is_some_and(|ttl| left >= ttl));
                if stays {
                    return Ok(Some(Change::AlreadySo));
                }
                // Before Linux 6.12 the timeout of an element cannot be changed, so it is replaced. Packets see either the one or
                // the other.
                let message = Message::new(kind::DELETE_ELEMENT, &element(path, sender, Vec::new()));
                operations.push(Operation { message, flags: 0 });
                let counter = found
                    .counter
                    .map(|bytes| DefaultNla::new(attribute::ELEMENT_EXPRESSION | NLA_F_NESTED, bytes));
                attributes.extend(counter);
            }
            let timeout = milliseconds.map(|number| number.to_be_bytes().to_vec());
            attributes.extend(timeout.map(|bytes| DefaultNla::new(attribute::ELEMENT_TIMEOUT, bytes)));
            let message = Message::new(kind::NEW_ELEMENT, &element(path, sender, attributes));
            operations.push(Operation { message, flags: NLM_F_CREATE | NLM_F_EXCL });
            sets.change(path, generation, operations)
        })
    }

    /// Removes an address from a set.
    ///
    /// # Errors
    /// There is no such set, or the kernel refuses.
    pub fn revoke(&mut self, path: SetPath<'_>, sender: impl Into<Sender>) -> Result<Change, Error> {
        let sender = sender.into();
        self.retry(|sets| {
            let snapshot = sets.snapshot(path, sender)?;
            if snapshot.element.is_none() {
                return Ok(Some(Change::AlreadySo));
            }
            let message = Message::new(kind::DELETE_ELEMENT, &element(path, sender, Vec::new()));
            sets.change(path, snapshot.generation, vec![Operation { message, flags: 0 }])
        })
    }

    /// Removes all addresses from a set.
    ///
    /// # Errors
    /// There is no such set, or the kernel refuses.
    pub fn flush(&mut self, path: SetPath<'_>) -> Result<Change, Error> {
        self.flush_all(path.table, &[path.set])
    }

    /// Removes all addresses from several sets at once.
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

    /// Lists the elements of a set, sorted by address.
    ///
    /// # Errors
    /// There is no such set, or the kernel refuses.
    pub fn list(&mut self, path: SetPath<'_>) -> Result<Vec<Element>, Error> {
        let (mut found, is_whole) = self.dump(path)?;
        if is_whole {
            return Ok(found);
        }
        let end = Instant::now() + MAX_RETRY;
        while Instant::now() < end {
            let (again, is_whole) = self.dump(path)?;
            if is_whole || lasting(&again).eq(lasting(&found)) {
                return Ok(again);
            }
            found = again;
        }
        Err(failed(path, "list a set", Errno::AGAIN))
    }

    /// One listing, and whether it came in one piece. Between two pieces the kernel may move elements, for a set that
    /// has grown gets a larger hash table in the background; a listing then lacks some, or has some twice, and does not
    /// say so.
    fn dump(&mut self, path: SetPath<'_>) -> Result<(Vec<Element>, bool), Error> {
        let question = Message::new(kind::GET_ELEMENT, &named(path));
        let messages = self.connection.dump(&question).map_err(|errno| failed(path, "list a set", errno))?;
        let mut found: Vec<Element> = messages.iter().flat_map(elements).filter_map(read).collect();
        found.sort_by_key(key);
        found.dedup_by_key(|element| key(element));
        Ok((found, messages.len() <= 1))
    }

    /// Lists the names of the sets of a table; none if there is no such table.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn names(&mut self, table: &str) -> Result<Vec<String>, Error> {
        let question = Message::new(kind::GET_SET, &[text(attribute::TABLE, table)]);
        let messages = match self.connection.dump(&question) {
            Err(Errno::NOENT) => Vec::new(),
            answer => answer.map_err(|errno| refused("list sets", errno))?,
        };
        // Older kernels ignore the filter.
        let ours = messages.iter().map(Message::attributes);
        let ours = ours.filter(|attributes| attributes.text(attribute::TABLE) == Some(table));
        Ok(ours.filter_map(|attributes| attributes.text(attribute::SET)).map(str::to_owned).collect())
    }

    /// The grants in the sets of a table that are named as those of [`Nft`](crate::Nft), if `is_wanted`.
    #[cfg(feature = "rules")]
    pub(crate) fn grants(
        &mut self,
        table: &str,
        is_wanted: impl Fn(&SetName, IpAddr) -> bool,
    ) -> Result<Grants, Error> {
        let mut grants = Grants::new();
        for text in self.names(table)? {
            let Some(set) = SetName::parse(&text) else { continue };
            let elements = match self.list(SetPath { table, set: &text }) {
                // Removed since its name was listed.
                Err(Error::NoSet { .. }) => Vec::new(),
                elements => elements?,
            };
            let grants = grants.entry(set.service.clone()).or_default();
            let wanted = elements.into_iter().filter(|element| is_wanted(&set, element.address));
            for Element { address, left, packets, .. } in wanted {
                if let Ok(address) = IpNet::new(address, set.length) {
                    join(grants, Grant { address, left, packets });
                }
            }
        }
        Ok(grants)
    }

    /// The number by which [`Watch`](crate::Watch) recognizes the changes of this socket.
    #[cfg(feature = "rules")]
    pub(crate) fn port(&self) -> Result<u32, Error> {
        self.connection.port().map_err(|errno| refused("find the port of a socket", errno))
    }

    /// Whether a table exists.
    #[cfg(feature = "rules")]
    pub(crate) fn has_table(&mut self, table: &str) -> Result<bool, Errno> {
        self.table_flags(table).map(|flags| flags.is_some())
    }

    /// The flags of a table, if it exists.
    #[cfg(feature = "rules")]
    pub(crate) fn table_flags(&mut self, table: &str) -> Result<Option<u32>, Errno> {
        let question = Message::new(kind::GET_TABLE, &[text(attribute::TABLE, table)]);
        let [answer] = self.connection.request([question])?;
        match answer {
            Ok(found) => Ok(Some(found.attributes().u32(attribute::TABLE_FLAGS).unwrap_or_default())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether this process may change the ruleset at all.
    #[cfg(feature = "rules")]
    pub(crate) fn may_change(&mut self) -> Result<bool, Errno> {
        let [answer] = self.connection.request([get_generation()])?;
        let number = answer?.attributes().u32(attribute::GENERATION).ok_or(Errno::BADMSG)?;
        // There is no table without a name.
        let message = Message::new(kind::DELETE_TABLE, &[text(attribute::TABLE, "")]);
        match self.connection.commit(Generation(number), vec![Operation { message, flags: 0 }]) {
            Ok(()) | Err(Abort::Outdated | Abort::Refused(Errno::NOENT)) => Ok(true),
            Err(Abort::Refused(Errno::PERM)) => Ok(false),
            Err(Abort::Refused(errno)) => Err(errno),
        }
    }

    /// Commits what `operations` says about the current ruleset, and asks again if that has changed meanwhile. `None`: nothing
    /// has to be changed.
    #[cfg(feature = "rules")]
    pub(crate) fn transaction(
        &mut self,
        operations: impl Fn(&mut Self) -> Result<Option<Vec<Operation>>, Errno>,
    ) -> Result<Change, Errno> {
        let start = Instant::now();
        loop {
            let [answer] = self.connection.request([get_generation()])?;
            let number = answer?.attributes().u32(attribute::GENERATION).ok_or(Errno::BADMSG)?;
            let Some(operations) = operations(self)? else { return Ok(Change::AlreadySo) };
            match self.connection.commit(Generation(number), operations) {
                Ok(()) => return Ok(Change::Made),
                Err(Abort::Outdated) if start.elapsed() < MAX_RETRY => {}
                Err(Abort::Outdated) => return Err(Errno::AGAIN),
                Err(Abort::Refused(errno)) => return Err(errno),
            }
        }
    }

    /// Retries until the ruleset did not change between reading and changing it.
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

    /// Commits the operations; `None` if the ruleset has changed since it was read.
    fn change(
        &mut self,
        path: SetPath<'_>,
        generation: Generation,
        operations: Vec<Operation>,
    ) -> Result<Option<Change>, Error> {
        match self.connection.commit(generation, operations) {
            Ok(()) => Ok(Some(Change::Made)),
            // An element may expire just now, which does not change the generation. Reading again shows it.
            Err(Abort::Outdated | Abort::Refused(Errno::EXIST | Errno::NOENT)) => Ok(None),
            Err(Abort::Refused(errno)) => Err(failed(path, "change a set", errno)),
        }
    }

    fn snapshot(&mut self, path: SetPath<'_>, sender: Sender) -> Result<Snapshot, Error> {
        let question = Message::new(kind::GET_ELEMENT, &element(path, sender, Vec::new()));
        let [generation, set, found] = self.request([get_generation(), get_set(path), question])?;
        let generation = generation_of(generation)?;
        let set = set.map_err(|errno| failed(path, "find a set", errno))?;
        check(path, set.attributes(), sender)?;
        let element = match found {
            Ok(message) => elements(&message).next().map(|attributes| Current {
                left: left(attributes),
                counter: attributes.bytes(attribute::ELEMENT_EXPRESSION).map(<[u8]>::to_vec),
            }),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(failed(path, "read a set", errno)),
        };
        Ok(Snapshot { generation, element })
    }

    fn request<const N: usize>(&mut self, questions: [Message; N]) -> Result<[Reply; N], Error> {
        self.connection.request(questions).map_err(|errno| refused("query nftables", errno))
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
    number.map(Generation).map_err(|errno| refused("read the ruleset generation", errno))
}

/// Checks that the set can hold this sender alone.
fn check(path: SetPath<'_>, set: Attributes<'_>, sender: Sender) -> Result<(), Error> {
    let flags = set.u32(attribute::SET_FLAGS).unwrap_or(0);
    let unsuitable = |why| Err(Error::UnsuitableSet { set: path.set.to_owned(), why });
    // In such a set an address is the start of an interval.
    if flags & SET_INTERVAL != 0 {
        return unsuitable("has the interval flag; grants need a set without it");
    }
    if flags & SET_TIMEOUT == 0 {
        return unsuitable("lacks the timeout flag");
    }
    let length = set.u32(attribute::SET_KEY_LENGTH).and_then(|length| usize::try_from(length).ok());
    match (sender.address(), sender.interface()) {
        _ if length == Some(sender.key().len()) => Ok(()),
        (IpAddr::V4(_), _) => unsuitable("does not hold IPv4 addresses"),
        (IpAddr::V6(_), None) => unsuitable("does not hold IPv6 addresses"),
        (IpAddr::V6(_), Some(_)) => unsuitable("does not hold IPv6 addresses with interfaces"),
    }
}

/// The attributes of an element.
fn element(path: SetPath<'_>, sender: Sender, rest: Vec<DefaultNla>) -> [DefaultNla; 3] {
    let key = DefaultNla::new(attribute::VALUE, sender.key());
    let mut attributes = vec![nested(attribute::ELEMENT_KEY, &[key])];
    attributes.extend(rest);
    let [table, set] = named(path);
    [table, set, nested(attribute::ELEMENTS, &[nested(attribute::LIST_ITEM, &attributes)])]
}

/// What tells elements of a set apart.
fn key(element: &Element) -> (IpAddr, Option<NonZeroU32>) {
    (element.address, element.interface)
}

/// The keys of those that do not expire while the set is listed again.
fn lasting(found: &[Element]) -> impl Iterator<Item = (IpAddr, Option<NonZeroU32>)> {
    found.iter().filter(|element| element.left.is_none_or(|left| left > MAX_RETRY)).map(key)
}

pub(crate) fn elements(message: &Message) -> impl Iterator<Item = Attributes<'_>> {
    let lists = message.attributes().all_nested(attribute::ELEMENTS);
    lists.flat_map(|list| list.all_nested(attribute::LIST_ITEM))
}

pub(crate) fn read(element: Attributes<'_>) -> Option<Element> {
    let key = element.nested(attribute::ELEMENT_KEY)?.bytes(attribute::VALUE)?;
    let sender = Sender::of_key(key)?;
    let (address, interface) = (sender.address(), sender.interface());
    Some(Element { address, interface, left: left(element), packets: packets(element) })
}

/// An element without expiration has no end.
fn left(element: Attributes<'_>) -> Option<Duration> {
    element.u64(attribute::ELEMENT_EXPIRATION).map(Duration::from_millis)
}

fn packets(element: Attributes<'_>) -> Option<u64> {
    counter_of(element.nested(attribute::ELEMENT_EXPRESSION)?)
}

/// The packets of a counter; `None`: the expression is another one.
fn counter_of(expression: Attributes<'_>) -> Option<u64> {
    let is_counter = expression.text(attribute::EXPRESSION_NAME) == Some("counter");
    let counter = is_counter.then(|| expression.nested(attribute::EXPRESSION_DATA)).flatten()?;
    counter.u64(attribute::COUNTER_PACKETS)
}

/// Maps an error of the kernel for an operation on a set.
fn failed(path: SetPath<'_>, action: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::NOENT => Error::NoSet { table: path.table.to_owned(), set: path.set.to_owned() },
        errno => refused(action, errno),
    }
}

pub(crate) fn refused(action: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::PERM => Error::NotPermitted,
        errno => Error::Kernel { action, error: errno.into() },
    }
}

#[cfg(test)]
mod tests;

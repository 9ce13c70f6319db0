//! Which time server to ask, and when.
//!
//! Every failure delays the next request to that server, and each failure in a row doubles the delay up to a limit. The gateway
//! never gives up: a server that is asked rarely is still asked.

use core::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

use heapless::Vec;

use crate::{Instant, config::TimeSource};

/// How many servers are remembered. DHCP and DNS may name more.
pub const TIME_SERVERS: usize = 4;

/// Seconds until the first retry.
const RETRY: u32 = 1;
/// The longest delay after a time that was not believed, in seconds.
const DISBELIEVED_LIMIT: u32 = 1_024;
/// The first delay of a server that refuses, in seconds, and at least the interval that it is asked at from then on.
const REFUSED: u32 = 64;
/// The longest delay of a server that refuses, in seconds. Well below [`STALE_AFTER`](crate::STALE_AFTER).
const REFUSED_LIMIT: u32 = 3_600;

/// Why a request for the time has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeFailure {
    /// DNS or DHCP names no server.
    NoServer,
    /// No reply in time.
    NoReply,
    /// The server does not know the time.
    NotSynchronised,
    /// The server's time is impossible; see [`TimeError`](crate::TimeError).
    Disbelieved,
    /// The server asks for fewer requests.
    Rate,
    /// The server asks for no further requests.
    Denied,
}

impl fmt::Display for TimeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoServer => "no time server found",
            Self::NoReply => "no reply",
            Self::NotSynchronised => "its clock is not synchronized",
            Self::Disbelieved => "its time is impossible",
            Self::Rate => "it is asked too often",
            Self::Denied => "it denies access",
        })
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeTask {
    /// Find the servers' addresses by DNS or DHCP, then call [`TimeClient::found`].
    Find,
    /// Ask this server, then call [`TimeClient::finished`].
    Ask(SocketAddrV4),
    /// Nothing until then.
    Wait(Instant),
}

/// A server, and when it may be asked.
#[derive(Clone, Copy, Debug)]
struct Server {
    address: Ipv4Addr,
    /// Whether the last search found it. Others are remembered only while they must not be asked.
    is_found: bool,
    not_before: Instant,
    /// In a row.
    failures: u8,
    /// Seconds between requests while they succeed.
    interval: u32,
}

/// Asks time servers without flooding them.
#[derive(Debug)]
pub struct TimeClient {
    port: u16,
    /// Seconds between requests, as configured.
    interval: u32,
    /// Whether servers have to be found by DNS or DHCP.
    must_find: bool,
    servers: Vec<Server, TIME_SERVERS>,
    /// Whether to search before the next request, because the last one has failed.
    search: bool,
    search_not_before: Instant,
    /// Searches without a result, in a row.
    search_failures: u8,
}

impl TimeClient {
    /// Of a gateway that has just booted. `None` if it has no time server.
    #[must_use]
    pub fn new(source: &TimeSource) -> Option<Self> {
        let (port, interval, fixed) = match source {
            TimeSource::None => return None,
            TimeSource::Sntp(server) => (server.at.port(), server.interval, Some(*server.at.ip())),
            TimeSource::Dhcp { interval } => (pkd_sntp::SERVER_PORT, *interval, None),
            TimeSource::Name(server) => (server.port, server.interval, None),
        };
        let mut client = Self {
            port,
            interval: u32::from(interval).max(1),
            must_find: fixed.is_none(),
            servers: Vec::new(),
            search: fixed.is_none(),
            search_not_before: Instant(0),
            search_failures: 0,
        };
        if let Some(address) = fixed {
            client.found(Instant(0), &[address]);
        }
        Some(client)
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self, now: Instant) -> TimeTask {
        let next =
            self.servers.iter().filter(|server| server.is_found).min_by_key(|server| server.not_before);
        let due = next.map(|server| server.not_before);
        if self.must_find && (self.search || next.is_none()) {
            // A search is useless before the server that it may find again can be asked.
            let when = due.map_or(self.search_not_before, |due| due.max(self.search_not_before));
            return if when <= now { TimeTask::Find } else { TimeTask::Wait(when) };
        }
        match next {
            Some(server) if server.not_before <= now => {
                TimeTask::Ask(SocketAddrV4::new(server.address, self.port))
            }
            Some(server) => TimeTask::Wait(server.not_before),
            None => TimeTask::Wait(now.after(self.interval)),
        }
    }

    /// Reports the servers that DNS or DHCP names: none, if it names none or does not reply.
    pub fn found(&mut self, now: Instant, addresses: &[Ipv4Addr]) {
        if addresses.is_empty() {
            self.search_failures = self.search_failures.saturating_add(1);
            let delay = doubled(RETRY, self.search_failures, self.interval.max(REFUSED));
            self.search_not_before = now.after(delay);
            return;
        }
        self.search = false;
        self.search_failures = 0;
        self.servers.iter_mut().for_each(|server| server.is_found = addresses.contains(&server.address));
        self.servers.retain(|server| server.is_found || server.not_before > now);
        for &address in addresses {
            if self.servers.iter().any(|server| server.address == address) {
                continue;
            }
            if self.servers.is_full()
                && let Some(other) = self.servers.iter().position(|server| !server.is_found)
            {
                self.servers.swap_remove(other);
            }
            let interval = self.interval;
            // Further servers than there is room for are not needed.
            let _full =
                self.servers.push(Server { address, is_found: true, not_before: now, failures: 0, interval });
        }
    }

    /// Reports how a request has ended.
    pub fn finished(&mut self, now: Instant, server: Ipv4Addr, outcome: Result<(), TimeFailure>) {
        let configured = self.interval;
        self.search = self.must_find && outcome.is_err();
        let Some(server) = self.servers.iter_mut().find(|known| known.address == server) else { return };
        let failures = server.failures.saturating_add(1);
        server.failures = if outcome.is_ok() { 0 } else { failures };
        let delay = match outcome {
            Ok(()) => server.interval,
            Err(TimeFailure::Disbelieved) => doubled(RETRY, failures, configured.max(DISBELIEVED_LIMIT)),
            Err(TimeFailure::Rate) => {
                // Not halved again: the server would only repeat itself.
                let slower = server.interval.saturating_mul(2);
                server.interval = slower.clamp(REFUSED, REFUSED_LIMIT.max(configured));
                server.interval
            }
            Err(TimeFailure::Denied) => doubled(REFUSED, failures, REFUSED_LIMIT.max(configured)),
            Err(TimeFailure::NoReply | TimeFailure::NotSynchronised | TimeFailure::NoServer) => {
                doubled(RETRY, failures, configured)
            }
        };
        server.not_before = now.after(delay);
    }
}

/// `first` seconds, doubled for each failure after the first one, at most `limit`.
fn doubled(first: u32, failures: u8, limit: u32) -> u32 {
    let factor = 1_u32.checked_shl(u32::from(failures).saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(limit)
}

//! The daemon's status as JSON, as Prometheus metrics and as text. It contains no keys.

use std::fmt::Write as _;

use pkd_core::{Counters, Reason, UnixSeconds, Verdict};
use serde::Serialize;
#[cfg(feature = "rules")]
use serde_json::{Map, Value};

use crate::{
    caches::Report,
    config::{self, Config},
    firewall::ActiveGrant,
};

/// The status; the JSON of `pkdd status --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// pkdd's version.
    pub version: String,
    /// The gateway's clock, Unix seconds.
    pub now: u64,
    /// Datagrams by verdict since the process started.
    pub counters: Verdicts,
    /// Datagrams that began as a knock and were dropped beyond the rate limit, since the process started.
    pub limited: u64,
    /// How often the kernel dropped packets because the buffer was full.
    pub overruns: u64,
    /// Configured users.
    pub users: Vec<User>,
    /// Configured services.
    pub services: Vec<Service>,
    /// Active grants.
    pub grants: Vec<Grant>,
    /// Current problems; empty if there are none.
    pub trouble: String,
    /// Rules of other programs that make a grant or a guard ineffective, a line each. `pkdd status` [adds](with_conflicts)
    /// them; the daemon does not look.
    conflicts: [String; 0],
}

/// Datagrams by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names of pkd_core::Reason")]
pub struct Verdicts {
    pub accept: u64,
    pub close: u64,
    pub length: u64,
    pub tag: u64,
    pub window: u64,
    pub replay: u64,
    /// After a start without a complete memory, knocks wait for one window, as they cannot be told from replays.
    pub waiting: u64,
    pub filter: u64,
    pub digest: u64,
    pub request: u64,
}

impl Verdicts {
    fn of(&self, verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Accept => self.accept,
            Verdict::Close => self.close,
            Verdict::Ignore(Reason::Length) => self.length,
            Verdict::Ignore(Reason::Tag) => self.tag,
            Verdict::Ignore(Reason::Window) => self.window,
            Verdict::Ignore(Reason::Replay) => self.replay,
            Verdict::Ignore(Reason::Filter) => self.filter,
            Verdict::Ignore(Reason::Digest) => self.digest,
            Verdict::Ignore(Reason::Request) => self.request,
        }
    }
}

impl From<&Counters> for Verdicts {
    fn from(counters: &Counters) -> Self {
        let of = |reason| counters.of(Verdict::Ignore(reason));
        Self {
            accept: counters.of(Verdict::Accept),
            close: counters.of(Verdict::Close),
            length: of(Reason::Length),
            tag: of(Reason::Tag),
            window: of(Reason::Window),
            replay: of(Reason::Replay),
            waiting: 0,
            filter: of(Reason::Filter),
            digest: of(Reason::Digest),
            request: of(Reason::Request),
        }
    }
}

/// A user and their replay cache.
#[derive(Clone, Debug, Serialize)]
pub struct User {
    /// The name in the configuration.
    pub name: String,
    /// `2` or `classic`.
    pub format: String,
    /// The tag, as text if that is printable, otherwise as `0x…`.
    pub tag: String,
    /// `active`, `disabled` or `expired`.
    pub state: String,
    /// Seconds.
    pub window: u32,
    /// Knocks accepted since the process started; `null` if they are not counted.
    pub accepted: Option<u64>,
    /// Knocks in the cache.
    pub knocks: usize,
    /// Knocks that the cache has room for.
    pub capacity: usize,
    /// No knock at or before this time is accepted.
    pub floor: u64,
    /// The greatest time accepted since boot; `null` if there is none.
    pub newest: Option<u64>,
    /// Seconds until knocks can be accepted.
    pub wait: u64,
}

/// A service.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names in the configuration")]
pub struct Service {
    pub name: String,
    pub protocol: String,
    /// The only port; `null` if there are several.
    pub port: Option<u16>,
    /// Each port and range: `80`, `8000-8100`.
    #[serde(default)]
    pub ports: Vec<String>,
    pub seconds: u64,
}

impl Service {
    fn ports(&self) -> String {
        match (self.port, &self.ports) {
            (Some(port), _) => format!("port {port}"),
            (None, ports) => format!("ports {}", ports.join(", ")),
        }
    }
}

/// An active grant.
#[derive(Clone, Debug, Serialize)]
pub struct Grant {
    /// The service's name.
    pub service: String,
    /// The address or prefix that may reach the service; a link-local address with its interface, as `fe80::1%eth0`.
    pub address: String,
    /// Seconds until the grant ends; `null` if it does not.
    pub seconds_left: Option<u64>,
    /// Whose knock has opened it last; `null`: nobody's, or unknown.
    pub user: Option<String>,
}

/// The sources of a status.
pub struct Parts<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// The state of a user's replay cache; `None`: there is none.
    pub cache: &'a dyn Fn(&config::User) -> Option<Report>,
    /// Whose knock has made a grant; `None`: nobody's, or unknown.
    pub opener: &'a dyn Fn(&ActiveGrant) -> Option<String>,
    /// Datagrams by verdict.
    pub counters: Verdicts,
    /// Datagrams dropped beyond the rate limit.
    pub limited: u64,
    /// How often the kernel dropped packets because the buffer was full.
    pub overruns: u64,
    /// Active grants, from the firewall.
    pub grants: Vec<ActiveGrant>,
    /// Current problems.
    pub trouble: String,
}

impl Status {
    /// Combines the parts into a status at the time `now`.
    #[must_use]
    pub fn new(now: UnixSeconds, parts: Parts<'_>) -> Self {
        let Parts { config, cache, opener, counters, limited, overruns, grants, trouble } = parts;
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now: now.0,
            counters,
            limited,
            overruns,
            users: config
                .users
                .iter()
                .map(|(name, user)| {
                    let report = cache(user);
                    User {
                        name: name.clone(),
                        format: user.rule.format().to_owned(),
                        tag: user.tag.to_string(),
                        state: match (user.enabled, user.is_active(now)) {
                            (false, _) => "disabled",
                            (true, false) => "expired",
                            (true, true) => "active",
                        }
                        .to_owned(),
                        window: user.rule.window().as_secs(),
                        accepted: report.and_then(|report| report.accepted),
                        knocks: report.map_or(0, |report| report.knocks),
                        capacity: report.map_or(0, |report| report.capacity),
                        floor: report.map_or(0, |report| report.floor.0),
                        newest: report.and_then(|report| report.newest).map(|newest| newest.0),
                        wait: report.map_or(0, |report| report.wait),
                    }
                })
                .collect(),
            services: config
                .services
                .iter()
                .map(|(name, service)| Service {
                    name: name.to_string(),
                    protocol: service.service.protocol.to_string(),
                    port: service.service.ports.single(),
                    ports: service.service.ports.texts().collect(),
                    seconds: service.ttl.as_secs(),
                })
                .collect(),
            grants: grants
                .into_iter()
                .map(|active| Grant {
                    service: active.service.to_string(),
                    address: active.source(),
                    seconds_left: active.left.map(|left| left.as_secs()),
                    user: opener(&active),
                })
                .collect(),
            trouble,
            conflicts: [],
        }
    }

    /// The status in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut text = String::from(
            "# HELP pkdd_datagrams_total Datagrams received from the firewall, by verdict.\n\
             # TYPE pkdd_datagrams_total counter\n",
        );
        for verdict in Verdict::ALL {
            let count = self.counters.of(verdict);
            let _ = writeln!(text, "pkdd_datagrams_total{{verdict=\"{verdict}\"}} {count}");
        }
        let _ = writeln!(text, "pkdd_datagrams_total{{verdict=\"waiting\"}} {}", self.counters.waiting);
        let _ = write!(
            text,
            "# HELP pkdd_limited_total Datagrams dropped beyond the rate limit before they were checked.\n\
             # TYPE pkdd_limited_total counter\n\
             pkdd_limited_total {}\n\
             # HELP pkdd_overruns_total How often the kernel dropped datagrams because the buffer was full.\n\
             # TYPE pkdd_overruns_total counter\n\
             pkdd_overruns_total {}\n\
             # HELP pkdd_grants Addresses that may reach the service now.\n\
             # TYPE pkdd_grants gauge\n",
            self.limited, self.overruns
        );
        for service in &self.services {
            let grants = self.grants.iter().filter(|grant| grant.service == service.name).count();
            let _ = writeln!(text, "pkdd_grants{{service=\"{}\"}} {grants}", service.name);
        }
        text.push_str(
            "# HELP pkdd_user_accepted_total Knocks of the user that were accepted.\n\
             # TYPE pkdd_user_accepted_total counter\n",
        );
        for (name, accepted) in self.users.iter().filter_map(|user| Some((&user.name, user.accepted?))) {
            let _ = writeln!(text, "pkdd_user_accepted_total{{user=\"{name}\"}} {accepted}");
        }
        text.push_str(
            "# HELP pkdd_cache_wait_seconds Seconds until a knock of the user can be accepted.\n\
             # TYPE pkdd_cache_wait_seconds gauge\n",
        );
        for user in &self.users {
            let _ = writeln!(text, "pkdd_cache_wait_seconds{{user=\"{}\"}} {}", user.name, user.wait);
        }
        let _ = write!(
            text,
            "# HELP pkdd_trouble 1 if pkdd status reports a problem, otherwise 0.\n\
             # TYPE pkdd_trouble gauge\n\
             pkdd_trouble {}\n",
            u8::from(!self.trouble.is_empty())
        );
        text
    }

    /// The status as text for `pkdd status`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.trouble.is_empty() {
            let _ = writeln!(text, "Problem: {}", self.trouble);
        }
        let Verdicts { accept, close, length, tag, window, replay, waiting, filter, digest, request } =
            self.counters;
        let _ = writeln!(text, "Accepted: {accept}");
        if close > 0 {
            let _ = writeln!(text, "Closed: {close}");
        }
        let _ = write!(
            text,
            "Ignored: {length} wrong length, {tag} unknown tag, {window} outside the window, {replay} replayed, \
             {digest} wrong digest"
        );
        for (count, what) in [
            (waiting, "waiting after a start"),
            (filter, "forged"),
            (request, "unknown request or missing binding"),
        ] {
            if count > 0 {
                let _ = write!(text, ", {count} {what}");
            }
        }
        text.push('\n');
        if self.limited > 0 {
            let _ = writeln!(text, "Dropped beyond the rate limit: {}", self.limited);
        }
        if self.overruns > 0 {
            let _ = writeln!(text, "Buffer overruns: {}", self.overruns);
        }
        for service in &self.services {
            let (Service { name, protocol, seconds, .. }, ports) = (service, service.ports());
            let _ = writeln!(text, "Service {name}: {protocol} {ports}, {seconds} s after a knock");
            for grant in self.grants.iter().filter(|grant| grant.service == *name) {
                let left =
                    grant.seconds_left.map_or("no time limit".to_owned(), |left| format!("{left} s left"));
                let user = grant.user.as_ref().map(|user| format!(" ({user})")).unwrap_or_default();
                let _ = writeln!(text, "  open for {}{user}, {left}", grant.address);
            }
        }
        for user in &self.users {
            let User { name, format, tag, state, knocks, wait, accepted, .. } = user;
            // Classic ones have always been shown without.
            let format = if format == "2" { ", format 2" } else { "" };
            let knocks = counted(*knocks, "knock");
            let _ = write!(text, "User {name}: tag {tag}{format}, {state}, {knocks} in the replay cache");
            if let Some(accepted) = accepted.filter(|accepted| *accepted > 0) {
                let _ = write!(text, ", {accepted} accepted");
            }
            if *wait > 0 {
                let _ = write!(text, ", waits {wait} s, because earlier knocks are unknown");
            }
            text.push('\n');
        }
        text
    }
}

/// So many of these, in words: `1 user`, `2 users`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// Sets `conflicts` in a daemon's status in JSON. What a newer daemon says besides is passed on.
///
/// # Errors
/// The status is not a JSON object.
#[cfg(feature = "rules")]
pub fn with_conflicts(status: &str, conflicts: Vec<String>) -> serde_json::Result<String> {
    let mut status: Map<String, Value> = serde_json::from_str(status)?;
    status.insert("conflicts".to_owned(), conflicts.into());
    serde_json::to_string(&status)
}

#[cfg(test)]
mod tests;

//! What the readers of events are told besides knocks: grants, and problems.

#[cfg(feature = "events")]
use std::os::unix::net::UnixStream;

#[cfg(feature = "events")]
use pkd_core::UnixMillis;

#[cfg(feature = "events")]
use crate::{date::now_millis, engine::Engine, report::log, uptime::Uptime};
use crate::{events::Event, feed::Feed, firewall::Recorded, health::Health};

/// The readers, and what they know.
#[derive(Default)]
pub(crate) struct News {
    feed: Feed,
    /// The problems.
    trouble: String,
}

impl News {
    pub(crate) fn feed(&mut self) -> &mut Feed {
        &mut self.feed
    }

    /// Adds a reader.
    #[cfg(feature = "events")]
    pub(crate) fn follow(&mut self, stream: Option<UnixStream>) {
        let Some(stream) = stream else { return };
        let first = Event::Following { version: env!("CARGO_PKG_VERSION"), trouble: &self.trouble };
        if let Err(error) = self.feed.add(stream, &first) {
            log(&format!("warning: cannot pass on events: {error}"));
        }
    }

    /// Tells what has become of grants and problems.
    pub(crate) fn tell(&mut self, firewall: &mut Recorded, health: &Health) {
        if !cfg!(feature = "events") {
            return;
        }
        for change in firewall.changes() {
            if !self.feed.has_readers() {
                continue;
            }
            let (service, address) = (change.service.to_string(), change.address);
            let (service, address) = (service.as_str(), address.as_str());
            self.feed.tell(&match change.ttl {
                Some(ttl) => Event::Granted { service, address, seconds: ttl.as_secs() },
                None => Event::Ended { service, address },
            });
        }
        let text = health.text();
        if text != self.trouble {
            self.feed.tell(&Event::Trouble { text: &text });
            self.trouble = text;
        }
    }
}

/// The accepted knocks that are still remembered, oldest first, as lines.
#[cfg(feature = "events")]
pub(crate) fn remembered(engine: &Engine) -> String {
    let (time, uptime) = (now_millis(), Uptime::now());
    let mut effects = engine.effects();
    effects.sort_by_key(|effect| effect.at);
    let mut lines = String::new();
    for effect in effects {
        let mut users = engine.config().users.iter();
        let user = users.find(|(_, user)| user.cache == effect.cache).map(|(name, _)| name);
        // Of a user who was removed, or of another boot.
        let (Some(user), Some(age)) = (user, uptime.since(effect.at)) else { continue };
        let from = effect.sender.to_string();
        let event = if effect.closes {
            Event::Closed { user, from, services: None }
        } else {
            Event::Accepted { user, from, services: None, offset_ms: None }
        };
        lines += &event.line(UnixMillis(time.0.saturating_sub(age.saturating_mul(1_000))));
    }
    // An answer is never empty.
    lines + "\n"
}

//! The log. Ignored datagrams are summed up in one line every ten seconds, so that a flood does not fill the log.

use std::time::{Duration, Instant};

use pktables::Sender;

use crate::cause::Cause;

/// The shortest time between two lines about ignored datagrams.
const INTERVAL: Duration = Duration::from_secs(10);

/// Counts ignored datagrams until the next line.
#[derive(Debug, Default)]
pub struct Ignored {
    counts: [u64; Cause::ALL.len()],
    last: Option<Sender>,
    next: Option<Instant>,
}

impl Ignored {
    /// Counts one datagram. Returns a line if one is due.
    pub fn add(&mut self, now: Instant, cause: Cause, sender: Sender) -> Option<String> {
        for (known, count) in Cause::ALL.iter().zip(&mut self.counts) {
            *count += u64::from(*known == cause);
        }
        self.last = Some(sender);
        self.line(now)
    }

    /// The datagrams since the last line, if a line is due.
    pub fn line(&mut self, now: Instant) -> Option<String> {
        let last = self.last?;
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        let parts: Vec<String> = Cause::ALL
            .iter()
            .zip(self.counts)
            .filter(|(_, count)| *count > 0)
            .map(|(cause, count)| format!("{count} {cause}"))
            .collect();
        *self = Self { next: Some(now + INTERVAL), ..Self::default() };
        Some(format!("ignored: {}; last from {last}", parts.join(", ")))
    }
}

/// Writes a line to standard error, which the service manager collects. Errors are ignored.
pub fn log(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "pkdd: {line}");
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use pkd_core::Reason;

    use super::*;

    #[test]
    fn the_first_datagram_is_reported_at_once_and_later_ones_together() {
        let mut ignored = Ignored::default();
        let start = Instant::now();
        let sender = |last: u8| IpAddr::from([192, 0, 2, last]).into();
        let mut lines = Vec::new();
        // seconds since the start, cause
        for (seconds, cause) in [
            (0, Cause::Check(Reason::Window)),
            (1, Cause::Check(Reason::Digest)),
            (9, Cause::Waiting),
            (10, Cause::Check(Reason::Replay)),
            (11, Cause::Check(Reason::Tag)),
        ] {
            lines.extend(ignored.add(start + Duration::from_secs(seconds.into()), cause, sender(seconds)));
        }
        assert_eq!(
            lines,
            [
                "ignored: 1 window; last from 192.0.2.0",
                "ignored: 1 replay, 1 digest, 1 waiting; last from 192.0.2.10"
            ]
        );
        assert_eq!(ignored.line(start + Duration::from_secs(19)), None);
        let rest = ignored.line(start + Duration::from_secs(20)).unwrap();
        assert_eq!(rest, "ignored: 1 tag; last from 192.0.2.11");
        assert_eq!(ignored.line(start + Duration::from_secs(40)), None, "there is nothing to report");
    }
}

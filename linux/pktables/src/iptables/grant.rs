//! Grants as rules of iptables, with the end in the comment.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;

use super::save::Rule;
use crate::{address::canonical, firewall::Grant, forward::Forward, service::Protocol};

/// Precedes the end of a grant in the comment.
const UNTIL: &str = "pktables until ";

/// Precedes the end of a lease in the comment.
const LEASED: &str = "pktables lease until ";

/// Unix time, as in the comments of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnixSeconds(pub(crate) u64);

impl UnixSeconds {
    /// Times before 1970 count as 1970.
    pub(crate) fn of(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    /// The end of a grant that starts now, rounded up.
    pub(crate) fn end(time: SystemTime, ttl: Duration) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(ttl);
        Self(since.as_secs().saturating_add(u64::from(since.subsec_nanos() > 0)))
    }

    pub(crate) fn left(self, now: SystemTime) -> Duration {
        let end = Duration::from_secs(self.0);
        end.saturating_sub(now.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

/// A time as iptables reads and writes it, in UTC: `2027-12-31T10:00:00`. Later times than it knows become its last one.
fn date(seconds: u64) -> String {
    let seconds = seconds.min(i32::MAX.unsigned_abs().into());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March, so that the leap day is the last one; eras have 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// A rule that is a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantRule {
    pub(crate) address: IpNet,
    /// `None`: no end.
    pub(crate) end: Option<UnixSeconds>,
    pub(crate) packets: u64,
    /// A lease, which the kernel ends (`-m time`), where it has no ipset for it.
    pub(crate) lease: bool,
    /// The rule as iptables-save prints it; `None`: it does not exist yet.
    pub(super) text: Option<String>,
}

impl GrantRule {
    pub(crate) fn new(address: IpNet, end: Option<UnixSeconds>) -> Self {
        Self { address, end, packets: 0, lease: false, text: None }
    }

    pub(crate) fn lease(address: IpNet, end: UnixSeconds) -> Self {
        Self { lease: true, ..Self::new(address, Some(end)) }
    }

    /// Parses `-s ADDRESS -j ACCEPT` (in `mangle`: `RETURN`) and `-s ADDRESS … -j DNAT …`, with or without an end. A rule with any other option is not
    /// a grant.
    pub(super) fn of(rule: &Rule) -> Option<Self> {
        let fits = match rule.target()? {
            "ACCEPT" | "RETURN" => rule.has_only(&["-s", "-m", "--comment", "--datestop", "-j"]),
            "DNAT" => rule.has_only(&["-s", "-p", "-m", "--comment", "--datestop", "-j", "--to-destination"]),
            _ => false,
        };
        let address: IpNet = rule.value("-s").filter(|_| fits)?.parse().ok()?;
        let (end, lease) = match rule.value("--comment") {
            Some(comment) => {
                let leased = comment.strip_prefix(LEASED);
                let end = leased.or_else(|| comment.strip_prefix(UNTIL))?;
                (Some(UnixSeconds(end.parse().ok()?)), leased.is_some())
            }
            None => (None, false),
        };
        if lease != rule.value("--datestop").is_some() {
            return None;
        }
        let (address, text) = (canonical(address), Some(rule.text.clone()));
        Some(Self { address, end, packets: rule.packets, lease, text })
    }

    pub(crate) fn to_grant(&self, now: SystemTime) -> Grant {
        let left = self.end.map(|end| end.left(now));
        Grant { address: self.address, left, packets: Some(self.packets) }
    }

    pub(crate) fn has_expired(&self, now: UnixSeconds) -> bool {
        self.end.is_some_and(|end| end <= now)
    }

    /// The rule for iptables-restore.
    pub(super) fn to_text(&self, protocol: Protocol, forward: Option<Forward>, in_mangle: bool) -> String {
        let mut text = format!("-s {}", self.address);
        if forward.is_some() {
            // DNAT to a port needs the protocol, and another protocol is not for this service.
            let _ = write!(text, " -p {protocol}");
        }
        if let Some(UnixSeconds(end)) = self.end {
            if self.lease {
                // The second that it names still counts.
                let last = date(end.saturating_sub(1));
                let _ = write!(text, " -m time --datestop {last} -m comment --comment \"{LEASED}{end}\"");
            } else {
                let _ = write!(text, " -m comment --comment \"{UNTIL}{end}\"");
            }
        }
        match forward {
            None if in_mangle => text.push_str(" -j RETURN"),
            None => text.push_str(" -j ACCEPT"),
            Some(forward) => {
                let _ = write!(text, " -j DNAT --to-destination {forward}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{super::save::Saved, *};

    fn grant(address: &str, end: Option<u64>) -> GrantRule {
        GrantRule::new(address.parse().expect("an address"), end.map(UnixSeconds))
    }

    fn forward() -> Forward {
        "192.168.1.10:2222".parse().expect("an address and port")
    }

    const AT: SystemTime = UNIX_EPOCH;

    #[test]
    fn the_end_of_a_grant_is_rounded_up() {
        let time = |milliseconds| AT + Duration::from_millis(milliseconds);
        // now, for how long, its end
        let rows = [(1_000, 0, 1), (1_000, 30_000, 31), (1_001, 30_000, 32), (1_500, 500, 2), (1_999, 2, 3)];
        for (now, ttl, end) in rows {
            let found = UnixSeconds::end(time(now), Duration::from_millis(ttl));
            assert_eq!(found, UnixSeconds(end), "{now} ms, {ttl} ms");
        }
        let before = AT - Duration::from_secs(9);
        assert_eq!((UnixSeconds::of(before), UnixSeconds::of(time(1_999))), (UnixSeconds(0), UnixSeconds(1)));
        assert_eq!(UnixSeconds::end(before, Duration::from_secs(5)), UnixSeconds(5));
        assert_eq!(UnixSeconds::end(AT, Duration::MAX), UnixSeconds(u64::MAX));
        for (now, left) in [(0, 2_000), (500, 1_500), (2_000, 0), (2_001, 0)] {
            assert_eq!(UnixSeconds(2).left(time(now)), Duration::from_millis(left), "{now} ms");
        }
        for (end, has_expired) in [(None, false), (Some(9), true), (Some(10), true), (Some(11), false)] {
            assert_eq!(grant("192.0.2.7/32", end).has_expired(UnixSeconds(10)), has_expired, "{end:?}");
        }
    }

    #[test]
    fn a_grant_survives_writing_and_parsing() {
        let rows = [
            (grant("192.0.2.7/32", None), None, "-s 192.0.2.7/32 -j ACCEPT"),
            (
                grant("2001:db8::/32", Some(7)),
                None,
                "-s 2001:db8::/32 -m comment --comment \"pktables until 7\" -j ACCEPT",
            ),
            (
                grant("192.0.2.7/32", None),
                Some(forward()),
                "-s 192.0.2.7/32 -p tcp -j DNAT --to-destination 192.168.1.10:2222",
            ),
            (
                grant("192.0.2.7/32", Some(7)),
                Some(forward()),
                "-s 192.0.2.7/32 -p tcp -m comment --comment \"pktables until 7\" -j DNAT \
             --to-destination 192.168.1.10:2222",
            ),
        ];
        for (grant, forward, text) in rows {
            assert_eq!(grant.to_text(Protocol::Tcp, forward, false), text);
            let saved = Saved::parse(&format!("*filter\n[5:9] -A c {text}\n"));
            let found = saved.rules("filter", "c").and_then(|rules| GrantRule::of(&rules[0]));
            assert_eq!(found, Some(GrantRule { packets: 5, text: Some(text.to_owned()), ..grant }));
        }
    }

    #[test]
    fn a_date_is_written_as_iptables_reads_it() {
        let rows = [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_799, "2000-02-29T23:59:59"),
            (1_798_761_599, "2026-12-31T23:59:59"),
            (1_830_297_600, "2028-01-01T00:00:00"),
            (u64::MAX, "2038-01-19T03:14:07"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(date(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn a_lease_is_a_rule_that_the_kernel_ends() {
        let lease = GrantRule::lease("192.0.2.7/32".parse().expect("an address"), UnixSeconds(951_868_800));
        let text = lease.to_text(Protocol::Tcp, None, true);
        let expected = "-s 192.0.2.7/32 -m time --datestop 2000-02-29T23:59:59 \
                        -m comment --comment \"pktables lease until 951868800\" -j RETURN";
        assert_eq!(text, expected);
        let saved = Saved::parse(&format!("*mangle\n-A c {text}\n"));
        let found = saved.rules("mangle", "c").and_then(|rules| GrantRule::of(&rules[0]));
        assert_eq!(found, Some(GrantRule { text: Some(text), ..lease }));
    }

    #[test]
    fn a_rule_with_other_options_is_not_a_grant() {
        for text in [
            "-j ACCEPT",
            "-s 192.0.2.7/32 -j DROP",
            "-s 192.0.2.7/32 -i eth0 -j ACCEPT",
            "-s 192.0.2.7/32 -p tcp -j ACCEPT",
            "-s 192.0.2.7/32 -j DNAT --to-destination 1.2.3.4:5 -i eth0",
            "! -s 192.0.2.7/32 -j ACCEPT",
            "-s host -j ACCEPT",
            "-s 192.0.2.7/32 -m comment --comment mine -j ACCEPT",
            "-s 192.0.2.7/32 -m comment --comment \"pktables until x\" -j ACCEPT",
            "-s 192.0.2.7/32",
            "-s 192.0.2.7/32 -m time --datestop 2000-02-29T23:59:59 -j ACCEPT",
            "-s 192.0.2.7/32 -m comment --comment \"pktables lease until 7\" -j ACCEPT",
        ] {
            let saved = Saved::parse(&format!("*filter\n-A c {text}\n"));
            let found = saved.rules("filter", "c").and_then(|rules| GrantRule::of(&rules[0]));
            assert_eq!(found, None, "{text}");
        }
    }
}

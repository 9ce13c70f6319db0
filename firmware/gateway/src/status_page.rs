//! The gateway's state as a page for people: HTML without scripts, and without anything from elsewhere.

use core::fmt::{self, Display, Write};

use pkd_core::UnixSeconds;

use crate::{
    Instant,
    config::{Services, TimeSource},
    gateway::Gateway,
    http::Length,
    instant::CoarseInstant,
};

/// The greatest length of the page, and of the metrics, with an HTTP header, in bytes.
pub const RESPONSE_LIMIT: usize = 4_096;
/// How much of the page the grants may take, in bytes. The others are only counted.
const GRANTS_LENGTH: usize = 1_200;
/// How many services the page names for each grant.
const LISTED_SERVICES: usize = 4;
/// How often a browser reads the page again, in seconds.
const REFRESH: u8 = 5;

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Gateway<'_, FLOWS, GRANTS, RULES, KNOCKS>
{
    /// Writes the page. With an HTTP header it is shorter than [`RESPONSE_LIMIT`].
    ///
    /// # Errors
    /// If `out` is too small.
    pub fn write_status_page(&self, now: Instant, out: &mut dyn Write) -> fmt::Result {
        write!(
            out,
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
             <meta http-equiv=\"refresh\" content=\"{REFRESH}\"><title>pkd gateway</title>\
             <h1>pkd gateway</h1>\n<table cellpadding=4>\n"
        )?;
        row(out, "light", &self.light(now).as_str())?;
        match (self.time(now), self.clock_age(now)) {
            (Some(time), Some(age)) => row(out, "clock", &format_args!("{}, set {age} s ago", Utc(time)))?,
            _ if self.config().time == TimeSource::None => row(out, "clock", &"none")?,
            _ => row(out, "clock", &"not set yet")?,
        }
        if let Some(interface) = self.interface() {
            row(out, "address", &interface.network.address)?;
        }
        row(out, "up", &format_args!("{} s", now.0 / 1_000))?;
        row(out, "flows", &self.tables.flows.len(CoarseInstant::from(now)))?;
        out.write_str("</table>\n")?;
        self.write_grants(now, out)?;
        self.write_counters(out)
    }

    fn write_grants(&self, now: Instant, out: &mut dyn Write) -> fmt::Result {
        let now = CoarseInstant::from(now);
        out.write_str("<h2>Grants</h2>\n<table cellpadding=4>\n")?;
        let (mut room, mut listed) = (GRANTS_LENGTH, 0);
        for (address, services, seconds) in self.tables.grants.remaining(now) {
            let names = Names(self.config(), services);
            let value = format_args!("{names}for {seconds} s");
            let mut length = Length(0);
            row(&mut length, address, &value)?;
            let Some(rest) = room.checked_sub(length.0) else { break };
            row(out, address, &value)?;
            (room, listed) = (rest, listed + 1);
        }
        match self.tables.grants.len(now).saturating_sub(listed) {
            0 if listed == 0 => row(out, "none", &"")?,
            0 => {}
            more => row(out, format_args!("{more} more"), &"")?,
        }
        out.write_str("</table>\n")
    }

    fn write_counters(&self, out: &mut dyn Write) -> fmt::Result {
        let counters = self.counters();
        out.write_str("<h2>Counters</h2>\n<table cellpadding=4>\n")?;
        let events = [
            ("forwarded", counters.forwarded),
            ("local", counters.local),
            ("new flows", counters.flows),
            ("time rejected", counters.time_rejected),
            ("time refused", counters.time_refused),
            ("no time", counters.time_missing),
            ("floor not saved", counters.floor_failed),
        ];
        for (name, count) in events {
            row(out, name, &count)?;
        }
        out.write_str("</table>\n<h2>Dropped, by reason; knocks, by verdict</h2>\n<table cellpadding=4>\n")?;
        for (name, count) in counters.labelled() {
            row(out, name, &count)?;
        }
        out.write_str("</table>\n")
    }
}

/// Writes a row of a table, with both cells escaped.
fn row(out: &mut dyn Write, name: impl Display, value: &dyn Display) -> fmt::Result {
    out.write_str("<tr><td>")?;
    write!(Escaped(out), "{name}")?;
    out.write_str("<td>")?;
    write!(Escaped(out), "{value}")?;
    out.write_str("\n")
}

/// Writes text as HTML.
struct Escaped<'a>(&'a mut dyn Write);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match c {
            '&' => self.0.write_str("&amp;"),
            '<' => self.0.write_str("&lt;"),
            '>' => self.0.write_str("&gt;"),
            '"' => self.0.write_str("&quot;"),
            '\'' => self.0.write_str("&#39;"),
            c if c.is_control() => self.0.write_char('\u{fffd}'),
            c => self.0.write_char(c),
        })
    }
}

/// The names of services, each followed by a space.
struct Names<'a, const RULES: usize>(&'a crate::Config<RULES>, Services);

impl<const RULES: usize> Display for Names<'_, RULES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(config, services) = self;
        let all = (0..).zip(&config.services).filter(|(index, _)| services.contains(*index));
        for (at, (_, service)) in all.enumerate() {
            if at == LISTED_SERVICES {
                return f.write_str("and more ");
            }
            write!(f, "{} ", service.name)?;
        }
        Ok(())
    }
}

/// A time as people write it: `2027-01-15 08:00:00 UTC`.
struct Utc(UnixSeconds);

impl Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.0 / 86_400, self.0.0 % 86_400);
        // The calendar repeats every 400 years of 146,097 days. Counted from 1 March 0000, leap days are the last of their years.
        let days = days + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let shifted = (5 * day + 2) / 153;
        let day = day - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = 400 * era + year + u64::from(month <= 2);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

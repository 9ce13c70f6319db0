//! The system clock, and calendar dates in the configuration.

use std::{
    fmt,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use pkd_core::{UnixMillis, UnixSeconds};

/// The system clock. A time before 1970 counts as 1970.
#[must_use]
pub fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// The same in milliseconds.
#[must_use]
pub fn now_millis() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A day of the Gregorian calendar in UTC, written `2027-12-31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Days since 1970-01-01.
    days: u32,
}

const SECONDS_PER_DAY: u64 = 86_400;
const DAYS_OF_MONTHS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Date {
    /// The day of a Unix time in seconds; at most 9999-12-31.
    #[must_use]
    pub fn of(seconds: u64) -> Self {
        const LAST: u32 = 2_932_896;
        Self { days: u32::try_from(seconds / SECONDS_PER_DAY).map_or(LAST, |days| days.min(LAST)) }
    }

    /// The last second of the day.
    #[must_use]
    pub fn end(self) -> UnixSeconds {
        UnixSeconds((u64::from(self.days) + 1) * SECONDS_PER_DAY - 1)
    }
}

/// The text is not a date from 1970-01-01 to 9999-12-31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidDate;

impl fmt::Display for InvalidDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a date such as 2027-12-31")
    }
}

impl std::error::Error for InvalidDate {}

impl FromStr for Date {
    type Err = InvalidDate;

    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else { return Err(InvalidDate) };
        let number = |text: &str, digits: usize| {
            let fits = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
            fits.then(|| text.parse::<u32>().ok()).flatten().ok_or(InvalidDate)
        };
        let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
        if year < 1970 || !(1..=12).contains(&month) {
            return Err(InvalidDate);
        }
        if !(1..=days_of(year, month)).contains(&day) {
            return Err(InvalidDate);
        }
        let years: u32 = (1970..year).map(days_of_year).sum();
        let months: u32 = (1..month).map(|month| days_of(year, month)).sum();
        Ok(Self { days: years + months + day - 1 })
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut left, mut year, mut month) = (self.days, 1970, 1);
        while left >= days_of_year(year) {
            left -= days_of_year(year);
            year += 1;
        }
        while left >= days_of(year, month) {
            left -= days_of(year, month);
            month += 1;
        }
        write!(f, "{year:04}-{month:02}-{:02}", left + 1)
    }
}

const fn days_of(year: u32, month: u32) -> u32 {
    DAYS_OF_MONTHS[month as usize - 1] + (month == 2 && is_leap(year)) as u32
}

const fn days_of_year(year: u32) -> u32 {
    365 + is_leap(year) as u32
}

const fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_with_its_last_second() {
        // Expected values from GNU date, for 23:59:59 UTC.
        let table = [
            ("1970-01-01", 86_399),
            ("2000-02-29", 951_868_799),
            ("2026-11-24", 1_795_564_799),
            ("2027-12-31", 1_830_297_599),
            ("2100-03-01", 4_107_628_799),
            ("9999-12-31", 253_402_300_799),
        ];
        for (text, end) in table {
            assert_eq!(text.parse::<Date>().map(Date::end), Ok(UnixSeconds(end)), "{text}");
            assert_eq!(Date::of(end).to_string(), text);
            assert_eq!(Date::of(end + 1 - SECONDS_PER_DAY).to_string(), text);
        }
    }

    #[test]
    fn invalid_dates_are_refused() {
        for text in [
            "",
            "soon",
            "2027",
            "2027-1-01",
            "2027-13-01",
            "2027-00-01",
            "2027-02-29",
            "2100-02-29",
            "2027-04-31",
            "2027-01-00",
            "1969-12-31",
            "+027-01-01",
            "2027-01-01 ",
            "2027-01-01-01",
        ] {
            assert_eq!(text.parse::<Date>(), Err(InvalidDate), "{text:?}");
        }
    }
}

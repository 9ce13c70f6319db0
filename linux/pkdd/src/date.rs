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
        let days_of =
            |month: u32| DAYS_OF_MONTHS[month as usize - 1] + u32::from(month == 2 && is_leap(year));
        if !(1..=days_of(month)).contains(&day) {
            return Err(InvalidDate);
        }
        let years: u32 = (1970..year).map(|year| 365 + u32::from(is_leap(year))).sum();
        let months: u32 = (1..month).map(days_of).sum();
        Ok(Self { days: years + months + day - 1 })
    }
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

//! Durations of grants as text.

use std::time::Duration;

use crate::invalid::Invalid;

/// Ten years, so that every end fits everywhere.
const MAX_SECONDS: u64 = 10 * 365 * 86_400;

/// Parses `30s`, `5m`, `2h`, `1d`, or a plain number of seconds.
///
/// ```
/// use pktables::time;
///
/// let grant = time::parse("90m")?;
/// assert_eq!((grant.as_secs(), time::short(grant)), (5_400, "1h30m".to_owned()));
/// # Ok::<(), pktables::Invalid>(())
/// ```
///
/// # Errors
/// The text is something else, is zero, or is more than ten years.
pub fn parse(text: &str) -> Result<Duration, Invalid> {
    let wrong = |why| Invalid::new("time", text, why);
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong("unknown unit; expected s, m, h or d")),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong("expected a number, with s, m, h or d"));
    }
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match seconds {
        Some(0) => Err(wrong("must not be zero")),
        Some(seconds) if seconds <= MAX_SECONDS => Ok(Duration::from_secs(seconds)),
        _ => Err(wrong("longer than ten years")),
    }
}

/// Formats a duration in its two largest units, rounded up: `29s`, `4m30s`, `2d5h`.
#[must_use]
pub fn short(time: Duration) -> String {
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |first, unit, second, next| match second {
        0 => format!("{first}{unit}"),
        _ => format!("{first}{unit}{second}{next}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => pair(minutes, "m", seconds % 60, "s"),
        (0, _, _) => pair(hours, "h", minutes % 60, "m"),
        _ => pair(days, "d", hours % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_a_unit() {
        let rows = [
            ("30s", Ok(30)),
            ("30", Ok(30)),
            ("5m", Ok(300)),
            ("2h", Ok(7200)),
            ("1d", Ok(86_400)),
            ("3650d", Ok(MAX_SECONDS)),
            ("3651d", Err("longer than ten years")),
            ("99999999999999999999s", Err("longer than ten years")),
            ("0s", Err("must not be zero")),
            ("", Err("expected a number, with s, m, h or d")),
            ("s", Err("expected a number, with s, m, h or d")),
            ("-5s", Err("expected a number, with s, m, h or d")),
            ("+5s", Err("expected a number, with s, m, h or d")),
            ("5ms", Err("unknown unit; expected s, m, h or d")),
            ("5 s", Err("expected a number, with s, m, h or d")),
            ("5.5s", Err("expected a number, with s, m, h or d")),
        ];
        for (row, (text, expected)) in rows.into_iter().enumerate() {
            let read = parse(text).map(|time| time.as_secs()).map_err(|invalid| invalid.why);
            assert_eq!(read, expected, "row {row}: {text}");
        }
    }

    #[test]
    fn a_duration_is_shown_in_two_units() {
        let rows = [
            (1, "1s"),
            (30_000, "30s"),
            (29_001, "30s"),
            (60_000, "1m"),
            (61_000, "1m1s"),
            (3_600_000, "1h"),
            (3_661_000, "1h1m"),
            (180_000_000, "2d2h"),
        ];
        for (row, (milliseconds, expected)) in rows.into_iter().enumerate() {
            assert_eq!(short(Duration::from_millis(milliseconds)), expected, "row {row}");
        }
    }
}

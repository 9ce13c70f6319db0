//! Times and ports in words.

use std::time::{Duration, UNIX_EPOCH};

use pkd_core::{Port, Timestamp as _, UnixSeconds, Window};

/// The last second of the year 9999, the last that can be formatted.
const LAST_DATE: u64 = 253_402_300_799;

/// The port that `fits`: the given one before all others.
pub(super) fn valid_port(given: Option<Port>, fits: impl Fn(Port) -> bool) -> Option<Port> {
    given.into_iter().chain((1..=u16::MAX).map(Port)).find(|port| fits(*port))
}

pub(super) fn date(UnixSeconds(seconds): UnixSeconds) -> String {
    if seconds > LAST_DATE {
        return format!("{seconds}, after the year 9999");
    }
    format!("{seconds}, {}", httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds)))
}

pub(super) fn time_difference(time: UnixSeconds, now: UnixSeconds, window: Window) -> String {
    let off = if time >= now {
        format!("{} s ahead of", time.since(now))
    } else {
        format!("{} s behind", now.since(time))
    };
    let side = match window {
        Window::Monotonic => "not checked (window 0)".to_owned(),
        Window::Skew(seconds) if window.admits(now, time) => format!("within the window of {seconds} s"),
        Window::Skew(seconds) => format!("outside the window of {seconds} s"),
    };
    format!("{off} the gateway, {side}")
}

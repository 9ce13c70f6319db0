//! The time since boot, which includes suspends and which nobody can set. Grants end by it.

use nix::time::{ClockId, clock_gettime};

/// Seconds since boot (`CLOCK_BOOTTIME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(pub u64);

impl Uptime {
    /// The time now. Linux has this clock since 2.6.39; without it, all knocks count as just made by their ends, and none
    /// as made by an earlier process.
    #[must_use]
    pub fn now() -> Self {
        let seconds = clock_gettime(ClockId::CLOCK_BOOTTIME).map(|time| time.tv_sec());
        Self(seconds.ok().and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default())
    }

    /// Seconds since an earlier time; `None` if it is not earlier, but of another boot.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_only_runs_forward() {
        let first = Uptime::now();
        let second = Uptime::now();
        assert!(second.since(first).is_some_and(|seconds| seconds < 60) && first > Uptime(0));
        assert_eq!((Uptime(9).since(Uptime(7)), Uptime(7).since(Uptime(9))), (Some(2), None));
    }
}

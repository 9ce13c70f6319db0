//! Counters of frames and knocks, and their Prometheus text.

use core::fmt::{self, Write};

use pkd_core::{Reason, Verdict};

use crate::{action::Action, drop_reason::DropReason};

/// Frames by what was done with them, knocks by verdict, and a few other events. Counters stop at 2³² − 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Forwarded frames.
    pub forwarded: u32,
    /// Frames passed to the gateway's network stack.
    pub local: u32,
    /// New flows.
    pub flows: u32,
    /// Times from a time server that were rejected.
    pub time_rejected: u32,
    /// Floors that could not be saved.
    pub floor_failed: u32,
    dropped: [u32; DropReason::ALL.len()],
    knocks: [u32; VERDICTS.len()],
}

/// All verdicts, in the order of the counters.
const VERDICTS: [Verdict; 6] = [
    Verdict::Accept,
    Verdict::Ignore(Reason::Length),
    Verdict::Ignore(Reason::Tag),
    Verdict::Ignore(Reason::Window),
    Verdict::Ignore(Reason::Replay),
    Verdict::Ignore(Reason::Digest),
];

/// The index of a verdict in [`VERDICTS`], and its label.
const fn describe(verdict: Verdict) -> (usize, &'static str) {
    match verdict {
        Verdict::Accept => (0, "accept"),
        Verdict::Ignore(Reason::Length) => (1, "length"),
        Verdict::Ignore(Reason::Tag) => (2, "tag"),
        Verdict::Ignore(Reason::Window) => (3, "window"),
        Verdict::Ignore(Reason::Replay) => (4, "replay"),
        Verdict::Ignore(Reason::Digest) => (5, "digest"),
    }
}

impl Counters {
    pub(crate) fn count(&mut self, action: Action) {
        match action {
            Action::Drop(reason) => increment(self.dropped.get_mut(reason.index())),
            Action::Knock(outcome) => increment(self.knocks.get_mut(describe(outcome.verdict).0)),
            Action::Forward(_) => increment(Some(&mut self.forwarded)),
            Action::Local { .. } => increment(Some(&mut self.local)),
            Action::ForwardAndLocal(_) | Action::ForwardAndUntagged(_) => {
                increment(Some(&mut self.forwarded));
                increment(Some(&mut self.local));
            }
        }
    }

    /// Frames dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u32 {
        self.dropped.get(reason.index()).copied().unwrap_or(0)
    }

    /// Knocks with this verdict.
    #[must_use]
    pub fn knocks(&self, verdict: Verdict) -> u32 {
        self.knocks.get(describe(verdict).0).copied().unwrap_or(0)
    }

    /// The labels and values of all drop reasons and verdicts, always in the same order.
    pub fn labelled(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let dropped = DropReason::ALL.iter().map(|reason| reason.as_str()).zip(self.dropped);
        dropped.chain(VERDICTS.iter().map(|verdict| describe(*verdict).1).zip(self.knocks))
    }

    /// Writes the counters in the Prometheus text format 0.0.4.
    ///
    /// # Errors
    /// If `out` is too small.
    pub(crate) fn write(&self, out: &mut impl Write) -> fmt::Result {
        writeln!(out, "# TYPE pkd_frames_total counter")?;
        writeln!(out, "pkd_frames_total{{action=\"forward\"}} {}", self.forwarded)?;
        writeln!(out, "pkd_frames_total{{action=\"local\"}} {}", self.local)?;
        writeln!(out, "# TYPE pkd_dropped_total counter")?;
        for reason in DropReason::ALL {
            writeln!(out, "pkd_dropped_total{{reason=\"{}\"}} {}", reason.as_str(), self.dropped(reason))?;
        }
        writeln!(out, "# TYPE pkd_knocks_total counter")?;
        for verdict in VERDICTS {
            let label = describe(verdict).1;
            writeln!(out, "pkd_knocks_total{{verdict=\"{label}\"}} {}", self.knocks(verdict))?;
        }
        for (name, value) in [
            ("pkd_new_flows_total", self.flows),
            ("pkd_time_rejected_total", self.time_rejected),
            ("pkd_floor_failed_total", self.floor_failed),
        ] {
            writeln!(out, "# TYPE {name} counter\n{name} {value}")?;
        }
        Ok(())
    }
}

/// Adds one, up to the limit.
pub(crate) fn increment(counter: Option<&mut u32>) {
    if let Some(counter) = counter {
        *counter = counter.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_has_its_own_counter() {
        for (index, verdict) in VERDICTS.into_iter().enumerate() {
            assert_eq!(describe(verdict).0, index, "{verdict:?}");
        }
    }
}

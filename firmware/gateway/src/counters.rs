//! Counters of frames and knocks, and their Prometheus text.

use core::fmt::{self, Write};

use pkd_core::Verdict;

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
    /// Requests that a time server refused: a kiss-o'-death.
    pub time_refused: u32,
    /// Requests that brought no time: no server, no reply, or a server without the time.
    pub time_missing: u32,
    /// Floors that could not be saved.
    pub floor_failed: u32,
    dropped: [u32; DropReason::ALL.len()],
    knocks: pkd_core::Counters,
}

impl Counters {
    pub(crate) fn count(&mut self, action: Action) {
        match action {
            Action::Drop(reason) => increment(self.dropped.get_mut(reason.index())),
            Action::Knock(outcome) => self.knocks.count(outcome.verdict),
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
        u32::try_from(self.knocks.of(verdict)).unwrap_or(u32::MAX)
    }

    /// The labels and values of all drop reasons and verdicts, always in the same order.
    pub fn labelled(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let dropped = DropReason::ALL.iter().map(|reason| reason.as_str()).zip(self.dropped);
        dropped.chain(Verdict::ALL.map(|verdict| (verdict.as_str(), self.knocks(verdict))))
    }

    /// Writes the counters in the Prometheus text format 0.0.4.
    ///
    /// # Errors
    /// If `out` is too small.
    pub(crate) fn write(&self, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "# TYPE pkd_frames_total counter")?;
        writeln!(out, "pkd_frames_total{{action=\"forward\"}} {}", self.forwarded)?;
        writeln!(out, "pkd_frames_total{{action=\"local\"}} {}", self.local)?;
        writeln!(out, "# TYPE pkd_dropped_total counter")?;
        for reason in DropReason::ALL {
            writeln!(out, "pkd_dropped_total{{reason=\"{}\"}} {}", reason.as_str(), self.dropped(reason))?;
        }
        writeln!(out, "# TYPE pkd_knocks_total counter")?;
        for verdict in Verdict::ALL {
            writeln!(out, "pkd_knocks_total{{verdict=\"{verdict}\"}} {}", self.knocks(verdict))?;
        }
        for (name, value) in [
            ("pkd_new_flows_total", self.flows),
            ("pkd_time_rejected_total", self.time_rejected),
            ("pkd_time_refused_total", self.time_refused),
            ("pkd_time_missing_total", self.time_missing),
            ("pkd_floor_failed_total", self.floor_failed),
        ] {
            writeln!(out, "# TYPE {name} counter\n{name} {value}")?;
        }
        Ok(())
    }
}

/// Leaves Prometheus comments out, so that the rest fits a datagram.
pub struct WithoutComments<'a> {
    out: &'a mut dyn Write,
    is_comment: bool,
    is_start: bool,
}

impl<'a> WithoutComments<'a> {
    /// Writes to `out`.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, is_comment: false, is_start: true }
    }
}

impl Write for WithoutComments<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.split_inclusive('\n').try_for_each(|part| {
            if self.is_start {
                self.is_comment = part.starts_with('#');
            }
            self.is_start = part.ends_with('\n');
            if self.is_comment { Ok(()) } else { self.out.write_str(part) }
        })
    }
}

/// The greatest length of a datagram's text that is not fragmented, in bytes.
pub const DATAGRAM: usize = 1_472;

/// Splits metrics into datagrams of at most [`DATAGRAM`] bytes, each of which ends with a line.
pub fn datagrams(mut text: &str) -> impl Iterator<Item = &str> {
    core::iter::from_fn(move || {
        let longest = text.get(..DATAGRAM.min(text.len())).unwrap_or_default();
        let end = longest.rfind('\n').map_or(longest.len(), |at| at + 1);
        let (first, rest) = text.split_at_checked(end)?;
        text = rest;
        (!first.is_empty()).then_some(first)
    })
}

/// Adds one, up to the limit.
pub(crate) fn increment(counter: Option<&mut u32>) {
    if let Some(counter) = counter {
        *counter = counter.saturating_add(1);
    }
}

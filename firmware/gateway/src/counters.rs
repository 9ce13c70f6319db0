//! How often what happened.

use core::fmt::{self, Write};

use crate::DropReason;

/// Frames by what became of them, and what else is worth counting. At 2³² a count stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames sent on.
    pub forwarded: u32,
    /// Frames for the gateway's own stack.
    pub local: u32,
    /// New flows.
    pub flows: u32,
    /// Times that a time server was not believed.
    pub time_refused: u32,
    /// Floors that could not be saved.
    pub floor_failed: u32,
    dropped: [u32; DropReason::ALL.len()],
}

impl Counters {
    pub(crate) fn drop(&mut self, why: DropReason) {
        if let Some(count) = self.dropped.get_mut(why.index()) {
            *count = count.saturating_add(1);
        }
    }

    /// Frames dropped for this reason.
    #[must_use]
    pub fn dropped(&self, why: DropReason) -> u32 {
        self.dropped.get(why.index()).copied().unwrap_or(0)
    }

    /// As Prometheus reads it (text format 0.0.4).
    ///
    /// # Errors
    /// If it does not fit `out`.
    pub(crate) fn write(&self, out: &mut impl Write) -> fmt::Result {
        writeln!(out, "# TYPE pkd_frames_total counter")?;
        writeln!(out, "pkd_frames_total{{action=\"forward\"}} {}", self.forwarded)?;
        writeln!(out, "pkd_frames_total{{action=\"local\"}} {}", self.local)?;
        writeln!(out, "# TYPE pkd_dropped_total counter")?;
        writeln!(out, "# TYPE pkd_knocks_total counter")?;
        for why in DropReason::ALL {
            let name = match why {
                DropReason::Knock(_) => "pkd_knocks_total{verdict",
                _ => "pkd_dropped_total{reason",
            };
            writeln!(out, "{name}=\"{}\"}} {}", why.as_str(), self.dropped(why))?;
        }
        writeln!(out, "# TYPE pkd_new_flows_total counter\npkd_new_flows_total {}", self.flows)?;
        writeln!(out, "# TYPE pkd_time_refused_total counter\npkd_time_refused_total {}", self.time_refused)?;
        writeln!(out, "# TYPE pkd_floor_failed_total counter\npkd_floor_failed_total {}", self.floor_failed)
    }
}

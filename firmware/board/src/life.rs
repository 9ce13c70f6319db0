//! Whether a NIC still works.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What a driver reports of its NIC: that it has answered as it should (its version, its PHY's registers), and how often it
/// has not.
#[derive(Debug, Default)]
pub struct Life {
    shown: AtomicBool,
    faults: AtomicU32,
}

impl Life {
    /// No sign of life yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { shown: AtomicBool::new(false), faults: AtomicU32::new(0) }
    }

    /// Reports a sign of life.
    pub fn show(&self) {
        self.shown.store(true, Ordering::Relaxed);
    }

    /// Whether there was one since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        // Two steps, because not every core has one for it. A sign that falls in between is as old as this call.
        let shown = self.shown.load(Ordering::Relaxed);
        self.shown.store(false, Ordering::Relaxed);
        shown
    }

    /// Reports an answer that cannot be right.
    pub fn report_fault(&self) {
        self.faults.store(self.faults().wrapping_add(1), Ordering::Relaxed);
    }

    /// How many of these there were since the start.
    #[must_use]
    pub fn faults(&self) -> u32 {
        self.faults.load(Ordering::Relaxed)
    }
}

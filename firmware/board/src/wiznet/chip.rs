//! What is known of a chip.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::Life;

/// What the bus and the interrupt of a chip know of it.
#[derive(Debug, Default)]
pub struct Chip {
    /// Whether frames may be waiting in the chip.
    waiting: AtomicBool,
    /// Whether it works.
    pub life: Life,
}

impl Chip {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { waiting: AtomicBool::new(false), life: Life::new() }
    }

    pub(super) fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }
}

//! The clock: the CMSDK dual timer (Arm DDI 0479, section 4.4). Its first counter runs freely, its second is the alarm.

use core::{
    cell::{Cell, RefCell},
    ptr,
    task::Waker,
};

use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::{Driver, TICK_HZ};
use embassy_time_queue_utils::Queue;

const FREE_RUNNING: usize = 0x4000_2000;
const ALARM: usize = 0x4000_2020;

/// Counter ticks for each tick of embassy-time.
const COUNTS: u64 = 25_000_000 / TICK_HZ;

/// Register offsets of a counter.
mod register {
    pub(super) const LOAD: usize = 0x00;
    pub(super) const VALUE: usize = 0x04;
    pub(super) const CONTROL: usize = 0x08;
    pub(super) const INTERRUPT_CLEAR: usize = 0x0c;
}

/// Bits of the control register.
mod control {
    pub(super) const ONE_SHOT: u32 = 1;
    pub(super) const BITS_32: u32 = 1 << 1;
    pub(super) const INTERRUPT: u32 = 1 << 5;
    pub(super) const ENABLE: u32 = 1 << 7;
}

fn read(counter: usize, register: usize) -> u32 {
    // SAFETY: both counters exist on this board, and reading them has no side effects.
    unsafe { ptr::read_volatile(ptr::with_exposed_provenance(counter + register)) }
}

fn write(counter: usize, register: usize, value: u32) {
    // SAFETY: both counters exist on this board, and only this module writes to them.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(counter + register), value) }
}

/// The free-running counter, which wraps after 171 seconds.
pub(crate) fn counts() -> u32 {
    // It counts down.
    !read(FREE_RUNNING, register::VALUE)
}

struct DualTimer {
    queue: Mutex<RefCell<Queue>>,
    /// The last value of the counter, and how often it had wrapped.
    last: Mutex<Cell<(u32, u32)>>,
}

embassy_time_driver::time_driver_impl!(
    static DRIVER: DualTimer = DualTimer {
        queue: Mutex::new(RefCell::new(Queue::new())),
        last: Mutex::new(Cell::new((0, 0))),
    }
);

impl DualTimer {
    /// Must be called at least every 171 seconds. The gateway's tick calls it ten times a second.
    fn counts(&self, section: CriticalSection<'_>) -> u64 {
        let cell = self.last.borrow(section);
        let (last, mut wraps) = cell.get();
        let counts = counts();
        if counts < last {
            wraps += 1;
        }
        cell.set((counts, wraps));
        u64::from(wraps) << 32 | u64::from(counts)
    }

    /// Sets the alarm to the next wake-up, and wakes the tasks that are due.
    fn set_alarm(&self, section: CriticalSection<'_>) {
        let mut queue = self.queue.borrow(section).borrow_mut();
        loop {
            let next = queue.next_expiration(self.counts(section) / COUNTS);
            write(ALARM, register::CONTROL, 0);
            if next == u64::MAX {
                return;
            }
            let left = next.saturating_mul(COUNTS).saturating_sub(self.counts(section));
            if left == 0 {
                continue;
            }
            // If the alarm fires too early, it is set again.
            write(ALARM, register::LOAD, u32::try_from(left).unwrap_or(u32::MAX));
            let bits = control::ONE_SHOT | control::BITS_32 | control::INTERRUPT | control::ENABLE;
            write(ALARM, register::CONTROL, bits);
            return;
        }
    }
}

impl Driver for DualTimer {
    fn now(&self) -> u64 {
        critical_section::with(|section| self.counts(section) / COUNTS)
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|section| {
            let sooner = self.queue.borrow(section).borrow_mut().schedule_wake(at, waker);
            if sooner {
                self.set_alarm(section);
            }
        });
    }
}

/// Starts both counters.
pub(crate) fn start() {
    write(FREE_RUNNING, register::LOAD, u32::MAX);
    write(FREE_RUNNING, register::CONTROL, control::BITS_32 | control::ENABLE);
    write(ALARM, register::CONTROL, 0);
}

/// Handles the alarm's interrupt.
pub(crate) fn on_alarm() {
    write(ALARM, register::INTERRUPT_CLEAR, 1);
    critical_section::with(|section| DRIVER.set_alarm(section));
}

/// Different but predictable numbers: QEMU has no random number generator here. A production gateway must not use this.
pub(crate) fn random() -> u64 {
    // Steps of SplitMix64 over the counter.
    let mixed = u64::from(counts()).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

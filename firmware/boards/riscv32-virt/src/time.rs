//! The clock: the CLINT's 64-bit counter at 10 MHz and its compare register (SiFive FU540 manual, chapter 9).

use core::{cell::RefCell, ptr, task::Waker};

use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::{Driver, TICK_HZ};
use embassy_time_queue_utils::Queue;

const COMPARE: usize = 0x0200_4000;
const COUNTER: usize = 0x0200_bff8;

/// Counter ticks for each tick of embassy-time.
const COUNTS: u64 = 10_000_000 / TICK_HZ;

fn read(register: usize) -> u32 {
    // SAFETY: the CLINT exists on this board, and reading has no side effects.
    unsafe { ptr::read_volatile(ptr::with_exposed_provenance(register)) }
}

fn write(register: usize, value: u32) {
    // SAFETY: the CLINT exists on this board, and only this module writes to it.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(register), value) }
}

fn counts() -> u64 {
    loop {
        let high = read(COUNTER + 4);
        let low = read(COUNTER);
        // The low half may have wrapped in between.
        if read(COUNTER + 4) == high {
            return u64::from(high) << 32 | u64::from(low);
        }
    }
}

/// Sets the value of the counter at which the alarm fires.
fn compare(counts: u64) {
    let (high, low) =
        (u32::try_from(counts >> 32).unwrap_or(u32::MAX), u32::try_from(counts & 0xffff_ffff).unwrap_or(0));
    // The intermediate values must not be in the past.
    write(COMPARE, u32::MAX);
    write(COMPARE + 4, high);
    write(COMPARE, low);
}

struct Clint {
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static DRIVER: Clint = Clint { queue: Mutex::new(RefCell::new(Queue::new())) });

impl Clint {
    fn set_alarm(&self, section: CriticalSection<'_>) {
        let mut queue = self.queue.borrow(section).borrow_mut();
        let next = queue.next_expiration(counts() / COUNTS);
        // If it has passed meanwhile, the alarm fires at once.
        compare(next.saturating_mul(COUNTS));
    }
}

impl Driver for Clint {
    fn now(&self) -> u64 {
        counts() / COUNTS
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

/// Handles the alarm's interrupt.
pub(crate) fn on_alarm() {
    critical_section::with(|section| DRIVER.set_alarm(section));
}

/// Different but predictable numbers. A production gateway must not use this.
pub(crate) fn random() -> u64 {
    // Steps of SplitMix64 over the counter.
    let mixed = counts().wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

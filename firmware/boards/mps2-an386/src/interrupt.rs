//! The board's interrupts (AN386, table of interrupts).

use cortex_m::peripheral::NVIC;

use crate::{lan9118, time};

/// An entry of the vector table.
type Handler = unsafe extern "C" fn();

/// An interrupt by number, because there is no device crate.
#[derive(Clone, Copy)]
struct Line(u16);

// SAFETY: the numbers are below 32, the length of the vector table.
unsafe impl cortex_m::interrupt::InterruptNumber for Line {
    fn number(self) -> u16 {
        self.0
    }
}

const DUAL_TIMER: Line = Line(10);
const ETHERNET: Line = Line(13);

/// The part of the vector table for the board. cortex-m-rt finds it by section and name.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
#[used]
static __INTERRUPTS: [Handler; 32] = {
    let mut table: [Handler; 32] = [on_unexpected; 32];
    table[DUAL_TIMER.0 as usize] = on_dual_timer;
    table[ETHERNET.0 as usize] = on_ethernet;
    table
};

/// Unmasks the dual timer's interrupt.
pub(crate) fn enable_dual_timer() {
    unmask(DUAL_TIMER);
}

/// Unmasks the Ethernet controller's interrupt. Its line must have the right polarity by now.
pub(crate) fn enable_ethernet() {
    unmask(ETHERNET);
}

fn unmask(line: Line) {
    // SAFETY: no critical section depends on the mask of a single line, and the handlers are ready.
    unsafe { NVIC::unmask(line) };
}

unsafe extern "C" fn on_unexpected() {
    defmt::panic!("unexpected interrupt");
}

unsafe extern "C" fn on_dual_timer() {
    time::on_alarm();
}

unsafe extern "C" fn on_ethernet() {
    lan9118::on_interrupt();
}

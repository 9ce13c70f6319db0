//! The gateway on QEMU's `mps2-an386` (Cortex-M4): one LAN9118, logs over semihosting, and flash in a file on the host.

#![no_std]
#![no_main]

// Its critical section is linked by name.
use cortex_m as _;
use defmt_semihosting as _;

mod emulated_flash;
mod executor;
mod interrupt;
mod lan9118;
mod time;
mod watchdog;

use cortex_m_rt::entry;
use embassy_executor::Spawner;
use pkd_board::{Nic, table::MPS2_AN386 as BOARD};
use pkd_runtime::{Datapath, Indicators, Interfaces, Setup, load, start};

use crate::{emulated_flash::EmulatedFlash, lan9118::Lan9118, watchdog::Watchdog};

/// Milliseconds. Far longer than a frame takes, even if QEMU gets little CPU time.
const WATCHDOG: u32 = 8_000;

/// The watchdog. QEMU shows no LED.
struct LedAndWatchdog(Watchdog);

impl Indicators for LedAndWatchdog {
    fn set_led(&mut self, _on: bool) {}

    fn feed_watchdog(&mut self) {
        self.0.feed();
    }
}

#[entry]
fn main() -> ! {
    time::start();
    interrupt::enable_dual_timer();
    executor::run(|spawner| match run(spawner) {
        Ok(task) => spawner.spawn(task),
        Err(_) => defmt::panic!("the first task was started twice"),
    })
}

#[embassy_executor::task]
async fn run(spawner: Spawner) -> ! {
    let indicators = LedAndWatchdog(Watchdog::start(WATCHDOG));
    let Some(flash) = EmulatedFlash::take(&BOARD) else { defmt::panic!("the flash is in use") };
    let stored = load(flash, &BOARD, indicators).await;
    let Some(nic) = Lan9118::start() else { defmt::panic!("no LAN9118 found") };
    let hardware = nic.hardware();
    let setup = Setup {
        interfaces: Interfaces::One(Nic::new(nic, BOARD.nics[0], &lan9118::LIFE)),
        stored,
        hardware,
        random: time::random,
        free_stack: pkd_cortex_m::free_stack,
    };
    let datapath: Datapath<Lan9118, EmulatedFlash, LedAndWatchdog> = start(spawner, setup);
    datapath.run().await
}

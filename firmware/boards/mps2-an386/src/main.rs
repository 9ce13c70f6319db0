//! The gateway on QEMU's `mps2-an386` (Cortex-M4): one LAN9118, logs over semihosting, and flash that is a file of the host.

#![no_std]
#![no_main]

// Its critical section is linked by name.
use cortex_m as _;
use defmt_semihosting as _;
use pkd_cortex_m as _;

mod executor;
mod flash;
mod interrupt;
mod lan9118;
mod time;
mod watchdog;

use cortex_m_rt::entry;
use embassy_executor::Spawner;
use pkd_gateway::FlashFloor;
use pkd_runtime::{Nics, Panel, Setup, Wire, configure, refuse, start};

use crate::{flash::HostFlash, lan9118::Lan9118, watchdog::Watchdog};

/// The PSRAM, which is the flash here.
const FLASH: usize = 0x2100_0000;

/// Milliseconds; far more than a frame takes, also where QEMU gets little of a processor.
const WATCHDOG: u32 = 8_000;

/// QEMU shows no light here.
struct Front(Watchdog);

impl Panel for Front {
    fn set_light(&mut self, _on: bool) {}

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
    let panel = Front(Watchdog::start(WATCHDOG));
    let Some(flash) = HostFlash::take() else { defmt::panic!("the flash is taken") };
    let config = match configure(flash.config()) {
        Ok(config) => config,
        Err(why) => refuse(why, panel).await,
    };
    let floor = match FlashFloor::open(flash, flash::FLOOR_START, flash::FLOOR_BYTES) {
        Ok(floor) => floor,
        Err(why) => defmt::panic!("the floor cannot be read: {}", defmt::Debug2Format(&why)),
    };
    let Some(nic) = Lan9118::start() else { defmt::panic!("there is no LAN9118") };
    let hardware = nic.hardware();
    let setup = Setup { nics: Nics::One(nic), floor, config, hardware, random: time::random, panel };
    let wire: Wire<Lan9118, HostFlash, Front> = start(spawner, setup);
    wire.run().await
}

//! The gateway on QEMU's `mps2-an386` (Cortex-M4): one LAN9118, logs over semihosting, and flash that is a file of the host.

#![no_std]
#![no_main]

// Its critical section is linked by name.
use cortex_m as _;
use defmt_semihosting as _;

mod executor;
mod flash;
mod interrupt;
mod lan9118;
mod time;

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use embassy_executor::Spawner;
use pkd_gateway::FlashFloor;
use pkd_runtime::{Nics, Panel, Setup, Wire, configure, refuse, start};

use crate::{flash::HostFlash, lan9118::Lan9118};

/// The PSRAM, which is the flash here.
const FLASH: usize = 0x2100_0000;

/// QEMU shows no light and has no watchdog here.
struct NoPanel;

impl Panel for NoPanel {
    fn set_light(&mut self, _on: bool) {}

    fn feed_watchdog(&mut self) {}
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
    let Some(flash) = HostFlash::take() else { defmt::panic!("the flash is taken") };
    let config = match configure(flash.config()) {
        Ok(config) => config,
        Err(why) => refuse(why, NoPanel).await,
    };
    let floor = match FlashFloor::open(flash, flash::FLOOR_START, flash::FLOOR_BYTES) {
        Ok(floor) => floor,
        Err(why) => defmt::panic!("the floor cannot be read: {}", defmt::Debug2Format(&why)),
    };
    let Some(nic) = Lan9118::start() else { defmt::panic!("there is no LAN9118") };
    let hardware = nic.hardware();
    let setup = Setup { nics: Nics::One(nic), floor, config, hardware, random: time::random, panel: NoPanel };
    let wire: Wire<Lan9118, HostFlash, NoPanel> = start(spawner, setup);
    wire.run().await
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    defmt::error!("panic: {}", defmt::Display2Format(info));
    cortex_m::peripheral::SCB::sys_reset()
}

//! The gateway on QEMU's `virt` for 32-bit RISC-V: inline mode between two virtio NICs, or the others on one.

#![no_std]
#![no_main]

use defmt_semihosting as _;

#[path = "../../mps2-an386/src/emulated_flash.rs"]
mod emulated_flash;
mod executor;
mod interrupt;
mod stack;
mod time;
mod virtio_nic;

use core::panic::PanicInfo;

use embassy_executor::Spawner;
use pkd_board::{
    Nic,
    table::{RISCV32_VIRT, RISCV32_VIRT_ONE_NIC},
};
use pkd_runtime::{Datapath, Identity, Indicators, Interfaces, Setup, identity, load, start_with_updates};
use riscv_rt::entry;

use crate::{emulated_flash::EmulatedFlash, virtio_nic::VirtioNic};

static IDENTITY: Identity = identity(&RISCV32_VIRT);

/// QEMU has neither an LED nor a watchdog here.
struct NoIndicators;

impl Indicators for NoIndicators {
    fn set_led(&mut self, _on: bool) {}

    fn feed_watchdog(&mut self) {}
}

/// The entry point, after riscv-rt has set up memory.
#[entry]
fn main() -> ! {
    stack::paint();
    executor::run(|spawner| match run(spawner) {
        Ok(task) => spawner.spawn(task),
        Err(_) => defmt::panic!("the first task was started twice"),
    })
}

#[embassy_executor::task]
async fn run(spawner: Spawner) -> ! {
    let Some((outside, inside)) = virtio_nic::find() else { defmt::panic!("no NIC found") };
    let board = if inside.is_some() { &RISCV32_VIRT } else { &RISCV32_VIRT_ONE_NIC };
    let Some(flash) = EmulatedFlash::take(board) else { defmt::panic!("the flash is in use") };
    let stored = load(flash, board, NoIndicators).await;
    let hardware = outside.hardware();
    let nic = |nic: VirtioNic| {
        let life = nic.life();
        Nic::new(nic, board.nics[0], life)
    };
    let interfaces = match inside {
        Some(inside) => Interfaces::Two { outside: nic(outside), inside: nic(inside) },
        None => Interfaces::One(nic(outside)),
    };
    let setup = Setup { interfaces, stored, hardware, random: time::random, free_stack: stack::free };
    let datapath: Datapath<VirtioNic, EmulatedFlash, NoIndicators> =
        start_with_updates(spawner, setup, &IDENTITY, reset);
    datapath.run().await
}

/// The register of QEMU's test finisher.
const FINISHER: usize = 0x0010_0000;
/// The value that resets the machine.
const RESET: u32 = 0x7777;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    defmt::error!("panic: {}", defmt::Display2Format(info));
    reset()
}

fn reset() -> ! {
    // SAFETY: the finisher exists on this board, and the write resets the machine.
    unsafe { core::ptr::write_volatile(core::ptr::with_exposed_provenance_mut(FINISHER), RESET) };
    loop {
        core::hint::spin_loop();
    }
}

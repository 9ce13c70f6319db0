//! The gateway on WIZnet's W5500-EVB-Pico2: an RP2350 and a W5500 on SPI. Built in CI, but never run: nobody in the project has
//! one.

#![no_std]
#![no_main]

use defmt_rtt as _;

use embassy_executor::Spawner;
use embassy_net_wiznet::{Device, State, chip::W5500};
use embassy_rp::{
    flash::Flash,
    gpio::{Input, Level, Output, Pull},
    peripherals::SPI0,
    spi::{Async, Config as SpiConfig, Spi},
    watchdog::Watchdog,
};
use pkd_board::{
    Nic,
    table::W5500_EVB_PICO2 as BOARD,
    wiznet::{self, Chip},
};
use pkd_rp2350::{
    BoardFlash, Interrupts, LedAndWatchdog, Pins, SPI_HERTZ, WiznetRunner, hardware, random, start_random,
    start_usb, start_wiznet,
};
#[cfg(not(feature = "update"))]
use pkd_runtime::start;
use pkd_runtime::{Datapath, Interfaces, Setup, load};
use static_cell::StaticCell;

static CHIP: Chip = Chip::new();
#[cfg(feature = "update")]
static IDENTITY: pkd_runtime::Identity = pkd_runtime::identity(&BOARD);

#[embassy_executor::task]
async fn run_w5500(runner: WiznetRunner<W5500, Spi<'static, SPI0, Async>>) -> ! {
    runner.run().await
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static STATE: StaticCell<State<4, 4>> = StaticCell::new();

    let p = embassy_rp::init(embassy_rp::config::Config::default());
    let indicators = LedAndWatchdog::start(Output::new(p.PIN_25, Level::Low), Watchdog::new(p.WATCHDOG));
    start_random(p.TRNG);
    start_usb(spawner, p.USB, &BOARD);
    let flash: BoardFlash = Flash::new_blocking(p.FLASH);
    let stored = load(flash, &BOARD, indicators).await;
    let hardware = hardware();

    // The schematic: SPI0, and two more lines for reset and interrupt.
    let mut settings = SpiConfig::default();
    settings.frequency = SPI_HERTZ;
    let spi = Spi::new(p.SPI0, p.PIN_18, p.PIN_19, p.PIN_16, p.DMA_CH0, p.DMA_CH1, Interrupts, settings);
    let pins = Pins {
        select: Output::new(p.PIN_17, Level::High),
        interrupt: Input::new(p.PIN_21, Pull::Up),
        reset: Output::new(p.PIN_20, Level::High),
    };
    let state = STATE.init(State::new());
    let (nic, runner) =
        start_wiznet::<W5500, _>(hardware, state, (&wiznet::W5500, &CHIP), spi, pins, false).await;
    match run_w5500(runner) {
        Ok(task) => spawner.spawn(task),
        Err(_) => defmt::panic!("the W5500's task was started twice"),
    }
    let interfaces = Interfaces::One(Nic::new(nic, BOARD.nics[0], &CHIP.life));
    let setup = Setup { interfaces, stored, hardware, random, free_stack: pkd_cortex_m::free_stack };
    #[cfg(feature = "update")]
    let start = |spawner, setup| {
        let reset = || cortex_m::peripheral::SCB::sys_reset();
        pkd_runtime::start_with_updates(spawner, setup, &IDENTITY, reset)
    };
    let datapath: Datapath<Device<'static>, BoardFlash, LedAndWatchdog> = start(spawner, setup);
    datapath.run().await
}

//! The gateway as a bridge: an RP2350 with two W5500, each on an SPI bus of its own. Built in CI, but never run: nobody in the project has
//! one.

#![no_std]
#![no_main]

use defmt_rtt as _;

use embassy_executor::Spawner;
use embassy_net_wiznet::{Device, State, chip::W5500};
use embassy_rp::{
    flash::Flash,
    gpio::{Input, Level, Output, Pull},
    peripherals::{SPI0, SPI1},
    spi::{Async, Config as SpiConfig, Spi},
    watchdog::Watchdog,
};
use pkd_board::{
    Nic,
    table::PICO2_TWO_W5500 as BOARD,
    wiznet::{self, Chip},
};
use pkd_rp2350::{
    BoardFlash, Interrupts, LedAndWatchdog, Pins, SPI_HERTZ, WiznetRunner, hardware, random, start_random,
    start_usb, start_wiznet,
};
use pkd_runtime::{Datapath, Interfaces, Setup, load, start};
use static_cell::StaticCell;

/// The chips of the two sides.
static OUTSIDE: Chip = Chip::new();
static INSIDE: Chip = Chip::new();

#[embassy_executor::task]
async fn run_outside(runner: WiznetRunner<W5500, Spi<'static, SPI0, Async>>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn run_inside(runner: WiznetRunner<W5500, Spi<'static, SPI1, Async>>) -> ! {
    runner.run().await
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static OUTSIDE_STATE: StaticCell<State<4, 4>> = StaticCell::new();
    static INSIDE_STATE: StaticCell<State<4, 4>> = StaticCell::new();

    let p = embassy_rp::init(embassy_rp::config::Config::default());
    let indicators = LedAndWatchdog::start(Output::new(p.PIN_25, Level::Low), Watchdog::new(p.WATCHDOG));
    start_random(p.TRNG);
    start_usb(spawner, p.USB, &BOARD);
    let flash: BoardFlash = Flash::new_blocking(p.FLASH);
    let stored = load(flash, &BOARD, indicators).await;
    let hardware = hardware();

    let mut settings = SpiConfig::default();
    settings.frequency = SPI_HERTZ;
    // The outside has the pins of the W5500-EVB-Pico2.
    let spi =
        Spi::new(p.SPI0, p.PIN_18, p.PIN_19, p.PIN_16, p.DMA_CH0, p.DMA_CH1, Interrupts, settings.clone());
    let pins = Pins {
        select: Output::new(p.PIN_17, Level::High),
        interrupt: Input::new(p.PIN_21, Pull::Up),
        reset: Output::new(p.PIN_20, Level::High),
    };
    let state = OUTSIDE_STATE.init(State::new());
    let (outside, outside_runner) =
        start_wiznet::<W5500, _>(hardware, state, (&wiznet::W5500, &OUTSIDE), spi, pins, true).await;

    let spi = Spi::new(p.SPI1, p.PIN_14, p.PIN_15, p.PIN_12, p.DMA_CH2, p.DMA_CH3, Interrupts, settings);
    let pins = Pins {
        select: Output::new(p.PIN_13, Level::High),
        interrupt: Input::new(p.PIN_11, Pull::Up),
        reset: Output::new(p.PIN_10, Level::High),
    };
    let state = INSIDE_STATE.init(State::new());
    let (inside, inside_runner) =
        start_wiznet::<W5500, _>(hardware, state, (&wiznet::W5500, &INSIDE), spi, pins, true).await;

    match (run_outside(outside_runner), run_inside(inside_runner)) {
        (Ok(outside), Ok(inside)) => {
            spawner.spawn(outside);
            spawner.spawn(inside);
        }
        _ => defmt::panic!("a W5500's task was started twice"),
    }
    let interfaces = Interfaces::Two {
        outside: Nic::new(outside, BOARD.nics[0], &OUTSIDE.life),
        inside: Nic::new(inside, BOARD.nics[1], &INSIDE.life),
    };
    let setup = Setup { interfaces, stored, hardware, random, free_stack: pkd_cortex_m::free_stack };
    let datapath: Datapath<Device<'static>, BoardFlash, LedAndWatchdog> = start(spawner, setup);
    datapath.run().await
}

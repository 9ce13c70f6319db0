//! The gateway on WIZnet's W6300-EVB-Pico2: an RP2350 and a W6300, on one line of its QSPI. Built in CI, but never run: nobody in the project has
//! one.

#![no_std]
#![no_main]

use defmt_rtt as _;

use embassy_executor::Spawner;
use embassy_net_wiznet::{Device, State, chip::W6300};
use embassy_rp::{
    bind_interrupts,
    flash::Flash,
    gpio::{Input, Level, Output, Pull},
    peripherals::PIO0,
    pio::{self, Pio},
    pio_programs::spi::Spi,
    spi::{Async, Config as SpiConfig},
    watchdog::Watchdog,
};
use pkd_board::{
    Nic,
    table::W6300_EVB_PICO2 as BOARD,
    wiznet::{self, Chip},
};
use pkd_rp2350::{
    BoardFlash, Interrupts, LedAndWatchdog, Pins, SPI_HERTZ, WiznetRunner, hardware, random, start_random,
    start_usb, start_wiznet,
};
use pkd_runtime::{Datapath, Interfaces, Setup, load, start};
use static_cell::StaticCell;

bind_interrupts!(struct PioInterrupts {
    PIO0_IRQ_0 => pio::InterruptHandler<PIO0>;
});

static CHIP: Chip = Chip::new();

#[embassy_executor::task]
async fn run_w6300(runner: WiznetRunner<W6300, Spi<'static, PIO0, 0, Async>>) -> ! {
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

    // WIZnet's table of the pins. They are in another order than those of the RP2350's SPI, so a PIO drives them. Data goes
    // over IO0 and IO1 only; the driver does not use more.
    let Pio { mut common, sm0, .. } = Pio::new(p.PIO0, PioInterrupts);
    let mut settings = SpiConfig::default();
    settings.frequency = SPI_HERTZ;
    let spi =
        Spi::new(&mut common, sm0, p.PIN_17, p.PIN_18, p.PIN_19, p.DMA_CH0, p.DMA_CH1, Interrupts, settings);
    let pins = Pins {
        select: Output::new(p.PIN_16, Level::High),
        interrupt: Input::new(p.PIN_15, Pull::Up),
        reset: Output::new(p.PIN_22, Level::High),
    };
    let state = STATE.init(State::new());
    let (nic, runner) =
        start_wiznet::<W6300, _>(hardware, state, (&wiznet::W6300, &CHIP), spi, pins, false).await;
    match run_w6300(runner) {
        Ok(task) => spawner.spawn(task),
        Err(_) => defmt::panic!("the W6300's task was started twice"),
    }
    let interfaces = Interfaces::One(Nic::new(nic, BOARD.nics[0], &CHIP.life));
    let setup = Setup { interfaces, stored, hardware, random, free_stack: pkd_cortex_m::free_stack };
    let datapath: Datapath<Device<'static>, BoardFlash, LedAndWatchdog> = start(spawner, setup);
    datapath.run().await
}

//! The gateway on WIZnet's W5500-EVB-Pico2: an RP2350 and a W5500 on SPI. Built in CI, but never run: nobody in the project has
//! one.

#![no_std]
#![no_main]

use defmt_rtt as _;

use core::cell::RefCell;

use critical_section::Mutex;
use embassy_executor::Spawner;
use embassy_net_wiznet::{Device, Runner, State, chip::W5500};
use embassy_rp::{
    bind_interrupts, dma,
    flash::{Blocking, Flash},
    gpio::{Input, Level, Output, Pull},
    peripherals::{DMA_CH0, DMA_CH1, FLASH, SPI0, TRNG},
    spi::{Async, Config as SpiConfig, Spi},
    trng::{self, Trng},
    watchdog::Watchdog,
};
use embassy_time::{Delay, Duration};
use embedded_hal_bus::spi::ExclusiveDevice;
#[cfg(not(feature = "update"))]
use pkd_runtime::start;
use pkd_runtime::{Datapath, FlashLayout, Indicators, Interfaces, Setup, load};
use static_cell::StaticCell;

bind_interrupts!(struct Interrupts {
    TRNG_IRQ => trng::InterruptHandler<TRNG>;
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
});

/// The size of the flash in bytes.
const FLASH_BYTES: usize = 2 << 20;
/// The last sector, and the three before it.
const LAYOUT: FlashLayout = FlashLayout { config: 0x001f_f000, floor: 0x001f_c000, floor_bytes: 0x3000 };

/// The second slot and the bootloader's state: see the `memory.x` of w5500-evb-pico2-boot.
#[cfg(feature = "update")]
const UPDATES: pkd_runtime::UpdateLayout = pkd_runtime::UpdateLayout {
    board: "w5500-evb-pico2",
    slot: 0x0010_0000,
    image_bytes: 0x000e_0000,
    state: 0x0001_0000,
    state_bytes: 0x1000,
    reset: || cortex_m::peripheral::SCB::sys_reset(),
};

/// Longer than erasing a sector takes: at most 0.4 s (data sheet of the W25Q16).
const WATCHDOG: Duration = Duration::from_secs(4);
/// The W5500 supports at most 80 MHz, and guarantees 33.3 MHz (data sheet, section 5.5.4).
const SPI_HERTZ: u32 = 30_000_000;

type BoardFlash = Flash<'static, FLASH, Blocking, FLASH_BYTES>;
type Bus = ExclusiveDevice<Spi<'static, SPI0, Async>, Output<'static>, Delay>;

/// The random number generator, once it runs.
static RANDOM: Mutex<RefCell<Option<Trng<'static, TRNG>>>> = Mutex::new(RefCell::new(None));

fn random() -> u64 {
    critical_section::with(|section| match RANDOM.borrow(section).borrow_mut().as_mut() {
        Some(random) => random.blocking_next_u64(),
        None => defmt::panic!("the random number generator is not running yet"),
    })
}

/// The LED and the watchdog.
struct LedAndWatchdog {
    led: Output<'static>,
    watchdog: Watchdog,
}

impl Indicators for LedAndWatchdog {
    fn set_led(&mut self, on: bool) {
        self.led.set_level(if on { Level::High } else { Level::Low });
    }

    fn feed_watchdog(&mut self) {
        self.watchdog.feed(WATCHDOG);
    }
}

#[embassy_executor::task]
async fn run_w5500(runner: Runner<'static, W5500, Bus, Input<'static>, Output<'static>>) -> ! {
    runner.run().await
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static STATE: StaticCell<State<4, 4>> = StaticCell::new();

    let p = embassy_rp::init(embassy_rp::config::Config::default());
    let mut watchdog = Watchdog::new(p.WATCHDOG);
    watchdog.start(WATCHDOG);
    let indicators = LedAndWatchdog { led: Output::new(p.PIN_25, Level::Low), watchdog };
    let trng = Trng::new(p.TRNG, Interrupts, trng::Config::default());
    critical_section::with(|section| RANDOM.borrow(section).replace(Some(trng)));

    let flash: BoardFlash = Flash::new_blocking(p.FLASH);
    let stored = load(flash, LAYOUT, indicators).await;
    // A locally administered MAC address, derived from the chip's unique ID.
    let Ok(number) = embassy_rp::otp::get_chipid() else { defmt::panic!("the chip has no unique ID") };
    let [.., a, b, c, d, e] = number.to_be_bytes();
    let hardware = [0x02, a, b, c, d, e];

    // The schematic: SPI0, and two more lines for reset and interrupt.
    let mut settings = SpiConfig::default();
    settings.frequency = SPI_HERTZ;
    let spi = Spi::new(p.SPI0, p.PIN_18, p.PIN_19, p.PIN_16, p.DMA_CH0, p.DMA_CH1, Interrupts, settings);
    let Ok(bus) = ExclusiveDevice::new(spi, Output::new(p.PIN_17, Level::High), Delay);
    let interrupt = Input::new(p.PIN_21, Pull::Up);
    let reset = Output::new(p.PIN_20, Level::High);
    let started = embassy_net_wiznet::new::<4, 4, W5500, _, _, _>(
        hardware,
        STATE.init(State::new()),
        bus,
        interrupt,
        reset,
    );
    let Ok((nic, runner)) = started.await else { defmt::panic!("the W5500 does not respond") };
    match run_w5500(runner) {
        Ok(task) => spawner.spawn(task),
        Err(_) => defmt::panic!("the W5500's task was started twice"),
    }
    let setup = Setup {
        interfaces: Interfaces::One(nic),
        stored,
        hardware,
        random,
        free_stack: pkd_cortex_m::free_stack,
    };
    #[cfg(feature = "update")]
    let start = |spawner, setup| pkd_runtime::start_with_updates(spawner, setup, UPDATES);
    let datapath: Datapath<Device<'static>, BoardFlash, LedAndWatchdog> = start(spawner, setup);
    datapath.run().await
}

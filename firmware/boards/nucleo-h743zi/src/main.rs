//! The gateway on ST's NUCLEO-H743ZI and -H743ZI2: Ethernet over RMII. Built in CI, but never run: nobody in the project has one.

#![no_std]
#![no_main]

use defmt_rtt as _;

mod ecc_flash;

use core::cell::RefCell;

use critical_section::Mutex;
use embassy_executor::Spawner;
use embassy_stm32::{
    Config, bind_interrupts,
    eth::{self, Ethernet, GenericPhy, PacketQueue, Sma},
    flash::Flash,
    gpio::{Level, Output, Speed},
    peripherals::{ETH, ETH_SMA, IWDG1, RNG},
    rcc::{
        AHBPrescaler, APBPrescaler, Hse, HseMode, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk,
        VoltageScale,
    },
    rng::{self, Rng},
    time::Hertz,
    wdg::IndependentWatchdog,
};
use pkd_runtime::{Datapath, FlashLayout, Indicators, Interfaces, Setup, load, start};
use static_cell::StaticCell;

use crate::ecc_flash::EccFlash;

bind_interrupts!(struct Interrupts {
    ETH => eth::InterruptHandler;
    RNG => rng::InterruptHandler<RNG>;
});

/// The last sector of the second bank, and the two before it.
const LAYOUT: FlashLayout = FlashLayout { config: 0x001e_0000, floor: 0x001a_0000, floor_bytes: 0x0004_0000 };

/// Longer than erasing a sector takes: at most 4 s (data sheet DS12110, table 53).
const WATCHDOG_MICROSECONDS: u32 = 8_000_000;

type Nic = Ethernet<'static, ETH, GenericPhy<Sma<'static, ETH_SMA>>>;

/// The random number generator, once it runs.
static RANDOM: Mutex<RefCell<Option<Rng<'static, RNG>>>> = Mutex::new(RefCell::new(None));

fn random() -> u64 {
    critical_section::with(|section| match RANDOM.borrow(section).borrow_mut().as_mut() {
        Some(random) => random.next_u64(),
        None => defmt::panic!("the random number generator is not running yet"),
    })
}

/// The green LED and the independent watchdog.
struct LedAndWatchdog {
    led: Output<'static>,
    watchdog: IndependentWatchdog<'static, IWDG1>,
}

impl Indicators for LedAndWatchdog {
    fn set_led(&mut self, on: bool) {
        self.led.set_level(if on { Level::High } else { Level::Low });
    }

    fn feed_watchdog(&mut self) {
        self.watchdog.pet();
    }
}

/// 400 MHz from the 8 MHz that the ST-LINK sends (UM2407, "OSC clock supply"): its crystal keeps the time far better than the
/// internal oscillator, which may be 1 % off. The 48 MHz oscillator drives the random number generator.
fn clocks() -> Config {
    let mut config = Config::default();
    let rcc = &mut config.rcc;
    // Not an oscillator of this chip, so it bypasses that one.
    rcc.hse = Some(Hse { freq: Hertz(8_000_000), mode: HseMode::Bypass });
    rcc.hsi48 = Some(embassy_stm32::rcc::Hsi48Config::default());
    rcc.pll1 = Some(Pll {
        source: PllSource::HSE,
        prediv: PllPreDiv::DIV1,
        mul: PllMul::MUL100,
        fracn: None,
        divp: Some(PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    rcc.sys = Sysclk::PLL1_P;
    rcc.ahb_pre = AHBPrescaler::DIV2;
    rcc.apb1_pre = APBPrescaler::DIV2;
    rcc.apb2_pre = APBPrescaler::DIV2;
    rcc.apb3_pre = APBPrescaler::DIV2;
    rcc.apb4_pre = APBPrescaler::DIV2;
    rcc.voltage_scale = VoltageScale::Scale1;
    config
}

/// A locally administered MAC address, derived from the chip's unique ID.
fn hardware() -> [u8; 6] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = embassy_stm32::uid::uid();
    [0x02, a ^ f, b ^ g ^ k, c ^ h ^ l, d ^ i, e ^ j]
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static QUEUE: StaticCell<PacketQueue<4, 4>> = StaticCell::new();

    let p = embassy_stm32::init(clocks());
    let mut watchdog = IndependentWatchdog::new(p.IWDG1, WATCHDOG_MICROSECONDS);
    watchdog.unleash();
    let indicators = LedAndWatchdog { led: Output::new(p.PB0, Level::Low, Speed::Low), watchdog };
    critical_section::with(|section| RANDOM.borrow(section).replace(Some(Rng::new(p.RNG, Interrupts))));

    let stored = load(EccFlash::new(Flash::new_blocking(p.FLASH)), LAYOUT, indicators).await;
    let hardware = hardware();
    // UM2407, table "Ethernet pins".
    let nic: Nic = Ethernet::new(
        QUEUE.init(PacketQueue::new()),
        p.ETH,
        Interrupts,
        p.PA1,
        p.PA7,
        p.PC4,
        p.PC5,
        p.PG13,
        p.PB13,
        p.PG11,
        hardware,
        p.ETH_SMA,
        p.PA2,
        p.PC1,
    );
    let setup = Setup {
        interfaces: Interfaces::One(nic),
        stored,
        hardware,
        random,
        free_stack: pkd_cortex_m::free_stack,
    };
    let datapath: Datapath<Nic, EccFlash, LedAndWatchdog> = start(spawner, setup);
    datapath.run().await
}

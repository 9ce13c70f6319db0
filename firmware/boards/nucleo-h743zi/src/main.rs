//! The gateway on ST's NUCLEO-H743ZI and -H743ZI2: Ethernet over RMII. Built in CI, but never run: nobody in the project has one.

#![no_std]
#![no_main]

use defmt_rtt as _;

mod ecc_flash;

use embassy_executor::Spawner;
use embassy_stm32::{
    Config, bind_interrupts,
    eth::{self, Ethernet, PacketQueue, Sma},
    flash::Flash,
    gpio::{Level, Output, Speed},
    peripherals::{IWDG1, RNG},
    rcc::{
        AHBPrescaler, APBPrescaler, Hse, HseMode, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk,
        VoltageScale,
    },
    rng::{self, Rng},
    time::Hertz,
};
use pkd_board::{Nic, table::NUCLEO_H743ZI as BOARD};
use pkd_runtime::{Datapath, Interfaces, Setup, load, start};
use pkd_stm32::{LIFE, LedAndWatchdog, Nic as Driver, hardware, phy, random, start_random};
use static_cell::StaticCell;

use crate::ecc_flash::EccFlash;

bind_interrupts!(struct Interrupts {
    ETH => eth::InterruptHandler;
    RNG => rng::InterruptHandler<RNG>;
});

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

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static QUEUE: StaticCell<PacketQueue<4, 4>> = StaticCell::new();

    let p = embassy_stm32::init(clocks());
    let indicators = LedAndWatchdog::start(Output::new(p.PB0, Level::Low, Speed::Low), p.IWDG1);
    start_random(Rng::new(p.RNG, Interrupts));

    let stored = load(EccFlash::new(Flash::new_blocking(p.FLASH)), &BOARD, indicators).await;
    let hardware = hardware();
    // UM2407, table "Ethernet pins".
    let driver: Driver = Ethernet::new_with_phy(
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
        phy(Sma::new(p.ETH_SMA, p.PA2, p.PC1)),
    );
    let setup = Setup {
        interfaces: Interfaces::One(Nic::new(driver, BOARD.nics[0], &LIFE)),
        stored,
        hardware,
        random,
        free_stack: pkd_cortex_m::free_stack,
    };
    let datapath: Datapath<Driver, EccFlash, LedAndWatchdog<IWDG1>> = start(spawner, setup);
    datapath.run().await
}

//! The gateway on ST's NUCLEO-H563ZI: Ethernet over RMII. Built in CI, but never run: nobody in the project has one.

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
    peripherals::{IWDG, RNG},
    rcc::{
        AHBPrescaler, APBPrescaler, HSIPrescaler, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk,
        VoltageScale,
    },
    rng::{self, Rng},
};
use pkd_board::{Nic, table::NUCLEO_H563ZI as BOARD};
use pkd_runtime::{Datapath, Interfaces, Setup, load, start};
use pkd_stm32::{LIFE, LedAndWatchdog, Nic as Driver, hardware, phy, random, start_random};
use static_cell::StaticCell;

use crate::ecc_flash::EccFlash;

bind_interrupts!(struct Interrupts {
    ETH => eth::InterruptHandler;
    RNG => rng::InterruptHandler<RNG>;
});

/// 200 MHz from the internal oscillator. The 48 MHz oscillator drives the random number generator.
fn clocks() -> Config {
    let mut config = Config::default();
    let rcc = &mut config.rcc;
    rcc.hsi = Some(HSIPrescaler::DIV1);
    rcc.hsi48 = Some(embassy_stm32::rcc::Hsi48Config::default());
    rcc.pll1 = Some(Pll {
        source: PllSource::HSI,
        prediv: PllPreDiv::DIV8,
        mul: PllMul::MUL50,
        divp: Some(PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    rcc.sys = Sysclk::PLL1_P;
    rcc.ahb_pre = AHBPrescaler::DIV1;
    rcc.apb1_pre = APBPrescaler::DIV1;
    rcc.apb2_pre = APBPrescaler::DIV1;
    rcc.apb3_pre = APBPrescaler::DIV1;
    rcc.voltage_scale = VoltageScale::Scale0;
    config
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static QUEUE: StaticCell<PacketQueue<4, 4>> = StaticCell::new();

    let p = embassy_stm32::init(clocks());
    let indicators = LedAndWatchdog::start(Output::new(p.PB0, Level::Low, Speed::Low), p.IWDG);
    start_random(Rng::new(p.RNG, Interrupts));

    let stored = load(EccFlash::new(Flash::new_blocking(p.FLASH)), &BOARD, indicators).await;
    let hardware = hardware();
    // UM3115, table "Ethernet pins".
    let driver: Driver = Ethernet::new_with_phy(
        QUEUE.init(PacketQueue::new()),
        p.ETH,
        Interrupts,
        p.PA1,
        p.PA7,
        p.PC4,
        p.PC5,
        p.PG13,
        p.PB15,
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
    let datapath: Datapath<Driver, EccFlash, LedAndWatchdog<IWDG>> = start(spawner, setup);
    datapath.run().await
}

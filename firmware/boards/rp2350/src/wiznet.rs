//! WIZnet's chips on an SPI bus of their own.

use embassy_net_wiznet::{Device, Runner, State, chip::Chip as Kind};
use embassy_rp::gpio::{Input, Output};
use embassy_time::{Delay, Timer};
use embedded_hal_async::spi::SpiBus;
use embedded_hal_bus::spi::ExclusiveDevice;
use pkd_board::wiznet::{Bus, Chip, Interrupt, Registers};

/// The W5500 supports at most 80 MHz, and guarantees 33.3 MHz (data sheet, section 5.5.4).
pub const SPI_HERTZ: u32 = 30_000_000;

/// The bus of a chip, with the checks of [`pkd_board::wiznet`].
pub type WiznetBus<S> = Bus<ExclusiveDevice<S, Output<'static>, Delay>>;
/// Its interrupt's pin, with the same.
pub type WiznetInterrupt = Interrupt<Input<'static>>;
/// The driver's task for a chip.
pub type WiznetRunner<K, S> = Runner<'static, K, WiznetBus<S>, WiznetInterrupt, Output<'static>>;

/// The pins of a chip besides its bus.
pub struct Pins {
    /// Chip select.
    pub select: Output<'static>,
    /// The interrupt.
    pub interrupt: Input<'static>,
    /// Reset.
    pub reset: Output<'static>,
}

/// Starts a chip of the kind `K`. Its driver works as long as the runner runs in a task. `is_bridge`: without the MAC filter.
///
/// Does not return if the chip does not respond; the watchdog resets the board then.
pub async fn start_wiznet<K: Kind, S: SpiBus + 'static>(
    hardware: [u8; 6],
    state: &'static mut State<4, 4>,
    (registers, chip): (&'static Registers, &'static Chip),
    spi: S,
    pins: Pins,
    is_bridge: bool,
) -> (Device<'static>, WiznetRunner<K, S>) {
    let Pins { select, interrupt, reset } = pins;
    let Ok(device) = ExclusiveDevice::new(spi, select, Delay);
    let bus = Bus::new(device, registers, chip);
    let bus = if is_bridge { bus.without_filter() } else { bus };
    let interrupt = Interrupt::new(interrupt, chip);
    match embassy_net_wiznet::new::<4, 4, K, _, _, _>(hardware, state, bus, interrupt, reset).await {
        Ok(started) => started,
        // Nobody feeds the watchdog, so the board is reset and tries again. Until then, the serial line says why.
        Err(_) => loop {
            defmt::error!("WIZnet's chip does not respond");
            pkd_runtime::log(format_args!("WIZnet's chip does not respond"));
            Timer::after_secs(1).await;
        },
    }
}

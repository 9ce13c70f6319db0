//! The random number generator.

use core::cell::RefCell;

use critical_section::Mutex;
use embassy_rp::{
    Peri, bind_interrupts, dma,
    peripherals::{DMA_CH0, DMA_CH1, DMA_CH2, DMA_CH3, TRNG},
    trng::{self, Trng},
};

bind_interrupts!(
    /// The handlers of the interrupts that all boards use.
    pub struct Interrupts {
        TRNG_IRQ => trng::InterruptHandler<TRNG>;
        DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>,
            dma::InterruptHandler<DMA_CH2>, dma::InterruptHandler<DMA_CH3>;
    }
);

/// The generator, once it runs.
static RANDOM: Mutex<RefCell<Option<Trng<'static, TRNG>>>> = Mutex::new(RefCell::new(None));

/// Starts the generator.
pub fn start_random(trng: Peri<'static, TRNG>) {
    let trng = Trng::new(trng, Interrupts, trng::Config::default());
    critical_section::with(|section| RANDOM.borrow(section).replace(Some(trng)));
}

/// A random number.
///
/// # Panics
/// If the generator does not run.
#[must_use]
pub fn random() -> u64 {
    critical_section::with(|section| match RANDOM.borrow(section).borrow_mut().as_mut() {
        Some(random) => random.blocking_next_u64(),
        None => defmt::panic!("the random number generator is not running yet"),
    })
}
